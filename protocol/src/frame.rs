//! Version, length and size limit of every message; nothing else in Strongroom knows framing.
//!
//! ```text
//!  0      2         4            8
//!  +------+---------+------------+------------------------------+
//!  | "SR" | version | length     | postcard, exactly length bytes |
//!  |      | u16 LE  | u32 LE     |                              |
//!  +------+---------+------------+------------------------------+
//! ```
//!
//! The header is checked against constants before anything is allocated. A message that leaves bytes over is refused,
//! as is one that is short. Messages are encoded into one buffer of the exact size that is wiped when dropped: a
//! `Vec` that grows would leave copies of a secret behind.
//!
//! Called by both ends of both sockets.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The protocol's version. Both ends must speak the same: the programs are installed together.
pub const VERSION: u16 = 1;

/// Bytes before the payload.
pub const HEADER: usize = 8;

/// Largest payload on `gateway.sock`, in bytes. A packet socket carries about 200 KiB by default; this is well below.
pub const EXCHANGE_LIMIT: usize = 64 * 1024;

/// Largest payload on `admin.sock`, in bytes: the largest vault file, as a backup; a credential with sixteen root
/// certificates of its own fits well.
pub const ADMIN_LIMIT: usize = 1024 * 1024 + 320 * 1024;

/// Encodes a message with its header.
///
/// # Errors
/// [`FrameError::TooLarge`] where the payload is over `limit`.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let length = postcard::experimental::serialized_size(message).map_err(|_| FrameError::Malformed)?;
    if length > limit {
        return Err(FrameError::TooLarge(length));
    }
    let mut bytes = Zeroizing::new(vec![0; HEADER + length]);
    let payload = u32::try_from(length).map_err(|_| FrameError::TooLarge(length))?;
    bytes[..2].copy_from_slice(MAGIC);
    bytes[2..4].copy_from_slice(&VERSION.to_le_bytes());
    bytes[4..8].copy_from_slice(&payload.to_le_bytes());
    postcard::to_slice(message, &mut bytes[HEADER..]).map_err(|_| FrameError::Malformed)?;
    Ok(bytes)
}

/// Reads a header: how long the payload is that follows.
///
/// # Errors
/// Where the header is not ours, of another version, or announces more than `limit`.
pub fn payload_length(header: &[u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let [m0, m1, v0, v1, length @ ..] = *header;
    if [m0, m1] != *MAGIC {
        return Err(FrameError::NotOurs);
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| FrameError::Malformed)?;
    if length > limit { Err(FrameError::TooLarge(length)) } else { Ok(length) }
}

/// Decodes a payload and refuses leftovers.
///
/// # Errors
/// [`FrameError::Malformed`] where the bytes are no `T`, or more than one.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

/// Decodes one packet: header and payload, of exactly the announced length.
///
/// # Errors
/// As [`payload_length`] and [`decode`].
pub fn decode_packet<T: DeserializeOwned>(packet: &[u8], limit: usize) -> Result<T, FrameError> {
    let (header, payload) = packet.split_first_chunk::<HEADER>().ok_or(FrameError::Malformed)?;
    if payload_length(header, limit)? != payload.len() {
        return Err(FrameError::Malformed);
    }
    decode(payload)
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The first two bytes are not `SR`.
    NotOurs,
    /// The peer speaks this version.
    Version(u16),
    /// The payload has, or would have, this many bytes.
    TooLarge(usize),
    /// The payload is not what was expected, is short, or leaves bytes over.
    Malformed,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => f.write_str("the peer does not speak Strongroom's protocol"),
            Self::Version(theirs) => write!(
                f,
                "the peer speaks protocol version {theirs}, this program version {VERSION}; install programs of one release and restart them"
            ),
            Self::TooLarge(length) => write!(f, "a message of {length} bytes is over the limit"),
            Self::Malformed => f.write_str("a message could not be read"),
        }
    }
}

impl std::error::Error for FrameError {}

const MAGIC: &[u8; 2] = b"SR";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_round_trips() {
        let bytes = encode(&(7u32, "seven"), 64).expect("encodes");
        assert_eq!(decode_packet::<(u32, String)>(&bytes, 64), Ok((7, "seven".to_owned())));
    }

    #[test]
    fn oversized_messages_are_refused_by_their_header_alone() {
        let mut header = [b'S', b'R', 0, 0, 0xff, 0xff, 0xff, 0xff];
        header[2..4].copy_from_slice(&VERSION.to_le_bytes());
        assert_eq!(payload_length(&header, 1024), Err(FrameError::TooLarge(u32::MAX as usize)));
        assert_eq!(encode(&"x".repeat(100), 64), Err(FrameError::TooLarge(101)));
    }

    #[test]
    fn other_versions_and_other_protocols_are_told_apart() {
        assert_eq!(payload_length(b"SR\x63\x00\0\0\0\0", 64), Err(FrameError::Version(0x63)));
        assert_eq!(payload_length(b"GET / HT", 64), Err(FrameError::NotOurs));
    }

    #[test]
    fn short_and_long_packets_are_refused() {
        let bytes = encode(&7u32, 64).expect("encodes");
        assert_eq!(decode_packet::<u32>(&bytes[..HEADER], 64), Err(FrameError::Malformed));
        assert_eq!(decode_packet::<u32>(&bytes[..3], 64), Err(FrameError::Malformed));
        let mut long = bytes.to_vec();
        long.push(0);
        assert_eq!(decode_packet::<u32>(&long, 64), Err(FrameError::Malformed));
        long[4] += 1;
        assert_eq!(decode_packet::<u32>(&long, 64), Err(FrameError::Malformed), "leftovers inside the payload");
    }
}
