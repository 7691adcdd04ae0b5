//! The vault while it is unlocked: the keys that seal the file, and the contents. Dropping either wipes it.
//!
//! A change is made on a copy, sealed with [`Keys::seal`], written, and only then put in force,
//! so that a failed write changes nothing. It refuses to seal contents that it could not open again. Called by
//! `state.rs` and `admin/`.

use std::fmt;

use strongroom_protocol::admin::{Failure, Field, VaultFault};

use super::Contents;
use super::file_format::{self, Header, NONCE};
use super::invariants::Inconsistent;
use super::room::{self, Room};
use super::seal::{self, NoRandomness};
use super::slot::SlotKind;
use crate::secret::{ArenaFull, Secret};

/// An open vault. No `Clone`, no `Debug`.
pub struct Unlocked {
    keys: Keys,
    contents: Contents,
}

/// What it takes to seal the file and to check a proof.
pub struct Keys {
    data_key: Secret,
    header: Header,
}

impl Unlocked {
    pub(super) fn new(keys: Keys, contents: Contents) -> Self {
        Self { keys, contents }
    }

    /// The keys and what they opened.
    #[must_use]
    pub fn into_parts(self) -> (Keys, Contents) {
        (self.keys, self.contents)
    }
}

impl Keys {
    pub(super) fn new(data_key: Secret, header: Header) -> Self {
        Self { data_key, header }
    }

    /// Whether this is the key of a passphrase slot: the proof that widens access.
    #[must_use]
    pub fn proves(&self, key: &[u8]) -> bool {
        self.opens(key, SlotKind::is_passphrase)
    }

    /// Whether this is the key of a slot of such a kind.
    pub(super) fn opens(&self, key: &[u8], of: impl Fn(SlotKind) -> bool) -> bool {
        let mut slots = self.header.slots.iter().filter(|slot| of(slot.kind));
        slots.any(|slot| slot.unwrap(key).is_ok_and(|data_key| self.data_key.matches(&data_key)))
    }

    /// What stands in the header.
    #[must_use]
    pub fn slots(&self) -> Vec<(u32, SlotKind)> {
        self.header.slots.iter().map(|slot| (slot.id, slot.kind)).collect()
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of a vault file with these contents, under a fresh nonce.
    ///
    /// # Errors
    /// [`SealError`]; nothing was changed.
    pub fn seal(&self, contents: &Contents, room: Room) -> Result<Vec<u8>, SealError> {
        self.seal_with_nonce(contents, room, seal::fresh_nonce()?)
    }

    pub(super) fn seal_with_nonce(
        &self,
        contents: &Contents,
        room: Room,
        nonce: [u8; NONCE],
    ) -> Result<Vec<u8>, SealError> {
        contents.check()?;
        self.header.check().map_err(SealError::Header)?;
        let length = postcard::experimental::serialized_size(contents).map_err(|_| SealError::TooLarge)?;
        let preamble = file_format::preamble(&self.header, length).map_err(|_: VaultFault| SealError::TooLarge)?;
        if self.bytes_over(contents, room) > 0 {
            return Err(SealError::TooLarge);
        }
        // Sized beforehand, encoded and encrypted in place: only ciphertext leaves the locked memory. What is kept free in
        // the file is looked for there too, while it can still be refused.
        let mut body = Secret::zeroed(length + room.kept_free(&self.header, contents))?;
        let body = &mut body[..length];
        postcard::to_slice(contents, body).map_err(|_| SealError::TooLarge)?;
        let raw_key = self.data_key[..].try_into().expect("the data key has 32 bytes");
        let tag = seal::encrypt(raw_key, &nonce, &preamble, body);
        Ok(file_format::assemble(preamble, nonce, body, tag))
    }

    /// Bytes by which these contents do not fit a file.
    fn bytes_over(&self, contents: &Contents, room: Room) -> usize {
        // Contents without a serial form are not sealed either.
        let length = postcard::experimental::serialized_size(contents).unwrap_or(usize::MAX / 2);
        let file = file_format::length(&self.header, length);
        (file + room.kept_free(&self.header, contents)).saturating_sub(room.limit())
    }

    /// Drops of these contents what is dead, where there would not be room for them else; see [`room::make`].
    pub fn make_room(&self, contents: &mut Contents, room: Room, now: u64) {
        let over = self.bytes_over(contents, room);
        if over > 0 {
            let dropped = room::make(contents, over, now);
            tracing::info!(dropped, "the vault is full: records of what was taken away made room");
        }
    }
}

/// Why contents were not sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealError {
    /// The file would be over its limit.
    TooLarge,
    /// Locked memory is full.
    NoRoom,
    /// The kernel gave no random bytes.
    NoRandomness,
    /// A fault of ours: the contents break a rule of theirs.
    Inconsistent(Inconsistent),
    /// A fault of ours: the slots break a rule of theirs.
    Header(VaultFault),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the vault is full. Purge credentials that are no longer used."),
            Self::NoRoom => f.write_str(
                "the vault does not fit into locked memory. Raise the limit on locked memory and start keyd again.",
            ),
            Self::NoRandomness => f.write_str("the kernel gave no random bytes. Try again."),
            Self::Inconsistent(rule) => {
                write!(f, "the change breaks a rule of the vault ({rule:?}). Report this as a fault.")
            }
            Self::Header(rule) => {
                write!(f, "the change breaks a rule of the vault's slots ({rule:?}). Report this as a fault.")
            }
        }
    }
}

impl std::error::Error for SealError {}

impl From<ArenaFull> for SealError {
    fn from(_: ArenaFull) -> Self {
        Self::NoRoom
    }
}

impl From<NoRandomness> for SealError {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

impl From<Inconsistent> for SealError {
    fn from(rule: Inconsistent) -> Self {
        Self::Inconsistent(rule)
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        match error {
            SealError::TooLarge => Self::OutOfBounds(Field::Vault),
            SealError::NoRoom => Self::LockedMemory,
            SealError::NoRandomness | SealError::Inconsistent(_) | SealError::Header(_) => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vault::create;
    use crate::vault::create::tests::{KEY, new_vault};
    use crate::vault::invariants::tests::furnished;
    use crate::vault::locked::open_file;
    use crate::vault::slot::every_kind;

    fn keys() -> Keys {
        open_file(&create::build(&new_vault(), 1).unwrap(), &KEY, every_kind).unwrap().keys
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_contents() {
        let keys = keys();
        let mut next = furnished();
        next.generation = 6;
        let file = keys.seal(&next, Room::Widening).unwrap();
        let again = open_file(&file, &KEY, every_kind).unwrap();
        let bytes = |contents: &Contents| postcard::to_stdvec(contents).unwrap();
        assert_eq!(bytes(&again.into_parts().1), bytes(&next));
        assert_ne!(keys.seal(&next, Room::Widening).unwrap(), file, "each write has a nonce of its own");
    }

    #[test]
    fn keys_are_nowhere_in_the_file_in_the_clear() {
        let contents = furnished();
        let file = keys().seal(&contents, Room::Widening).unwrap();
        for credential in &contents.credentials {
            for version in &credential.versions {
                assert!(!file.windows(8).any(|window| version.value.windows(8).any(|part| part == window)));
            }
            let name = credential.name.as_str().as_bytes();
            assert!(!file.windows(name.len()).any(|window| window == name));
        }
    }

    #[test]
    fn only_the_passphrase_slots_key_proves() {
        let keys = keys();
        assert!(keys.proves(&KEY));
        assert!(!keys.proves(&[0; 32]));
        assert!(!keys.proves(&keys.data_key), "the data key is no proof");
        assert!(!keys.proves(b""));
    }

    #[test]
    fn a_copy_takes_no_locked_memory() {
        let contents = furnished();
        let copy = contents.clone();
        let (one, other) = (&contents.credentials[0].versions[0].value, &copy.credentials[0].versions[0].value);
        assert!(std::rc::Rc::ptr_eq(one, other));
        assert_eq!(postcard::to_stdvec(&copy).unwrap(), postcard::to_stdvec(&contents).unwrap());
    }

    #[test]
    fn contents_that_could_not_be_opened_again_are_not_sealed() {
        let keys = keys();
        let mut contents = furnished();
        contents.grants[0].agent = 999;
        assert!(matches!(keys.seal(&contents, Room::Widening), Err(SealError::Inconsistent(Inconsistent::Reference))));
        let mut contents = furnished();
        contents.credentials[0].roots = vec![vec![0; 16 * 1024]; 70];
        assert_eq!(keys.seal(&contents, Room::Widening), Err(SealError::TooLarge));
        contents.credentials[0].roots.truncate(2);
        assert!(keys.seal(&contents, Room::Widening).is_ok());
    }
}
