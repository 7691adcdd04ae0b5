//! br (RFC 7932).
//!
//! It refuses the large windows that are an extension of the format, and anything behind the end. Called by `decode`.

use std::cell::Cell;
use std::rc::Rc;

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, SliceWrapper, SliceWrapperMut,
};

use super::memory::{Memory, Share};
use super::{Codec, Undecodable};

/// A decoder between two pieces of its input.
pub struct Brotli {
    state: BrotliState<Heap, Heap, Heap>,
    heap: Heap,
    share: Share,
    is_new: bool,
    is_done: bool,
}

impl Brotli {
    /// At the beginning.
    ///
    /// # Errors
    /// [`Undecodable::Memory`].
    pub fn new(memory: &Memory) -> Result<Self, Undecodable> {
        let share = memory.share(STATE).ok_or(Undecodable::Memory)?;
        let heap = Heap::default();
        let state = BrotliState::new_strict(heap.clone(), heap.clone(), heap.clone());
        Ok(Self { state, heap, share, is_new: true, is_done: false })
    }
}

impl Codec for Brotli {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable> {
        if self.is_done {
            return Ok((0, 0));
        }
        if let (true, Some(first)) = (self.is_new, input.first()) {
            if is_extension(*first) {
                return Err(Undecodable::Window);
            }
            self.is_new = false;
        }
        let (mut there, mut room) = (input.len(), out.len());
        let (mut read, mut written, mut total) = (0, 0, 0);
        let result = BrotliDecompressStream(
            &mut there,
            &mut read,
            input,
            &mut room,
            &mut written,
            out,
            &mut total,
            &mut self.state,
        );
        // It cannot be refused memory on its way: one step may take too much, and the next is not made.
        if !self.share.resize(STATE + self.heap.held.get()) {
            return Err(Undecodable::Memory);
        }
        match result {
            BrotliResult::ResultSuccess => self.is_done = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(Undecodable::Corrupt),
        }
        Ok((read, written))
    }

    fn take_cost(&mut self) -> u64 {
        self.heap.tables.take() / TABLE_BYTES
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// Whether a stream's first byte announces a window beyond those of RFC 7932 (9.1).
fn is_extension(first: u8) -> bool {
    first & 0x7f == 0x11
}

/// Ordinary memory for the decoder's state, counted.
#[derive(Clone, Default)]
struct Heap {
    /// Bytes that it has now.
    held: Rc<Cell<usize>>,
    /// Bytes that it took for tables: a block begins with new ones.
    tables: Rc<Cell<u64>>,
}

/// A piece of it.
struct Cells<T> {
    items: Box<[T]>,
    /// The count that it is in.
    held: Rc<Cell<usize>>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self { items: Box::default(), held: Rc::default() }
    }
}

impl<T> Drop for Cells<T> {
    fn drop(&mut self) {
        self.held.set(self.held.get() - size_of_val(&*self.items));
    }
}

impl<T> SliceWrapper<T> for Cells<T> {
    fn slice(&self) -> &[T] {
        &self.items
    }
}

impl<T> SliceWrapperMut<T> for Cells<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

macro_rules! heap_of {
    ($($item:ty: $is_table:expr),*) => {
        $(impl Allocator<$item> for Heap {
            type AllocatedMemory = Cells<$item>;

            fn alloc_cell(&mut self, count: usize) -> Cells<$item> {
                let items: Box<[$item]> = vec![<$item>::default(); count].into();
                let bytes = size_of_val(&*items);
                self.held.set(self.held.get() + bytes);
                if $is_table {
                    self.tables.set(self.tables.get() + bytes as u64);
                }
                Cells { items, held: Rc::clone(&self.held) }
            }

            fn free_cell(&mut self, _: Cells<$item>) {}
        })*
    };
}

heap_of! { u8: false, u32: true, HuffmanCode: true }

/// Bytes of a table that are made in the time of one of output.
const TABLE_BYTES: u64 = 8;
/// Beside what it asks for.
const STATE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_windows_are_read_off_the_first_byte() {
        for first in [0x00, 0x01, 0x21, 0x71, 0x03, 0x0f] {
            assert!(!is_extension(first), "{first:#x}");
        }
        assert!(is_extension(0x11) && is_extension(0x91));
    }

    #[test]
    fn what_is_held_is_counted_and_given_back() {
        let events = include_bytes!("golden/events.br");
        let first = &events[2..2 + usize::from(u16::from_be_bytes([events[0], events[1]]))];
        let memory = Memory::of(64 * 1024 * 1024);
        let mut out = [0; 1000];
        let mut brotli = Brotli::new(&memory).unwrap();
        brotli.step(first, &mut out).unwrap();
        let held = brotli.heap.held.get();
        assert!(held > first.len(), "{held}");
        assert!(memory.share(64 * 1024 * 1024 - held).is_none());
        let heap = brotli.heap.clone();
        drop(brotli);
        assert_eq!(heap.held.get(), 0);
        assert!(memory.share(64 * 1024 * 1024).is_some());
        let mut brotli = Brotli::new(&Memory::of(STATE + held - 1)).unwrap();
        assert_eq!(brotli.step(first, &mut out), Err(Undecodable::Memory));
    }
}
