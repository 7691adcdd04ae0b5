//! deflate (RFC 1951): bare, in zlib's wrapping, or in gzip's.
//!
//! "deflate" as a content coding is zlib's wrapping (RFC 9110, 8.4.1.2), but some servers send it bare, and the first
//! two bytes tell which. gzip may hold several members, one behind the other. It refuses checksums and lengths that do
//! not fit what came, and anything else behind the end. Called by `decode`.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::memory::{Memory, Share};
use super::{Codec, Undecodable};

/// A bare stream, or one in zlib's wrapping.
pub struct Deflate {
    /// The first two bytes, until they are taken.
    first: Vec<u8>,
    inflate: Option<Inflate>,
    _share: Share,
}

impl Deflate {
    /// At the beginning.
    ///
    /// # Errors
    /// [`Undecodable::Memory`].
    pub fn new(memory: &Memory) -> Result<Self, Undecodable> {
        let share = memory.share(STATE).ok_or(Undecodable::Memory)?;
        Ok(Self { first: Vec::new(), inflate: None, _share: share })
    }
}

impl Codec for Deflate {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable> {
        let Some(inflate) = &mut self.inflate else {
            let taken = input.len().min(2 - self.first.len());
            self.first.extend_from_slice(&input[..taken]);
            if let [first, second] = self.first[..] {
                let is_zlib =
                    first & 0xf == 8 && first >> 4 < 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
                self.inflate = Some(Inflate::new(if is_zlib { ZLIB } else { RAW }));
            }
            return Ok((taken, 0));
        };
        while !self.first.is_empty() {
            let (read, written) = inflate.step(&self.first, out)?;
            self.first.drain(..read);
            if written > 0 {
                return Ok((0, written));
            }
            if read == 0 {
                return Err(Undecodable::Corrupt);
            }
        }
        inflate.step(input, out)
    }

    fn take_cost(&mut self) -> u64 {
        self.inflate.as_mut().map_or(0, Inflate::take_cost)
    }

    fn is_done(&self) -> bool {
        self.inflate.as_ref().is_some_and(Inflate::is_done) && self.first.is_empty()
    }
}

/// Members of gzip (RFC 1952).
pub struct Gzip {
    stage: Stage,
    inflate: Inflate,
    checksum: u32,
    length: u32,
    _share: Share,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many of the ten first bytes came, with these flags.
    Fixed {
        came: u8,
        flags: u8,
    },
    /// So many of its two bytes came, which say this.
    ExtraLength {
        came: u8,
        length: u16,
        flags: u8,
    },
    Extra {
        left: u16,
        flags: u8,
    },
    /// File name, comment: up to a zero.
    Text {
        flags: u8,
    },
    HeaderChecksum {
        left: u8,
        flags: u8,
    },
    Body,
    /// Checksum and length: so many of the eight bytes came, which say this.
    End {
        came: u8,
        value: u64,
    },
}

impl Gzip {
    /// At the beginning.
    ///
    /// # Errors
    /// [`Undecodable::Memory`].
    pub fn new(memory: &Memory) -> Result<Self, Undecodable> {
        let share = memory.share(STATE).ok_or(Undecodable::Memory)?;
        let inflate = Inflate::new(RAW);
        Ok(Self { stage: Stage::BEGINNING, inflate, checksum: !0, length: 0, _share: share })
    }

    /// One byte of a header or an end.
    fn frame(&mut self, byte: u8) -> Result<(), Undecodable> {
        self.stage = match self.stage {
            Stage::Fixed { came, flags } => {
                let fits = match came {
                    0 => byte == 0x1f,
                    1 => byte == 0x8b,
                    2 => byte == 8,
                    3 => byte & 0xe0 == 0,
                    _ => true,
                };
                if !fits {
                    return Err(Undecodable::Corrupt);
                }
                let flags = if came == 3 { byte } else { flags };
                if came < 9 { Stage::Fixed { came: came + 1, flags } } else { Stage::behind_fixed(flags) }
            }
            Stage::ExtraLength { came: 0, flags, .. } => Stage::ExtraLength { came: 1, length: byte.into(), flags },
            Stage::ExtraLength { length, flags, .. } => match length | u16::from(byte) << 8 {
                0 => Stage::behind_extra(flags),
                left => Stage::Extra { left, flags },
            },
            Stage::Extra { left: 1, flags } => Stage::behind_extra(flags),
            Stage::Extra { left, flags } => Stage::Extra { left: left - 1, flags },
            Stage::Text { flags } if byte == 0 => Stage::behind_extra(flags),
            Stage::HeaderChecksum { left: 1, flags } => Stage::behind_extra(flags),
            Stage::HeaderChecksum { left, flags } => Stage::HeaderChecksum { left: left - 1, flags },
            Stage::Text { .. } | Stage::Body => return Ok(()),
            Stage::End { came, value } => {
                let value = value | u64::from(byte) << (8 * came);
                if came < 7 {
                    Stage::End { came: came + 1, value }
                } else if value == u64::from(!self.checksum) | u64::from(self.length) << 32 {
                    self.inflate.begin_again();
                    (self.checksum, self.length) = (!0, 0);
                    Stage::BEGINNING
                } else {
                    return Err(Undecodable::Corrupt);
                }
            }
        };
        Ok(())
    }
}

impl Stage {
    const BEGINNING: Self = Self::Fixed { came: 0, flags: 0 };

    fn behind_fixed(flags: u8) -> Self {
        if flags & EXTRA != 0 {
            Self::ExtraLength { came: 0, length: 0, flags: flags & !EXTRA }
        } else {
            Self::behind_extra(flags)
        }
    }

    /// What the flags still announce.
    fn behind_extra(flags: u8) -> Self {
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                return Self::Text { flags: flags & !text };
            }
        }
        if flags & HEADER_CHECKSUM != 0 {
            return Self::HeaderChecksum { left: 2, flags: flags & !HEADER_CHECKSUM };
        }
        Self::Body
    }
}

impl Codec for Gzip {
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable> {
        let mut read = 0;
        loop {
            if self.stage == Stage::Body {
                let (more, written) = self.inflate.step(&input[read..], out)?;
                self.checksum = crc32(self.checksum, &out[..written]);
                self.length = self.length.wrapping_add(u32::try_from(written).unwrap_or(0));
                if self.inflate.is_done() {
                    self.stage = Stage::End { came: 0, value: 0 };
                }
                return Ok((read + more, written));
            }
            let Some(byte) = input.get(read) else { return Ok((read, 0)) };
            self.frame(*byte)?;
            read += 1;
        }
    }

    fn take_cost(&mut self) -> u64 {
        self.inflate.take_cost()
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::BEGINNING
    }
}

/// What miniz_oxide does, block by block.
struct Inflate {
    core: Box<DecompressorOxide>,
    flags: u32,
    /// The last bytes that came out; the next stand at `at`, and of these so many are still to be given.
    window: Box<[u8]>,
    at: usize,
    ready: usize,
    has_ended: bool,
    cost: u64,
}

impl Inflate {
    fn new(flags: u32) -> Self {
        let window = vec![0; WINDOW].into();
        Self { core: Box::default(), flags, window, at: 0, ready: 0, has_ended: false, cost: 0 }
    }

    /// For another stream, which sees nothing of this one.
    fn begin_again(&mut self) {
        self.core.init();
        self.window.fill(0);
        (self.at, self.ready, self.has_ended) = (0, 0, false);
        self.cost += MEMBER;
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable> {
        let mut read = 0;
        while self.ready == 0 && !self.has_ended {
            let (status, more, ready) =
                decompress(&mut self.core, &input[read..], &mut self.window, self.at, self.flags);
            read += more;
            self.ready = ready;
            match status {
                TINFLStatus::Done => self.has_ended = true,
                TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
                TINFLStatus::BlockBoundary => {
                    self.cost += BLOCK;
                    if more == 0 {
                        continue;
                    }
                }
                _ => return Err(Undecodable::Corrupt),
            }
            break;
        }
        let some = self.ready.min(out.len());
        out[..some].copy_from_slice(&self.window[self.at..self.at + some]);
        self.at = (self.at + some) % WINDOW;
        self.ready -= some;
        Ok((read, some))
    }

    fn take_cost(&mut self) -> u64 {
        std::mem::take(&mut self.cost)
    }

    fn is_done(&self) -> bool {
        self.has_ended && self.ready == 0
    }
}

fn crc32(checksum: u32, bytes: &[u8]) -> u32 {
    let low = |value: u32| usize::from(value.to_le_bytes()[0]);
    bytes.iter().fold(checksum, |checksum, byte| CRC_TABLE[low(checksum) ^ usize::from(*byte)] ^ (checksum >> 8))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// How miniz_oxide is to read: by blocks, for each has tables of its own.
const RAW: u32 = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
    | inflate_flags::TINFL_FLAG_IGNORE_ADLER32
    | inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
const ZLIB: u32 = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT
    | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
    | inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
    | inflate_flags::TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;

/// What a member costs: a new window. More than its twenty bytes pay for where it is empty.
const MEMBER: u64 = 4096;
/// What a block costs: its tables. Less than a flushed byte pays for, more than a block that is empty.
const BLOCK: u64 = 512;
/// As far as deflate looks back.
const WINDOW: usize = 32 * 1024;
const HEADER_CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
/// What miniz_oxide's state takes: tables, and a window of 32 KiB.
const STATE: usize = 64 * 1024;
