//! Signals that end a program wait until the terminal is as it was.
//!
//! A thread gets them, puts the terminal back and then gives the program the signal. It refuses to touch one that is
//! ignored, which would not end the program. Made by `prompt` for each question.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Signals that wait, for as long as this lives.
pub struct Guard {
    mask: SigSet,
    /// Closed to end the watcher.
    end: Option<PipeWriter>,
    watcher: Option<JoinHandle<()>>,
}

impl Guard {
    /// Until it is dropped; nothing where there is no terminal.
    pub fn set() -> Option<Self> {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let signals = not_ignored();
        let (ended, end) = io::pipe().ok()?;
        let arrived = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).ok()?;
        let mask = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()?;
        let mut guard = Self { mask, end: Some(end), watcher: None };
        let watch = move || put_back_at_a_signal(&terminal, &before, &arrived, &ended);
        guard.watcher = thread::Builder::new().spawn(watch).ok();
        Some(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.end.take());
        // It panics nowhere, and there is nothing to be done about it if it did.
        let _ = self.watcher.take().map(JoinHandle::join);
        // rpassword's own SIGINT, for Ctrl-C, waited for this thread until the terminal was as before.
        let _ = self.mask.thread_set_mask();
    }
}

fn put_back_at_a_signal(terminal: &File, before: &Termios, arrived: &SignalFd, ended: &PipeReader) {
    let mut sources = [arrived.as_fd(), ended.as_fd()].map(|source| PollFd::new(source, PollFlags::POLLIN));
    while poll(&mut sources, PollTimeout::NONE).is_err() {}
    if !sources[0].any().unwrap_or(false) {
        return;
    }
    let Ok(Some(info)) = arrived.read_signal() else { return };
    let Some(signal) = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) else {
        return;
    };
    // What was typed so far is not for the shell.
    let _ = tcsetattr(terminal, SetArg::TCSAFLUSH, before);
    let _ = SigSet::from_iter([signal]).thread_unblock();
    let _ = raise(signal);
}

/// Those that people and systems end programs with.
fn not_ignored() -> SigSet {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let is_ignored = |signal: Signal| ignored.is_none_or(|ignored| ignored >> (signal as i32 - 1) & 1 == 1);
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]
        .into_iter()
        .filter(|signal| !is_ignored(*signal))
        .collect()
}
