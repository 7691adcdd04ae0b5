//! The admin connections at one time, and whose turn it is to go when there are too many.
//!
//! Taking access away must work though somebody else holds many places: no uid has more than half of them, the last few
//! are root's, and a connection that waits for its next request makes room for a new one, first of the uid that holds
//! most. It refuses to end one in the middle of a request; one whose answer is not taken is not in the middle of any.
//! Called by `serve.rs`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

/// All of them, the longest-standing first.
#[derive(Default)]
pub struct Guests(RefCell<Vec<Rc<Guest>>>);

/// One connection.
pub struct Guest {
    uid: u32,
    /// Waits for its next request, for the rest of it, or for its answer to be taken.
    pub is_idle: Cell<bool>,
    /// Makes room.
    pub leave: CancellationToken,
}

impl Guests {
    /// One more of this uid; nothing where all places that it may have are taken and nobody in them is idle.
    fn enter(&self, uid: u32) -> Option<Rc<Guest>> {
        let mut guests = self.0.borrow_mut();
        let mut count: HashMap<u32, usize> = HashMap::new();
        guests.iter().for_each(|guest| *count.entry(guest.uid).or_default() += 1);
        let of = |uid: u32| count.get(&uid).copied().unwrap_or_default();
        let may_go: Option<&dyn Fn(&Guest) -> bool> = if of(uid) >= MOST_OF_ONE {
            Some(&|guest| guest.uid == uid)
        } else if uid != ROOT && guests.len() - of(ROOT) >= MOST - OF_ROOT {
            Some(&|guest| guest.uid != ROOT)
        } else if guests.len() >= MOST {
            Some(&|_| true)
        } else {
            None
        };
        if let Some(may_go) = may_go {
            let idle = guests.iter().enumerate().filter(|(_, guest)| guest.is_idle.get() && may_go(guest));
            // Of equals the first: min_by_key gives that one, max_by_key would give the last.
            let (place, _) = idle.min_by_key(|(_, guest)| std::cmp::Reverse(of(guest.uid)))?;
            guests.remove(place).leave.cancel();
        }
        let guest = Rc::new(Guest { uid, is_idle: Cell::new(true), leave: CancellationToken::new() });
        guests.push(Rc::clone(&guest));
        Some(guest)
    }

    /// It has gone.
    fn leave(&self, guest: &Rc<Guest>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(other, guest));
    }
}

/// A guest's place, held until this is dropped: however its task ends, by a panic too.
pub struct Place {
    guests: Rc<Guests>,
    guest: Rc<Guest>,
}

impl Place {
    /// As [`Guests::enter`].
    #[must_use]
    pub fn take(guests: &Rc<Guests>, uid: u32) -> Option<Self> {
        Some(Self { guests: Rc::clone(guests), guest: guests.enter(uid)? })
    }
}

impl Deref for Place {
    type Target = Guest;

    fn deref(&self) -> &Guest {
        &self.guest
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.guests.leave(&self.guest);
    }
}

/// Connections at once.
const MOST: usize = 64;
/// Those of one uid.
const MOST_OF_ONE: usize = MOST / 2;
/// Places that nobody else has.
const OF_ROOT: usize = 4;
const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_most_places_makes_room() {
        let guests = Guests::default();
        let fewer = many(&guests, 1, MOST - OF_ROOT - MOST_OF_ONE);
        let most = many(&guests, 2, MOST_OF_ONE);
        most[0].is_idle.set(false);
        let new = guests.enter(3).unwrap();
        assert!(fewer.iter().chain([&most[0]]).all(|guest| !guest.leave.is_cancelled()));
        assert!(most[1].leave.is_cancelled(), "the longest-standing idle one of the largest crowd");
        assert_eq!(guests.0.borrow().len(), MOST - OF_ROOT);
        guests.leave(&new);
        assert!(guests.enter(1).is_some());
        assert!(!most[2].leave.is_cancelled());
    }

    #[test]
    fn nobody_goes_in_the_middle_of_a_request() {
        let guests = Guests::default();
        let busy = many(&guests, 1, MOST_OF_ONE);
        let others = many(&guests, 2, MOST - OF_ROOT - MOST_OF_ONE);
        busy.iter().chain(&others).for_each(|guest| guest.is_idle.set(false));
        assert!(guests.enter(3).is_none());
        busy[5].is_idle.set(true);
        assert!(guests.enter(3).is_some() && busy[5].leave.is_cancelled());
    }

    #[test]
    fn one_uid_makes_room_for_itself() {
        let guests = Guests::default();
        let own = many(&guests, 1, MOST_OF_ONE);
        let other = guests.enter(2).unwrap();
        own[0].is_idle.set(false);
        assert!(guests.enter(1).is_some() && own[1].leave.is_cancelled());
        assert!(!other.leave.is_cancelled() && !own[0].leave.is_cancelled());
        guests.0.borrow().iter().filter(|guest| guest.uid == 1).for_each(|guest| guest.is_idle.set(false));
        assert!(guests.enter(1).is_none(), "places are free, and not for this one");
        assert!(guests.enter(2).is_some(), "its positive twin");
    }

    #[test]
    fn a_few_places_are_roots_alone() {
        let guests = Guests::default();
        let others = [many(&guests, 1, MOST_OF_ONE), many(&guests, 2, MOST - OF_ROOT - MOST_OF_ONE)].concat();
        others.iter().for_each(|guest| guest.is_idle.set(false));
        assert!(guests.enter(3).is_none());
        let roots = many(&guests, ROOT, OF_ROOT);
        assert_eq!(guests.0.borrow().len(), MOST);
        assert!(guests.enter(3).is_none(), "what root holds makes no room for others there");
        assert!(guests.enter(ROOT).is_some() && roots[0].leave.is_cancelled());
        others[7].is_idle.set(true);
        assert!(guests.enter(3).is_some() && others[7].leave.is_cancelled(), "the positive twin");
    }

    fn many(guests: &Guests, uid: u32, count: usize) -> Vec<Rc<Guest>> {
        (0..count).map(|_| guests.enter(uid).unwrap()).collect()
    }
}
