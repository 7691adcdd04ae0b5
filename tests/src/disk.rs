//! A disk of a test's own, small enough to be filled.
//!
//! It is a tmpfs in a mount namespace of the calling thread and of what it starts, so it ends with them, however the test
//! ends. It refuses to work without root. Used by [`crate::strongroom`] and the tests of faults.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::process;

/// Puts an empty file system of this size there, as tmpfs takes sizes.
///
/// # Panics
/// Without root.
#[track_caller]
pub fn mount(directory: &Path, size: &str) {
    unshare(CloneFlags::CLONE_NEWNS).expect("this test runs as root");
    let options = format!("size={size},mode=755");
    let directory = directory.to_str().expect("a plain path");
    for arguments in [&["--make-rprivate", "/"][..], &["-t", "tmpfs", "-o", &options, "strongroom-test", directory]] {
        process::run(Command::new("mount").args(arguments), b"").assert_code(0);
    }
}

/// Leaves no byte free on the disk of this directory; dropping it makes room again.
///
/// # Panics
/// Where the disk refuses for another reason.
#[must_use]
pub fn fill(directory: &Path) -> Filling {
    let path = directory.join("filling");
    let mut file = File::create(&path).expect("there is room for an empty file");
    for size in [64 * 1024, 4096, 1] {
        loop {
            match file.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
    Filling(path)
}

/// What fills a disk.
#[derive(Debug)]
pub struct Filling(PathBuf);

impl Drop for Filling {
    fn drop(&mut self) {
        // A test that failed may have lost the whole disk.
        let _ = fs::remove_file(&self.0);
    }
}
