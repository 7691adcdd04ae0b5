//! Which file keyd takes for its vault: the one that it opened, or wrote since.
//!
//! While keyd runs the file may be moved away and another be put or made in its place (`init`): what was in the one must not
//! be written over the other. A file is known by the checksum at its end, which covers a nonce that is new at each write; an
//! inode's number would not do, for it is given again. It refuses to write where another whole vault lies, or none any more; a
//! damaged file is no other vault, and is written over. Called by `locked.rs`, and by the worker, which writes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use strongroom_protocol::admin::VaultFault;

use super::file_format::{self, CHECKSUM, LARGEST};
use super::writer::{self, Old};

/// The last file that was opened or written, shared with the thread that writes. Nothing, as long as there was none.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Mark>>>);

type Mark = [u8; CHECKSUM];

impl Seen {
    /// This file was opened with a key.
    pub(super) fn opened(&self, file: &[u8]) {
        *self.last() = mark(file);
    }

    /// Whatever lies there is not known any more.
    pub fn forget(&self) {
        *self.last() = None;
    }

    /// Writes a file in the place of the one that was seen last. One that is put aside may be any.
    ///
    /// # Errors
    /// [`NotOurs`] within the error, and the kernel's. The old file is in place then, as far as the disk obeys.
    pub fn write(&self, path: &Path, bytes: &[u8], old: Old) -> io::Result<()> {
        // Held until the end, so that nobody takes what is written here for another's.
        let mut last = self.last();
        if old != Old::Aside
            && let Some(seen) = &*last
            && let Some(not_ours) = compare(path, seen)
        {
            return Err(io::Error::other(not_ours));
        }
        let written = writer::write(path, bytes, old, &mut |_| ());
        // A disk that failed at the end may have kept the new one.
        if written.is_ok() || mark_at(path).is_ok_and(|there| there == mark(bytes)) {
            *last = mark(bytes);
        }
        written
    }

    /// Whether another whole vault lies in the place of the one that was seen last. Not while one is being written.
    pub(super) fn is_exchanged(&self, path: &Path) -> bool {
        let last = match self.0.try_lock() {
            Ok(last) => *last,
            Err(TryLockError::Poisoned(error)) => *error.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        last.is_some_and(|seen| compare(path, &seen) == Some(NotOurs::Exchanged))
    }

    fn last(&self) -> MutexGuard<'_, Option<Mark>> {
        // It is one value, so that a poisoned one is whole too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a file was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// Another vault lies there.
    Exchanged,
    /// Nothing lies there.
    Gone,
}

impl NotOurs {
    /// The reason within an error of [`Seen::write`].
    #[must_use]
    pub fn of(error: &io::Error) -> Option<VaultFault> {
        error.get_ref()?.downcast_ref().map(|not_ours| match not_ours {
            Self::Exchanged => VaultFault::Exchanged,
            Self::Gone => VaultFault::Gone,
        })
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchanged => {
                "another vault lies in the place of the one that was opened. Put that one back, or unlock this one."
            }
            Self::Gone => "the vault that was opened is gone from its place. Put it back.",
        })
    }
}

impl std::error::Error for NotOurs {}

fn compare(path: &Path, seen: &Mark) -> Option<NotOurs> {
    match mark_at(path) {
        Ok(Some(there)) if there == *seen => None,
        // What cannot be read is for the writing to say; what is no vault is damage.
        Ok(_) => is_vault(path).ok()?.then_some(NotOurs::Exchanged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(NotOurs::Gone),
        Err(_) => None,
    }
}

fn mark(file: &[u8]) -> Option<Mark> {
    file.last_chunk().copied()
}

fn mark_at(path: &Path) -> io::Result<Option<Mark>> {
    let file = open(path)?;
    let Some(end) = file.metadata()?.len().checked_sub(CHECKSUM as u64) else { return Ok(None) };
    let mut mark = [0; CHECKSUM];
    file.read_exact_at(&mut mark, end)?;
    Ok(Some(mark))
}

/// One that a newer keyd made is one.
fn is_vault(path: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(matches!(file_format::parse(&bytes), Ok(_) | Err(VaultFault::UnknownVersion)))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::vault::create;
    use crate::vault::create::tests::new_vault;

    fn vault() -> Vec<u8> {
        create::build(&new_vault(), 1).unwrap()
    }

    #[test]
    fn only_the_file_that_was_seen_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let (first, second, third) = (vault(), vault(), vault());
        let seen = Seen::default();
        seen.write(&path, &first, Old::Backup).unwrap();
        seen.write(&path, &second, Old::Gone).unwrap();
        assert!(!seen.is_exchanged(&path));

        fs::rename(&path, directory.path().join("away")).unwrap();
        let refused = seen.write(&path, &third, Old::Backup).unwrap_err();
        assert_eq!(NotOurs::of(&refused), Some(VaultFault::Gone));
        assert!(!path.exists() && !seen.is_exchanged(&path));
        // The same bytes are the same file, whoever brought them.
        fs::copy(directory.path().join("away"), &path).unwrap();
        seen.write(&path, &first, Old::Backup).unwrap();

        fs::write(&path, &third).unwrap();
        let refused = seen.write(&path, &second, Old::Backup).unwrap_err();
        assert_eq!((NotOurs::of(&refused), seen.is_exchanged(&path)), (Some(VaultFault::Exchanged), true));
        assert_eq!(fs::read(&path).unwrap(), third);
        seen.write(&path, &second, Old::Aside).unwrap();
        assert_eq!(fs::read(directory.path().join("vault.before-restore")).unwrap(), third);
        seen.write(&path, &first, Old::Backup).unwrap();
        fs::write(&path, &third).unwrap();
        seen.opened(&third);
        seen.write(&path, &first, Old::Backup).unwrap();
        fs::write(&path, &third).unwrap();
        seen.forget();
        seen.write(&path, &first, Old::Backup).unwrap();
    }

    #[test]
    fn a_damaged_file_is_no_other_vault_and_a_newer_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let (first, second) = (vault(), vault());
        let mut newer = second.clone();
        newer[8] += 1;
        for (bytes, is_another) in
            [(&first[..50], false), (b"", false), (&[7; 300], false), (&first[1..], false), (&newer[..], true)]
        {
            let seen = Seen::default();
            seen.write(&path, &first, Old::Backup).unwrap();
            fs::write(&path, bytes).unwrap();
            assert_eq!(seen.is_exchanged(&path), is_another);
            assert_eq!(seen.write(&path, &second, Old::Backup).is_err(), is_another);
            fs::remove_file(&path).unwrap();
        }
    }
}
