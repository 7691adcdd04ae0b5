//! Waiting for a condition, with an end.
//!
//! It refuses to wait for a time alone: what is not so at the deadline fails the test, with the words that say what.

use std::thread;
use std::time::{Duration, Instant};

/// Tries until it gives something; panics after `time`.
///
/// # Panics
/// At the deadline.
#[track_caller]
pub fn within<T>(time: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + time;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "not within {time:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
