//! A daemon's log: one line for each decision about the program itself, on standard error or in the journal.
//!
//! Uses of keys go to the audit log and not here. It refuses to know secrets: no type that holds one can be printed. And
//! it refuses lines of other crates, whatever their level: the HTTP/2 crate writes what an upstream sends, which may be a
//! key. [`journal`] is how a line gets into the journal, [`Brake`] is for lines that a peer can cause.
//!
//! Set up by the `main` of keyd and of gatewayd (feature `log`).

mod brake;
mod journal;

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};

use serde::{Deserialize, Deserializer};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

pub use self::brake::Brake;
use self::journal::Journal;
use crate::service_manager::{journal_line, weight};

/// A level out of a configuration file.
///
/// # Errors
/// For any other word than the five.
pub fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LevelFilter, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = ["error", "warn", "info", "debug", "trace"].contains(&text.as_str());
    let level = text.parse().ok().filter(|_| known);
    level.ok_or_else(|| serde::de::Error::custom("write error, warn, info, debug or trace"))
}

/// Whose log it is, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// The program, as people know it.
    pub program: &'static str,
    /// The crate whose lines are written.
    pub target: &'static str,
    /// Whether standard error is the journal's.
    pub is_journal: bool,
}

impl Log {
    /// Starts logging. To be called before a cage is closed that allows no connecting.
    ///
    /// # Errors
    /// Where it was started before.
    pub fn start(self, level: LevelFilter) -> Result<(), SetGlobalDefaultError> {
        let ours = Targets::new().with_target(self.target, level);
        if self.is_journal {
            return set_global_default(tracing_subscriber::registry().with(Journal::connect(self.program)).with(ours));
        }
        let lines = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            // Where the disk is full there is nobody to tell: saying so on the same standard error would be a panic.
            .log_internal_errors(false)
            .with_writer(io::stderr);
        set_global_default(lines.finish().with(ours))
    }

    /// Why the daemon does not start: the last line, whether or not logging was started.
    pub fn last_word(self, words: Arguments<'_>) {
        let text = format!("{}: {words}\n", self.program);
        let text = if self.is_journal { journal_line(weight::ERROR, &text) } else { text };
        // Where standard error is gone too there is nobody to tell, and the exit code says the same.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
