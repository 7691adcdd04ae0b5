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
    memory: Memory,
    share: Option<Share>,
    is_done: bool,
}

impl Brotli {
    /// At the beginning.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        let heap = Heap::default();
        let state = BrotliState::new_strict(heap.clone(), heap.clone(), heap.clone());
        Self { state, heap, memory, share: None, is_done: false }
    }
}

impl Codec for Brotli {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable> {
        if self.is_done {
            return Ok((0, 0));
        }
        if let (None, Some(first)) = (&self.share, input.first()) {
            let needed = window(*first).ok_or(Undecodable::Window)? + TABLES;
            self.share = Some(self.memory.share(needed).ok_or(Undecodable::Memory)?);
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
        match result {
            BrotliResult::ResultSuccess => self.is_done = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(Undecodable::Corrupt),
        }
        Ok((read, written))
    }

    fn take_cost(&mut self) -> u64 {
        self.heap.0.take() / TABLE_BYTES
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The window that a stream's first byte announces (RFC 7932, 9.1).
fn window(first: u8) -> Option<usize> {
    let bits = match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        // Reserved: the extension.
        (_, 0, 1) => return None,
        (_, 0, more) => 8 + more,
        (_, more, _) => 17 + more,
    };
    Some(1 << bits)
}

/// Ordinary memory for the decoder's state. It counts the bytes that were asked for, but for text: a block begins with
/// new tables.
#[derive(Clone, Default)]
struct Heap(Rc<Cell<u64>>);

/// A piece of it.
struct Cells<T>(Box<[T]>);

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> SliceWrapper<T> for Cells<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Cells<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

macro_rules! heap_of {
    ($($item:ty: $is_table:expr),*) => {
        $(impl Allocator<$item> for Heap {
            type AllocatedMemory = Cells<$item>;

            fn alloc_cell(&mut self, count: usize) -> Cells<$item> {
                if $is_table {
                    self.0.set(self.0.get() + (count * size_of::<$item>()) as u64);
                }
                Cells(vec![<$item>::default(); count].into())
            }

            fn free_cell(&mut self, _: Cells<$item>) {}
        })*
    };
}

heap_of! { u8: false, u32: true, HuffmanCode: true }

/// Bytes of a table that are made in the time of one of output.
const TABLE_BYTES: u64 = 8;
/// Beside the window: three groups of at most 256 trees, and what says which is for what.
const TABLES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_off_the_first_byte() {
        for (first, bits) in [(0x00, 16), (0x01, 17), (0x21, 10), (0x71, 15), (0x03, 18), (0x0f, 24)] {
            assert_eq!(window(first), Some(1 << bits), "{first:#x}");
        }
        assert_eq!(window(0x11), None);
    }
}
