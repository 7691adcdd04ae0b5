//! Why an admin's request was not done, without words: those are ctl's (`ctl/src/failure.rs`).
//!
//! It refuses to carry a text, for a text may be a secret. Variants are numbered by position: append only. Made by keyd's
//! `admin/`.

use serde::{Deserialize, Serialize};

use crate::authority::InvalidAuthority;

/// Why something was not done. The words are ctl's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Failure {
    /// The vault is locked.
    Locked,
    /// There is no vault file.
    Uninitialised,
    /// The proof does not open the vault.
    WrongPassphrase,
    /// The operation widens access and no proof came with it.
    PassphraseNeeded,
    /// The caller's uid may not do this.
    NotPermitted,
    /// No such thing.
    NoSuch(Thing),
    /// There is one already.
    Exists(Thing),
    /// It was revoked, so nothing can be granted to or of it.
    Revoked(Thing),
    /// The value cannot be a key.
    BadKey(BadKey),
    /// The route leads elsewhere already.
    RouteTaken,
    /// A field of the request is out of its bounds.
    OutOfBounds(Field),
    /// A host is not one.
    BadHost(BadHost),
    /// The vault file cannot be used.
    Vault(VaultFault),
    /// The vault file could not be written; nothing was changed, on disk or in memory.
    NotWritten,
    /// Taken away in memory at once, but the vault file could not be written: it comes back at the next start.
    TakenButNotWritten,
    /// The audit log could not be written or read.
    Audit,
    /// The message could not be read.
    BadMessage,
    /// keyd speaks this other protocol version.
    Version(u16),
    /// A fault of keyd's.
    Internal,
    /// So many wrong passphrases came from this user that the next counts only after so many seconds.
    TooManyTries(u32),
    /// Without this slot no passphrase would be left.
    LastPassphrase,
    /// The key opens no slot of the backup.
    WrongBackupKey,
    /// The backup is no vault file that can be used.
    Backup(VaultFault),
    /// keyd may not lock as much memory as the keys need.
    LockedMemory,
}

/// Kinds of things with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Thing {
    /// A credential.
    Credential,
    /// An agent.
    Agent,
    /// A grant.
    Grant,
    /// A way to unlock.
    Slot,
}

/// Why a value cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum BadKey {
    /// Nothing at all.
    Empty,
    /// More than [`LONGEST_KEY`] bytes.
    TooLong,
    /// White space or a control character: it could not stand in a header, and not be told from its surroundings. Or no
    /// UTF-8, where it goes into JSON.
    Character,
    /// Under 16 bytes.
    Short,
    /// Under about 80 bits by its shape.
    Guessable,
}

/// Fields with bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Field {
    /// 1 to [`MOST_HOSTS`].
    Hosts,
    /// 1 to [`MOST_SITES`].
    Sites,
    /// At most [`MOST_ROOTS`], each a certificate.
    Roots,
    /// At most [`MOST_RULES`].
    Rules,
    /// At most 16, each an environment variable's name.
    Variables,
    /// Visible ASCII, at most 32 bytes.
    KeyPrefix,
    /// All three at least 1.
    Rate,
    /// At least a second, at most a hundred years.
    Expiry,
    /// A route needs an exact host.
    Route,
    /// No more room in the vault.
    Vault,
    /// At most [`MOST_PINS`], each once.
    Pins,
    /// At most [`MOST_UIDS`], each once, and not the one that stands for strangers.
    Uids,
    /// The name of a systemd service.
    Unit,
    /// At most [`MOST_EGRESS`].
    Egress,
    /// At most [`MOST_SLOTS`].
    Slots,
    /// A key derivation within bounds, and the same for all passphrases of a vault.
    Derivation,
}

/// Why a host cannot be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum BadHost {
    /// The same twice.
    Twice,
}

/// Why a vault file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
#[serde(rename_all = "kebab-case")]
pub enum VaultFault {
    /// It cannot be read: a permission or a failing disk.
    Unreadable,
    /// The first bytes are not a vault's.
    NotAVault,
    /// Made by a newer (or unknown) version.
    UnknownVersion,
    /// Bytes are missing at the end, or there are too many.
    Truncated,
    /// The checksum does not fit: damage, not a wrong passphrase.
    Damaged,
    /// The header's key derivation is outside the accepted bounds.
    KdfOutOfBounds,
    /// The checksum fits and the seal does not: somebody made this file.
    Forged,
    /// Larger than any vault.
    TooLarge,
    /// Another keyd has it open.
    InUse,
    /// It is not the file that was opened: another was put in its place meanwhile.
    Exchanged,
    /// It was opened and is gone from its place.
    Gone,
}

impl From<InvalidAuthority> for Failure {
    fn from(_: InvalidAuthority) -> Self {
        Self::BadMessage
    }
}
