//! The vault: one file that holds every key, and keyd as its only writer.
//!
//! State is a type. [`LockedVault`] knows the file and what its header says; [`Unlocked`] is made from it by a key, and
//! its [`Keys`] alone have the methods that need one. The file's bytes are in `file_format.rs`, its encryption in `slot.rs`
//! and `seal.rs`, the way onto the disk in `writer.rs`; VAULT.md describes all of it for a reader without the code.
//! It refuses to decide who may unlock or change anything: that is `admin/`'s, which calls it.

pub mod ca;
pub mod contents;
mod contents_v1;
mod contents_v2;
pub mod create;
pub mod file_format;
pub(crate) mod invariants;
mod locked;
pub mod room;
mod seal;
pub mod seen;
mod slot;
pub mod slots;
mod unlocked;
pub mod writer;

pub use contents::Contents;
pub use locked::{LockedVault, OpenError, UnlockError, open_file};
pub use slot::{SlotKind, every_kind};
pub use unlocked::{Keys, Unlocked};

/// Bytes of a slot key and of the data key: AES-256.
pub const KEY_LENGTH: usize = 32;

#[cfg(test)]
mod damage_tests;
