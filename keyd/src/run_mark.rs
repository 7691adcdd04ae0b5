//! A file in the data directory that is there while keyd runs.
//!
//! Where a start finds it, the run before broke off: by a crash, a kill or a loss of power. Limits are kept in memory,
//! and such a run must not be a way to have them anew. It refuses to stop a start: where the file cannot be made, the
//! run counts as one after a break, as the next may have to. Called by `main`, inside the cage, and by `serve` at the end.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::policy::limit::Beginnings;

/// The file, for as long as keyd runs.
pub struct RunMark(PathBuf);

impl RunMark {
    /// Makes it, and says how limits begin. The vault's lock is held: no other keyd runs here.
    #[must_use]
    pub fn set(data: &Path, now: Instant) -> (Self, Beginnings) {
        let mark = Self(data.join(NAME));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&mark.0);
        let beginnings = match made {
            Ok(_) => Beginnings::default(),
            Err(error) => {
                let found = error.kind() == io::ErrorKind::AlreadyExists;
                let why = if found { "the last run did not end cleanly".to_owned() } else { error.to_string() };
                tracing::warn!(%why, "rate limits begin without what they let gather; a clean stop and a start give it back");
                Beginnings::after_a_break(now)
            }
        };
        (mark, beginnings)
    }

    /// Takes it away: nothing is used any more.
    pub fn remove(self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, "the next start will take this one for a run that broke off");
        }
    }
}

/// Beside the vault.
const NAME: &str = "running";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strongroom_protocol::admin::Rate;

    use super::*;

    fn is_full(beginnings: &Beginnings, now: Instant) -> bool {
        beginnings.bucket(1, Rate { count: 1, seconds: 3600, burst: 1 }, now).wait(now) == Duration::ZERO
    }

    #[test]
    fn a_run_that_left_its_mark_broke_off_and_one_that_took_it_away_did_not() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let (first, beginnings) = RunMark::set(directory.path(), now);
        assert!(is_full(&beginnings, now));
        first.remove();
        let (killed, beginnings) = RunMark::set(directory.path(), now);
        assert!(is_full(&beginnings, now));
        drop(killed);
        let (after, beginnings) = RunMark::set(directory.path(), now);
        assert!(!is_full(&beginnings, now));
        after.remove();
        assert!(is_full(&RunMark::set(directory.path(), now).1, now));
    }

    #[test]
    fn a_mark_that_cannot_be_made_counts_as_a_break() {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        assert!(!is_full(&RunMark::set(&directory.path().join("missing"), now).1, now));
    }
}
