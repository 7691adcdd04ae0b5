//! Every rule of both cages is broken on purpose, and each attempt is also made without a cage.
//!
//! The twin matters as much as the rule: an attempt that fails by itself proves nothing. A rule of seccomp ends the
//! process with SIGSYS, a rule of Landlock gives EACCES; see `breaker` for what is tried. As root the breakers run
//! as root, so that the rules are seen to hold even there, and where it matters under a uid of their own as well.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tempfile::TempDir;

mod both;
mod gatewayd;
mod keyd;
mod needed;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Done(String),
    Errno(i32),
    Died(Signal),
    /// Something that no test expects: the program's own words.
    Other(String),
}

use Outcome::{Died, Done};

/// What the twin without a cage may come to: anything but SIGSYS, for senseless arguments fail in many ways.
enum Twin {
    Exactly(Outcome),
    AnythingElse,
}

/// A directory with a vault, a configuration, and something outside.
struct Scene {
    directory: TempDir,
    _listening: UnixListener,
    _abstract: UnixListener,
}

impl Scene {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(data.join("config")).unwrap();
        fs::create_dir(data.join("audit")).unwrap();
        fs::write(data.join("vault"), "old").unwrap();
        fs::write(data.join("config/gatewayd.toml"), "listen = []").unwrap();
        fs::write(directory.path().join("outside"), "outside").unwrap();
        symlink("/etc/passwd", data.join("link-out")).unwrap();
        let name = directory.path().as_os_str().as_encoded_bytes();
        fs::write(data.join("config/abstract-name"), name).unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        Self {
            _listening: UnixListener::bind(data.join("listening")).unwrap(),
            _abstract: UnixListener::bind_addr(&address).unwrap(),
            directory,
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn breaker(&self, cage: &str, what: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_breaker"));
        command.arg(cage).arg(self.data()).arg(what).stdin(Stdio::null());
        command
    }
}

/// Runs one attempt in a scene of its own.
fn attempt(cage: &str, what: &str) -> Outcome {
    outcome(&Scene::new().breaker(cage, what).output().unwrap())
}

fn outcome(output: &Output) -> Outcome {
    if let Some(signal) = output.status.signal() {
        return Died(Signal::try_from(signal).unwrap());
    }
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match text.split_once(' ').unwrap_or((&text, "")) {
        // /bin/true took the breaker's place, and says nothing.
        ("" | "done", words) if output.status.success() => Done(words.to_owned()),
        ("errno", number) => Outcome::Errno(number.parse().unwrap()),
        _ => Outcome::Other(format!("{:?} {text} {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

/// Tries each row in the cage and without; lists all that differ.
fn hold(cage: &str, rows: Vec<(&str, Outcome, Twin)>) {
    let mut wrong = Vec::new();
    for (what, expected, twin) in rows {
        let found = attempt(cage, what);
        if found != expected {
            wrong.push(format!("{what} in {cage}'s cage: {found:?}, expected {expected:?}"));
        }
        let free = attempt("none", what);
        let as_expected = match twin {
            Twin::Exactly(expected) => free == expected,
            Twin::AnythingElse => matches!(free, Done(_) | Outcome::Errno(_)),
        };
        if !as_expected {
            wrong.push(format!("{what} without a cage: {free:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn done() -> Outcome {
    Done(String::new())
}

/// Attempts that end a caged process and that nothing else forbids.
fn killed<'a>(whats: &[&'a str]) -> Vec<(&'a str, Outcome, Twin)> {
    whats.iter().map(|what| (*what, Died(Signal::SIGSYS), Twin::AnythingElse)).collect()
}

/// Attempts that a caged process is refused and that work without a cage.
fn refused(whats: &[&'static str], errno: i32) -> Vec<(&'static str, Outcome, Twin)> {
    whats.iter().map(|what| (*what, Outcome::Errno(errno), Twin::Exactly(done()))).collect()
}

/// Whether Landlock has this ABI; else says what is not tested. Root is not taken in by a Landlock that is only hidden.
fn has_landlock(abi: i64, what: &str) -> bool {
    // SAFETY: asking for the version takes no memory.
    let answer =
        Errno::result(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) });
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let found = match answer {
        Err(errno) if nix::unistd::geteuid().is_root() && !is_absent(errno, &modules) => {
            panic!("{what} is not tested: the kernel has Landlock, and asking for it gives {errno}")
        }
        _ => answer.unwrap_or(0),
    };
    if found < abi {
        eprintln!("skipped: {what} needs Landlock ABI {abi}, this kernel has {found}");
    }
    found >= abi
}

/// Whether the kernel was built or started without Landlock. Any other answer is somebody's who stands before it.
fn is_absent(errno: Errno, modules: &str) -> bool {
    [Errno::ENOSYS, Errno::EOPNOTSUPP].contains(&errno) && !modules.trim().split(',').any(|name| name == "landlock")
}

#[test]
fn a_landlock_that_is_hidden_is_not_absent() {
    assert!(is_absent(Errno::ENOSYS, "") && is_absent(Errno::EOPNOTSUPP, "capability,yama\n"));
    assert!(!is_absent(Errno::EPERM, ""));
    assert!(!is_absent(Errno::ENOSYS, "capability,landlock\n") && !is_absent(Errno::EOPNOTSUPP, "landlock"));
}
