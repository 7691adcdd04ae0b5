//! Answers that come content-encoded although identity was asked for are decoded, so that they can be searched.
//!
//! ```text
//!   Content-Encoding: deflate, br      ──▶  br  ──▶  deflate  ──▶  scrubber
//! ```
//!
//! At most two codings, event by event: what the upstream flushed comes out before more is asked for. All layers have one
//! [`Account`] of the work that the body makes, also of work that nothing comes out of: it says when others have their
//! turn, and when it is too much. It refuses codings that it does not know, windows and memory beyond a limit, streams
//! that make [`MOST_RATIO`] times as much work as they have bytes, that are corrupt or cut off, or that have something
//! behind their end. Called by `answer/head` (may it be decoded?) and `answer/passage` (the body).

pub mod brotli;
pub mod deflate;
pub mod memory;
pub mod zstd;

use std::fmt;

use bytes::{Buf, Bytes};
use http::{HeaderMap, header};

use self::brotli::Brotli;
use self::deflate::{Deflate, Gzip};
use self::memory::Memory;
use self::zstd::Zstd;

/// A content coding that can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, `x-gzip`
    Gzip,
    /// `deflate`
    Deflate,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
}

impl Coding {
    /// The codings of an answer, in the order in which they were applied. None at all where it is plain.
    ///
    /// # Errors
    /// [`Undecodable::Unknown`], also where there are too many.
    pub fn of(headers: &HeaderMap) -> Result<Vec<Self>, Undecodable> {
        let mut codings = Vec::new();
        for value in headers.get_all(header::CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                match name.to_ascii_lowercase().as_slice() {
                    // The last three are none, and servers send them.
                    b"" | b"identity" | b"none" | b"utf-8" | b"binary" => {}
                    b"gzip" | b"x-gzip" => codings.push(Self::Gzip),
                    b"deflate" => codings.push(Self::Deflate),
                    b"br" => codings.push(Self::Brotli),
                    b"zstd" => codings.push(Self::Zstd),
                    _ => return Err(Undecodable::Unknown),
                }
            }
        }
        if codings.len() > MOST_CODINGS { Err(Undecodable::Unknown) } else { Ok(codings) }
    }
}

/// What one coding does with pieces of its input.
pub trait Codec {
    /// Takes some of the input and gives some output; says how much of either. Nothing of both: it needs more input, or
    /// is done. It returns at the latest when the input, which is short, is taken.
    ///
    /// # Errors
    /// Where the input cannot be decoded.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable>;

    /// What the steps since the last call cost beside their bytes: members, frames, blocks and tables, each as so many
    /// bytes of output as take as long.
    fn take_cost(&mut self) -> u64;

    /// Whether the input may end here.
    fn is_done(&self) -> bool;
}

/// What there is of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulled {
    /// Some of it.
    Piece(Bytes),
    /// There is more to do, and others should have their turn first.
    Paused,
    /// More has to be pushed.
    Nothing,
}

/// The codings of one answer, undone from the last to the first.
pub struct Decoding {
    /// In the order in which they are undone; never empty.
    layers: Vec<Layer>,
    account: Account,
}

struct Layer {
    codec: Box<dyn Codec>,
    input: Bytes,
    /// Nothing was taken yet.
    is_new: bool,
}

/// The work of all layers, in bytes of output.
#[derive(Default)]
struct Account {
    /// Bytes of the body that were taken.
    came: u64,
    cost: u64,
    /// Since the last pause.
    since_pause: u64,
}

impl Account {
    fn book(&mut self, cost: u64) -> Result<(), Undecodable> {
        self.cost += cost;
        self.since_pause += cost;
        if self.cost > ALWAYS_ALLOWED + MOST_RATIO * self.came { Err(Undecodable::Ratio) } else { Ok(()) }
    }

    fn wants_pause(&self) -> bool {
        self.since_pause >= MOST_AT_ONCE
    }
}

impl Decoding {
    /// Of an answer with these codings; nothing where there is none.
    ///
    /// # Errors
    /// [`Undecodable::Memory`].
    pub fn new(codings: &[Coding], memory: &Memory) -> Result<Option<Self>, Undecodable> {
        let layer = |coding: &Coding| {
            let codec: Box<dyn Codec> = match coding {
                Coding::Gzip => Box::new(Gzip::new(memory)?),
                Coding::Deflate => Box::new(Deflate::new(memory)?),
                Coding::Brotli => Box::new(Brotli::new(memory)?),
                Coding::Zstd => Box::new(Zstd::new(memory)?),
            };
            Ok(Layer { codec, input: Bytes::new(), is_new: true })
        };
        let layers = codings.iter().rev().map(layer).collect::<Result<Vec<_>, Undecodable>>()?;
        Ok((!layers.is_empty()).then_some(Self { layers, account: Account::default() }))
    }

    /// Takes a piece of the body. All that came before has to be asked for first.
    pub fn push(&mut self, piece: Bytes) {
        if let Some(first) = self.layers.first_mut() {
            debug_assert!(first.input.is_empty(), "a piece that nobody asked for");
            first.input = piece;
        }
    }

    /// What comes out of what was pushed.
    ///
    /// # Errors
    /// Where it cannot be decoded.
    pub fn pull(&mut self) -> Result<Pulled, Undecodable> {
        let pulled = pull(&mut self.layers, &mut self.account)?;
        if pulled == Pulled::Paused {
            self.account.since_pause = 0;
        }
        Ok(pulled)
    }

    /// Whether the body may end here; what came was asked for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // A body of no bytes at all is taken for one without content.
        self.layers.iter().all(|layer| layer.input.is_empty() && (layer.codec.is_done() || layer.is_new))
    }
}

fn pull(layers: &mut [Layer], account: &mut Account) -> Result<Pulled, Undecodable> {
    let Some((last, before)) = layers.split_last_mut() else { return Ok(Pulled::Nothing) };
    loop {
        match last.step(account, before.is_empty())? {
            Pulled::Nothing => {}
            pulled => return Ok(pulled),
        }
        match pull(before, account)? {
            Pulled::Piece(piece) => last.input = piece,
            pulled => return Ok(pulled),
        }
    }
}

impl Layer {
    /// Some output; nothing where all input is taken and there is none.
    fn step(&mut self, account: &mut Account, is_first: bool) -> Result<Pulled, Undecodable> {
        if account.wants_pause() {
            return Ok(Pulled::Paused);
        }
        let mut out = vec![0; PIECE];
        let mut length = 0;
        while length < out.len() && !account.wants_pause() {
            let some = &self.input[..self.input.len().min(STEP)];
            let (read, written) = self.codec.step(some, &mut out[length..])?;
            self.input.advance(read);
            length += written;
            self.is_new &= read == 0;
            account.came += if is_first { read as u64 } else { 0 };
            account.book(READING * read as u64 + written as u64 + self.codec.take_cost())?;
            if read + written > 0 {
                continue;
            }
            if length == 0 && !self.input.is_empty() {
                // Nothing may stand behind the end.
                return Err(Undecodable::Corrupt);
            }
            if length == 0 {
                return Ok(Pulled::Nothing);
            }
            break;
        }
        if length == 0 {
            return Ok(Pulled::Paused);
        }
        out.truncate(length);
        Ok(Pulled::Piece(out.into()))
    }
}

/// Why an answer cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// The coding is not known, or there are too many.
    Unknown,
    /// The input is not what the coding makes.
    Corrupt,
    /// The input ended too early.
    CutOff,
    /// It would grow too much.
    Ratio,
    /// It looks back further than is allowed.
    Window,
    /// Too many others are being decoded.
    Memory,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "a content coding that is not known",
            Self::Corrupt => "encoded content that is corrupt",
            Self::CutOff => "encoded content that is cut off",
            Self::Ratio => "encoded content that grows without end",
            Self::Window => "encoded content that looks back too far",
            Self::Memory => "too much encoded content at once",
        })
    }
}

impl std::error::Error for Undecodable {}

/// Codings of one answer.
const MOST_CODINGS: usize = 2;
/// Work for each byte of the body, beyond [`ALWAYS_ALLOWED`]. Text reaches twenty, a bomb in gzip a thousand.
const MOST_RATIO: u64 = 200;
/// Work that a byte makes which is read.
const READING: u64 = 8;
/// Work before others have their turn.
const MOST_AT_ONCE: u64 = 256 * 1024;
/// Small answers may be as repetitive as they like.
const ALWAYS_ALLOWED: u64 = 1024 * 1024;
/// Bytes that are decoded at once.
const PIECE: usize = 32 * 1024;
/// Bytes that a codec is given at once, so that its cost is seen in time.
const STEP: usize = 4 * 1024;

#[cfg(test)]
#[path = "decode/decode_tests.rs"]
mod tests;
