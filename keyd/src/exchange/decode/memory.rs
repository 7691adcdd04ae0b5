//! How much memory many may use together: all decoders of the process, all large heads that are on their way, all channels.
//!
//! A decoder's share grows with what it holds. It refuses more than [`MOST`] to all of them, and more than
//! [`MOST_OF_ONE`] to those of one authority ([`Memories`]): slow answers that one upstream compresses with large windows
//! must not take it from everybody. Called by the decoders, by `forward` for an answer's, by `link` for heads and by `room`
//! for channels.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use strongroom_protocol::Authority;

/// The account; a copy of it is the same account.
#[derive(Clone)]
pub struct Memory {
    left: Rc<Cell<usize>>,
    /// What its owner may still take of it, if it has one.
    own: Option<Rc<Cell<usize>>>,
}

/// One account for all, of which each authority may have a part.
pub struct Memories {
    left: Rc<Cell<usize>>,
    own: RefCell<HashMap<Authority, Weak<Cell<usize>>>>,
}

impl Default for Memories {
    fn default() -> Self {
        Self { left: Rc::new(Cell::new(MOST)), own: RefCell::default() }
    }
}

impl Memories {
    /// This authority's part.
    #[must_use]
    pub fn of(&self, authority: &Authority) -> Memory {
        let mut parts = self.own.borrow_mut();
        let known = parts.get(authority).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            // Where nobody has a share any more, the part is whole again.
            parts.retain(|_, part| part.strong_count() > 0);
            let own = Rc::new(Cell::new(MOST_OF_ONE));
            parts.insert(authority.clone(), Rc::downgrade(&own));
            own
        });
        Memory { left: Rc::clone(&self.left), own: Some(own) }
    }
}

#[cfg(test)]
impl Default for Memory {
    fn default() -> Self {
        Self::of(MOST)
    }
}

impl Memory {
    /// An account of its own, with so many bytes in it.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self { left: Rc::new(Cell::new(bytes)), own: None }
    }

    /// So many bytes, until the share is dropped; nothing where there are not so many left.
    #[must_use]
    pub fn share(&self, bytes: usize) -> Option<Share> {
        let mut share = Share { account: self.clone(), bytes: 0 };
        share.resize(bytes).then_some(share)
    }
}

/// A part that is taken.
pub struct Share {
    account: Memory,
    bytes: usize,
}

impl Share {
    /// How large it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it so large; says whether there is so much, and leaves it where there is not.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let accounts = || [Some(&self.account.left), self.account.own.as_ref()].into_iter().flatten();
        let has_room = accounts().all(|account| account.get() + self.bytes >= bytes);
        if has_room {
            accounts().for_each(|account| account.set(account.get() + self.bytes - bytes));
            self.bytes = bytes;
        }
        has_room
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.resize(0);
    }
}

/// Seven streams with the largest windows, or two thousand in gzip.
const MOST: usize = 128 * 1024 * 1024;
/// What one authority may have of it: the largest window that br has, with all tables, or a few of an ordinary size.
const MOST_OF_ONE: usize = MOST / 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_and_given_back() {
        let memory = Memory::of(MOST);
        let half = memory.share(MOST / 2).unwrap();
        assert!(memory.clone().share(MOST / 2 + 1).is_none());
        let other = memory.share(MOST / 2);
        assert!(other.is_some() && memory.share(1).is_none());
        drop(half);
        assert!(memory.share(MOST / 2).is_some());
    }

    #[test]
    fn a_share_grows_and_shrinks() {
        let memory = Memory::of(10);
        let mut share = memory.share(4).unwrap();
        assert!(share.resize(10) && memory.share(1).is_none());
        assert!(!share.resize(11) && share.resize(3));
        assert!(memory.share(8).is_none());
        assert!(memory.share(7).is_some(), "the positive twin");
    }

    #[test]
    fn one_authority_leaves_the_others_theirs() {
        let authority = |name: &str| -> Authority { name.parse().unwrap() };
        let memories = Memories::default();
        let greedy = memories.of(&authority("greedy.example"));
        let taken: Vec<_> = std::iter::from_fn(|| greedy.share(1024 * 1024)).collect();
        assert_eq!(taken.len() * 1024 * 1024, MOST_OF_ONE);
        assert!(memories.of(&authority("greedy.example")).share(1).is_none(), "the same part");
        let others: Vec<_> = (0..4)
            .filter_map(|number| memories.of(&authority(&format!("other{number}.example"))).share(MOST_OF_ONE))
            .collect();
        assert_eq!(others.len(), 3, "and all together have a limit");
        drop((taken, greedy));
        assert!(memories.of(&authority("greedy.example")).share(MOST_OF_ONE).is_some());
    }
}
