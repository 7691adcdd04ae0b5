//! The way of a vault file onto the disk: old or new, never neither and never half, whenever the power goes.
//!
//! ```text
//!  unlink vault.tmp │ create it, O_EXCL 0600 │ write │ fsync │ link vault → vault.bak.tmp │ rename it → vault.bak
//!    │ rename vault.tmp → vault │ fsync the directory
//! ```
//!
//! The backup is a second name of the old file, not a copy, so `vault` is there at every step. Where nothing may be left
//! of the old file, the backup is written as a file of its own, before the new one is the vault. It refuses to follow
//! links and to write through an existing file. It sees ciphertext only. Called on the worker thread; tests kill the
//! process at each [`Step`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What was just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A temporary file that a crash left is gone.
    StaleRemoved,
    /// The temporary file is there, empty.
    Created,
    /// Half of the bytes are written.
    HalfWritten,
    /// All bytes are written.
    Written,
    /// And on the disk.
    Synced,
    /// The old file has a third name.
    BackupLinked,
    /// The old file is the backup.
    BackupRenamed,
    /// The new file is the vault.
    Renamed,
    /// And the directory is on the disk.
    DirectorySynced,
}

/// What becomes of the file that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// It is the backup.
    Backup,
    /// It is gone, with all that were put aside, and the backup is a copy of the new file: a passphrase that was changed
    /// opens none of them, and what was purged is in none.
    Gone,
    /// It is put aside under a name of its own, which no later write takes from it but one with [`Self::Gone`].
    Aside,
}

/// Writes `bytes` as the vault at `path`. Tells `hook` of every step; production passes one that does nothing.
///
/// # Errors
/// The kernel's. The old file is in place then, as far as the disk still obeys.
pub fn write(path: &Path, bytes: &[u8], old: Old, hook: &mut dyn FnMut(Step)) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let backup = backup_path(path);
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;

    remove_if_there(&temporary)?;
    remove_if_there(&backup_temporary(path))?;
    hook(Step::StaleRemoved);
    let mut aside = None;
    let result = write_new(&temporary, bytes, hook)
        .and_then(|()| match old {
            Old::Backup => second_name(path, &backup, hook),
            // Before the new file is the vault: there is no moment in which the change is made and the backup is old.
            Old::Gone => {
                asides(path).try_for_each(|aside| remove_if_there(&aside)).and_then(|()| copy(bytes, path, hook))
            }
            Old::Aside => put_aside(path).map(|name| aside = name),
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = result {
        // What is half done must not fill a disk that is full already.
        let _ = remove_if_there(&temporary);
        let _ = remove_if_there(&backup_temporary(path));
        return Err(error);
    }
    hook(Step::Renamed);
    if let Err(error) = directory.sync_all() {
        // The caller will say that nothing was changed: make that true, as far as such a disk lets us.
        let before = match old {
            Old::Backup => Some(backup),
            Old::Aside => aside,
            // The old file has no name any more. The new one is what everybody reads; it may go with the power.
            Old::Gone => return Ok(()),
        };
        if let Some(before) = before {
            let _ = fs::hard_link(before, &temporary).and_then(|()| fs::rename(&temporary, path));
        }
        return Err(error);
    }
    hook(Step::DirectorySynced);
    Ok(())
}

/// The backup beside a vault.
#[must_use]
pub fn backup_path(path: &Path) -> PathBuf {
    path.with_extension("bak")
}

/// Where vaults lie that a restored one took the place of, the first first.
fn asides(path: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = |number| path.with_extension(format!("before-restore-{number}"));
    std::iter::once(path.with_extension("before-restore")).chain((2..=MOST_ASIDE).map(numbered))
}

/// Gives the vault, where there is one, another name that nothing has yet.
fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    for aside in asides(path) {
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Unlinks a file; one that is not there is well.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn write_new(temporary: &Path, bytes: &[u8], hook: &mut dyn FnMut(Step)) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(temporary)?;
    hook(Step::Created);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    hook(Step::HalfWritten);
    file.write_all(second)?;
    hook(Step::Written);
    file.sync_all()?;
    hook(Step::Synced);
    Ok(())
}

/// Gives a file, where it is there, a second name in the place of what has that name.
fn second_name(path: &Path, backup: &Path, hook: &mut dyn FnMut(Step)) -> io::Result<()> {
    let temporary = backup_temporary(path);
    match fs::hard_link(path, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    hook(Step::BackupLinked);
    fs::rename(&temporary, backup)?;
    // After a crash the backup may be this very file already, and renaming one name of a file onto another does nothing.
    remove_if_there(&temporary)?;
    hook(Step::BackupRenamed);
    Ok(())
}

/// Writes the backup as a file of its own: damage in place must not reach both.
fn copy(bytes: &[u8], path: &Path, hook: &mut dyn FnMut(Step)) -> io::Result<()> {
    let temporary = backup_temporary(path);
    write_new(&temporary, bytes, hook)?;
    fs::rename(&temporary, backup_path(path))?;
    hook(Step::BackupRenamed);
    Ok(())
}

/// Vaults beside the vault.
const MOST_ASIDE: u32 = 99;

fn backup_temporary(path: &Path) -> PathBuf {
    path.with_extension("bak.tmp")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const STEPS: [Step; 9] = [
        Step::StaleRemoved,
        Step::Created,
        Step::HalfWritten,
        Step::Written,
        Step::Synced,
        Step::BackupLinked,
        Step::BackupRenamed,
        Step::Renamed,
        Step::DirectorySynced,
    ];

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_replaces_keeps_one_backup_and_passes_every_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let mut steps = Vec::new();
        write(&path, b"one", Old::Backup, &mut |_| ()).unwrap();
        assert_eq!(names(directory.path()), ["vault"]);
        write(&path, b"two", Old::Backup, &mut |_| ()).unwrap();
        write(&path, b"three", Old::Backup, &mut |step| steps.push(step)).unwrap();
        assert_eq!(steps, STEPS);
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read(backup_path(&path)).unwrap(), b"two");
        assert_eq!(names(directory.path()), ["vault", "vault.bak"]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_link_in_the_temporary_files_place_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, path.with_extension("tmp")).unwrap();
        // Put back by an attacker after the stale one was removed, at the worst moment.
        let refused = write(&path, b"new", Old::Backup, &mut |step| {
            if step == Step::StaleRemoved {
                std::os::unix::fs::symlink(&victim, path.with_extension("tmp")).unwrap();
            }
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        write(&path, b"new", Old::Backup, &mut |_| ()).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    /// The same test is the child: with the variable set it writes, and kills itself at the step.
    #[test]
    fn killed_at_any_step_the_vault_is_old_or_new_and_the_next_write_works() {
        if let Some(path) = std::env::var_os("STRONGROOM_TEST_KILLED_WRITER") {
            let at: usize = std::env::var("STRONGROOM_TEST_KILLED_AT").unwrap().parse().unwrap();
            let _ = write(Path::new(&path), &[b'n'; 5000], Old::Backup, &mut |step| {
                if step == STEPS[at] {
                    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL).unwrap();
                }
            });
            panic!("the step was never reached");
        }
        for (at, step) in STEPS.into_iter().enumerate() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("vault");
            write(&path, b"older", Old::Backup, &mut |_| ()).unwrap();
            write(&path, b"old", Old::Backup, &mut |_| ()).unwrap();
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "vault::writer::tests::killed_at_any_step_the_vault_is_old_or_new_and_the_next_write_works",
                ])
                .env("STRONGROOM_TEST_KILLED_WRITER", &path)
                .env("STRONGROOM_TEST_KILLED_AT", at.to_string())
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.signal(), Some(9), "{step:?}");

            let renamed = matches!(step, Step::Renamed | Step::DirectorySynced);
            let expected = if renamed { vec![b'n'; 5000] } else { b"old".to_vec() };
            assert_eq!(fs::read(&path).unwrap(), expected, "{step:?}");
            let backup = fs::read(backup_path(&path)).unwrap();
            assert!(backup == b"old" || backup == b"older", "{step:?}: the backup is whole");

            write(&path, b"next", Old::Backup, &mut |_| ()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"next", "{step:?}");
            assert_eq!(fs::read(backup_path(&path)).unwrap(), expected, "{step:?}");
            assert_eq!(names(directory.path()), ["vault", "vault.bak"], "{step:?}");
        }
    }

    /// As above, where nothing of the old file may be left once the new one is the vault.
    #[test]
    fn killed_at_any_step_a_vault_that_was_changed_has_no_older_one_beside_it() {
        if let Some(path) = std::env::var_os("STRONGROOM_TEST_KILLED_CHANGER") {
            let mut left: usize = std::env::var("STRONGROOM_TEST_KILLED_AT").unwrap().parse().unwrap();
            let written = write(Path::new(&path), &[b'n'; 5000], Old::Gone, &mut |_| {
                if left == 0 {
                    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL).unwrap();
                }
                left -= 1;
            });
            return written.unwrap();
        }
        let new = vec![b'n'; 5000];
        let mut kills = 0;
        loop {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("vault");
            for (bytes, old) in [(b"aside", Old::Backup), (b"older", Old::Aside), (b"older", Old::Backup)] {
                write(&path, bytes, old, &mut |_| ()).unwrap();
            }
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "vault::writer::tests::killed_at_any_step_a_vault_that_was_changed_has_no_older_one_beside_it",
                ])
                .env("STRONGROOM_TEST_KILLED_CHANGER", &path)
                .env("STRONGROOM_TEST_KILLED_AT", kills.to_string())
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            let vault = fs::read(&path).unwrap();
            assert!(vault == new || vault == b"older", "kill {kills}: the vault is whole");
            if vault == new {
                assert_eq!(names(directory.path()), ["vault", "vault.bak"], "kill {kills}");
                assert_eq!(fs::read(backup_path(&path)).unwrap(), new, "kill {kills}");
            }
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9));
            write(&path, b"next", Old::Gone, &mut |_| ()).unwrap();
            assert_eq!(names(directory.path()), ["vault", "vault.bak"], "kill {kills}");
            kills += 1;
        }
        assert_eq!(kills, 12, "steps of a change");
    }

    #[test]
    fn damage_in_place_does_not_reach_the_backup() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        for old in [Old::Backup, Old::Gone, Old::Backup] {
            write(&path, b"good", old, &mut |_| ()).unwrap();
            if let Ok(backup) = fs::metadata(backup_path(&path)) {
                assert_ne!(backup.ino(), fs::metadata(&path).unwrap().ino(), "{old:?}");
                assert_eq!(backup.mode() & 0o7777, 0o600);
            }
        }
        write(&path, b"good", Old::Gone, &mut |_| ()).unwrap();
        fs::write(&path, b"evil").unwrap();
        assert_eq!(fs::read(backup_path(&path)).unwrap(), b"good");
    }

    #[test]
    fn what_was_changed_leaves_no_backup_and_what_was_restored_puts_the_old_one_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        write(&path, b"one", Old::Backup, &mut |_| ()).unwrap();
        write(&path, b"two", Old::Backup, &mut |_| ()).unwrap();
        let mut renamed = false;
        write(&path, b"three", Old::Gone, &mut |step| match step {
            Step::BackupRenamed => assert_eq!(fs::read(backup_path(&path)).unwrap(), b"three"),
            Step::Renamed => renamed = true,
            _ => assert!(!renamed || step == Step::DirectorySynced),
        })
        .unwrap();
        for file in [&path, &backup_path(&path)] {
            assert_eq!(fs::read(file).unwrap(), b"three");
        }
        write(&path, b"four", Old::Aside, &mut |_| ()).unwrap();
        write(&path, b"five", Old::Backup, &mut |_| ()).unwrap();
        assert_eq!(names(directory.path()), ["vault", "vault.bak", "vault.before-restore"]);
        let read = |path: PathBuf| fs::read(path).unwrap();
        assert_eq!((read(path.clone()), read(backup_path(&path))), (b"five".to_vec(), b"four".to_vec()));
        assert_eq!(read(directory.path().join("vault.before-restore")), b"three");
        // The wrong backup, and then the right one: nothing that was there is lost.
        write(&path, b"six", Old::Aside, &mut |_| ()).unwrap();
        assert_eq!(read(directory.path().join("vault.before-restore")), b"three");
        assert_eq!(read(directory.path().join("vault.before-restore-2")), b"five");
        write(&path, b"seven", Old::Gone, &mut |_| ()).unwrap();
        assert_eq!(names(directory.path()), ["vault", "vault.bak"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        write(&path, b"old", Old::Backup, &mut |_| ()).unwrap();
        // A directory in the backup's place makes the renaming fail, for root too.
        fs::create_dir(backup_path(&path)).unwrap();
        assert!(write(&path, b"new", Old::Backup, &mut |_| ()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert!(!path.with_extension("tmp").exists());
        fs::remove_dir(backup_path(&path)).unwrap();
        write(&path, b"new", Old::Backup, &mut |_| ()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
