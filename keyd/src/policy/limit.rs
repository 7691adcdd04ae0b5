//! Token buckets: how often a grant may be used.
//!
//! Time comes in as a parameter. Buckets live in memory, by grant; a restart fills them. A refusal takes nothing.
//! Called by `decide` (to look) and the exchange (to take).

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
    fn clocks_that_stand_still_or_go_back_give_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1, 1, 1), start + Duration::from_secs(5));
        assert!(bucket.take(start + Duration::from_secs(5)));
        assert!(!bucket.take(start));
    }
}
