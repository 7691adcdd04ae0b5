//! The admin connections at one time, and whose turn it is to go when there are too many.
//!
//! Taking access away must work though somebody else holds every place: a connection that waits for its next request
//! makes room for a new one, first of the uid that holds most. It refuses to end one in the middle of a request. Called
//! by `serve.rs`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

/// All of them, the longest-standing first.
#[derive(Default)]
pub struct Guests(RefCell<Vec<Rc<Guest>>>);

/// One connection.
pub struct Guest {
    uid: u32,
    /// Waits for its next request, or for the rest of it.
    pub is_idle: Cell<bool>,
    /// Makes room.
    pub leave: CancellationToken,
}

impl Guests {
    /// One more of this uid; nothing where all places are taken and nobody is idle.
    #[must_use]
    pub fn enter(&self, uid: u32) -> Option<Rc<Guest>> {
        let mut guests = self.0.borrow_mut();
        if guests.len() >= MOST {
            let mut count: HashMap<u32, usize> = HashMap::new();
            guests.iter().for_each(|guest| *count.entry(guest.uid).or_default() += 1);
            let idle = guests.iter().enumerate().filter(|(_, guest)| guest.is_idle.get());
            // Of equals the first: min_by_key gives that one, max_by_key would give the last.
            let (place, _) = idle.min_by_key(|(_, guest)| std::cmp::Reverse(count[&guest.uid]))?;
            guests.remove(place).leave.cancel();
        }
        let guest = Rc::new(Guest { uid, is_idle: Cell::new(true), leave: CancellationToken::new() });
        guests.push(Rc::clone(&guest));
        Some(guest)
    }

    /// It has gone.
    pub fn leave(&self, guest: &Rc<Guest>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, guest));
    }
}

/// Connections at once.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_most_places_makes_room() {
        let guests = Guests::default();
        let first = guests.enter(1).unwrap();
        let many: Vec<_> = (1..MOST).map(|_| guests.enter(2).unwrap()).collect();
        many[0].is_idle.set(false);
        let new = guests.enter(3).unwrap();
        assert!(!first.leave.is_cancelled() && !many[0].leave.is_cancelled());
        assert!(many[1].leave.is_cancelled(), "the longest-standing idle one of the largest crowd");
        assert_eq!(guests.0.borrow().len(), MOST);
        guests.leave(&new);
        assert!(guests.enter(1).is_some());
        assert!(!many[2].leave.is_cancelled());
    }

    #[test]
    fn nobody_goes_in_the_middle_of_a_request() {
        let guests = Guests::default();
        let busy: Vec<_> = (0..MOST).map(|_| guests.enter(1).unwrap()).collect();
        busy.iter().for_each(|guest| guest.is_idle.set(false));
        assert!(guests.enter(2).is_none());
        busy[5].is_idle.set(true);
        assert!(guests.enter(2).is_some() && busy[5].leave.is_cancelled());
    }
}
