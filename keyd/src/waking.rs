//! When an unlocked vault locks by itself: after a time, and after the machine slept.
//!
//! Two clocks of the kernel say it: CLOCK_BOOTTIME goes on while the machine sleeps and CLOCK_MONOTONIC stands still
//! (clock_gettime(2)). Neither is set by anybody, so no change of the wall clock keeps a vault open. It sees a sleep
//! when the machine wakes; who wants the keys gone before has `strongroom-suspend.service`. Called by `state.rs`.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    boot: Duration,
    monotonic: Duration,
}

/// Watches for both.
#[derive(Debug)]
pub struct Waking {
    after: Option<Duration>,
    on_suspend: bool,
    seen: Cell<Moment>,
    unlocked: Cell<Duration>,
}

/// Why it locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// auto-lock
    Time,
    /// lock-on-suspend
    Slept,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "its time is over",
            Self::Slept => "the machine slept",
        })
    }
}

impl Waking {
    /// As keyd.toml says.
    #[must_use]
    pub fn new(after: Option<Duration>, on_suspend: bool) -> Self {
        let now = Moment::now();
        Self { after, on_suspend, seen: Cell::new(now), unlocked: Cell::new(now.boot) }
    }

    /// The vault was unlocked now. A sleep of before is over, also where nobody asked since.
    pub fn unlocked(&self) {
        self.unlocked_at(Moment::now());
    }

    fn unlocked_at(&self, now: Moment) {
        self.seen.set(now);
        self.unlocked.set(now.boot);
    }

    /// Whether it has to lock; to be asked often.
    pub fn tick(&self) -> Option<Why> {
        self.at(Moment::now())
    }

    fn at(&self, now: Moment) -> Option<Why> {
        let slept = now.since(self.seen.replace(now));
        if self.on_suspend && slept > JITTER {
            return Some(Why::Slept);
        }
        self.after.is_some_and(|after| now.boot.saturating_sub(self.unlocked.get()) >= after).then_some(Why::Time)
    }
}

impl Moment {
    fn now() -> Self {
        let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
        let mut monotonic = read(ClockId::CLOCK_MONOTONIC);
        loop {
            let boot = read(ClockId::CLOCK_BOOTTIME);
            let again = read(ClockId::CLOCK_MONOTONIC);
            // A process that is made to wait between the two readings would take that for a sleep.
            if again.saturating_sub(monotonic) < JITTER / 2 {
                return Self { boot, monotonic };
            }
            monotonic = again;
        }
    }

    /// How long the machine slept between the two.
    fn since(self, before: Self) -> Duration {
        let boot = self.boot.saturating_sub(before.boot);
        boot.saturating_sub(self.monotonic.saturating_sub(before.monotonic))
    }
}

/// Between the readings of two clocks a process may be made to wait.
const JITTER: Duration = Duration::from_millis(900);

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(boot: u64, monotonic: u64) -> Moment {
        Moment { boot: Duration::from_secs(boot), monotonic: Duration::from_secs(monotonic) }
    }

    fn watching(after: Option<u64>, on_suspend: bool) -> Waking {
        let waking = Waking::new(after.map(Duration::from_secs), on_suspend);
        waking.seen.set(moment(100, 50));
        waking.unlocked.set(Duration::from_secs(100));
        waking
    }

    #[test]
    fn a_sleep_is_seen_once_and_a_busy_machine_is_not_one() {
        let waking = watching(None, true);
        assert_eq!(waking.at(moment(101, 51)), None);
        assert_eq!(waking.at(moment(500, 450)), None, "both went on: keyd was stopped, the machine was not");
        assert_eq!(waking.at(moment(503, 451)), Some(Why::Slept));
        assert_eq!(waking.at(moment(504, 452)), None);
        assert_eq!(watching(None, false).at(moment(900, 51)), None, "only where the configuration says so");
    }

    #[test]
    fn a_sleep_that_nobody_has_seen_yet_is_over_with_unlocking() {
        let waking = watching(Some(60), true);
        waking.unlocked_at(moment(900, 51));
        assert_eq!(waking.at(moment(901, 52)), None);
        assert_eq!(waking.at(moment(904, 53)), Some(Why::Slept), "the next one counts");
    }

    #[test]
    fn the_time_counts_while_the_machine_sleeps() {
        let waking = watching(Some(60), false);
        assert_eq!(waking.at(moment(159, 109)), None);
        assert_eq!(waking.at(moment(160, 110)), Some(Why::Time));
        assert_eq!(watching(Some(60), false).at(moment(400, 51)), Some(Why::Time));
    }

    #[test]
    fn the_kernels_clocks_are_read() {
        let now = Moment::now();
        assert!(now.boot > Duration::ZERO && now.monotonic > Duration::ZERO && now.boot >= now.monotonic);
    }
}
