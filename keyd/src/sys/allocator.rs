//! A global allocator that wipes what it frees.
//!
//! Keys rest in the locked arena, but hyper and rustls copy a request into buffers of their own on its way into TLS.
//! Those buffers are freed within milliseconds, those of a connection that is kept for the next request with it; wiping
//! them then keeps them from lying around for the life of the process. Growing never uses `realloc`, which may move a
//! buffer and leave the old bytes behind. It refuses to do anything else: allocation itself is the system's.
//! [`give_back`] asks that for what it keeps.
//!
//! Named once, as `#[global_allocator]`, in `main.rs`. Measured on a slow shared core, an allocation and its freeing:
//! 64 bytes 15 ns without and 17 ns with wiping, 16 KiB 56 ns and 173 ns. A request has some hundred of the former
//! and a handful of the latter: about a microsecond.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// The system's allocator, with freed memory overwritten by zeros.
pub struct WipingAllocator;

// SAFETY: GlobalAlloc asks that a block be valid for its layout until it is freed, and that nothing here unwinds.
// Every block comes from System and goes back to System with the layout that it came with; wiping writes only within
// that layout, and memset does not unwind.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise (a layout of non-zero size) is passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for alloc.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller promises a live block of this layout, so all its bytes are writable; it gives the block
        // up, so nobody reads them afterwards; and System made it, in alloc or realloc, with this layout.
        unsafe {
            wipe(block, layout.size());
            System.dealloc(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that new_size, rounded up to the alignment, does not overflow, and is not zero.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: new_layout has a non-zero size, by the caller's promise.
        let new_block = unsafe { System.alloc(new_layout) };
        if new_block.is_null() {
            // As GlobalAlloc asks: the old block stays as it is.
            return new_block;
        }
        // SAFETY: both blocks are live, distinct allocations of at least the copied length; the old one is the
        // caller's to give up, as in dealloc.
        unsafe {
            ptr::copy_nonoverlapping(block, new_block, layout.size().min(new_size));
            self.dealloc(block, layout);
        }
        new_block
    }
}

/// Gives pages that are free back to the kernel, which the C library does by itself at the end of the heap alone. It takes
/// as long as there is much to give.
pub fn give_back() {
    // SAFETY: malloc_trim takes an integer, and touches what is free and nothing else.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Overwrites memory with zeros in a way that the optimiser does not remove, at the speed of memset.
///
/// # Safety
/// `length` bytes from `start` must be writable, and nobody else may look at them meanwhile.
pub(super) unsafe fn wipe(start: *mut u8, length: usize) {
    // SAFETY: explicit_bzero writes `length` bytes from `start`, which the caller promises are writable.
    unsafe { libc::explicit_bzero(start.cast(), length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_overwrites_exactly_what_it_is_given() {
        let mut bytes = [7u8; 64];
        // SAFETY: 48 bytes from index 8 are within the array, which is ours alone.
        unsafe { wipe(bytes[8..].as_mut_ptr(), 48) };
        assert_eq!(bytes[..8], [7; 8]);
        assert_eq!(bytes[8..56], [0; 48]);
        assert_eq!(bytes[56..], [7; 8]);
    }

    #[test]
    fn growing_and_shrinking_keep_the_contents() {
        let layout = Layout::from_size_align(32, 16).unwrap();
        // SAFETY: non-zero sizes, each block is used within its layout and freed once with the layout it then has.
        unsafe {
            let block = WipingAllocator.alloc(layout);
            ptr::write_bytes(block, 9, 32);
            let block = WipingAllocator.realloc(block, layout, 4096);
            assert!((0..32).all(|index| *block.add(index) == 9));
            let grown = Layout::from_size_align(4096, 16).unwrap();
            let block = WipingAllocator.realloc(block, grown, 8);
            assert!((0..8).all(|index| *block.add(index) == 9));
            WipingAllocator.dealloc(block, Layout::from_size_align(8, 16).unwrap());
        }
    }

    /// Not a test of anything: prints what wiping costs, for the figures in the head of this file.
    #[test]
    #[ignore = "a measurement: run it alone, with --nocapture"]
    fn measure_the_cost_of_wiping() {
        for size in [64usize, 16 * 1024] {
            let layout = Layout::from_size_align(size, 16).unwrap();
            let time = |allocator: &dyn GlobalAlloc| {
                let start = std::time::Instant::now();
                for _ in 0..100_000 {
                    // SAFETY: a non-zero size; written within it; freed once with its own layout.
                    unsafe {
                        let block = allocator.alloc(layout);
                        ptr::write_volatile(block, 1);
                        allocator.dealloc(std::hint::black_box(block), layout);
                    }
                }
                start.elapsed() / 100_000
            };
            println!("{size} bytes: system {:?}, wiping {:?}", time(&System), time(&WipingAllocator));
        }
    }
}
