//! What holds for both daemons alike: privileges, dumps, other processes of the same user, the account.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::Outcome::{Died, Done, Errno};
use crate::{Scene, Twin, attempt, done, has_landlock, hold, killed, outcome, refused};

#[test]
fn a_call_by_the_32_bit_table_ends_either() {
    // A kernel without the table ends the twin with SIGSEGV: then there is nothing to forbid.
    if cfg!(target_arch = "x86_64") && attempt("none", "32-bit") == Done("true".into()) {
        assert_eq!(attempt("keyd", "32-bit"), Died(Signal::SIGSYS));
        assert_eq!(attempt("gatewayd", "32-bit"), Died(Signal::SIGSYS));
    } else {
        eprintln!("skipped: this machine has no 32-bit system calls");
    }
}

/// A thread in a new namespace, and this process in one. clone has no bit for a namespace of time.
#[test]
fn no_kind_of_namespace_is_made_by_either() {
    let kinds = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let threads = kinds.iter().map(|kind| format!("clone-thread:{kind}"));
    let whats: Vec<_> =
        kinds.iter().chain([&CLONE_NEWTIME]).map(|kind| format!("unshare:{kind}")).chain(threads).collect();
    for cage in ["keyd", "gatewayd"] {
        hold(cage, killed(&whats.iter().map(String::as_str).collect::<Vec<_>>()));
    }
}

#[test]
fn privileges_are_gone_in_both() {
    for cage in ["keyd", "gatewayd"] {
        let flag = |on: &str, off: &str| (Done(on.to_owned()), Twin::Exactly(Done(off.to_owned())));
        // Containers may have set it for us too.
        let ours = strongroom_tests::process::status_field(std::process::id(), "NoNewPrivs").unwrap();
        let (no_new, twin) = flag("1", &ours);
        hold(cage, vec![("no-new-privileges", no_new, twin)]);
        let (dumpable, twin) = flag("0", "1");
        hold(cage, vec![("dumpable", dumpable, twin)]);
        assert_eq!(attempt(cage, "capabilities"), Done("true".into()));
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(attempt("none", "capabilities"), Done("false".into()), "root has some to begin with");
        hold("gatewayd", refused(&["become-somebody", "core-limit"], libc::EPERM));
    }
}

#[test]
fn an_abort_leaves_no_core_dump() {
    let core = |cage: &str| {
        let scene = Scene::new();
        let mut command = scene.breaker(cage, "abort");
        command.current_dir(scene.data());
        // SAFETY: setrlimit is async-signal-safe, and reads a structure on the stack.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
                Ok(())
            });
        }
        let status = command.status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{cage}");
        status.core_dumped()
    };
    assert!(!core("keyd"));
    assert!(!core("gatewayd"));
    if !core("none") {
        eprintln!("skipped: this machine dumps no cores at all, so their absence says little");
    }
}

#[test]
fn the_same_user_cannot_look_into_either() {
    for (cage, expected) in [("keyd", Errno(libc::EACCES)), ("gatewayd", Errno(libc::EACCES)), ("none", done())] {
        let scene = Scene::new();
        let program = reachable_breaker(&scene);
        let mut child = {
            let mut command = Command::new(&program);
            command.arg(cage).arg(scene.data()).arg("wait").stdin(Stdio::piped()).stdout(Stdio::piped());
            as_somebody(&mut command);
            command.spawn().unwrap()
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "waiting\n");
        fs::write(scene.data().join("pid"), child.id().to_string()).unwrap();
        let mut peek = Command::new(&program);
        peek.arg("none").arg(scene.data()).arg("peek");
        as_somebody(&mut peek);
        let found = outcome(&peek.output().unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, expected, "{cage}");
    }
}

#[test]
fn each_cage_gives_a_true_account_of_itself() {
    for cage in ["keyd", "gatewayd"] {
        let Done(text) = attempt(cage, "checks") else { panic!("{cage} gave no account") };
        assert!(!text.contains("Failed"), "{text}");
        let mut names = vec!["core-dumps", "undumpable", "no-new-privileges", "capabilities", "seccomp"];
        if has_landlock(6, "the account of it") {
            names.extend(["landlock", "landlock-network", "landlock-scopes"]);
            names.extend(if cage == "keyd" { &["inside-landlock"][..] } else { &["inside-write"] });
        }
        names.extend(if cage == "keyd" { INSIDE_KEYD } else { &["threads"] });
        for name in names {
            assert!(text.contains(&format!("Ok {name}: ")), "{name} in {text}");
        }
    }
}

/// Not in the libc crate.
const CLONE_NEWTIME: libc::c_int = 0x80;

const INSIDE_KEYD: &[&str] = &[
    "inside-core-dumps",
    "inside-undumpable",
    "inside-no-new-privileges",
    "inside-capabilities",
    "inside-seccomp",
    "environment",
];

fn as_somebody(command: &mut Command) {
    if nix::unistd::geteuid().is_root() {
        command.uid(61_009).gid(61_009);
    }
}

/// A copy of the breaker where another uid can reach it.
fn reachable_breaker(scene: &Scene) -> PathBuf {
    let copy = scene.directory.path().join("breaker");
    fs::copy(env!("CARGO_BIN_EXE_breaker"), &copy).unwrap();
    copy
}
