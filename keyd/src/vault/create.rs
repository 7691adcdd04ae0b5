//! A new vault: fresh data key, audit key and CA key, and one passphrase slot.
//!
//! Runs in `strongroom-keyd create-vault`, a process of its own, perhaps while a keyd without a vault is running. It
//! refuses where there is a vault or a backup of one already, or the audit log of one, which would not fit the new one's key;
//! and it never replaces a file: the finished file is linked into place, which fails where something is there.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use strongroom_protocol::admin::NewVault;

use super::ca::{self, CaError};
use super::file_format::{Header, LARGEST};
use super::room::Room;
use super::seal::{NoRandomness, fill_random, fresh_nonce};
use super::slot::{Slot, SlotKind, WrapError};
use super::unlocked::{Keys, SealError};
use super::{Contents, KEY_LENGTH, writer};
use crate::audit;
use crate::secret::{ArenaFull, Secret};

/// Makes the vault file at `path`. `now` is in seconds of the Unix epoch.
///
/// # Errors
/// [`CreateError`]; where it is not about the directory's last fsync, nothing is there.
pub fn create(path: &Path, new: &NewVault, now: u64) -> Result<(), CreateError> {
    let backup = writer::backup_path(path);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CreateError::Io { path, source }
    };
    let directory_path = path.parent().unwrap_or(Path::new("/"));
    let directory = File::open(directory_path).map_err(io(directory_path))?;
    // Two at once would share the temporary name. This is not keyd's lock, which a keyd without a vault may hold.
    let directory =
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, error)| io(directory_path)(error.into()))?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(CreateError::Exists { path: path.to_owned() });
    }
    if fs::symlink_metadata(&backup).is_ok() {
        return Err(CreateError::BackupExists { path: backup });
    }
    let bytes = build(new, now)?;
    debug_assert!(bytes.len() < LARGEST);

    let temporary = path.with_extension("new");
    writer::remove_if_there(&temporary).map_err(io(&temporary))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)
        .map_err(io(&temporary))?;
    let linked = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&temporary, path));
    let removed = writer::remove_if_there(&temporary);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CreateError::Exists { path: path.to_owned() });
        }
        other => other.map_err(io(path))?,
    }
    removed.map_err(io(&temporary))?;
    directory.sync_all().map_err(io(directory_path))
}

/// Looks whether the log of another vault lies there, where neither that vault nor its backup does: lines of two vaults in one
/// log fit neither, and nobody could tell them from lines that were changed.
///
/// # Errors
/// [`CreateError::LogExists`], and [`CreateError::Io`].
pub fn check_log(path: &Path, audit: &Path) -> Result<(), CreateError> {
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if is_there(path) || is_there(&writer::backup_path(path)) {
        return Ok(());
    }
    match audit::has_lines(audit) {
        Ok(false) => Ok(()),
        Ok(true) => Err(CreateError::LogExists { path: audit.to_owned() }),
        Err(source) => Err(CreateError::Io { path: audit.to_owned(), source }),
    }
}

/// The bytes of a new vault.
pub(crate) fn build(new: &NewVault, now: u64) -> Result<Vec<u8>, CreateError> {
    if !new.derivation.is_within_bounds() {
        return Err(CreateError::KdfOutOfBounds);
    }
    let mut data_key = Secret::zeroed(KEY_LENGTH)?;
    fill_random(&mut data_key)?;
    let mut audit_key = Secret::zeroed(KEY_LENGTH)?;
    fill_random(&mut audit_key)?;
    let contents = Contents {
        generation: 1,
        next_id: 1,
        audit_key: audit_key.into(),
        ca_keys: vec![ca::new_key(now)?],
        slots: Vec::new(),
        credentials: Vec::new(),
        agents: Vec::new(),
        grants: Vec::new(),
    };
    let kind = SlotKind::Passphrase(new.derivation);
    let slot = Slot::wrap(FIRST_SLOT, kind, fresh_nonce()?, new.key.expose(), &data_key)
        .map_err(|WrapError| CreateError::KeyLength)?;
    let header = Header { slots: vec![slot] };
    Keys::new(data_key, header).seal(&contents, Room::Widening).map_err(CreateError::Seal)
}

/// Why there is no new vault.
#[derive(Debug)]
pub enum CreateError {
    /// There is a vault.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no vault, but a backup of one.
    BackupExists {
        /// The file.
        path: PathBuf,
    },
    /// There is no vault, but the audit log of one.
    LogExists {
        /// Its directory.
        path: PathBuf,
    },
    /// The derivation's parameters are outside the accepted bounds.
    KdfOutOfBounds,
    /// The derived key is not 32 bytes long.
    KeyLength,
    /// Locked memory is full.
    NoRoom,
    /// The kernel gave no random bytes.
    NoRandomness,
    /// It could not be sealed.
    Seal(SealError),
    /// A file or directory could not be used.
    Io {
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => write!(
                f,
                "there is a vault already at {}. Nothing was changed; move it away to start anew.",
                path.display()
            ),
            Self::BackupExists { path } => {
                write!(
                    f,
                    "there is no vault, but its backup {} is there. Rename it to 'vault' to use it, or move it away to start anew.",
                    path.display()
                )
            }
            Self::LogExists { path } => write!(
                f,
                "there is no vault, but the audit log of one in {}, which no other vault goes on with. Move its files away and keep them to start anew, or put that vault back.",
                path.display()
            ),
            Self::KdfOutOfBounds => f.write_str(
                "the key derivation's parameters are out of bounds. Use the 'strongroom' of the same release.",
            ),
            Self::KeyLength => {
                f.write_str("the derived key does not have 32 bytes. Use the 'strongroom' of the same release.")
            }
            Self::NoRoom => {
                f.write_str("there is no locked memory left. Raise the limit on locked memory and try again.")
            }
            Self::NoRandomness => f.write_str("the kernel gave no random bytes. Try again."),
            Self::Seal(error) => error.fmt(f),
            Self::Io { path, source } => {
                write!(f, "{} cannot be used: {source}. Check its owner and the disk.", path.display())
            }
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Seal(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<ArenaFull> for CreateError {
    fn from(_: ArenaFull) -> Self {
        Self::NoRoom
    }
}

impl From<CaError> for CreateError {
    fn from(error: CaError) -> Self {
        match error {
            CaError::NoRoom => Self::NoRoom,
            CaError::Randomness | CaError::Clock | CaError::Point | CaError::Signing => Self::NoRandomness,
        }
    }
}

impl From<NoRandomness> for CreateError {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

const FIRST_SLOT: u32 = 1;

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use strongroom_protocol::SecretBytes;
    use strongroom_protocol::admin::KeyDerivation;

    use super::*;
    use crate::vault::slot::every_kind;
    use crate::vault::{LockedVault, UnlockError};

    pub const KEY: [u8; 32] = *b"thirty-two bytes from a password";

    pub fn new_vault() -> NewVault {
        NewVault { derivation: KeyDerivation::recommended([5; 16]), key: SecretBytes::new(KEY.to_vec()) }
    }

    #[test]
    fn a_new_vault_opens_with_its_key_alone_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        create(&path, &new_vault(), 1_700_000_000).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1, "the temporary name is gone");

        let locked = LockedVault::open(&path).unwrap();
        assert_eq!(locked.unlock(&[1; 32], every_kind).err(), Some(UnlockError::WrongKey));
        let (_, contents) = locked.unlock(&KEY, every_kind).unwrap().into_parts();
        assert_eq!((contents.generation, contents.next_id, contents.audit_key.len()), (1, 1, 32));
        assert_eq!(contents.ca_keys[0].created, 1_700_000_000);
        assert!(ca::certificate(&contents.ca_keys[0]).is_ok(), "the key signs");
    }

    #[test]
    fn nothing_is_ever_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        fs::write(&path, "something").unwrap();
        assert!(matches!(create(&path, &new_vault(), 1), Err(CreateError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"something");

        fs::rename(&path, writer::backup_path(&path)).unwrap();
        assert!(matches!(create(&path, &new_vault(), 1), Err(CreateError::BackupExists { .. })));
        assert!(!path.exists());

        fs::remove_file(writer::backup_path(&path)).unwrap();
        fs::write(path.with_extension("new"), "left by a crash").unwrap();
        create(&path, &new_vault(), 1).unwrap();
    }

    #[test]
    fn the_log_of_another_vault_is_not_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let (path, audit) = (directory.path().join("vault"), directory.path().join("audit"));
        assert!(check_log(&path, &audit).is_ok(), "there is no directory");
        fs::create_dir(&audit).unwrap();
        fs::write(audit.join("000001.jsonl"), "").unwrap();
        fs::write(audit.join("other"), "a line\n").unwrap();
        assert!(check_log(&path, &audit).is_ok(), "keyd was started before 'init'");
        fs::write(audit.join("000002.jsonl"), "a line\n").unwrap();
        assert!(matches!(check_log(&path, &audit), Err(CreateError::LogExists { .. })));
        // Then there is more to say than that.
        fs::write(writer::backup_path(&path), "a backup").unwrap();
        assert!(check_log(&path, &audit).is_ok());
    }

    #[test]
    fn of_many_at_once_one_wins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&path, &new_vault(), 1).is_ok())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|made| *made).count()
        });
        assert_eq!(made, 1);
        assert!(LockedVault::open(&path).unwrap().unlock(&KEY, every_kind).is_ok());
    }

    #[test]
    fn weak_derivations_and_short_keys_are_refused() {
        let weak = NewVault { derivation: KeyDerivation { memory_kib: 8, ..new_vault().derivation }, ..new_vault() };
        assert!(matches!(build(&weak, 1), Err(CreateError::KdfOutOfBounds)));
        let short = NewVault { key: SecretBytes::new(vec![1; 16]), ..new_vault() };
        assert!(matches!(build(&short, 1), Err(CreateError::KeyLength)));
        assert!(build(&new_vault(), 1).is_ok());
    }

    #[test]
    fn two_vaults_share_no_key() {
        let [first, second] = [(); 2].map(|()| {
            crate::vault::locked::open_file(&build(&new_vault(), 1).unwrap(), &KEY, every_kind).unwrap().into_parts().1
        });
        assert_ne!(first.audit_key[..], second.audit_key[..]);
        assert_ne!(first.ca_keys[0].public_point, second.ca_keys[0].public_point);
    }
}
