//! Ways to unlock the vault, and what restoring a backup would change, as keyd says them to ctl.
//!
//! It refuses to carry a slot's key: what keyd says has no room for one. Part of `admin.rs`'s messages.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Where a slot's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
#[serde(rename_all = "kebab-case")]
pub enum SlotKind {
    /// A passphrase.
    Passphrase,
    /// An operating system's keychain.
    Keychain,
    /// A credential that systemd decrypts for keyd.
    Credential,
    /// A code on paper.
    Recovery,
}

/// A way to unlock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct SlotView {
    /// Names it, for ever.
    pub id: u32,
    /// Where its key comes from.
    pub kind: SlotKind,
    /// When it was added, in seconds of the Unix epoch; not known while locked, nor of the first passphrase.
    pub added: Option<u64>,
    /// The admin who added it, as long as that is known.
    pub by: Option<u32>,
}

/// What restoring a backup would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct RestoreView {
    /// Generation of the vault that is there; none where there is none.
    pub now: Option<u64>,
    /// Generation of the backup.
    pub backup: u64,
    /// One line for each thing that would be otherwise; at most [`MOST_CHANGES`].
    pub changes: Vec<RestoreChange>,
    /// Changes that found no place in the list.
    pub more: u32,
}

/// One thing that would be otherwise after restoring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct RestoreChange {
    /// What would happen to it.
    pub kind: RestoreKind,
    /// Of a credential or grant.
    pub credential: Option<Name>,
    /// Of an agent or grant.
    pub agent: Option<Name>,
    /// A way to unlock.
    pub slot: Option<SlotView>,
}

/// What would happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
#[serde(rename_all = "kebab-case")]
pub enum RestoreKind {
    /// It is not there now, or was removed or revoked since, and would be there again.
    Returns,
    /// It is there now and would be gone.
    Goes,
    /// It has another key, other hosts or other limits in the backup.
    Differs,
}

/// Lines of a [`RestoreView`].
pub const MOST_CHANGES: usize = 2048;
