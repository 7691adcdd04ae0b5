//! Opens files so that neither a link nor a pipe in a file's place leads us elsewhere or holds us up.
//!
//! Root writes into homes too, and whoever could put a link there would have root write where it leads. It refuses
//! links where it writes, and everything but regular files. What must be able to be a pipe, like a passphrase's file, is
//! not opened here. Called by `up` and `down` for logs, notes and the lock, and by what reads settings and backups.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens it to be read.
///
/// # Errors
/// Where it cannot be opened, or is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // A pipe without a writer would keep us waiting.
    regular(OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?)
}

/// Opens it to be appended to, and makes it for its owner alone where it is not there.
///
/// # Errors
/// Where it cannot be opened, or is a link or no regular file.
pub fn append(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    regular(OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(path)?)
}

/// Puts a file with this text in the place of whatever is there. Everybody may read it, whatever the umask.
///
/// # Errors
/// Where it cannot be written.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_added_extension("new");
    // One that was left behind, or a link; it may not be there.
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::{Mode, umask};
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn links_are_not_written_through_and_files_are() {
        let folder = tempfile::tempdir().unwrap();
        let [victim, link, own] = ["victim", "link", "own"].map(|name| folder.path().join(name));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        append(&link).unwrap_err();
        replace(&link, "ours").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_file() && fs::read_to_string(&link).unwrap() == "ours");
        for _ in 0..2 {
            append(&own).unwrap().write_all(b"x").unwrap();
        }
        assert_eq!(fs::read_to_string(&own).unwrap(), "xx");
        assert_eq!(own.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_put_in_place_has_its_mode_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyd.pid");
        for mask in [0, 0o077] {
            let before = umask(Mode::from_bits_truncate(mask));
            let written = replace(&path, "1\n");
            umask(before);
            written.unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644, "{mask:o}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_pipe_and_a_directory_are_refused_at_once_and_a_linked_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, file, link] = ["pipe", "file", "link"].map(|name| folder.path().join(name));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        fs::write(&file, "text").unwrap();
        symlink(&file, &link).unwrap();
        for path in [pipe.as_path(), folder.path()] {
            open(path).unwrap_err();
            append(path).unwrap_err();
        }
        let mut text = String::new();
        open(&link).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }
}
