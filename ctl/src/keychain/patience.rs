//! An end to waiting: a keyring's prompt may be on a screen that nobody looks at, and a bus may be mute.
//!
//! The stores' calls block and cannot be taken back, so they run on a thread of their own, which is left behind where
//! time is up; the program ends soon after, and a keyring takes its prompt away when the connection goes. It refuses to
//! leave a person without a word: after two seconds it says what is waited for. Called by `keychain.rs`.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::KeychainError;
use crate::output;

/// Does the work, and gives up on it after this time.
pub fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> Result<T, KeychainError> + Send + 'static,
) -> Result<T, KeychainError> {
    let (answer, answered) = mpsc::sync_channel(1);
    // Nobody listens where time was up.
    let worker = move || drop(answer.send(work()));
    if let Err(error) = thread::Builder::new().name("keychain".to_owned()).spawn(worker) {
        return Err(KeychainError::NoThread(error));
    }
    let first = time.min(BEFORE_A_WORD);
    let outcome = answered.recv_timeout(first).or_else(|error| match error {
        RecvTimeoutError::Timeout if time > first => {
            output::note("waiting for the keyring; it may have a prompt on the screen.");
            answered.recv_timeout(time - first)
        }
        error => Err(error),
    });
    match outcome {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(KeychainError::TimedOut(time)),
        Err(RecvTimeoutError::Disconnected) => Err(KeychainError::Panicked),
    }
}

/// Stores answer in milliseconds where they do not wait for a person.
const BEFORE_A_WORD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_is_heard_and_what_does_not_is_given_up() {
        assert_eq!(within(Duration::from_secs(60), || Ok(7)).ok(), Some(7));
        let (release, held) = mpsc::channel::<()>();
        let waiting = within(Duration::from_millis(20), move || {
            let _ = held.recv();
            Ok(7)
        });
        assert!(matches!(waiting, Err(KeychainError::TimedOut(time)) if time == Duration::from_millis(20)));
        drop(release);
    }

    #[test]
    fn a_store_that_panics_is_a_fault_and_no_end_of_the_program() {
        let outcome = within::<()>(Duration::from_secs(60), || panic!("on purpose"));
        assert!(matches!(outcome, Err(KeychainError::Panicked)));
    }
}
