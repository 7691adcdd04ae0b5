//! Where the three programs are.
//!
//! They lie in the target directory in which this test was built. It refuses to guess: what is missing is said, with
//! the command that builds it. As root the daemons run under other users, who may not be able to reach a target
//! directory below /root; then one copy is made where they can.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use strongroom_ctl::demo::stage::{PROGRAMS, is_reachable_by_others};

/// The path of one program.
///
/// # Panics
/// Where it has not been built.
#[track_caller]
#[must_use]
pub fn path(name: &str) -> PathBuf {
    directory().join(name)
}

/// The directory that holds all three.
///
/// # Panics
/// Where one has not been built.
#[track_caller]
#[must_use]
pub fn directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/TEST
    let built = test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps").to_owned();
    for name in PROGRAMS {
        let program = built.join(name);
        assert!(
            program.is_file(),
            "{} is not there; run 'cargo build -p strongroom-keyd -p strongroom-gatewayd -p strongroom-ctl' first",
            program.display()
        );
    }
    let reachable = PROGRAMS.iter().all(|name| is_reachable_by_others(&built.join(name)));
    if !geteuid().is_root() || reachable { built } else { copy(&built) }
}

/// Copies the programs to a directory whose name changes with them. Tests run at once: who is first makes it.
fn copy(built: &Path) -> PathBuf {
    let mark: Vec<String> = PROGRAMS
        .iter()
        .map(|name| {
            let metadata = fs::metadata(built.join(name)).expect("seen before");
            format!("{:x}.{:x}", metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(), metadata.ino())
        })
        .collect();
    let target = std::env::temp_dir().join(format!("strongroom-programs-{}", mark.join("-")));
    let usable = || {
        fs::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == geteuid().as_raw())
    };
    if !usable() {
        let making = tempfile::Builder::new().prefix("strongroom-programs-").tempdir().expect("a temporary directory");
        for name in PROGRAMS {
            fs::copy(built.join(name), making.path().join(name)).expect("programs can be copied");
        }
        fs::set_permissions(making.path(), Permissions::from_mode(0o755)).expect("our own directory");
        // Fails where another test was faster; then its copy is there.
        let _ = fs::rename(making.keep(), &target);
    }
    assert!(usable(), "{} is not ours", target.display());
    target
}
