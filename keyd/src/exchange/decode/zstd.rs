//! zstd (RFC 8878): frames of blocks, each block given as soon as it is whole.
//!
//! Our own, without unsafe code: the decoders that could be had write through raw pointers, and what they would read is
//! chosen by others, in the process that holds the keys. It refuses windows beyond [`LARGEST_WINDOW`] (RFC 9659),
//! dictionaries, and all that is corrupt. It does not compute the checksum: TLS has one. Called by `decode`.

mod bits;
mod fse;
mod huffman;
mod literals;
mod sequences;

use self::huffman::Tree;
use self::sequences::Carried;
use super::memory::{Memory, Share};
use super::{Codec, Undecodable};

/// A decoder between two pieces of its input.
pub struct Zstd {
    stage: Stage,
    /// The beginning of what is needed next.
    pending: Vec<u8>,
    needed: usize,
    /// What this frame has come to, of late.
    history: Vec<u8>,
    /// How much of it was given.
    given: usize,
    frame: Frame,
    literals: Vec<u8>,
    cost: u64,
    share: Share,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Magic,
    Descriptor,
    Header(u8),
    SkippedLength,
    Skipped(usize),
    BlockHeader,
    Block { kind: u8, size: usize, is_last: bool },
    Checksum,
}

/// What holds for one frame.
#[derive(Default)]
struct Frame {
    window: usize,
    /// Bytes that it announced, and bytes that came.
    announced: Option<u64>,
    came: u64,
    has_checksum: bool,
    tree: Option<Tree>,
    carried: Carried,
}

impl Zstd {
    /// At the beginning.
    ///
    /// # Errors
    /// [`Undecodable::Memory`].
    pub fn new(memory: &Memory) -> Result<Self, Undecodable> {
        let share = memory.share(STATE).ok_or(Undecodable::Memory)?;
        Ok(Self {
            stage: Stage::Magic,
            pending: Vec::new(),
            needed: 4,
            history: Vec::new(),
            given: 0,
            frame: Frame::default(),
            literals: Vec::new(),
            cost: 0,
            share,
        })
    }

    fn next(&mut self, stage: Stage, needed: usize) {
        self.pending.clear();
        (self.stage, self.needed) = (stage, needed);
    }

    /// What was needed is there.
    fn advance(&mut self) -> Result<(), Undecodable> {
        self.cost += match self.stage {
            Stage::Magic => FRAME,
            Stage::Block { kind: COMPRESSED, .. } => BLOCK + TABLES,
            Stage::Block { .. } => BLOCK,
            _ => 0,
        };
        match self.stage {
            Stage::Magic => match u32::from_le_bytes(self.pending[..].try_into().map_err(|_| Corrupt)?) {
                MAGIC => self.next(Stage::Descriptor, 1),
                SKIPPABLE..=SKIPPABLE_LAST => self.next(Stage::SkippedLength, 4),
                _ => return Err(Undecodable::Corrupt),
            },
            Stage::Descriptor => {
                let descriptor = self.pending[0];
                let (single, size) = (descriptor >> 5 & 1, usize::from(descriptor >> 6));
                let size = if size == 0 { usize::from(single) } else { 1 << size };
                let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
                self.next(Stage::Header(descriptor), usize::from(1 - single) + dictionary + size);
            }
            Stage::Header(descriptor) => {
                self.begin_frame(descriptor)?;
                self.next(Stage::BlockHeader, 3);
            }
            Stage::SkippedLength => {
                let length = u32::from_le_bytes(self.pending[..].try_into().map_err(|_| Corrupt)?);
                self.next(Stage::Skipped(usize::try_from(length).map_err(|_| Corrupt)?), 0);
            }
            Stage::Skipped(_) => self.next(Stage::Magic, 4),
            Stage::BlockHeader => {
                let header = u32::from_le_bytes([self.pending[0], self.pending[1], self.pending[2], 0]);
                let (kind, size) = (self.pending[0] >> 1 & 3, usize::try_from(header >> 3).map_err(|_| Corrupt)?);
                if kind == 3 || size > BLOCK_LIMIT.min(self.frame.window) {
                    return Err(Undecodable::Corrupt);
                }
                let is_last = header & 1 != 0;
                self.next(Stage::Block { kind, size, is_last }, if kind == 1 { 1 } else { size });
            }
            Stage::Block { kind, size, is_last } => {
                self.block(kind, size)?;
                match (is_last, self.frame.has_checksum) {
                    (false, _) => self.next(Stage::BlockHeader, 3),
                    (true, true) => self.next(Stage::Checksum, 4),
                    (true, false) => self.next(Stage::Magic, 4),
                }
                if is_last && self.frame.announced.is_some_and(|announced| announced != self.frame.came) {
                    return Err(Undecodable::Corrupt);
                }
            }
            Stage::Checksum => self.next(Stage::Magic, 4),
        }
        Ok(())
    }

    /// `pending` is the header behind its descriptor.
    fn begin_frame(&mut self, descriptor: u8) -> Result<(), Undecodable> {
        let is_single = descriptor & 0x20 != 0;
        let (window, rest) = self.pending.split_at(usize::from(!is_single));
        let (dictionary, size) = rest.split_at([0, 1, 2, 4][usize::from(descriptor & 3)]);
        if descriptor & 8 != 0 || dictionary.iter().any(|byte| *byte != 0) {
            return Err(Undecodable::Corrupt);
        }
        let number = size.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let announced = (!size.is_empty()).then_some(if size.len() == 2 { number + 256 } else { number });
        let window = match (window.first(), announced) {
            (Some(byte), _) => {
                let base = 1u64 << (10 + (byte >> 3));
                base + base / 8 * u64::from(byte & 7)
            }
            // The whole content is the window, and never less than what an empty block needs.
            (None, announced) => announced.ok_or(Undecodable::Corrupt)?,
        };
        let window = usize::try_from(window).ok().filter(|window| *window <= LARGEST_WINDOW);
        let window = window.ok_or(Undecodable::Window)?;
        // Kept where this frame may have so much: many small frames must not cost a large allocation each.
        if self.history.capacity() > 2 * window.max(BLOCK_LIMIT) + BLOCK_LIMIT {
            self.history = Vec::new();
            let _ = self.share.resize(STATE);
        }
        self.history.clear();
        self.given = 0;
        let has_checksum = descriptor & 4 != 0;
        self.frame = Frame { window, announced, has_checksum, ..Frame::default() };
        Ok(())
    }

    /// `pending` is a block of this kind; all of the history was given.
    fn block(&mut self, kind: u8, size: usize) -> Result<(), Undecodable> {
        let window = self.frame.window;
        if size == 0 && kind != COMPRESSED {
            return Ok(());
        }
        if self.history.len() >= 2 * window.max(BLOCK_LIMIT) {
            self.history.drain(..self.history.len() - window);
        }
        if self.history.capacity() - self.history.len() < BLOCK_LIMIT {
            let most = 2 * window.max(BLOCK_LIMIT) + BLOCK_LIMIT;
            let capacity = (2 * self.history.capacity()).clamp(self.history.len() + BLOCK_LIMIT, most);
            if !self.share.resize(STATE + capacity) {
                return Err(Undecodable::Memory);
            }
            self.history.reserve_exact(capacity - self.history.len());
        }
        let before = self.history.len();
        match kind {
            0 => self.history.extend_from_slice(&self.pending),
            1 => self.history.resize(before + size, self.pending[0]),
            _ => {
                self.literals.clear();
                let sequences = literals::read(&self.pending, &mut self.frame.tree, &mut self.literals)?;
                sequences::run(sequences, &self.literals, &mut self.frame.carried, &mut self.history, window)?;
            }
        }
        self.given = before;
        self.frame.came += (self.history.len() - before) as u64;
        Ok(())
    }
}

impl Codec for Zstd {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable> {
        let mut read = 0;
        let before = self.cost;
        loop {
            let ready = &self.history[self.given..];
            if !ready.is_empty() {
                let some = ready.len().min(out.len());
                out[..some].copy_from_slice(&ready[..some]);
                self.given += some;
                return Ok((read, some));
            }
            let rest = &input[read..];
            if let Stage::Skipped(left @ 1..) = &mut self.stage {
                let some = rest.len().min(*left);
                *left -= some;
                read += some;
                if *left > 0 {
                    return Ok((read, 0));
                }
                continue;
            }
            let some = rest.len().min(self.needed - self.pending.len());
            self.pending.extend_from_slice(&rest[..some]);
            read += some;
            if self.pending.len() < self.needed {
                return Ok((read, 0));
            }
            self.advance()?;
            // Its cost is to be seen before there is more of it.
            if self.cost - before >= 4 * FRAME {
                return Ok((read, 0));
            }
        }
    }

    fn take_cost(&mut self) -> u64 {
        std::mem::take(&mut self.cost)
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Magic && self.pending.is_empty() && self.given == self.history.len()
    }
}

/// Bytes that no encoder writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl From<Corrupt> for Undecodable {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// The kind of a block that is neither raw nor one byte repeated.
const COMPRESSED: u8 = 2;
/// Beside the history: a block, its literals and tables.
const STATE: usize = 4 * BLOCK_LIMIT;
/// What a frame costs, skipped or not. More than its eight or nine bytes pay for where it is empty.
const FRAME: u64 = 4096;
/// What a block costs, and beside that one with tables.
const BLOCK: u64 = 512;
const TABLES: u64 = 1024;
const MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE: u32 = 0x184d_2a50;
const SKIPPABLE_LAST: u32 = 0x184d_2a5f;
/// Bytes that a block comes to, at most.
const BLOCK_LIMIT: usize = 128 * 1024;
/// What RFC 9659 asks of everybody who takes this coding, and nobody may send more.
const LARGEST_WINDOW: usize = 8 * 1024 * 1024;

#[cfg(test)]
#[path = "zstd/zstd_tests.rs"]
mod tests;
