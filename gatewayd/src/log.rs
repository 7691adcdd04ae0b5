//! Log lines on standard error, and the brake on those that a client can cause.
//!
//! For the journal a line begins with its weight and has neither time nor colours, which the journal knows itself. It
//! refuses lines of other crates: at debug level the HTTP/2 crate writes header fields, placeholders among them.
//! Set up by `main`; [`Brake`] is used wherever a peer can trigger a line.

use std::cell::Cell;
use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use strongroom_protocol::service_manager::{is_journal, journal_line, weight};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
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
    let log = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        // Where the disk is full there is nobody to tell: saying so on the same standard error would be a panic.
        .log_internal_errors(false);
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), filter);
    if goes_to_journal() {
        set(log.without_time().with_level(false).with_writer(Journal).finish().with(ours))
    } else {
        set(log.with_writer(io::stderr).finish().with(ours))
    }
}

fn set(subscriber: impl Subscriber + Send + Sync) -> Result<(), StartError> {
    tracing::subscriber::set_global_default(subscriber).map_err(|_| StartError::Log)
}

/// Why gatewayd does not start: the last line, whether or not logging was started.
pub fn last_word(words: Arguments<'_>) {
    let text = format!("strongroom-gatewayd: {words}\n");
    let text = if goes_to_journal() { journal_line(weight::ERROR, &text) } else { text };
    // A closed stderr changes nothing about the exit code.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn goes_to_journal() -> bool {
    is_journal(std::env::var_os("JOURNAL_STREAM").as_deref())
}

/// Makes writers for lines of one weight.
struct Journal;

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Weighed;

    fn make_writer(&'a self) -> Weighed {
        Weighed(weight::INFO)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Weighed {
        Weighed(match *metadata.level() {
            Level::ERROR => weight::ERROR,
            Level::WARN => weight::WARNING,
            Level::INFO => weight::INFO,
            _ => weight::DEBUG,
        })
    }
}

/// Writes lines, each whole: the layer above gives them so.
struct Weighed(u8);

impl Write for Weighed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(journal_line(self.0, &String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
