//! The layout of the vault file: pure functions from bytes to parts and back.
//!
//! ```text
//!  0         8         10         14         18          18+H     30+H          30+H+B     46+H+B
//!  +---------+---------+----------+----------+-----------+--------+-------------+----------+----------+
//!  |"STRONGRM"| version | H        | B        | header    | nonce  | ciphertext  | tag      | SHA-256  |
//!  |         | u16 LE  | u32 LE   | u32 LE   | H bytes   | 12     | B bytes     | 16       | 32       |
//!  +---------+---------+----------+----------+-----------+--------+-------------+----------+----------+
//!  |<------------- associated data of the seal --------->|                                 |
//!  |<--------------------------------- what the checksum covers -------------------------->|
//! ```
//!
//! The checksum has no key: it tells damage from a wrong passphrase and protects from nobody. Bounds are checked against
//! constants before anything is decoded, so that a made-up file costs neither memory nor an hour of Argon2id.
//! It refuses to touch a disk or a key. Called by `locked.rs`, `unlocked.rs`, `slots.rs`, `create.rs` and, for
//! backups, `admin/operation/restore.rs`.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
pub use strongroom_protocol::admin::MOST_SLOTS;
use strongroom_protocol::admin::{KeyDerivation, VaultFault};

use super::slot::{Slot, SlotKind};

/// Version of the layout, of the header and of `Contents`: the one that is written. [`OLDEST`] to this one are read, and
/// files of any other version are left alone.
pub const VERSION: u16 = 4;

/// The oldest version that is still read. Layout and header have been the same ever since.
pub const OLDEST: u16 = 1;

/// Largest file, in bytes; three times this fit keyd's locked memory. For what gives access there is less: see `room.rs`.
pub const LARGEST: usize = 1024 * 1024 + 256 * 1024;

/// Bytes of an AES-GCM nonce.
pub const NONCE: usize = 12;

/// Bytes of an AES-GCM tag.
pub const TAG: usize = 16;

/// What stands in the clear: how the vault can be unlocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Ways to unlock, 1 to [`MOST_SLOTS`], ids distinct, one of them at least a passphrase's.
    pub slots: Vec<Slot>,
}

impl Header {
    /// The first passphrase slot; a header that was read has one.
    pub fn passphrase_slot(&self) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.kind.is_passphrase())
    }

    /// How passphrases become keys: one derivation for all of them, so that a key is derived once and tried on each.
    pub fn derivation(&self) -> Option<KeyDerivation> {
        match self.passphrase_slot()?.kind {
            SlotKind::Passphrase(derivation) => Some(derivation),
            _ => None,
        }
    }

    /// Whether a header is one: asked after reading it and before writing it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), VaultFault> {
        // First, for what follows takes the square of it.
        if self.slots.len() > MOST_SLOTS {
            return Err(VaultFault::Forged);
        }
        for slot in &self.slots {
            match slot.kind {
                SlotKind::Passphrase(derivation) if !derivation.is_within_bounds() => {
                    return Err(VaultFault::KdfOutOfBounds);
                }
                _ => {}
            }
        }
        let distinct =
            self.slots.iter().enumerate().all(|(at, slot)| self.slots[..at].iter().all(|other| other.id != slot.id));
        if distinct && self.passphrase_slot().is_some() { Ok(()) } else { Err(VaultFault::Forged) }
    }
}

/// A file taken apart; the body still sealed.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Which contents the body is.
    pub version: u16,
    /// The header, checked.
    pub header: Header,
    /// Associated data of the seal: everything in front of the nonce.
    pub associated: &'a [u8],
    /// The seal's nonce.
    pub nonce: [u8; NONCE],
    /// The sealed body.
    pub ciphertext: &'a [u8],
    /// The seal's tag.
    pub tag: [u8; TAG],
}

/// Takes a file apart, and tells each way in which it can be wrong from the others.
///
/// # Errors
/// A fault of the bytes; never `Unreadable` or `InUse`.
pub fn parse(file: &[u8]) -> Result<Parts<'_>, VaultFault> {
    if file.len() > LARGEST {
        return Err(VaultFault::TooLarge);
    }
    let shown = file.len().min(MAGIC.len());
    if file[..shown] != MAGIC[..shown] {
        return Err(VaultFault::NotAVault);
    }
    let (_, rest) = file.split_first_chunk::<8>().ok_or(VaultFault::Truncated)?;
    let (version, rest) = rest.split_first_chunk().ok_or(VaultFault::Truncated)?;
    let version = u16::from_le_bytes(*version);
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(VaultFault::UnknownVersion);
    }
    let (header_length, rest) = take_length(rest)?;
    let (body_length, rest) = take_length(rest)?;
    // Neither is over the largest file, so the sum cannot overflow.
    if rest.len() != header_length + NONCE + body_length + TAG + CHECKSUM {
        return Err(VaultFault::Truncated);
    }
    let (covered, checksum) = file.split_at(file.len() - CHECKSUM);
    if digest(&SHA256, covered).as_ref() != checksum {
        return Err(VaultFault::Damaged);
    }
    let (header_bytes, rest) = rest.split_at(header_length);
    // From here on the checksum holds, so whatever is wrong was written like that.
    let Ok((header, [])) = postcard::take_from_bytes::<Header>(header_bytes) else { return Err(VaultFault::Forged) };
    header.check()?;
    let (nonce, rest) = rest.split_first_chunk().ok_or(VaultFault::Forged)?;
    let (ciphertext, rest) = rest.split_at(body_length);
    let (tag, _) = rest.split_first_chunk().ok_or(VaultFault::Forged)?;
    Ok(Parts { version, header, associated: &file[..FIXED + header_length], nonce: *nonce, ciphertext, tag: *tag })
}

/// The first part of a file: everything in front of the nonce, which is the associated data of the seal.
///
/// # Errors
/// `TooLarge`, where header and body do not fit a file.
pub fn preamble(header: &Header, body_length: usize) -> Result<Vec<u8>, VaultFault> {
    if length(header, body_length) > LARGEST {
        return Err(VaultFault::TooLarge);
    }
    let header = postcard::to_stdvec(header).map_err(|_| VaultFault::TooLarge)?;
    let as_u32 = |length: usize| u32::try_from(length).map_err(|_| VaultFault::TooLarge);
    let mut bytes = Vec::with_capacity(FIXED + header.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&as_u32(header.len())?.to_le_bytes());
    bytes.extend_from_slice(&as_u32(body_length)?.to_le_bytes());
    bytes.extend_from_slice(&header);
    Ok(bytes)
}

/// Bytes of a file.
pub fn length(header: &Header, body_length: usize) -> usize {
    // A header without a serial form fits nowhere.
    let header = postcard::experimental::serialized_size(header).unwrap_or(LARGEST);
    FIXED + header + NONCE + body_length + TAG + CHECKSUM
}

/// Completes a file that begins with `preamble`.
pub fn assemble(preamble: Vec<u8>, nonce: [u8; NONCE], ciphertext: &[u8], tag: [u8; TAG]) -> Vec<u8> {
    let mut file = preamble;
    file.reserve_exact(NONCE + ciphertext.len() + TAG + CHECKSUM);
    file.extend_from_slice(&nonce);
    file.extend_from_slice(ciphertext);
    file.extend_from_slice(&tag);
    let checksum = digest(&SHA256, &file);
    file.extend_from_slice(checksum.as_ref());
    file
}

fn take_length(bytes: &[u8]) -> Result<(usize, &[u8]), VaultFault> {
    let (length, rest) = bytes.split_first_chunk().ok_or(VaultFault::Truncated)?;
    match usize::try_from(u32::from_le_bytes(*length)) {
        Ok(length) if length <= LARGEST => Ok((length, rest)),
        _ => Err(VaultFault::Truncated),
    }
}

const MAGIC: &[u8; 8] = b"STRONGRM";

/// Magic, version and two lengths.
const FIXED: usize = 18;

/// Bytes of SHA-256.
pub const CHECKSUM: usize = 32;
