//! The same programs and sources give the same package, whoever packs it, where and when.

use std::fs;
use std::process::Command;

use super::{package, programs, workspace};

#[test]
fn packing_twice_gives_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let first = package(&folder.path().join("first"), None);
    // Another folder, umask, time zone and language.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(workspace().join("packaging/deb"));
    command.arg("--programs").arg(programs()).arg("--output").arg(folder.path().join("second"));
    command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "C").env("TMPDIR", folder.path());
    super::must(super::quickly(&mut command));
    let second = folder.path().join("second").join(first.file_name().expect("a name"));
    let (first, second) = (fs::read(first).expect("a package"), fs::read(second).expect("a package"));
    assert!(first == second, "{} and {} bytes", first.len(), second.len());
}

#[test]
#[ignore = "needs root: is an ordinary user for a moment, in a user namespace"]
fn an_ordinary_user_packs_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let ours = package(&folder.path().join("root"), None);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", "sh", "-c"]);
    command.arg("[ \"$(id -u)\" = 1000 ] && exec \"$0\" \"$@\"").arg(workspace().join("packaging/deb"));
    command.arg("--programs").arg(programs()).arg("--output").arg(folder.path().join("user"));
    let theirs = super::must(super::quickly(&mut command));
    assert!(fs::read(ours).expect("a package") == fs::read(theirs.trim()).expect("a package"));
}
