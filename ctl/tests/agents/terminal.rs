//! `run --user` at a terminal of the test's own: the program gets another one, and the caller's is as before.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, ttyname};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::daemons::Stage;
use crate::{code, for_admins, stderr, stdout};

/// `strongroom run --user`, as the first program of a terminal.
struct Desk {
    child: Child,
    /// The side of whoever sits there.
    desk: File,
    /// The caller's side, held open so that its settings stay.
    terminal: File,
    said: String,
    _stage: Stage,
}

impl Desk {
    /// With this script for a shell as the program; its standard output is a pipe where that is asked for.
    fn run(script: &str, output: Option<Stdio>) -> Self {
        let stage = for_admins();
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(Some(&size), None).unwrap();
        let (desk, terminal) = (File::from(ends.master), File::from(ends.slave));
        let run = ["run", "--agent", "coder", "--user", "61001", "--", "sh", "-c", script];
        let mut command = stage.in_a_session(&["--ctty"], &run);
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(end()).stdout(output.unwrap_or_else(end)).stderr(end()).spawn().unwrap();
        Self { child, desk, terminal, said: String::new(), _stage: stage }
    }

    /// Until these words have come.
    fn says(&mut self, words: &str) {
        while !self.said.contains(words) {
            let mut source = [PollFd::new(self.desk.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut source, PollTimeout::from(20_000_u16)).unwrap();
            assert!(ready > 0, "{words:?} does not come: {:?}", self.said);
            let mut bytes = [0; 4096];
            let length = self.desk.read(&mut bytes).unwrap();
            self.said += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    fn types(&mut self, text: &str) {
        self.desk.write_all(text.as_bytes()).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(20), "it ends: {:?}", self.said);
            thread::sleep(Duration::from_millis(10));
        }
        let all = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        assert!(tcgetattr(&self.terminal).unwrap().local_flags.contains(all), "the terminal is as before");
        self.child.wait().unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root: runs a program as another user"]
fn the_program_has_a_terminal_and_a_session_where_nobody_else_is() {
    // What it types into its terminal (TIOCSTI), where the kernel lets anybody, it reads itself.
    let script = "stty size; tty; cut -d' ' -f6 /proc/$$/stat | sed \"s/^$$\\$/leads/\"; ls -l /proc/$$/fd; \
                  perl -e 'open T, \"+<\", \"/dev/tty\"; ioctl(T, 0x5412, $_) for split //, \"mine\\nleft\\n\"'; \
                  echo ready; read -r line; echo \"read $line\"; exit 7";
    let mut desk = Desk::run(script, None);
    desk.says("ready");
    if fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|text| text.trim() == "0") {
        desk.types("mine\n");
    }
    desk.says("read mine");
    assert_eq!(desk.ends().code(), Some(7));
    let outer = ttyname(&desk.terminal).unwrap().display().to_string();
    for words in ["33 101\r\n", "/dev/pts/", "leads\r\n"] {
        assert!(desk.said.contains(words), "{words:?}: {}", desk.said);
    }
    assert!(desk.said.split_whitespace().all(|word| word != outer), "{outer}: {}", desk.said);
    // Nothing is left for the shell that comes next.
    let mut waiting = [PollFd::new(desk.terminal.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::ZERO), Ok(0), "{}", desk.said);
}

#[test]
#[ignore = "needs root: runs a program as another user"]
fn whom_the_program_leaves_behind_reads_nothing_that_is_typed_later() {
    let script = "(trap '' HUP TTIN TTOU; echo waits; exec 3<>/dev/tty; read -r line <&3; echo \"got $line\" >&3) & \
                  while ! ls -l /proc/$!/fd/3 >/dev/null 2>&1; do :; done; exit 0";
    let mut desk = Desk::run(script, None);
    assert_eq!(desk.ends().code(), Some(0));
    // As the next line for root's shell.
    desk.types("secret\n");
    let mut waiting = [PollFd::new(desk.terminal.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, PollTimeout::from(10_000_u16)), Ok(1), "somebody else has read it");
    let mut line = [0; 64];
    let length = desk.terminal.read(&mut line).unwrap();
    assert_eq!(&line[..length], b"secret\n");
}

#[test]
#[ignore = "needs root: runs a program as another user"]
fn keys_signals_and_the_windows_size_reach_the_program_and_its_end_reaches_the_caller() {
    let waiting = "echo ready; while :; do sleep 0.05; done";
    let mut desk = Desk::run(waiting, None);
    desk.says("ready");
    desk.types("\u{3}");
    assert_eq!(desk.ends().signal(), Some(Signal::SIGINT as i32), "Ctrl-C");

    let mut desk = Desk::run(&format!("trap 'stty size; exit 3' WINCH; {waiting}"), None);
    desk.says("ready");
    let mut size = tcgetwinsize(&desk.terminal).unwrap();
    (size.ws_row, size.ws_col) = (40, 90);
    tcsetwinsize(&desk.terminal, size).unwrap();
    desk.says("40 90");
    assert_eq!(desk.ends().code(), Some(3));

    let mut desk = Desk::run(&format!("trap 'echo told; exit 4' TERM; {waiting}"), None);
    desk.says("ready");
    kill(Pid::from_raw(desk.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    desk.says("told");
    assert_eq!(desk.ends().code(), Some(4));

    let mut desk = Desk::run("kill -KILL $$", None);
    assert_eq!(desk.ends().signal(), Some(Signal::SIGKILL as i32));
    // All of it, however much and however soon it ends.
    let mut desk = Desk::run("seq 30000; echo end", None);
    desk.says("end\r\n");
    assert!(desk.said.contains("\r\n29999\r\n30000\r\nend") && desk.ends().success());
}

#[test]
#[ignore = "needs root: runs a program as another user"]
fn a_pipe_stays_one_and_without_a_terminal_the_session_alone_is_new() {
    let mut desk =
        Desk::run("[ -t 0 ] && [ ! -t 1 ] && [ -t 2 ] && read -r line && echo \"piped $line\"", Some(Stdio::piped()));
    desk.types("word\n");
    let mut piped = String::new();
    desk.child.stdout.take().unwrap().read_to_string(&mut piped).unwrap();
    assert_eq!((desk.ends().code(), piped.as_str()), (Some(0), "piped word\n"), "{}", desk.said);

    let stage = for_admins();
    let run = [
        "run",
        "--agent",
        "coder",
        "--user",
        "61001",
        "--",
        "sh",
        "-c",
        "cut -d' ' -f6 /proc/$$/stat; echo $$; exit 5",
    ];
    // As a job of a shell, which leads its group, and as a program that does not.
    for mut command in [stage.command(&run), stage.in_a_session(&[], &run)] {
        let output = command.output().unwrap();
        let said = stdout(&output);
        let numbers: Vec<_> = said.lines().collect();
        assert!(code(&output) == 5 && numbers.len() == 2 && numbers[0] == numbers[1], "{said} {}", stderr(&output));
    }
}

/// Whoever sets the variable of the second process gets no terminal for it.
#[test]
#[ignore = "needs root: runs a program as another user"]
fn somebody_elses_terminal_is_not_handed_over() {
    let stage = for_admins();
    let ends = openpty(None, None).unwrap();
    let run = stage.command(&["run", "--agent", "coder", "--user", "61001", "--", "sh", "-c", "echo began"]);
    // The terminal is the shell's, and the shell goes on.
    let mut command = Command::new("setsid");
    command.args(["--ctty", "sh", "-c", "\"$@\"; exit $?", "sh"]).arg(run.get_program()).args(run.get_args());
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("STRONGROOM_RUN_INSIDE", "1");
    let output = command.stdin(ends.slave).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(code(&output) == 77 && output.stdout.is_empty(), "{}", stderr(&output));
}
