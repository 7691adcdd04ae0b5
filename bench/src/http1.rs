//! As much of HTTP/1.1 as two programs of one benchmark need to understand each other, at the least cost.
//!
//! One buffer a connection; heads are searched in place, bodies are counted and dropped. It refuses whatever it does not
//! understand: it must never meet an unknown peer. Used by `load` and `upstream`.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads messages from one connection.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of no bytes.
    Chunked,
}

/// A head: its first line and how its body is framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Without its line end.
    pub first_line: String,
    /// No body is a length of 0.
    pub framing: Framing,
    /// The peer closes after this message.
    pub closes: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER], start: 0, end: 0 }
    }
}

impl Reader {
    /// The next head; nothing where the peer closed in between.
    ///
    /// # Errors
    /// The stream's, and where a head is broken or too long.
    pub async fn head(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Head>> {
        loop {
            let waiting = &self.buffer[self.start..self.end];
            if let Some(length) = memmem::find(waiting, b"\r\n\r\n") {
                let head = parse(&waiting[..length])?;
                self.start += length + 4;
                return Ok(Some(head));
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.end == self.buffer.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.fill(stream).await? == 0 {
                return if self.end == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads a body to its end and gives its length; `first` is called when its first byte has come.
    ///
    /// # Errors
    /// The stream's, and where the body breaks off.
    pub async fn body(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        framing: Framing,
        mut first: impl FnMut(),
    ) -> io::Result<u64> {
        let mut chunks = Chunks::default();
        let mut total = 0;
        loop {
            let waiting = &self.buffer[self.start..self.end];
            let (used, data, ended) = match framing {
                Framing::Length(length) => {
                    let left = usize::try_from(length - total).unwrap_or(usize::MAX).min(waiting.len());
                    (left, left as u64, total + left as u64 == length)
                }
                Framing::Chunked => chunks.walk(waiting)?,
            };
            if total == 0 && data > 0 {
                first();
            }
            total += data;
            self.start += used;
            if ended {
                return Ok(total);
            }
            self.start = 0;
            self.end = 0;
            if self.fill(stream).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let read = stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read)
    }
}

/// Where in a chunked body the reader is.
#[derive(Debug, Default)]
enum Chunks {
    #[default]
    Begin,
    Size(u64),
    Data(u64),
    DataEnd,
    /// In the trailers; the flag is set where a line has bytes.
    Trailers(bool),
}

impl Chunks {
    /// Goes through these bytes: how many were used, how many of them are data, and whether the body ended.
    fn walk(&mut self, bytes: &[u8]) -> io::Result<(usize, u64, bool)> {
        let mut at = 0;
        let mut data = 0;
        while at < bytes.len() {
            if let Self::Data(left) = self {
                let step = (*left).min((bytes.len() - at) as u64);
                *left -= step;
                data += step;
                at += usize::try_from(step).unwrap_or(bytes.len());
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            *self = match (&*self, byte) {
                (Self::Begin, digit) => Self::Size(hex(digit)?),
                (Self::Size(0), b'\n') => Self::Trailers(false),
                (Self::Size(size), b'\n') => Self::Data(*size),
                (Self::Size(size), b'\r') => Self::Size(*size),
                (Self::Size(size), digit) => Self::Size(size * 16 + hex(digit)?),
                (Self::DataEnd, b'\n') => Self::Begin,
                (Self::DataEnd, b'\r') => Self::DataEnd,
                (Self::Trailers(false), b'\n') => return Ok((at, data, true)),
                (Self::Trailers(_), b'\n') => Self::Trailers(false),
                (Self::Trailers(some), b'\r') => Self::Trailers(*some),
                (Self::Trailers(_), _) => Self::Trailers(true),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            };
        }
        Ok((at, data, false))
    }
}

fn hex(digit: u8) -> io::Result<u64> {
    char::from(digit).to_digit(16).map(u64::from).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(bytes: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut lines = text.split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    let mut head = Head { first_line, framing: Framing::Length(0), closes: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.framing = Framing::Length(value.parse().map_err(|_| io::ErrorKind::InvalidData)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(head)
}

/// Bodies of many MiB are read through it as well.
const BUFFER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_bodies_are_counted_whatever_the_cuts() {
        let text = b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\na: b\r\n\r\nrest";
        for cut in 1..text.len() - 4 {
            let mut chunks = Chunks::default();
            let (used, first, ended) = chunks.walk(&text[..cut]).expect("well-formed");
            let end = text.len() - 4;
            if ended {
                continue;
            }
            assert_eq!(used, cut);
            let (_, second, ended) = chunks.walk(&text[cut..end]).expect("well-formed");
            assert!(ended, "cut at {cut}");
            assert_eq!(first + second, 21, "cut at {cut}");
        }
    }

    #[test]
    fn heads_say_how_their_bodies_end() {
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close").expect("well-formed");
        assert_eq!(head.first_line, "HTTP/1.1 200 OK");
        assert_eq!((head.framing, head.closes), (Framing::Length(12), true));
        let head = parse(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked").expect("well-formed");
        assert_eq!((head.framing, head.closes), (Framing::Chunked, false));
    }
}
