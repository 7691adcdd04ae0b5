//! `init` and `up` as root where others have a hand in it: a caller's session.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::unistd::geteuid;
use strongroom_tests::prelude::*;
use strongroom_tests::programs;

/// What root's session holds, a daemon could else use, which runs as another user.
#[test]
#[ignore = "needs root: separate users"]
fn daemons_of_other_users_have_nothing_of_the_callers_session_keyring() {
    assert!(geteuid().is_root());
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::copy(programs::path("strongroom"), folder.path().join("strongroom")).unwrap();
    // In keyd's place, it says what it has.
    let keyd = folder.path().join("strongroom-keyd");
    let look = "#!/bin/sh\nPATH=/usr/bin:/bin\nid -u >&2\nkeyctl search @s user strongroom-test:up >&2 || echo has none >&2\nexit 1\n";
    fs::write(&keyd, look).unwrap();
    fs::set_permissions(&keyd, Permissions::from_mode(0o755)).unwrap();
    let begin = "keyctl add user strongroom-test:up payload @s >/dev/null && exec \"$@\"";
    let in_a_session = |command: &Command| {
        let mut session = Command::new("keyctl");
        session.args(["session", "-", "sh", "-c", begin, "sh"]).arg(command.get_program()).args(command.get_args());
        session.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        process::run(session.env("PATH", "/usr/bin:/bin"), b"")
    };
    let strongroom = Strongroom::new().programs(folder.path()).empty();
    let init = in_a_session(&strongroom.command(&[&["init"], strongroom.users()].concat()));
    assert!(init.assert_code(1).stderr.contains("61001\n") && init.stderr.contains("has none"), "{init:?}");
    // A change of user alone leaves it.
    let mut changed = Command::new("setpriv");
    changed.args(["--reuid", "61001", "--regid", "61001", "--clear-groups"]).arg(&keyd);
    let twin = in_a_session(&changed);
    assert!(twin.stderr.contains("61001\n") && !twin.stderr.contains("has none"), "{twin:?}");
}
