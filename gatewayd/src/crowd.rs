//! How many connections there are, and who still finds a place.
//!
//! Beyond the limit some are told so, which costs a place too; beyond those it refuses without a word.
//! Asked for each connection that is accepted, and when the program ends.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// How many connections there are.
#[derive(Debug, Default)]
pub struct Crowd {
    inside: Cell<usize>,
    turned_away: Cell<usize>,
    left: Notify,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Rc<Crowd>,
    /// Whether it is served, or told that there are too many.
    pub is_welcome: bool,
}

impl Crowd {
    /// A place, welcome or not; none where even the unwelcome are too many.
    pub fn enter(self: &Rc<Self>, most: usize) -> Option<Place> {
        let is_welcome = self.inside.get() < most;
        let most_turned_away = (most / 4).clamp(FEW_TURNED_AWAY, MOST_TURNED_AWAY);
        let (count, limit) = if is_welcome { (&self.inside, most) } else { (&self.turned_away, most_turned_away) };
        if count.get() >= limit {
            return None;
        }
        count.set(count.get() + 1);
        Some(Place { crowd: self.clone(), is_welcome })
    }

    /// How many are served.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inside.get()
    }

    /// Comes back when none is served any more.
    pub async fn wait_until_empty(&self) {
        while self.inside.get() > 0 {
            self.left.notified().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let count = if self.is_welcome { &self.crowd.inside } else { &self.crowd.turned_away };
        count.set(count.get() - 1);
        self.crowd.left.notify_one();
    }
}

/// Connections that are told that there are too many, at one time; beyond these they are closed without a word.
const MOST_TURNED_AWAY: usize = 64;

/// Where few connections are taken, for want of descriptors perhaps.
const FEW_TURNED_AWAY: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_turned_away_politely_and_the_others_at_the_door() {
        let crowd = Rc::new(Crowd::default());
        for (most, turned_away) in [(2, FEW_TURNED_AWAY), (40, 10), (1000, MOST_TURNED_AWAY)] {
            let places: Vec<_> = std::iter::from_fn(|| crowd.enter(most)).collect();
            let welcome = places.iter().filter(|place| place.is_welcome).count();
            assert_eq!((places.len(), welcome), (most + turned_away, most));
        }
        assert!(crowd.enter(2).is_some_and(|place| place.is_welcome));
        assert_eq!((crowd.inside.get(), crowd.turned_away.get()), (0, 0));
    }
}
