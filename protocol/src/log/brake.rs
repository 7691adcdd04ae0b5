//! Lets a few lines a second pass and counts the rest, so that a peer cannot fill a disk with what it causes.
//!
//! Called wherever keyd or gatewayd writes a line of a peer's making.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Lets a burst of lines pass each second, counts the others and tells their number with the next that passes.
#[derive(Debug, Default)]
pub struct Brake {
    window: Cell<Option<Instant>>,
    passed: Cell<u32>,
    held: Cell<u64>,
}

impl Brake {
    /// A brake that has held nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { window: Cell::new(None), passed: Cell::new(0), held: Cell::new(0) }
    }

    /// Whether a line may be written now, and how many were held back since the last.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        if self.window.get().is_none_or(|start| now.duration_since(start) >= WINDOW) {
            self.window.set(Some(now));
            self.passed.set(0);
        }
        if self.passed.get() == BURST {
            self.held.set(self.held.get().saturating_add(1));
            return None;
        }
        self.passed.set(self.passed.get() + 1);
        Some(self.held.take())
    }
}

const WINDOW: Duration = Duration::from_secs(1);

/// Lines a second from one place.
const BURST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_number() {
        let (brake, start) = (Brake::new(), Instant::now());
        assert_eq!((0..1000).filter(|_| brake.pass(start).is_some()).count(), 10);
        assert_eq!(brake.pass(start + WINDOW), Some(990));
        assert_eq!(brake.pass(start + WINDOW), Some(0));
    }
}
