//! Counting refusals, so that a flood of them becomes one line a second and not a full disk.
//!
//! The first refusals of an (agent, code) are written at once, for somebody may look one up by its id, and later one a
//! second. What comes above that is counted, and written as one line with `count` when the second is over. The table is
//! bounded: what does not fit is counted without a name.
//! It refuses to write: it says what to write. Called by `logbook.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strongroom_protocol::{Name, Refusal};

use super::record::{Record, Request};

/// Refusals of the last second.
#[derive(Debug, Default)]
pub struct RefusalCounter {
    windows: BTreeMap<(Option<Name>, Refusal), Window>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    ends: Instant,
    /// Lines of their own that it may still have.
    whole: u32,
    count: u64,
}

impl RefusalCounter {
    /// Notes a refusal. True: write it now, by itself. False: it was counted, and [`Self::take_due`] will give it.
    #[must_use]
    pub fn note(&mut self, agent: Option<&Name>, refusal: Refusal, now: Instant) -> bool {
        let full = self.windows.len() >= MOST_WINDOWS;
        let mut key = (agent.cloned(), refusal);
        if full && !self.windows.contains_key(&key) {
            // At most one such window for each code.
            key.0 = None;
        }
        match self.windows.get_mut(&key) {
            Some(window) if window.whole > 0 => {
                window.whole -= 1;
                true
            }
            Some(window) => {
                window.count += 1;
                false
            }
            None => {
                self.windows.insert(key, Window { ends: now + WINDOW, whole: WHOLE - 1, count: 0 });
                true
            }
        }
    }

    /// Lines for the windows that are over. Each begins anew, with one more line of its own, until it has all of them.
    #[must_use]
    pub fn take_due(&mut self, now: Instant) -> Vec<Record> {
        let mut lines = Vec::new();
        self.windows.retain(|(agent, refusal), window| {
            if window.ends > now {
                return true;
            }
            if window.count > 0 {
                lines.push(Record::Request(Request::repeated(agent.clone(), *refusal, window.count)));
            }
            *window = Window { ends: now + WINDOW, whole: window.whole + 1, count: 0 };
            window.whole < WHOLE
        });
        lines
    }

    /// Lines for everything that was counted, due or not: for the end, before the log is closed.
    #[must_use]
    pub fn take_all(&mut self) -> Vec<Record> {
        let windows = std::mem::take(&mut self.windows);
        let counted = windows.into_iter().filter(|(_, window)| window.count > 0);
        counted
            .map(|((agent, refusal), window)| Record::Request(Request::repeated(agent, refusal, window.count)))
            .collect()
    }
}

/// Lines that somebody may have at once who had none for so many seconds.
const WHOLE: u32 = 16;

/// One line with a count in this time.
const WINDOW: Duration = Duration::from_secs(1);

/// Agents come from the vault and codes from a closed list, so this is only reached by a very large vault.
const MOST_WINDOWS: usize = 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CODE: Refusal = Refusal::UnknownPlaceholder;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_are_written_and_the_rest_become_one_line_a_second() {
        let start = Instant::now();
        let mut counter = RefusalCounter::default();
        let coder = name("coder");
        for _ in 0..WHOLE {
            assert!(counter.note(Some(&coder), CODE, start));
        }
        for _ in 0..10_000 {
            assert!(!counter.note(Some(&coder), CODE, after(start, 500)));
        }
        assert!(counter.take_due(after(start, 999)).is_empty());
        let expected = Record::Request(Request::repeated(Some(coder.clone()), CODE, 10_000));
        assert_eq!(counter.take_due(after(start, 1000)), [expected]);
        // The flood goes on: one of each second is whole, and there is one line for the others.
        for second in 1..4 {
            assert!(counter.note(Some(&coder), CODE, after(start, second * 1000 + 500)));
            assert!(!counter.note(Some(&coder), CODE, after(start, second * 1000 + 500)));
            assert_eq!(counter.take_due(after(start, second * 1000 + 1000)).len(), 1);
        }
        // It stops: in time all is as it was.
        for second in 5..u64::from(WHOLE) + 4 {
            assert!(counter.take_due(after(start, second * 1000)).is_empty());
        }
        assert!(counter.windows.is_empty());
    }

    #[test]
    fn agents_and_codes_are_counted_apart() {
        let start = Instant::now();
        let mut counter = RefusalCounter::default();
        assert!(counter.note(Some(&name("a")), CODE, start));
        assert!(counter.note(Some(&name("b")), CODE, start));
        assert!(counter.note(Some(&name("a")), Refusal::Expired, start));
        for _ in 0..WHOLE {
            assert!(counter.note(None, CODE, start));
        }
        assert!(!counter.note(None, CODE, start));
        assert_eq!(counter.take_all(), [Record::Request(Request::repeated(None, CODE, 1))]);
        assert!(counter.windows.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let start = Instant::now();
        let mut counter = RefusalCounter::default();
        let mut written = 0;
        for number in 0..5000 {
            written += u64::from(counter.note(Some(&name(&format!("a{number}"))), CODE, start));
        }
        assert!(counter.windows.len() <= MOST_WINDOWS + Refusal::ALL.len());
        let counted: u64 = counter
            .take_due(after(start, 1000))
            .iter()
            .map(|line| match line {
                Record::Request(request) => request.count.unwrap(),
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(written + counted, 5000);
    }
}
