//! How much memory many may use together: all decoders of the process, all large heads that are on their way, all channels.
//!
//! A decoder takes its share before it needs it, as large as its stream's window allows it to grow. It refuses more than
//! [`MOST`]: many answers at once that an agent has had compressed with large windows must not take it from everybody.
//! Called by the decoders, by `link` for heads and by `room` for channels.

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

impl Share {
    /// How large it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it larger or smaller. Says no, and leaves it as it is, where there are not so many bytes left.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let account = &self.account.0;
        let left = (account.get() + self.bytes).checked_sub(bytes);
        if let Some(left) = left {
            account.set(left);
            self.bytes = bytes;
        }
        left.is_some()
    }
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

    #[test]
    fn a_share_grows_as_far_as_there_is_room() {
        let memory = Memory::of(100);
        let (mut share, other) = (memory.share(10).unwrap(), memory.share(30).unwrap());
        assert!(share.resize(70) && !share.resize(71) && share.bytes() == 70);
        assert!(memory.share(1).is_none());
        drop(other);
        assert!(share.resize(100) && share.resize(5));
        assert!(memory.share(95).is_some() && memory.share(96).is_none());
    }
}
