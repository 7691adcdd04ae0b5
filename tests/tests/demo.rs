//! `strongroom demo`, as a stranger runs it: with root and without.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use strongroom_tests::prelude::*;

/// A user that nobody else has, who can enter a user namespace where the system lets anybody do so.
const STRANGER: u32 = 61_009;

fn demo(prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(strongroom_tests::programs::path("strongroom"));
    command.arg("demo").env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    prepare(&mut command);
    process::run(&mut command, b"")
}

#[track_caller]
fn assert_shown(output: &Output) {
    output.assert_code(0);
    for words in [
        "the agent saw",
        "gatewayd saw",
        "the upstream saw",
        "ok      the upstream got the real key",
        "ok      no key in data/vault",
    ] {
        assert!(output.stdout.contains(words), "no {words:?} in {}", output.stdout);
    }
    assert!(!output.stdout.contains("FAILED"), "{}", output.stdout);
}

#[test]
fn the_demo_holds_what_it_promises() {
    let begin = Instant::now();
    let output = demo(|_| ());
    assert_shown(&output);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}: something was waited for in vain", begin.elapsed());
    let looked = output.stdout.contains("ok      no key in gatewayd's memory");
    let said = output.stdout.lines().any(|line| line == "memory: not looked at (needs root)");
    assert!(looked != said, "it looks, or says that it does not: {}", output.stdout);
}

#[test]
#[ignore = "needs root: becomes another user"]
fn without_root_the_demo_works_as_well() {
    let output = demo(|command| {
        command.uid(STRANGER).gid(STRANGER);
    });
    assert_shown(&output);
}

#[test]
fn where_namespaces_are_forbidden_the_demo_says_what_it_did_not_look_at() {
    // As Debian's kernel.unprivileged_userns_clone = 0 answers.
    let forbidden = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let calls = [(libc::SYS_unshare, Vec::new())].into_iter().collect();
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, forbidden, std::env::consts::ARCH.try_into().unwrap());
    let filter = BpfProgram::try_from(filter.unwrap()).unwrap();
    let output = demo(|command| {
        if nix::unistd::geteuid().is_root() {
            command.uid(STRANGER).gid(STRANGER);
        }
        // SAFETY: installing a filter is two system calls on memory that was filled before the fork.
        unsafe {
            command.pre_exec(move || seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::last_os_error()))
        };
    });
    assert_shown(&output);
    assert!(output.stdout.lines().any(|line| line == "memory: not looked at (needs root)"), "{}", output.stdout);
    assert!(!output.stdout.contains("in gatewayd's memory"), "{}", output.stdout);
    assert!(output.stdout.trim_end().ends_with("Run this as root to look everywhere."), "{}", output.stdout);
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    let mut command = Command::new(strongroom_tests::programs::path("strongroom"));
    command.arg("demo").env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", directory.path());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let pids = within(Duration::from_secs(30), "the demo's daemons are up", || {
        let home = std::fs::read_dir(directory.path()).unwrap().flatten().next()?.path().join("home");
        let output = process::run(
            Command::new(strongroom_tests::programs::path("strongroom"))
                .args(["status", "--json"])
                .env_clear()
                .env("STRONGROOM_HOME", home),
            b"",
        );
        let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        Some([status["keyd"]["pid"].as_u64()?, status["gatewayd"]["pid"].as_u64()?])
    });
    process::signal(child.id(), process::Signal::SIGINT);
    let status = within(Duration::from_secs(60), "the demo ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    for pid in pids {
        process::wait_until_gone(u32::try_from(pid).unwrap(), Duration::from_secs(5));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
