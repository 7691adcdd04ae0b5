//! A session, and where there is a terminal a new one, for a program of another user.
//!
//! On the caller's terminal that program could type into root's shell (TIOCSTI), or stay behind and read what root types
//! next. So this process stays at the caller's terminal and runs itself once more on a pseudo-terminal in a session where
//! nobody else is:
//!
//! ```text
//!   root's terminal ── `run` ── pseudo-terminal ── `run` again, which becomes the user and then the program
//! ```
//!
//! Bytes go both ways, signals and the size of the window go in, and how the program ended comes out. Standard streams
//! that are no terminals are the program's as they are. It refuses to go on where the session or the terminal is not the
//! program's alone. Ctrl-Z is the program's: there is no shell on its side to come back to. Called by `run --user`.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, setsid};
use rustix::termios::{tcgetsid, tcgetwinsize, tcsetwinsize};

use crate::error::{CtlError, FAULT, Outcome};
use crate::inherited;

/// Leaves the caller's session and terminal. Gives the exit code where the program has run meanwhile; where there is
/// none it is the caller who goes on, as the program's process.
///
/// # Errors
/// Where there is no session or terminal to be had.
pub fn leave(uid: u32) -> Outcome<Option<u8>> {
    inherited::close_all();
    if std::env::var_os(INSIDE).is_some() {
        return arrive().map(|()| None);
    }
    let terminals = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    if terminals == [false; 3] {
        match setsid() {
            Ok(_) => return Ok(None),
            // A shell's job leads a group, and may not leave; a child may.
            Err(Errno::EPERM) => {}
            Err(error) => return Err(failed("no session can be begun", error)),
        }
    }
    // Blocked before there is a child and a thread, which inherit it: one place waits for them.
    let signals = SigSet::from_iter(SIGNALS);
    signals.thread_block().map_err(|error| failed("signals cannot be waited for", error))?;
    let ended = relay(uid, terminals, &signals).map_err(|error| failed("no terminal can be made", error))?;
    // Here, where everything is as it was.
    Ok(Some(code(ended)))
}

/// In the second process: nobody else is in this session, and its terminal is nobody else's.
fn arrive() -> Outcome<()> {
    let refused = |error: io::Error| failed("the program's session cannot be begun", error);
    setsid().map_err(|error| refused(error.into()))?;
    SigSet::from_iter(SIGNALS).thread_unblock().map_err(|error| refused(error.into()))?;
    let streams: [&dyn Stream; 3] = [&io::stdin(), &io::stdout(), &io::stderr()];
    for (number, stream) in streams.into_iter().enumerate().filter(|(_, stream)| stream.is_a_terminal()) {
        // Who leads a session and opens a terminal that has none gives it to the session.
        drop(reopened(number, OFlag::empty()).map_err(refused)?);
        let session = tcgetsid(stream.as_fd()).map_err(|error| refused(error.into()))?;
        if session.as_raw_nonzero().get().unsigned_abs() != std::process::id() {
            return Err(refused(io::Error::other("the terminal is somebody else's")));
        }
    }
    Ok(())
}

/// Runs the second process to its end.
fn relay(uid: u32, terminals: [bool; 3], signals: &SigSet) -> io::Result<ExitStatus> {
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    if terminals == [false; 3] {
        return wait(&mut command.spawn()?, signals, || {});
    }
    let at = |order: [usize; 3]| order.into_iter().find(|&number| terminals[number]);
    let ours = |number: usize| reopened(number, OFlag::O_NOCTTY);
    let shown = ours(at([1, 2, 0]).unwrap_or(0))?;
    // Where a pipe feeds the program and another takes what it says, somebody else in the pipeline has the keyboard.
    let typed = if terminals[0] || terminals[1] { Some(ours(at([0, 1, 2]).unwrap_or(0))?) } else { None };
    let (desk, terminal) = pair(uid, &shown)?;
    for (number, _) in terminals.iter().enumerate().filter(|(_, is_one)| **is_one) {
        let end = Stdio::from(OwnedFd::from(terminal.try_clone()?));
        match number {
            0 => command.stdin(end),
            1 => command.stdout(end),
            _ => command.stderr(end),
        };
    }
    drop(terminal);
    let _raw = typed.as_ref().map(Raw::set).transpose()?;
    let mut child = command.spawn()?;
    // It holds the program's ends, and what is read from ours would never come to an end.
    drop(command);
    let desk = Arc::new(desk);
    if let Some(typed) = typed {
        carry_in(typed, Arc::clone(&desk));
    }
    let (ended, end) = io::pipe()?;
    let carried = carry_out(Arc::clone(&desk), shown.try_clone()?, ended);
    let status = wait(&mut child, signals, || {
        let _ = tcgetwinsize(&shown).and_then(|size| tcsetwinsize(&*desk, size));
    })?;
    // Whoever the program left behind is not waited for, and has no terminal when ours is closed.
    drop(end);
    let _ = carried.join();
    Ok(status)
}

/// A new terminal like this one, for this user alone: our end and the program's.
fn pair(uid: u32, like: &File) -> io::Result<(File, File)> {
    let desk = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&desk)?;
    unlockpt(&desk)?;
    let terminal = open(&ptsname_r(&desk)?, OFlag::O_NOCTTY)?;
    terminal.set_permissions(Permissions::from_mode(0o600))?;
    fchown(&terminal, Some(uid), None)?;
    tcsetattr(&terminal, SetArg::TCSANOW, &tcgetattr(like)?)?;
    tcsetwinsize(&terminal, tcgetwinsize(like)?)?;
    Ok((File::from(OwnedFd::from(desk)), terminal))
}

/// What is typed goes to the program, until it is gone or the terminal is.
fn carry_in(mut typed: File, desk: Arc<File>) {
    thread::spawn(move || {
        let _ = io::copy(&mut typed, &mut &*desk);
        // As the kernel tells those whose terminal has gone.
        let _ = kill(Pid::this(), Signal::SIGHUP);
    });
}

/// What the program says is shown: all of it, when it has ended.
fn carry_out(desk: Arc<File>, mut shown: File, ended: PipeReader) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut bytes, mut is_shown) = ([0; 8192], true);
        loop {
            let mut sources = [desk.as_fd(), ended.as_fd()].map(|source| PollFd::new(source, PollFlags::POLLIN));
            while poll(&mut sources, PollTimeout::NONE).is_err() {}
            if !sources[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) {
                return;
            }
            let Ok(length @ 1..) = (&*desk).read(&mut bytes) else { return };
            // Where nobody can be shown anything any more, the program must not wait for that.
            is_shown = is_shown && shown.write_all(&bytes[..length]).is_ok();
        }
    })
}

/// Passes signals on until the child has ended.
fn wait(child: &mut Child, signals: &SigSet, resize: impl Fn()) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    loop {
        match signals.wait()? {
            Signal::SIGWINCH => resize(),
            // It may say no more than that the child was stopped.
            Signal::SIGCHLD => {
                if let Some(ended) = child.try_wait()? {
                    return Ok(ended);
                }
            }
            // Not yet waited for, so the number is still its own.
            signal => drop(kill(pid, signal)),
        }
    }
}

/// Ends as the program did.
fn code(ended: ExitStatus) -> u8 {
    let Some(number) = ended.signal() else {
        return ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAULT);
    };
    if let Ok(signal) = Signal::try_from(number) {
        let _ = SigSet::from_iter([signal]).thread_unblock();
        // Twice: the first may end at the runtime's handler for overflown stacks, which then lets go.
        let _ = raise(signal).and_then(|()| raise(signal));
    }
    // It is ignored here. Shells say it so.
    u8::try_from(128 + number).unwrap_or(FAULT)
}

/// A terminal that passes everything on, until this is dropped.
struct Raw {
    terminal: File,
    before: Termios,
}

impl Raw {
    fn set(terminal: &File) -> io::Result<Self> {
        let raw = Self { terminal: terminal.try_clone()?, before: tcgetattr(terminal)? };
        let mut settings = raw.before.clone();
        cfmakeraw(&mut settings);
        tcsetattr(terminal, SetArg::TCSADRAIN, &settings)?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Where it is gone there is nothing to put back.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// A standard stream.
trait Stream: AsFd {
    fn is_a_terminal(&self) -> bool;
}

impl<T: AsFd + IsTerminal> Stream for T {
    fn is_a_terminal(&self) -> bool {
        self.is_terminal()
    }
}

/// A standard stream's terminal, opened once more: for both ways, and without sharing the caller's settings of it.
fn reopened(number: usize, flags: OFlag) -> io::Result<File> {
    open(&format!("/proc/self/fd/{number}"), flags)
}

fn open(path: &str, flags: OFlag) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)
}

fn failed(what: &str, error: impl Into<io::Error>) -> CtlError {
    let error = error.into();
    CtlError::not_permitted(format!(
        "{what}: {error}. The program does not get this terminal; run it without one, by redirecting all three streams."
    ))
}

/// What is passed on, and what is waited for. Those of the keyboard come this way only from elsewhere.
const SIGNALS: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGWINCH,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Says that this is the second process. Like all of its kind the variable does not reach the program, and whoever sets
/// it gains nothing: the second process looks whose its terminal is.
const INSIDE: &str = "STRONGROOM_RUN_INSIDE";
