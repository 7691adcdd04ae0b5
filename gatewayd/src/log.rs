//! Log lines on standard error, and the brake on those that a client can cause.
//!
//! It refuses lines of other crates: at debug level the HTTP/2 crate writes header fields, placeholders among them.
//! Set up by `main`; [`Brake`] is used wherever a peer can trigger a line.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::start_error::StartError;

/// How much is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What is broken.
    Error,
    /// What may be.
    Warn,
    /// What changes: start, stop, keyd's comings and goings, refusals.
    #[default]
    Info,
    /// Channels and connections too.
    Debug,
    /// Everything.
    Trace,
}

/// Starts logging to standard error.
///
/// # Errors
/// Where it was started before.
pub fn start(level: LogLevel) -> Result<(), StartError> {
    let filter = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Where the disk is full there is nobody to tell: saying so on the same standard error would be a panic.
        .log_internal_errors(false)
        .finish()
        .with(Targets::new().with_target(env!("CARGO_CRATE_NAME"), filter));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| StartError::Log)
}

/// Lets a burst of lines pass each second, counts the others and tells their number with the next that passes.
#[derive(Debug)]
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
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
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
        let brake = Brake::new();
        let start = Instant::now();
        let passed = (0..1000).filter(|_| brake.pass_at(start).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(brake.pass_at(start + WINDOW), Some(990));
        assert_eq!(brake.pass_at(start + WINDOW), Some(0));
    }
}
