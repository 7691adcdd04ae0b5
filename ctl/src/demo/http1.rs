//! HTTP/1.1 messages read off a blocking stream, byte by byte as they came.
//!
//! The demo's upstream, the demo's agent and the system tests read messages here: they want to see the order and the
//! case of fields, a reason phrase, chunk boundaries and trailers, which an HTTP library would tidy away. It refuses
//! to be a general parser: it has no limits but [`LARGEST_HEAD`] and must not meet hostile peers.

use std::io::{self, Read};

/// A request's or a response's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its line end.
    pub start_line: String,
    /// Fields in the order and case in which they came.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The first value of this field, without regard to case.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        self.values(name).into_iter().next()
    }

    /// All values of this field, in order.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<String> {
        let same = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// A request's method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.start_line.split(' ').next().unwrap_or_default()
    }

    /// A request's target.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// A response's status; 0 where the line has none.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.start_line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// A response's reason phrase.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.start_line.splitn(3, ' ').nth(2).unwrap_or_default()
    }

    /// How a request's body ends.
    #[must_use]
    pub fn request_framing(&self) -> Framing {
        self.framing(Framing::Ended)
    }

    /// How the body of a response ends, when it answers a request of this method.
    #[must_use]
    pub fn response_framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status(), 100..=199 | 204 | 304) {
            return Framing::Ended;
        }
        self.framing(Framing::UntilClose)
    }

    fn framing(&self, otherwise: Framing) -> Framing {
        if self.value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked { left: 0, begun: false };
        }
        match self.value("content-length").and_then(|value| value.parse().ok()) {
            Some(0) => Framing::Ended,
            Some(length) => Framing::Length(length),
            None => otherwise,
        }
    }
}

/// What is left of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    Ended,
    /// So many bytes.
    Length(u64),
    /// Chunks, the present one with so many bytes left.
    Chunked {
        /// Bytes of this chunk that have not come yet.
        left: u64,
        /// A chunk came before, so that its line end is due.
        begun: bool,
    },
    /// Whatever comes until the peer closes.
    UntilClose,
}

/// A stream with what was read ahead of it.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    ahead: Vec<u8>,
    /// Trailer fields of the last chunked body.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl<S: Read> Reader<S> {
    /// Reads from this stream.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new(), trailers: Vec::new() }
    }

    /// The stream, to write to it.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next head; none where the peer closed before its first byte.
    ///
    /// # Errors
    /// The stream's; `UnexpectedEof` inside a head; `InvalidData` for a head over [`LARGEST_HEAD`] or without colons.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        self.trailers.clear();
        let end = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end;
            }
            if self.ahead.len() > LARGEST_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.ahead.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let rest = self.ahead.split_off(end + 4);
        let mut text = std::mem::replace(&mut self.ahead, rest);
        text.truncate(end);
        let mut lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start_line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let fields = lines.map(field).collect::<io::Result<_>>()?;
        Ok(Some(Head { start_line, fields }))
    }

    /// The next piece of a body, as large as it came; none at its end.
    ///
    /// # Errors
    /// The stream's; `UnexpectedEof` where the peer closed inside a body; `InvalidData` for a chunk size that is none.
    pub fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Vec<u8>>> {
        match framing {
            Framing::Ended => Ok(None),
            Framing::UntilClose => match self.available() {
                Ok(()) => Ok(Some(std::mem::take(&mut self.ahead))),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    *framing = Framing::Ended;
                    Ok(None)
                }
                Err(error) => Err(error),
            },
            Framing::Length(left) => {
                let piece = self.at_most(*left)?;
                *left -= piece.len() as u64;
                if *left == 0 {
                    *framing = Framing::Ended;
                }
                Ok(Some(piece))
            }
            Framing::Chunked { left, begun } => {
                if *left == 0 {
                    if *begun {
                        self.line()?;
                    }
                    *begun = true;
                    let line = self.line()?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    *left = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
                    if *left == 0 {
                        *framing = Framing::Ended;
                        return self.read_trailers().map(|()| None);
                    }
                }
                let piece = self.at_most(*left)?;
                *left -= piece.len() as u64;
                Ok(Some(piece))
            }
        }
    }

    /// A body, whole.
    ///
    /// # Errors
    /// As [`Reader::piece`].
    pub fn whole(&mut self, framing: &mut Framing) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(framing)? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn read_trailers(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            self.trailers.push(field(line.as_bytes())?);
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let rest = self.ahead.split_off(end + 2);
                let line = std::mem::replace(&mut self.ahead, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.ahead.len() > LARGEST_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.fill()?;
        }
    }

    fn at_most(&mut self, most: u64) -> io::Result<Vec<u8>> {
        self.available()?;
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.ahead.len());
        let rest = self.ahead.split_off(length);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    fn available(&mut self) -> io::Result<()> {
        if self.ahead.is_empty() { self.fill() } else { Ok(()) }
    }

    fn fill(&mut self) -> io::Result<()> {
        let before = self.ahead.len();
        self.ahead.resize(before + READ_SIZE, 0);
        let read = loop {
            match self.stream.read(&mut self.ahead[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.ahead.truncate(before + *read.as_ref().unwrap_or(&0));
        if read? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Largest head that is read, in bytes.
pub const LARGEST_HEAD: usize = 256 * 1024;

const READ_SIZE: usize = 16 * 1024;

fn field(line: &[u8]) -> io::Result<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(io::ErrorKind::InvalidData)?;
    let (name, value) = line.split_at(colon);
    Ok((String::from_utf8_lossy(name).into_owned(), value[1..].trim_ascii().to_vec()))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A stream that gives one byte at a time, for every boundary to fall everywhere.
    struct Dripping(Vec<u8>);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            buffer[0] = self.0.remove(0);
            Ok(1)
        }
    }

    #[test]
    fn a_chunked_response_is_read_with_its_trailers() {
        let text = b"HTTP/1.1 200 All Right\r\nX-A: 1\r\nx-a:2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nt: v\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        let mut reader = Reader::new(Dripping(text.to_vec()));
        let head = reader.head().unwrap().unwrap();
        assert_eq!(
            (head.status(), head.reason(), head.values("x-a")),
            (200, "All Right", vec!["1".into(), "2".into()])
        );
        let mut framing = head.response_framing("GET");
        assert_eq!(reader.whole(&mut framing).unwrap(), b"abcde");
        assert_eq!(reader.trailers, [("t".to_owned(), b"v".to_vec())]);
        assert_eq!(reader.head().unwrap().unwrap().status(), 204);
        assert!(reader.head().unwrap().is_none());
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        for text in [
            &b"GET / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabc"[..],
            b"GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let mut reader = Reader::new(text);
            let head = reader.head().unwrap().unwrap();
            assert_eq!(reader.whole(&mut head.request_framing()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        let mut whole = Reader::new(&b"GET / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabcd"[..]);
        let head = whole.head().unwrap().unwrap();
        assert_eq!(whole.whole(&mut head.request_framing()).unwrap(), b"abcd");
    }
}
