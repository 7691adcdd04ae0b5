//! The locked region in which keys rest, and the list of what is free in it.
//!
//! ```text
//!   PROT_NONE        secret pages, never swapped, never dumped       PROT_NONE
//!  +---------+-------+------+---------+-------------------------+-----------+
//!  | guard   | span  | free | span    | free ...                | guard     |
//!  +---------+-------+------+---------+-------------------------+-----------+
//! ```
//!
//! The pages are memfd_secret(2) where the kernel has it: they leave the kernel's own map, so that not even root reads
//! them through /proc/PID/mem (it gets EIO). Else they are anonymous, with mlock, MADV_DONTDUMP and MADV_WIPEONFORK.
//! What is free is always zero. It refuses to grow: a full arena is an error that the caller must handle.
//!
//! Called by `secret.rs` alone.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::allocator::wipe;
use super::checked;

/// How the pages of an arena are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// memfd_secret(2): locked, and unreadable even for root through /proc.
    SecretMemory,
    /// mlock(2): never swapped and left out of core dumps.
    Locked,
    /// Neither was allowed; left out of core dumps, but may be swapped.
    Pageable,
}

/// One region and its free list. Lives as long as the process.
pub struct Arena {
    base: NonNull<u8>,
    length: usize,
    keeping: Keeping,
    /// Free stretches as (offset, length), by offset, never adjacent, both multiples of [`GRAIN`].
    free: Mutex<Vec<(usize, usize)>>,
}

// SAFETY: `base` is the address of a mapping that is never unmapped, valid in every thread; what may be touched in it
// is handed out through the mutex, each byte to one span at a time.
unsafe impl Send for Arena {}
// SAFETY: as above; &Arena gives access to nothing but the mutex and constants.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps the largest of `sizes` (bytes, whole pages, largest first) that can be kept best.
    ///
    /// # Errors
    /// Where not even ordinary memory can be mapped.
    pub fn map(sizes: &[usize]) -> io::Result<Self> {
        for &length in sizes {
            if let Ok(base) = map_between_guards(length, place_secret_memory) {
                return Ok(Self::new(base, length, Keeping::SecretMemory));
            }
        }
        for &length in sizes {
            if let Ok(base) = map_between_guards(length, place_locked) {
                return Ok(Self::new(base, length, Keeping::Locked));
            }
        }
        let &length = sizes.first().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self::new(map_between_guards(length, place_pageable)?, length, Keeping::Pageable))
    }

    fn new(base: NonNull<u8>, length: usize, keeping: Keeping) -> Self {
        Self { base, length, keeping, free: Mutex::new(vec![(0, length)]) }
    }

    /// How the pages are kept.
    pub fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// Bytes in all.
    pub fn capacity(&self) -> usize {
        self.length
    }

    /// Bytes that are free, in whatever pieces.
    pub fn available(&self) -> usize {
        self.free_list().iter().map(|(_, length)| length).sum()
    }

    /// Takes `length` zero bytes, or nothing where no stretch is long enough.
    pub fn take(&'static self, length: usize) -> Option<Span> {
        let reserved = length.max(1).checked_next_multiple_of(GRAIN)?;
        let mut free = self.free_list();
        let index = free.iter().position(|&(_, available)| available >= reserved)?;
        let (offset, available) = free[index];
        if available == reserved {
            free.remove(index);
        } else {
            free[index] = (offset + reserved, available - reserved);
        }
        // SAFETY: offset + reserved <= self.length, because free stretches lie within the region; so the result is
        // within the mapping that `base` begins.
        let start = unsafe { self.base.add(offset) };
        Some(Span { arena: self, start, length, reserved })
    }

    fn give_back(&self, offset: usize, length: usize) {
        let mut free = self.free_list();
        let index = free.partition_point(|&(other, _)| other < offset);
        let joins_next = free.get(index).is_some_and(|&(next, _)| next == offset + length);
        let joins_previous = index > 0 && free[index - 1].0 + free[index - 1].1 == offset;
        match (joins_previous, joins_next) {
            (true, true) => {
                free[index - 1].1 += length + free[index].1;
                free.remove(index);
            }
            (true, false) => free[index - 1].1 += length,
            (false, true) => free[index] = (offset, length + free[index].1),
            (false, false) => free.insert(index, (offset, length)),
        }
    }

    fn free_list(&self) -> MutexGuard<'_, Vec<(usize, usize)>> {
        // Nothing in this file panics between two writes to the list, so a poisoned one is still right.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the arena that belong to one owner; wiped and given back when dropped.
pub struct Span {
    arena: &'static Arena,
    start: NonNull<u8>,
    length: usize,
    reserved: usize,
}

// SAFETY: a span is the only owner of its bytes, which every thread can reach; giving back goes through a mutex.
unsafe impl Send for Span {}
// SAFETY: &Span only reads bytes that nobody can write while it is borrowed.
unsafe impl Sync for Span {}

impl Deref for Span {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes from `start` are mapped for the life of the process, initialised (fresh pages are
        // zero), and belong to this span alone; writing needs &mut self, which this borrow excludes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Span {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in deref, and &mut self excludes every other borrow of this span.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is mapped, writable and this span's alone until it is given back below.
        unsafe { wipe(self.start.as_ptr(), self.reserved) };
        let offset = self.start.addr().get() - self.arena.base.addr().get();
        self.arena.give_back(offset, self.reserved);
    }
}

/// Reserves `length` bytes between two pages that nobody may touch, and has `place` fill the middle.
fn map_between_guards(length: usize, place: fn(*mut libc::c_void, usize) -> io::Result<()>) -> io::Result<NonNull<u8>> {
    let whole = length + 2 * PAGE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: no address is asked for and no file given: the kernel picks an unused range, so nothing is replaced.
    let start = unsafe { libc::mmap(ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let middle = start.wrapping_byte_add(PAGE);
    if let Err(error) = place(middle, length) {
        // SAFETY: exactly the range that mmap returned above, into which nothing points yet.
        unsafe { libc::munmap(start, whole) };
        return Err(error);
    }
    NonNull::new(middle.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn place_secret_memory(address: *mut libc::c_void, length: usize) -> io::Result<()> {
    // SAFETY: memfd_secret takes one flag word and touches no memory of ours.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let number = i32::try_from(number).ok().filter(|&number| number >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it. It closes at the end of this
    // function: the mapping keeps the pages, and without a descriptor nobody can map them again.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    let size = libc::off_t::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: ftruncate takes integers; the descriptor is open.
    checked(unsafe { libc::ftruncate(file.as_raw_fd(), size) })?;
    place(address, length, libc::MAP_SHARED, file.as_raw_fd())?;
    // SAFETY: the range was mapped in the line above; the advice changes nothing that a reference could see.
    checked(unsafe { libc::madvise(address, length, libc::MADV_DONTFORK) })?;
    Ok(())
}

fn place_locked(address: *mut libc::c_void, length: usize) -> io::Result<()> {
    place_pageable(address, length)?;
    // SAFETY: mlock takes a range, which place_pageable has just mapped, and changes no byte of it.
    checked(unsafe { libc::mlock(address, length) })?;
    Ok(())
}

fn place_pageable(address: *mut libc::c_void, length: usize) -> io::Result<()> {
    place(address, length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    for advice in [libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK] {
        // SAFETY: the range is mapped, private and anonymous; nothing points into it yet.
        checked(unsafe { libc::madvise(address, length, advice) })?;
    }
    Ok(())
}

fn place(address: *mut libc::c_void, length: usize, flags: libc::c_int, file: libc::c_int) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: MAP_FIXED replaces what is mapped at `address`: that is the PROT_NONE middle of map_between_guards, the
    // only caller of the three place functions, into which nothing points.
    let placed = unsafe { libc::mmap(address, length, protection, flags | libc::MAP_FIXED, file, 0) };
    if placed == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reservations are whole multiples of this many bytes, so that freed pieces fit the next key.
const GRAIN: usize = 16;

/// The largest page size in use on x86_64 and aarch64, so that guards are whole pages on each.
const PAGE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;

    fn arena(length: usize) -> &'static Arena {
        Box::leak(Box::new(Arena::map(&[length]).unwrap()))
    }

    #[test]
    fn spans_are_zero_disjoint_and_wiped() {
        let arena = arena(PAGE);
        let mut first = arena.take(20).unwrap();
        let mut second = arena.take(5).unwrap();
        first.fill(1);
        second.fill(2);
        assert!(first.iter().all(|&byte| byte == 1));
        let address = first.as_ptr();
        drop(first);
        let again = arena.take(20).unwrap();
        assert_eq!(again.as_ptr(), address, "first fit takes the freed place");
        assert_eq!(*again, [0; 20], "and finds it wiped");
        assert_eq!(*second, [2; 5]);
    }

    #[test]
    fn a_full_arena_says_so_and_recovers() {
        let arena = arena(PAGE);
        let all = arena.take(PAGE).unwrap();
        assert!(arena.take(1).is_none());
        assert!(arena.take(usize::MAX).is_none());
        drop(all);
        assert!(arena.take(PAGE).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Spans never overlap, keep their bytes, and everything is free and in one piece in the end.
        #[test]
        fn any_order_of_taking_and_giving_back_is_sound(steps in proptest::collection::vec((any::<bool>(), 0usize..900, any::<u8>()), 1..200)) {
            let arena = arena(PAGE);
            let mut held: Vec<(Span, u8)> = Vec::new();
            for (take, amount, mark) in steps {
                if take {
                    if let Some(mut span) = arena.take(amount) {
                        prop_assert!(span.iter().all(|&byte| byte == 0));
                        span.fill(mark);
                        held.push((span, mark));
                    }
                } else if !held.is_empty() {
                    held.swap_remove(amount % held.len());
                }
                prop_assert!(held.iter().all(|(span, mark)| span.iter().all(|byte| byte == mark)));
            }
            held.clear();
            prop_assert_eq!(&*arena.free_list(), &vec![(0, PAGE)]);
        }
    }

    #[test]
    fn secret_memory_cannot_be_read_through_proc() {
        let arena = arena(PAGE);
        if arena.keeping() != Keeping::SecretMemory {
            // An older kernel, or a filter around the tests. The twin below would prove nothing.
            eprintln!("skipped: this kernel has no memfd_secret");
            return;
        }
        let mut span = arena.take(32).unwrap();
        span.fill(0x5a);
        let memory = File::open("/proc/self/mem").unwrap();
        let mut seen = [0; 32];
        let address = span.as_ptr().addr() as u64;
        assert!(memory.read_exact_at(&mut seen, address).is_err());
        assert_eq!(seen, [0; 32]);
        let ordinary = Box::new([0x5a_u8; 32]);
        memory.read_exact_at(&mut seen, ordinary.as_ptr().addr() as u64).unwrap();
        assert_eq!(seen, [0x5a; 32], "ordinary memory is read all the same");
    }

    #[test]
    fn each_fallback_maps_usable_memory() {
        for place in [place_locked, place_pageable] {
            let base = map_between_guards(PAGE, place).unwrap();
            let arena = Box::leak(Box::new(Arena::new(base, PAGE, Keeping::Pageable)));
            let mut span = arena.take(PAGE).unwrap();
            span.fill(3);
            assert!(span.iter().all(|&byte| byte == 3));
        }
    }
}
