//! keyd's log: one line for each decision about the program itself, on standard error.
//!
//! For the journal a line begins with its weight and has neither time nor colours, which the journal knows itself; for
//! everybody else it begins with the time. Uses of keys go to the audit log and not here. It refuses to know secrets: no
//! type that holds one can be printed. And it refuses lines of other crates, whatever their level: the HTTP/2 crate writes
//! what an upstream sends, which may be the key. Set up by `main`; [`Brake`] is for lines that a peer can cause.

use std::cell::Cell;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strongroom_protocol::service_manager::{journal_line, weight};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Whether standard error is the journal's; from here on.
pub fn goes_to_journal(yes: bool) {
    JOURNAL.store(yes, Ordering::Relaxed);
}

/// Starts logging. A second start, as in tests, changes nothing.
pub fn start(level: LevelFilter) {
    let log = tracing_subscriber::fmt().with_ansi(false).with_max_level(level);
    // Where the disk is full there is nobody to tell: saying so on the same standard error would be a panic.
    let log = log.log_internal_errors(false);
    let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    let _ = if JOURNAL.load(Ordering::Relaxed) {
        let log = log.without_time().with_level(false).with_target(false).with_writer(Journal);
        log.finish().with(ours).try_init()
    } else {
        log.with_writer(io::stderr).finish().with(ours).try_init()
    };
}

/// Why keyd does not start: the last line, whether or not logging was started.
pub fn last_word(words: Arguments<'_>) {
    let text = format!("strongroom-keyd: {words}\n");
    let text = if JOURNAL.load(Ordering::Relaxed) { journal_line(weight::ERROR, &text) } else { text };
    // Where standard error is gone too there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
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

/// Lets a few lines pass each second, counts the others and tells their number with the next that passes.
#[derive(Debug, Default)]
pub struct Brake {
    window: Cell<Option<Instant>>,
    passed: Cell<u32>,
    held: Cell<u64>,
}

impl Brake {
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

static JOURNAL: AtomicBool = AtomicBool::new(false);

const WINDOW: Duration = Duration::from_secs(1);

/// Lines a second from one place.
const BURST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_number() {
        let (brake, start) = (Brake::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| brake.pass(start).is_some()).count(), 10);
        assert_eq!(brake.pass(start + WINDOW), Some(990));
        assert_eq!(brake.pass(start + WINDOW), Some(0));
    }
}
