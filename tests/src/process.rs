//! Processes by pid: whether they live, what memory they hold, and signals.
//!
//! It refuses to signal a process that is not one of Strongroom's: a pid may have been given to somebody else.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

pub use nix::sys::signal::Signal;

use crate::deadline::within;
use crate::strongroom::Output;

/// Whether this pid is a live process with a Strongroom program in it.
#[must_use]
pub fn is_ours(pid: u32) -> bool {
    status_field(pid, "Name").is_some_and(|name| name.starts_with("strongroom")) && is_alive(pid)
}

/// Whether there is such a process, and it is no zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    status_field(pid, "State").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Sends a signal to one of Strongroom's processes.
///
/// # Panics
/// Where it is not one, or the signal may not be sent.
#[track_caller]
pub fn signal(pid: u32, signal: Signal) {
    assert!(is_ours(pid), "process {pid} is not a Strongroom program");
    nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), signal).expect("we may signal what we started");
}

/// Kills one of Strongroom's processes, where it still lives: whoever clears up may come too late.
pub fn end(pid: u32) {
    if is_ours(pid) {
        // It may end between the look and the signal.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
}

/// Waits until a process is gone.
///
/// # Panics
/// Where it still lives after `time`.
#[track_caller]
pub fn wait_until_gone(pid: u32, time: Duration) {
    within(time, &format!("process {pid} ends"), || (!is_alive(pid)).then_some(()));
}

/// Resident memory, in bytes; 0 where there is no such process.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    kib(pid, "VmRSS")
}

/// The most resident memory that the process ever had, in bytes.
#[must_use]
pub fn peak_resident(pid: u32) -> u64 {
    kib(pid, "VmHWM")
}

/// A field of /proc/PID/status.
#[must_use]
pub fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// Runs a command to its end with this input.
///
/// # Panics
/// Where it cannot be started, or is not done after a minute.
#[track_caller]
pub fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut input = child.stdin.take().expect("stdin is a pipe");
    // A command that wants no input may close it at once.
    let _ = input.write_all(stdin);
    drop(input);
    let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let read = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let end = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if Instant::now() > end {
            child.kill().ok();
            child.wait().ok();
            panic!("{command:?} is not done after a minute");
        }
        thread::sleep(Duration::from_millis(3));
    };
    // A pipe that stays open after the command ended is held by something that it started: a fault of its own, which
    // these joins turn into a hang that the runner's time limit names.
    Output { code: status.code(), stdout: out.join().expect("reads"), stderr: err.join().expect("reads") }
}

fn kib(pid: u32, name: &str) -> u64 {
    let text = status_field(pid, name).unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
