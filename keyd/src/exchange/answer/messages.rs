//! The frames of messages in a body: where a message ends, and that none is compressed.
//!
//! ```text
//!   flag  length (4 bytes, highest first)  message
//!
//!   flag: 0 message, 0x80 trailers of grpc-web, 2 end of a Connect stream; | 1 compressed
//! ```
//!
//! At a message's end nothing has to be held back any longer where what follows, a flag, is in no key. It refuses
//! compressed messages, which cannot be searched, and flags that its framing has not. Called by `head` and `passage`.

use super::super::decode::Undecodable;
use super::super::scrub::shape::Class;

/// Whose frames they are: the same but for the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, whose trailers are in the body.
    GrpcWeb,
    /// Connect, where it streams.
    Connect,
}

impl Framing {
    /// Of this content type, in lower case. In base64 (`grpc-web-text`) messages have no frames of their own.
    #[must_use]
    pub fn of(kind: &[u8]) -> Option<Self> {
        let is = |beginning: &[u8]| kind.starts_with(beginning);
        if is(b"application/grpc-web-text") {
            None
        } else if is(b"application/grpc-web") {
            Some(Self::GrpcWeb)
        } else if is(b"application/grpc") {
            Some(Self::Grpc)
        } else {
            is(b"application/connect+").then_some(Self::Connect)
        }
    }

    fn flags(self) -> &'static [u8] {
        match self {
            Self::Grpc => &[0],
            Self::GrpcWeb => &[0, 0x80],
            Self::Connect => &[0, 2],
        }
    }
}

/// Where in the frames a body is.
#[derive(Debug)]
pub struct Messages {
    framing: Framing,
    header: [u8; 5],
    came: usize,
    /// Bytes of the message that are to come.
    left: usize,
}

impl Messages {
    /// At the beginning of a body.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing, header: [0; 5], came: 0, left: 0 }
    }

    /// Whether no key of this class goes on behind a message's end. `0x80` may be a byte of one.
    #[must_use]
    pub fn end_runs(&self, class: &Class) -> bool {
        !self.framing.flags().iter().any(|flag| class[usize::from(*flag)])
    }

    /// How many of these bytes come before the next end of a message; nothing where it does not end in them.
    ///
    /// # Errors
    /// Where a message cannot be searched.
    pub fn next_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Undecodable> {
        let mut at = 0;
        while at < bytes.len() {
            if self.came < self.header.len() {
                self.header[self.came] = bytes[at];
                if self.came == 0 && !self.framing.flags().contains(&bytes[at]) {
                    return Err(Undecodable::Unknown);
                }
                self.came += 1;
                at += 1;
                let [_, length @ ..] = self.header;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            } else {
                let some = self.left.min(bytes.len() - at);
                self.left -= some;
                at += some;
            }
            if self.came == self.header.len() && self.left == 0 {
                self.came = 0;
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(messages: &mut Messages, mut bytes: &[u8]) -> Result<Vec<usize>, Undecodable> {
        let mut ends = Vec::new();
        while let Some(end) = messages.next_end(bytes)? {
            ends.push(end);
            bytes = &bytes[end..];
        }
        Ok(ends)
    }

    #[test]
    fn ends_are_found_whatever_the_cuts() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\x80\0\0\0\x02xy";
        let web = || Messages::new(Framing::GrpcWeb);
        assert_eq!(ends(&mut web(), body), Ok(vec![8, 5, 7]));
        for cut in 1..body.len() {
            let mut messages = web();
            let count = [&body[..cut], &body[cut..]].map(|part| ends(&mut messages, part).unwrap().len());
            assert_eq!(count[0] + count[1], 3, "cut at {cut}");
        }
    }

    #[test]
    fn compressed_messages_and_flags_of_another_framing_are_refused() {
        for (framing, known) in [(Framing::Grpc, &[0][..]), (Framing::GrpcWeb, &[0, 0x80]), (Framing::Connect, &[0, 2])]
        {
            for flag in 0..=u8::MAX {
                let ends = ends(&mut Messages::new(framing), &[flag, 0, 0, 0, 0]);
                assert_eq!(ends.is_ok(), known.contains(&flag), "{framing:?} {flag}");
            }
        }
    }

    #[test]
    fn framings_are_told_by_their_type() {
        for (kind, framing) in [
            ("application/grpc", Some(Framing::Grpc)),
            ("application/grpc+proto", Some(Framing::Grpc)),
            ("application/grpc-web+proto", Some(Framing::GrpcWeb)),
            ("application/grpc-web-text+proto", None),
            ("application/connect+json", Some(Framing::Connect)),
            ("application/json", None),
        ] {
            assert_eq!(Framing::of(kind.as_bytes()), framing, "{kind}");
        }
    }
}
