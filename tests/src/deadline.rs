//! Waiting for a condition, with an end.
//!
//! It refuses to wait for a time alone: what is not so at the deadline fails the test, with the words that say what.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until a count has begun to grow and has then stood still for a second; gives it.
///
/// # Panics
/// Where that takes half a minute.
#[track_caller]
pub fn until_still<T: Copy + PartialEq + Default>(what: &str, mut count: impl FnMut() -> T) -> T {
    let (mut last, mut since) = (T::default(), Instant::now());
    within(Duration::from_secs(30), &format!("{what} stands still"), || {
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (now != T::default() && since.elapsed() > Duration::from_secs(1)).then_some(now)
    })
}

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
