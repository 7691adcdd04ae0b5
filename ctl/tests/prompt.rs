//! The question for a passphrase, at a terminal of the test's own: whatever ends it, the terminal shows again what is
//! typed.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// `strongroom init`, which asks first of all.
struct Asked {
    child: Child,
    /// The side of whoever sits there.
    desk: File,
    /// The program's side, held open so that its settings stay.
    terminal: File,
    _home: tempfile::TempDir,
}

impl Asked {
    fn init() -> Self {
        let home = tempfile::tempdir().unwrap();
        let ends = openpty(None, None).unwrap();
        let (desk, terminal) = (File::from(ends.master), File::from(ends.slave));
        // It makes the terminal the controlling one, and becomes the program.
        let mut command = Command::new("setsid");
        // As large a core file as may be.
        let widest = "ulimit -Hc unlimited 2>/dev/null; ulimit -Sc $(ulimit -Hc); exec \"$@\"";
        command.args(["--ctty", "sh", "-c", widest, "sh", env!("CARGO_BIN_EXE_strongroom"), "init"]).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("STRONGROOM_HOME", home.path().join("h"));
        let end = || terminal.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut asked = Self { child, desk, terminal, _home: home };
        asked.read_until("New passphrase: ");
        until("the echo is off", || !asked.shows_what_is_typed());
        asked
    }

    fn read_until(&mut self, words: &str) {
        let mut text = String::new();
        while !text.contains(words) {
            let mut bytes = [0; 256];
            let length = self.desk.read(&mut bytes).unwrap();
            text += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    fn types(&mut self, text: &str) {
        self.desk.write_all(text.as_bytes()).unwrap();
    }

    fn gets(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn shows_what_is_typed(&self) -> bool {
        let all = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        tcgetattr(self.terminal.as_fd()).unwrap().local_flags.contains(all)
    }

    fn ends(&mut self) -> ExitStatus {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_signal_at_the_prompt_ends_the_program_and_leaves_a_terminal_that_shows_what_is_typed() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut asked = Asked::init();
        asked.gets(signal);
        assert_eq!(asked.ends().signal(), Some(signal as i32));
        assert!(asked.shows_what_is_typed(), "{signal}");
    }
}

/// Ctrl-\ too; and a core file would hold what was typed so far.
#[test]
fn what_waits_at_the_prompt_leaves_no_core_file() {
    let mut asked = Asked::init();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", asked.child.id())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
    asked.gets(Signal::SIGQUIT);
    let ended = asked.ends();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::SIGQUIT as i32), false));
}

#[test]
fn so_does_ctrl_c() {
    let mut asked = Asked::init();
    asked.types("half a passph\u{3}");
    assert_eq!(asked.ends().signal(), Some(Signal::SIGINT as i32));
    assert!(asked.shows_what_is_typed());
}

#[test]
fn an_answer_is_taken_and_the_terminal_is_as_before() {
    let mut asked = Asked::init();
    asked.types("correct horse\n");
    asked.read_until("The same again: ");
    asked.types("battery staple\n");
    asked.read_until("differ");
    assert_eq!(asked.ends().code(), Some(1));
    assert!(asked.shows_what_is_typed());
}

#[test]
fn ctrl_d_is_no_answer_and_not_a_missing_terminal() {
    let mut asked = Asked::init();
    asked.types("\u{4}");
    asked.read_until("nothing was typed");
    assert_eq!(asked.ends().code(), Some(1));
    assert!(asked.shows_what_is_typed());
}
