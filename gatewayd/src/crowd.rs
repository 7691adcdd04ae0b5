//! How many connections there are, and who still finds a place.
//!
//! Beyond the limit, and what [`super::shares`] adds for users who have few, some are told so, which costs a place too;
//! beyond those it refuses without a word.
//! Asked for each connection that is accepted, and when the program ends.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::shares::{Share, Shares};

/// How many connections there are.
#[derive(Debug, Default)]
pub struct Crowd {
    /// By user.
    inside: Shares<Option<u32>>,
    turned_away: Cell<usize>,
    left: Notify,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Rc<Crowd>,
    share: Option<Share<Option<u32>>>,
}

impl Crowd {
    /// A place for a connection of this user's, welcome or not; none where even the unwelcome are too many.
    pub fn enter(self: &Rc<Self>, user: Option<u32>, most: usize) -> Option<Place> {
        let share = self.inside.take(&[user], most);
        if share.is_none() {
            if self.turned_away.get() >= (most / 4).clamp(FEW_TURNED_AWAY, MOST_TURNED_AWAY) {
                return None;
            }
            self.turned_away.set(self.turned_away.get() + 1);
        }
        Some(Place { crowd: self.clone(), share })
    }

    /// How many are served.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inside.taken()
    }

    /// Comes back when none is served any more.
    pub async fn wait_until_empty(&self) {
        while self.size() > 0 {
            self.left.notified().await;
        }
    }
}

impl Place {
    /// Whether it is served, or told that there are too many.
    #[must_use]
    pub fn is_welcome(&self) -> bool {
        self.share.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.share.take().is_none() {
            self.crowd.turned_away.set(self.crowd.turned_away.get() - 1);
        }
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
            let places: Vec<_> = std::iter::from_fn(|| crowd.enter(Some(1), most)).collect();
            let welcome = places.iter().filter(|place| place.is_welcome()).count();
            assert_eq!((places.len(), welcome), (most + turned_away, most));
            let is_others_welcome = crowd.enter(Some(2), most).is_some_and(|place| place.is_welcome());
            assert_eq!(is_others_welcome, most >= 16, "of few there are none to spare");
        }
        assert!(crowd.enter(None, 2).is_some_and(|place| place.is_welcome()));
        assert_eq!((crowd.size(), crowd.turned_away.get()), (0, 0));
    }
}
