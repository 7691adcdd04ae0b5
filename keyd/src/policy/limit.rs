//! Token buckets: how often a grant may be used.
//!
//! Time comes in as a parameter. Buckets live in memory, by grant. A clean stop and a start fill them; a run that broke
//! off is followed by one whose buckets begin empty, for whoever can make keyd die must gain nothing by it. A refusal
//! takes nothing. Called by `decide` (to look), the exchange (to take) and `state`, which keeps them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use strongroom_protocol::admin::Rate;

/// A bucket. Its unit is a nanosecond of refilling: a token is `seconds` × 10⁹ of them and each nanosecond brings
/// `count`, so nothing is ever rounded.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    rate: Rate,
    level: u128,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: capacity(rate), filled: now }
    }

    /// A bucket that was empty then.
    #[must_use]
    pub fn empty(rate: Rate, since: Instant) -> Self {
        Self { rate, level: 0, filled: since }
    }

    /// Keeps the level, within the new burst, when a grant's rate changes.
    pub fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.fill(now);
        // Whole tokens, so that the product stays far from the type's end.
        self.level = (self.level / token(self.rate) * token(rate)).min(capacity(rate));
        self.rate = rate;
    }

    /// The rate it was made with.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How long until a token is there; zero where one is.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let missing = token(self.rate).saturating_sub(self.level);
        let nanos = missing.div_ceil(u128::from(self.rate.count.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes a token that [`Self::wait`] said is there.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let enough = self.level >= token(self.rate);
        if enough {
            self.level -= token(self.rate);
        }
        enough
    }

    /// Gives a token back that was taken for a request that was not made.
    pub fn give_back(&mut self) {
        self.level = (self.level + token(self.rate)).min(capacity(self.rate));
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        self.level = (self.level + passed * u128::from(self.rate.count)).min(capacity(self.rate));
        self.filled = self.filled.max(now);
    }
}

/// How buckets begin in this run.
#[derive(Debug, Default)]
pub struct Beginnings {
    /// When this run began, where the one before it broke off.
    broke_off: Option<Instant>,
    /// The first id that nothing had in that run.
    first_new: Cell<Option<u64>>,
}

impl Beginnings {
    /// After a run that broke off; `now` is the start of this one.
    #[must_use]
    pub fn after_a_break(now: Instant) -> Self {
        Self { broke_off: Some(now), first_new: Cell::new(None) }
    }

    /// The vault is open: what gets this id or a later one is of this run. Only the first time in a run counts.
    pub fn unlocked(&self, next_id: u64) {
        self.first_new.set(self.first_new.get().or(Some(next_id)));
    }

    /// The bucket of what is used for the first time in this run.
    #[must_use]
    pub fn bucket(&self, id: u64, rate: Rate, now: Instant) -> Bucket {
        let is_new = self.first_new.get().is_some_and(|first| id >= first);
        match self.broke_off {
            Some(since) if !is_new => Bucket::empty(rate, since),
            _ => Bucket::new(rate, now),
        }
    }
}

fn token(rate: Rate) -> u128 {
    u128::from(rate.seconds.max(1)) * 1_000_000_000
}

fn capacity(rate: Rate) -> u128 {
    u128::from(rate.burst) * token(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, seconds: u32, burst: u32) -> Rate {
        Rate { count, seconds, burst }
    }

    #[test]
    fn a_burst_is_followed_by_the_even_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(2, 1, 3), start);
        assert!((0..3).all(|_| bucket.take(start)));
        assert!(!bucket.take(start));
        assert_eq!(bucket.wait(start), Duration::from_millis(500));
        assert!(!bucket.take(start + Duration::from_millis(499)));
        assert!(bucket.take(start + Duration::from_millis(500)));
        assert!(!bucket.take(start + Duration::from_millis(501)));
    }

    #[test]
    fn looking_and_refusing_take_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1, 3600, 1), start);
        assert_eq!(bucket.wait(start), Duration::ZERO);
        assert!(bucket.take(start));
        for second in 0..3599 {
            assert!(!bucket.take(start + Duration::from_secs(second)));
        }
        assert!(bucket.take(start + Duration::from_secs(3600)));
    }

    #[test]
    fn what_was_given_back_can_be_taken_again_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1, 3600, 1), start);
        assert!(bucket.take(start));
        bucket.give_back();
        bucket.give_back();
        assert!(bucket.take(start) && !bucket.take(start));
    }

    #[test]
    fn a_slow_rate_is_not_lost_to_frequent_looks() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1, u32::MAX, 1), start);
        assert!(bucket.take(start));
        for nanos in 0..1000 {
            bucket.wait(start + Duration::from_nanos(nanos));
        }
        assert!(bucket.take(start + Duration::from_secs(u64::from(u32::MAX))));
    }

    #[test]
    fn after_a_run_that_broke_off_buckets_begin_empty_and_fill_by_their_rate() {
        let start = Instant::now();
        let beginnings = Beginnings::after_a_break(start);
        beginnings.unlocked(7);
        beginnings.unlocked(5);
        let second = |number| start + Duration::from_secs(number);
        let mut old = beginnings.bucket(6, rate(1, 10, 3), second(4));
        assert_eq!(old.wait(second(4)), Duration::from_secs(6), "counted from the start and not from the first use");
        assert!(!old.take(second(9)) && old.take(second(10)) && !old.take(second(10)));
        let mut late = beginnings.bucket(6, rate(1, 10, 3), second(1000));
        assert!((0..3).all(|_| late.take(second(1000))) && !late.take(second(1000)), "no more than its burst");
        let mut new = beginnings.bucket(7, rate(1, 10, 3), second(4));
        assert!((0..3).all(|_| new.take(second(4))), "nobody can have used it in the run before");
    }

    #[test]
    fn after_a_clean_stop_buckets_begin_full() {
        let start = Instant::now();
        let beginnings = Beginnings::default();
        beginnings.unlocked(7);
        let mut bucket = beginnings.bucket(6, rate(1, 10, 3), start);
        assert!((0..3).all(|_| bucket.take(start)) && !bucket.take(start));
    }

    #[test]
    fn clocks_that_stand_still_or_go_back_give_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1, 1, 1), start + Duration::from_secs(5));
        assert!(bucket.take(start + Duration::from_secs(5)));
        assert!(!bucket.take(start));
    }
}
