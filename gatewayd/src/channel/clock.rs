//! The time limits of one exchange: for the first byte of the answer, for a stall of both bodies, and for all of it.
//!
//! One clock belongs to a channel and is started anew for each request, so that a request costs no timer of its own.
//! When it runs out the channel's watch ends the pair. It refuses to say more than that it ran out.
//! Started and told of progress by the forwarding of a request.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::config::Timeouts;

/// The clock of a channel. Stopped at first.
#[derive(Debug, Default)]
pub struct Clock {
    running: Cell<Option<Running>>,
    has_run_out: Cell<bool>,
    /// When the watch looks again by itself; nothing while no request runs.
    looks_at: Cell<Option<Instant>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    end: Instant,
    progress: Instant,
    patience: Duration,
}

impl Clock {
    /// A request begins.
    pub fn start(&self, timeouts: &Timeouts) {
        let now = Instant::now();
        self.set(Some(Running { end: now + timeouts.total.get(), progress: now, patience: timeouts.first_byte.get() }));
    }

    /// The head of the answer is there; from now on a stall counts.
    pub fn head_arrived(&self, timeouts: &Timeouts) {
        if let Some(running) = self.running.get() {
            self.set(Some(Running { progress: Instant::now(), patience: timeouts.stalled.get(), ..running }));
        }
    }

    /// A byte of either body moved.
    pub fn progress(&self) {
        if let Some(running) = self.running.get() {
            // No news for the sleeper: it wakes early, looks and sleeps again.
            self.running.set(Some(Running { progress: Instant::now(), ..running }));
        }
    }

    /// The exchange is over.
    pub fn stop(&self) {
        self.running.set(None);
    }

    /// Whether it ran out, which ended the channel.
    #[must_use]
    pub fn has_run_out(&self) -> bool {
        self.has_run_out.get()
    }

    /// Comes back when a limit has passed.
    pub async fn run_out(&self) {
        loop {
            let changed = self.changed.notified();
            let Some(running) = self.running.get() else {
                self.looks_at.set(None);
                changed.await;
                continue;
            };
            let deadline = running.deadline();
            self.looks_at.set(Some(deadline));
            if deadline <= Instant::now() {
                self.has_run_out.set(true);
                return;
            }
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = changed => {}
            }
        }
    }

    fn set(&self, running: Option<Running>) {
        self.running.set(running);
        // Most requests end long before the watch looks: it is woken only where it would look too late.
        if running.is_some_and(|running| self.looks_at.get().is_none_or(|at| running.deadline() < at)) {
            self.changed.notify_one();
        }
    }
}

impl Running {
    fn deadline(&self) -> Instant {
        self.end.min(self.progress + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::config::Config;

    fn timeouts() -> Timeouts {
        let text = "[timeouts]\nfirst-byte = \"200ms\"\nstalled = \"60ms\"\ntotal = \"500ms\"";
        toml::from_str::<Config>(text).unwrap().timeouts
    }

    #[tokio::test]
    async fn the_first_byte_has_its_time_and_then_a_stall_counts() {
        let (clock, start) = (Clock::default(), Instant::now());
        clock.start(&timeouts());
        clock.run_out().await;
        assert!(clock.has_run_out() && start.elapsed() >= Duration::from_millis(200));

        let (clock, start) = (Clock::default(), Instant::now());
        clock.start(&timeouts());
        let head = async {
            tokio::task::yield_now().await;
            clock.head_arrived(&timeouts());
        };
        tokio::join!(clock.run_out(), head);
        assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn progress_prolongs_a_stall_but_not_the_whole() {
        let (clock, start) = (Clock::default(), Instant::now());
        clock.start(&timeouts());
        clock.head_arrived(&timeouts());
        let ticking = async {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                clock.progress();
            }
        };
        tokio::select! {
            () = clock.run_out() => {}
            () = ticking => {}
        }
        assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_stopped_clock_never_runs_out() {
        let clock = Clock::default();
        clock.start(&timeouts());
        clock.stop();
        assert!(timeout(Duration::from_millis(700), clock.run_out()).await.is_err());
    }
}
