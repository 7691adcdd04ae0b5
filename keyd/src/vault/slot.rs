//! A slot: one way to unlock the vault. It holds the data key, encrypted under a key of its own.
//!
//! The slot key comes from outside (for a passphrase: Argon2id, computed in ctl). It refuses to learn how: it takes 32
//! bytes and says whether they fit. The encryption binds id, kind and derivation parameters, so that a slot cannot be
//! moved or weakened without the key. Called by `create.rs`, `locked.rs`,
//! `unlocked.rs` and `slots.rs`.

use serde::{Deserialize, Serialize};
use strongroom_protocol::admin::KeyDerivation;

use super::KEY_LENGTH;
use super::file_format::{NONCE, TAG};
use super::seal::{self, SealBroken};
use crate::secret::Secret;

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Names the slot; never used twice in one vault.
    pub id: u32,
    /// Where the slot key comes from.
    pub kind: SlotKind,
    nonce: [u8; NONCE],
    wrapped: [u8; KEY_LENGTH],
    tag: [u8; TAG],
}

/// Where a slot key comes from. Numbered by position; a new kind counts the file's version up, so that an older keyd
/// says "newer version" and not "forged".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKind {
    /// Argon2id over a passphrase, with these parameters.
    Passphrase(KeyDerivation),
    /// Random, kept in an operating system's keychain.
    Keychain,
    /// Random, kept in a credential that systemd decrypts for keyd.
    Credential,
    /// Random, on paper: the recovery code is it.
    Recovery,
}

impl SlotKind {
    /// Whether its key is made from a passphrase. All others are random, and nobody guesses them.
    #[must_use]
    pub fn is_passphrase(self) -> bool {
        matches!(self, Self::Passphrase(_))
    }
}

/// Every kind of slot.
#[must_use]
pub fn every_kind(_: SlotKind) -> bool {
    true
}

impl Slot {
    /// Wraps the data key. The nonce must be fresh for this slot key.
    ///
    /// # Errors
    /// [`WrapError`], where a key has the wrong length.
    pub fn wrap(
        id: u32,
        kind: SlotKind,
        nonce: [u8; NONCE],
        slot_key: &[u8],
        data_key: &[u8],
    ) -> Result<Self, WrapError> {
        let slot_key: &[u8; KEY_LENGTH] = slot_key.try_into().map_err(|_| WrapError)?;
        let mut wrapped: [u8; KEY_LENGTH] = data_key.try_into().map_err(|_| WrapError)?;
        // In place: after this the array is ciphertext, and no other copy was made.
        let tag = seal::encrypt(slot_key, &nonce, &associated(id, kind), &mut wrapped);
        Ok(Self { id, kind, nonce, wrapped, tag })
    }

    /// The data key, where this is the slot's key.
    ///
    /// # Errors
    /// [`UnwrapError::WrongKey`], or no room in locked memory.
    pub fn unwrap(&self, slot_key: &[u8]) -> Result<Secret, UnwrapError> {
        let slot_key: &[u8; KEY_LENGTH] = slot_key.try_into().map_err(|_| UnwrapError::WrongKey)?;
        let mut data_key = Secret::copy_from(&self.wrapped).map_err(|_| UnwrapError::NoRoom)?;
        seal::decrypt(slot_key, &self.nonce, &associated(self.id, self.kind), &mut data_key, &self.tag)
            .map_err(|SealBroken| UnwrapError::WrongKey)?;
        Ok(data_key)
    }
}

/// A key that is not 32 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapError;

/// Why a slot did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnwrapError {
    /// Not this slot's key.
    WrongKey,
    /// Locked memory is full.
    NoRoom,
}

/// A label of this use, the id (u32 LE), then the kind in postcard.
fn associated(id: u32, kind: SlotKind) -> Vec<u8> {
    let mut bytes = b"strongroom slot v1".to_vec();
    bytes.extend_from_slice(&id.to_le_bytes());
    postcard::to_extend(&kind, bytes).expect("plain numbers always encode into a growing buffer")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kind() -> SlotKind {
        SlotKind::Passphrase(KeyDerivation::recommended([7; 16]))
    }

    fn slot() -> Slot {
        Slot::wrap(3, kind(), [9; NONCE], &[1; 32], &[2; 32]).unwrap()
    }

    #[test]
    fn the_right_key_opens_a_slot_and_no_other_does() {
        assert_eq!(&slot().unwrap(&[1; 32]).unwrap()[..], [2; 32]);
        assert_eq!(slot().unwrap(&[3; 32]).unwrap_err(), UnwrapError::WrongKey);
        assert_eq!(slot().unwrap(&[1; 31]).unwrap_err(), UnwrapError::WrongKey);
        assert_eq!(slot().unwrap(&[]).unwrap_err(), UnwrapError::WrongKey);
    }

    #[test]
    fn the_wrapped_form_does_not_hold_the_data_key() {
        let bytes = postcard::to_stdvec(&slot()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == [2; 8]));
    }

    #[test]
    fn id_and_parameters_are_bound() {
        let weaker =
            SlotKind::Passphrase(KeyDerivation { memory_kib: 19 * 1024, ..KeyDerivation::recommended([7; 16]) });
        assert!(Slot { id: 4, ..slot() }.unwrap(&[1; 32]).is_err());
        assert!(Slot { kind: weaker, ..slot() }.unwrap(&[1; 32]).is_err());
        assert!(slot().unwrap(&[1; 32]).is_ok());
    }

    #[test]
    fn keys_of_another_length_are_not_wrapped() {
        assert_eq!(Slot::wrap(1, kind(), [0; NONCE], &[1; 16], &[2; 32]), Err(WrapError));
        assert_eq!(Slot::wrap(1, kind(), [0; NONCE], &[1; 32], &[2; 33]), Err(WrapError));
    }
}
