//! The frames of gRPC messages in a body: where a message ends, and that none is compressed.
//!
//! ```text
//!   flag  length (4 bytes, highest first)  message        flag: 0 message, 0x80 trailers of grpc-web, | 1 compressed
//! ```
//!
//! At a message's end nothing has to be held back any longer, for what follows is a flag, which is in no key. It refuses
//! compressed messages, which cannot be searched, and flags that nobody knows. Called by `passage`.

use super::super::decode::Undecodable;

/// Where in the frames a body is.
#[derive(Debug, Default)]
pub struct Messages {
    header: [u8; 5],
    came: usize,
    /// Bytes of the message that are to come.
    left: usize,
}

impl Messages {
    /// How many of these bytes come before the next end of a message; nothing where it does not end in them.
    ///
    /// # Errors
    /// Where a message cannot be searched.
    pub fn next_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Undecodable> {
        let mut at = 0;
        while at < bytes.len() {
            if self.came < self.header.len() {
                self.header[self.came] = bytes[at];
                if self.came == 0 && bytes[at] & 0x7f != 0 {
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
        assert_eq!(ends(&mut Messages::default(), body), Ok(vec![8, 5, 7]));
        for cut in 1..body.len() {
            let mut messages = Messages::default();
            let count = [&body[..cut], &body[cut..]].map(|part| ends(&mut messages, part).unwrap().len());
            assert_eq!(count[0] + count[1], 3, "cut at {cut}");
        }
    }

    #[test]
    fn compressed_messages_and_odd_flags_are_refused() {
        for flag in [1, 0x81, 2, b'{'] {
            assert_eq!(ends(&mut Messages::default(), &[flag, 0, 0, 0, 0]), Err(Undecodable::Unknown));
        }
    }
}
