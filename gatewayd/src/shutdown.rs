//! Signals: stop, and read the configuration again.
//!
//! SIGTERM and SIGINT stop, SIGHUP reloads. It refuses nothing, not even with a mask that its parent left; SIGPIPE is
//! ignored by Rust's start-up code already.
//! Awaited by `serve`.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Finish what runs, and end.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// The signals that are listened for.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Sets the handlers.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen() -> io::Result<Self> {
        // A parent that waits for signals blocks them, and we would never hear of any. SIGXFSZ alone is kept away: a log
        // that cannot grow is no reason to end.
        SigSet::from(Number::SIGXFSZ).thread_set_mask()?;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal's wish.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}
