//! Ctrl-C and its kin: remembered, so that the demo stops what it started before it ends.
//!
//! The signals are blocked in every thread and one thread waits for them; no handler runs, so nothing can be cut in
//! the middle: children inherit the mask, so that a terminal's Ctrl-C does not end `strongroom down` either. The daemons
//! set their own. It refuses to act on its own but for ending the agent, on whose words the demo may be waiting.
//! Called by `mod.rs`, before any other thread starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::error::DemoError;

/// Whether we were asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    agent: Arc<AtomicI32>,
}

impl Interrupt {
    /// Blocks the signals and waits for them in a thread.
    #[must_use]
    pub fn watch() -> Self {
        let interrupt = Self::default();
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        if signals.thread_block().is_ok() {
            let watching = interrupt.clone();
            thread::spawn(move || {
                while signals.wait().is_ok() {
                    watching.asked.store(true, Ordering::SeqCst);
                    watching.end_agent();
                }
            });
        }
        interrupt
    }

    /// For `?` between two steps.
    ///
    /// # Errors
    /// [`DemoError::Interrupted`] where we were asked to stop.
    pub fn check(&self) -> Result<(), DemoError> {
        if self.asked.load(Ordering::SeqCst) { Err(DemoError::Interrupted) } else { Ok(()) }
    }

    /// The agent that is to end with us; 0 for none any more.
    pub fn set_agent(&self, pid: i32) {
        self.agent.store(pid, Ordering::SeqCst);
        if self.asked.load(Ordering::SeqCst) {
            self.end_agent();
        }
    }

    fn end_agent(&self) {
        let pid = self.agent.load(Ordering::SeqCst);
        if pid > 0 {
            // A process that is gone already is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
