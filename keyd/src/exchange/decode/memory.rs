//! How much memory many may use together: all decoders of the process, and all large heads that are on their way.
//!
//! A decoder takes its share before it needs it, as large as its stream's window allows it to grow. It refuses more than
//! [`MOST`]: many answers at once that an agent has had compressed with large windows must not take it from everybody.
//! Called by the decoders, and by `link` for heads.

use std::cell::Cell;
use std::rc::Rc;

/// The account; a copy of it is the same account.
#[derive(Clone)]
pub struct Memory(Rc<Cell<usize>>);

impl Default for Memory {
    fn default() -> Self {
        Self::of(MOST)
    }
}

impl Memory {
    /// An account of its own, with so many bytes in it.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    /// So many bytes, until the share is dropped; nothing where there are not so many left.
    #[must_use]
    pub fn share(&self, bytes: usize) -> Option<Share> {
        self.0.set(self.0.get().checked_sub(bytes)?);
        Some(Share { account: self.clone(), bytes })
    }
}

/// A part that is taken.
pub struct Share {
    account: Memory,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let account = &self.account.0;
        account.set(account.get() + self.bytes);
    }
}

/// Three zstd streams with the largest window, or a thousand in gzip.
const MOST: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_and_given_back() {
        let memory = Memory::default();
        let half = memory.share(MOST / 2).unwrap();
        assert!(memory.clone().share(MOST / 2 + 1).is_none());
        let other = memory.share(MOST / 2);
        assert!(other.is_some() && memory.share(1).is_none());
        drop(half);
        assert!(memory.share(MOST / 2).is_some());
    }
}
