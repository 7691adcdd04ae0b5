//! Wrong passphrases: after a few of one user's the next counts only after a while, which doubles up to half a minute.
//!
//! Keys that are random are never made to wait: nobody guesses them. One user's guesses keep no other user waiting, and
//! nothing is kept waiting here: whoever is early is told how long, and ctl waits. It refuses to remember more than the
//! users who may administer. Called by `admin/dispatch.rs` and `admin/operation/vault.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use strongroom_protocol::admin::Failure;

/// Who gave how many wrong ones in a row.
#[derive(Debug, Default)]
pub struct Tries(RefCell<HashMap<u32, Tried>>);

#[derive(Debug)]
struct Tried {
    wrong: u32,
    next: Instant,
}

impl Tries {
    /// Whether this user's passphrase counts now.
    ///
    /// # Errors
    /// `TooManyTries`, with the seconds to wait.
    pub fn may(&self, uid: u32, now: Instant) -> Result<(), Failure> {
        let wait = self.0.borrow().get(&uid).map_or(Duration::ZERO, |tried| tried.next.saturating_duration_since(now));
        if wait.is_zero() {
            return Ok(());
        }
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Err(Failure::TooManyTries(u32::try_from(seconds).unwrap_or(u32::MAX)))
    }

    /// Looks at a proof, where this user's count now, and remembers what came of it.
    ///
    /// # Errors
    /// `TooManyTries`, without a look; `WrongPassphrase`.
    pub fn judge(&self, uid: u32, now: Instant, fits: impl FnOnce() -> bool) -> Result<(), Failure> {
        self.may(uid, now)?;
        if fits() {
            self.right(uid);
            Ok(())
        } else {
            self.wrong(uid, now);
            Err(Failure::WrongPassphrase)
        }
    }

    /// It was wrong.
    pub fn wrong(&self, uid: u32, now: Instant) {
        let mut users = self.0.borrow_mut();
        let tried = users.entry(uid).or_insert(Tried { wrong: 0, next: now });
        tried.wrong = tried.wrong.saturating_add(1);
        tried.next = now + delay(tried.wrong);
    }

    /// It was right.
    pub fn right(&self, uid: u32) {
        self.0.borrow_mut().remove(&uid);
    }
}

/// After so many wrong ones in a row.
fn delay(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE) {
        None | Some(0) => Duration::ZERO,
        Some(more) => LONGEST.min(Duration::from_secs(1 << (more - 1).min(8))),
    }
}

/// Typing errors.
const FREE: u32 = 2;

/// Longest wait.
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_half_a_minute_and_ends_with_the_right_one() {
        let tries = Tries::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(tries.may(1000, now), Ok(()));
            tries.wrong(1000, now);
            let wait = match tries.may(1000, now) {
                Err(Failure::TooManyTries(seconds)) => seconds,
                _ => 0,
            };
            waits.push(wait);
            now += Duration::from_secs(u64::from(wait));
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(tries.may(1000, now), Ok(()));
        tries.right(1000);
        tries.wrong(1000, now);
        assert_eq!(tries.may(1000, now), Ok(()), "counted anew");
    }

    #[test]
    fn one_users_guesses_keep_no_other_waiting_and_part_of_a_second_is_a_second() {
        let tries = Tries::default();
        let now = Instant::now();
        (0..4).for_each(|_| tries.wrong(1000, now));
        assert_eq!(tries.may(1000, now + Duration::from_millis(1)), Err(Failure::TooManyTries(2)));
        assert_eq!(tries.may(1000, now + Duration::from_millis(1999)), Err(Failure::TooManyTries(1)));
        assert_eq!(tries.may(1000, now + Duration::from_secs(2)), Ok(()));
        assert_eq!(tries.may(0, now), Ok(()));
    }

    #[test]
    fn never_longer_however_many_there_were() {
        assert_eq!(delay(u32::MAX), LONGEST);
        assert!((1..100).all(|wrong| delay(wrong) <= delay(wrong + 1)));
    }
}
