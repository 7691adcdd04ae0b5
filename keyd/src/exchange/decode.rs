//! Answers that come content-encoded although identity was asked for are decoded, so that they can be searched.
//!
//! ```text
//!   Content-Encoding: deflate, br      ──▶  br  ──▶  deflate  ──▶  scrubber
//! ```
//!
//! At most two codings, event by event: what the upstream flushed comes out before more is asked for. It refuses
//! codings that it does not know, windows and memory beyond a limit, streams that grow [`MOST_RATIO`]-fold, that are
//! corrupt or cut off, or that have something behind their end. Called by
//! `answer/head` (may it be decoded?) and `answer/passage` (the body).

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
                    b"" | b"identity" => {}
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
    /// is done.
    ///
    /// # Errors
    /// Where the input cannot be decoded.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<(usize, usize), Undecodable>;

    /// Whether the input may end here.
    fn is_done(&self) -> bool;
}

/// The codings of one answer, undone from the last to the first.
pub struct Decoding {
    /// In the order in which they are undone; never empty.
    layers: Vec<Layer>,
}

struct Layer {
    codec: Box<dyn Codec>,
    input: Bytes,
    read: u64,
    written: u64,
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
                Coding::Brotli => Box::new(Brotli::new(memory.clone())),
                Coding::Zstd => Box::new(Zstd::new(memory.clone())),
            };
            Ok(Layer { codec, input: Bytes::new(), read: 0, written: 0 })
        };
        let layers = codings.iter().rev().map(layer).collect::<Result<Vec<_>, Undecodable>>()?;
        Ok((!layers.is_empty()).then_some(Self { layers }))
    }

    /// Takes a piece of the body. All that came before has to be asked for first.
    pub fn push(&mut self, piece: Bytes) {
        if let Some(first) = self.layers.first_mut() {
            debug_assert!(first.input.is_empty(), "a piece that nobody asked for");
            first.input = piece;
        }
    }

    /// What comes out of what was pushed; nothing where more is needed.
    ///
    /// # Errors
    /// Where it cannot be decoded.
    pub fn pull(&mut self) -> Result<Option<Bytes>, Undecodable> {
        pull(&mut self.layers)
    }

    /// Whether the body may end here; what came was asked for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // A body of no bytes at all is taken for one without content.
        self.layers.iter().all(|layer| layer.input.is_empty() && (layer.codec.is_done() || layer.read == 0))
    }
}

fn pull(layers: &mut [Layer]) -> Result<Option<Bytes>, Undecodable> {
    let Some((last, before)) = layers.split_last_mut() else { return Ok(None) };
    loop {
        if let Some(out) = last.step()? {
            return Ok(Some(out));
        }
        match pull(before)? {
            Some(piece) => last.input = piece,
            None => return Ok(None),
        }
    }
}

impl Layer {
    /// Some output; nothing where all input is taken and there is none.
    fn step(&mut self) -> Result<Option<Bytes>, Undecodable> {
        let mut out = vec![0; PIECE];
        let mut length = 0;
        loop {
            let (read, written) = self.codec.step(&self.input, &mut out[length..])?;
            self.input.advance(read);
            length += written;
            self.read += read as u64;
            self.written += written as u64;
            if self.written > ALWAYS_ALLOWED + MOST_RATIO * self.read {
                return Err(Undecodable::Ratio);
            }
            if length == out.len() || read + written == 0 {
                break;
            }
        }
        if length == 0 && !self.input.is_empty() {
            // Nothing may stand behind the end.
            return Err(Undecodable::Corrupt);
        }
        out.truncate(length);
        Ok((length > 0).then(|| out.into()))
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
/// Bytes of output for each of input, beyond [`ALWAYS_ALLOWED`]. Text reaches ten, a bomb in gzip a thousand.
const MOST_RATIO: u64 = 200;
/// Small answers may be as repetitive as they like.
const ALWAYS_ALLOWED: u64 = 1024 * 1024;
/// Bytes that are decoded at once.
const PIECE: usize = 32 * 1024;

#[cfg(test)]
#[path = "decode/decode_tests.rs"]
mod tests;
