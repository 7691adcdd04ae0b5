//! Looks for a request head that frames its body twice, by Content-Length and by Transfer-Encoding.
//!
//! hyper takes such a request and quietly drops the length (RFC 9112, 6.3 allows it). Another parser on the way might
//! have kept it, so the request is refused instead; and because hyper hides it, the bytes themselves are looked at as
//! they come in. Only field names and lengths are read here, and hyper stays the judge of everything else. After a
//! chunked body the place of the next head is not known until the connection is idle.
//! It refuses nothing by itself. Fed by the connection with all that it reads.

use memchr::memchr;

/// Where in the byte stream of an HTTP/1 connection we are.
#[derive(Debug, Default)]
pub struct Framing {
    place: Place,
    line: Vec<u8>,
    length: Option<u64>,
    is_coded: bool,
    is_double: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a request line; empty lines are allowed there.
    #[default]
    Start,
    /// Among the fields.
    Fields,
    /// In a body with so many bytes to come.
    Body(u64),
    /// In a chunked body, or behind one.
    Unknown,
}

impl Framing {
    /// Looks at the next bytes.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.place {
                Place::Unknown => return,
                Place::Body(left) => {
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[step..];
                    self.place = match left - step as u64 {
                        0 => Place::Start,
                        left => Place::Body(left),
                    };
                }
                Place::Start | Place::Fields => {
                    let end = memchr(b'\n', bytes);
                    let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    bytes = rest;
                    if end.is_some() && self.line.is_empty() {
                        // The usual case: a whole line, where it lies.
                        self.end_line(&part[..part.len().min(LONGEST)]);
                        continue;
                    }
                    let room = LONGEST.saturating_sub(self.line.len());
                    self.line.extend_from_slice(&part[..part.len().min(room)]);
                    if end.is_some() {
                        let mut line = std::mem::take(&mut self.line);
                        self.end_line(&line);
                        line.clear();
                        self.line = line;
                    }
                }
            }
        }
    }

    /// Nothing of a request is left on the connection: what comes next is a head.
    pub fn idle(&mut self) {
        if self.place == Place::Unknown {
            self.place = Place::Start;
        }
    }

    /// Whether a head so far had both. It stays so: nobody knows where the next request begins.
    #[must_use]
    pub fn is_double(&self) -> bool {
        self.is_double
    }

    fn end_line(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        match (self.place, line.is_empty()) {
            (Place::Start, true) => {}
            (Place::Start, false) => self.place = Place::Fields,
            (_, false) => self.field(line),
            (_, true) => {
                self.is_double |= self.is_coded && self.length.is_some();
                self.place = match (self.is_coded, self.length.take()) {
                    (true, _) => Place::Unknown,
                    (false, None | Some(0)) => Place::Start,
                    (false, Some(length)) => Place::Body(length),
                };
                self.is_coded = false;
            }
        }
    }

    fn field(&mut self, line: &[u8]) {
        let Some(colon) = memchr(b':', line) else { return };
        let name = line[..colon].trim_ascii_end();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(line[colon + 1..].trim_ascii()).ok();
            // What is no number, or differs from another, hyper refuses with the whole connection.
            self.length = Some(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0));
        }
    }
}

/// A length and its name fit well.
const LONGEST: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// In one piece, and byte by byte.
    fn is_double(text: &str) -> bool {
        let (mut whole, mut bytes) = (Framing::default(), Framing::default());
        whole.see(text.as_bytes());
        text.bytes().for_each(|byte| bytes.see(&[byte]));
        assert_eq!((whole.is_double(), whole.place), (bytes.is_double(), bytes.place), "{text:?}");
        whole.is_double()
    }

    #[test]
    fn both_framings_in_one_head_are_seen() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nx: y\r\ncontent-length:0\r\n\r\n",
            "\r\n\nPOST / HTTP/1.1\ntransfer-encoding:chunked\ncontent-length: +3\n\n",
            "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\n\n\nPOST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(is_double(head), "{head:?}");
        }
    }

    #[test]
    fn one_framing_is_none_too_many() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nx-transfer-encoding: chunked\r\nx: Transfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(!is_double(head), "{head:?}");
        }
    }

    #[test]
    fn after_a_chunked_body_the_next_head_is_found_when_the_connection_is_idle() {
        let mut framing = Framing::default();
        framing.see(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        framing.idle();
        framing.see(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n");
        assert!(framing.is_double());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            is_double(&String::from_utf8_lossy(&bytes));
        }
    }
}
