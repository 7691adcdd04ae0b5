//! The vault before it is unlocked: a path, the lock that makes keyd its only writer, and what the header says.
//!
//! The file is read anew at each question, so that a vault made while keyd runs is found. No error ever changes the
//! file. It refuses to follow a symbolic link and to read more than the largest vault. Called by `main.rs` (to open,
//! before the sandbox) and `admin/` (status, unlock).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use strongroom_protocol::admin::{Failure, KeyDerivation, VaultFault, VaultState};

use super::file_format::{self, Parts};
use super::seal::{self, SealBroken};
use super::seen::Seen;
use super::slot::{SlotKind, UnwrapError};
use super::{Contents, Keys, Unlocked, contents_v1, contents_v2};
use crate::secret::{ArenaFull, Secret};

/// A vault file, perhaps not there yet, that this process alone may write.
#[derive(Debug)]
pub struct LockedVault {
    path: PathBuf,
    seen: Seen,
    // Held for keyd's life; the kernel lets go of it when the process ends, however it ends.
    _lock: Flock<File>,
}

impl LockedVault {
    /// Takes the lock beside the vault at `path`. The directory must be there; the vault need not.
    ///
    /// # Errors
    /// [`OpenError`]: another keyd has it, or the directory cannot be used.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let lock_path = path.with_file_name(LOCK_FILE);
        let unusable = |source| OpenError::Lock { path: lock_path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&lock_path)
            .map_err(unusable)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path: path.to_owned(), seen: Seen::default(), _lock: lock }),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(OpenError::InUse { path: path.to_owned() }),
            Err((_, error)) => Err(unusable(error.into())),
        }
    }

    /// What can be said without a key: `Locked`, `Uninitialised` or `Unusable`.
    #[must_use]
    pub fn state(&self) -> VaultState {
        match self.read().and_then(|file| Ok(file_format::parse(&file).map(drop)?)) {
            Ok(()) => VaultState::Locked,
            Err(ReadError::Absent) => VaultState::Uninitialised,
            Err(ReadError::Fault(fault)) => VaultState::Unusable(fault),
        }
    }

    /// How to derive the passphrase slot's key; nothing where there is no readable vault.
    #[must_use]
    pub fn derivation(&self) -> Option<KeyDerivation> {
        let file = self.read().ok()?;
        let parts = file_format::parse(&file).ok()?;
        parts.header.derivation()
    }

    /// The slots of the file; nothing where there is no readable vault.
    #[must_use]
    pub fn slots(&self) -> Vec<(u32, SlotKind)> {
        let file = self.read();
        let parts = file.as_deref().ok().and_then(|file| file_format::parse(file).ok());
        parts.map_or_else(Vec::new, |parts| parts.header.slots.iter().map(|slot| (slot.id, slot.kind)).collect())
    }

    /// Opens the vault with the key of a slot of such a kind.
    ///
    /// # Errors
    /// [`UnlockError`]: a wrong key is told apart from a file that cannot be used.
    pub fn unlock(&self, key: &[u8], of: impl Fn(SlotKind) -> bool) -> Result<Unlocked, UnlockError> {
        let file = self.read()?;
        let unlocked = open_file(&file, key, of)?;
        self.seen.opened(&file);
        Ok(unlocked)
    }

    /// Which file that was, for whoever writes it.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether another whole vault lies there than the one that was opened, or written since.
    #[must_use]
    pub fn is_exchanged(&self) -> bool {
        self.seen.is_exchanged(&self.path)
    }

    /// The file's bytes, where they are a vault's.
    ///
    /// # Errors
    /// [`UnlockError`], never `WrongKey`.
    pub fn bytes(&self) -> Result<Vec<u8>, UnlockError> {
        let bytes = self.read()?;
        file_format::parse(&bytes)?;
        Ok(bytes)
    }

    fn read(&self) -> Result<Vec<u8>, ReadError> {
        // Not blocking, so that a FIFO in the file's place cannot stop keyd.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReadError::Absent),
            Err(_) => return Err(ReadError::Fault(VaultFault::Unreadable)),
        };
        let mut bytes = Vec::new();
        let limit = file_format::LARGEST as u64 + 1;
        file.take(limit).read_to_end(&mut bytes).map_err(|_| ReadError::Fault(VaultFault::Unreadable))?;
        Ok(bytes)
    }
}

/// Opens the bytes of a vault file with the key of a slot of such a kind.
///
/// # Errors
/// [`UnlockError`], never `Uninitialised`.
pub fn open_file(file: &[u8], key: &[u8], of: impl Fn(SlotKind) -> bool) -> Result<Unlocked, UnlockError> {
    let Parts { version, header, associated, nonce, ciphertext, tag } = file_format::parse(file)?;
    let data_key = open_a_slot(&header, key, of)?;
    let mut body = Secret::copy_from(ciphertext)?;
    let raw_key = data_key[..].try_into().expect("slots wrap 32 bytes");
    seal::decrypt(raw_key, &nonce, associated, &mut body, &tag).map_err(|SealBroken| VaultFault::Forged)?;
    // Decoded from locked memory into locked memory: `Secret` copies its bytes straight across.
    let decoded = match version {
        1 => contents_v1::decode(&body),
        2 => contents_v2::decode(&body),
        _ => postcard::take_from_bytes::<Contents>(&body),
    };
    let contents = match decoded {
        Ok((contents, [])) => contents,
        // Locked memory that could not take the keys once more was full; else whoever sealed this was not keyd.
        _ if Secret::zeroed(body.len()).is_err() => return Err(UnlockError::NoRoom),
        _ => return Err(VaultFault::Forged.into()),
    };
    contents.check().map_err(|_| VaultFault::Forged)?;
    Ok(Unlocked::new(Keys::new(data_key, header), contents))
}

fn open_a_slot(header: &file_format::Header, key: &[u8], of: impl Fn(SlotKind) -> bool) -> Result<Secret, UnlockError> {
    for slot in header.slots.iter().filter(|slot| of(slot.kind)) {
        match slot.unwrap(key) {
            Ok(data_key) => return Ok(data_key),
            Err(UnwrapError::WrongKey) => {}
            Err(UnwrapError::NoRoom) => return Err(UnlockError::NoRoom),
        }
    }
    Err(UnlockError::WrongKey)
}

/// Why keyd cannot start on this vault.
#[derive(Debug)]
pub enum OpenError {
    /// Another keyd holds the lock.
    InUse {
        /// The vault.
        path: PathBuf,
    },
    /// The lock file cannot be made or locked.
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => {
                write!(
                    f,
                    "another keyd has the vault {} open. Stop it with 'strongroom down', or use another home.",
                    path.display()
                )
            }
            Self::Lock { path, source } => {
                write!(
                    f,
                    "the lock file {} cannot be used: {source}. Run 'strongroom init', or check the directory's owner.",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InUse { .. } => None,
            Self::Lock { source, .. } => Some(source),
        }
    }
}

/// Why the vault stays locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockError {
    /// There is no file.
    Uninitialised,
    /// The file cannot be used.
    Fault(VaultFault),
    /// No slot opens with this key.
    WrongKey,
    /// The keys do not fit into locked memory.
    NoRoom,
}

impl fmt::Display for UnlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uninitialised => f.write_str("there is no vault. Run 'strongroom init'."),
            Self::Fault(fault) => write!(
                f,
                "the vault file cannot be used ({fault:?}). Copy the backup vault.bak over it, or restore another."
            ),
            Self::WrongKey => f.write_str("the key does not open the vault. Try the passphrase again."),
            Self::NoRoom => f.write_str(
                "the vault does not fit into locked memory. Raise the limit on locked memory and start keyd again.",
            ),
        }
    }
}

impl std::error::Error for UnlockError {}

impl From<VaultFault> for UnlockError {
    fn from(fault: VaultFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ArenaFull> for UnlockError {
    fn from(_: ArenaFull) -> Self {
        Self::NoRoom
    }
}

impl From<ReadError> for UnlockError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Absent => Self::Uninitialised,
            ReadError::Fault(fault) => Self::Fault(fault),
        }
    }
}

impl From<UnlockError> for Failure {
    fn from(error: UnlockError) -> Self {
        match error {
            UnlockError::Uninitialised => Self::Uninitialised,
            UnlockError::Fault(fault) => Self::Vault(fault),
            UnlockError::WrongKey => Self::WrongPassphrase,
            UnlockError::NoRoom => Self::LockedMemory,
        }
    }
}

enum ReadError {
    Absent,
    Fault(VaultFault),
}

impl From<VaultFault> for ReadError {
    fn from(fault: VaultFault) -> Self {
        Self::Fault(fault)
    }
}

/// Beside the vault: locking the vault itself would not do, for each write replaces it.
const LOCK_FILE: &str = "lock";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vault::create::tests::{KEY, new_vault};
    use crate::vault::slot::every_kind;

    #[test]
    fn a_vault_that_is_not_there_yet_is_found_when_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let locked = LockedVault::open(&path).unwrap();
        assert_eq!(locked.state(), VaultState::Uninitialised);
        assert_eq!(locked.derivation(), None);
        assert_eq!(locked.unlock(&KEY, every_kind).err(), Some(UnlockError::Uninitialised));

        crate::vault::create::create(&path, &new_vault(), 1).unwrap();
        assert_eq!(locked.state(), VaultState::Locked);
        assert_eq!(locked.derivation(), Some(new_vault().derivation));
        assert_eq!(locked.unlock(&KEY, every_kind).unwrap().into_parts().1.generation, 1);
    }

    #[test]
    fn a_second_keyd_is_refused_while_the_first_lives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let first = LockedVault::open(&path).unwrap();
        let refused = LockedVault::open(&path).unwrap_err();
        assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
        drop(first);
        assert!(LockedVault::open(&path).is_ok());
    }

    #[test]
    fn a_directory_that_is_not_there_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let refused = LockedVault::open(&directory.path().join("none/vault")).unwrap_err();
        assert!(matches!(refused, OpenError::Lock { .. }), "{refused}");
        assert!(refused.to_string().contains("none/lock"));
    }

    #[test]
    fn links_directories_and_pipes_are_not_read_as_vaults() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        crate::vault::create::create(&real, &new_vault(), 1).unwrap();
        let path = directory.path().join("vault");
        let locked = LockedVault::open(&path).unwrap();

        std::os::unix::fs::symlink(&real, &path).unwrap();
        assert_eq!(locked.state(), VaultState::Unusable(VaultFault::Unreadable));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(locked.state(), VaultState::Unusable(VaultFault::Unreadable));
        std::fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(locked.state(), VaultState::Unusable(VaultFault::Truncated));
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&real, &path).unwrap();
        assert_eq!(locked.state(), VaultState::Locked);
    }
}
