//! What the demo found: who saw what, side by side, and a line for each promise.
//!
//! It refuses to round anything up: what was not looked at is said so, in those words. Called by `mod.rs`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use comfy_table::{ContentArrangement, Table};

use super::needles::Needles;

/// The findings, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
    rows: Vec<[String; 4]>,
}

#[derive(Debug)]
enum Line {
    Holds(String),
    Broken(String),
    NotLookedAt(String),
}

impl Report {
    /// A promise, and whether it holds. `detail` says what was looked at, or what was found.
    pub fn promise(&mut self, holds: bool, promise: &str, detail: &str) {
        let text = format!("{promise} ({detail})");
        self.lines.push(if holds { Line::Holds(text) } else { Line::Broken(text) });
    }

    /// Something that could not be looked at, in the words to print.
    pub fn not_looked_at(&mut self, words: &str) {
        // Once is enough: several looks may be forbidden for the same reason.
        if !self.lines.iter().any(|line| matches!(line, Line::NotLookedAt(said) if said == words)) {
            self.lines.push(Line::NotLookedAt(words.to_owned()));
        }
    }

    /// Bytes in which no form of the key may be.
    pub fn no_key_in(&mut self, what: &str, bytes: &[u8], needles: &Needles) {
        match needles.find(bytes) {
            None => self.promise(!bytes.is_empty(), &format!("no key in {what}"), &format!("{} bytes", bytes.len())),
            Some(form) => self.promise(false, &format!("no key in {what}"), &format!("found: {form}")),
        }
    }

    /// A row of the table: what it is about, and what agent, gatewayd and upstream saw of it.
    pub fn row(&mut self, about: &str, agent: &str, gatewayd: &str, upstream: &str) {
        self.rows.push([about, agent, gatewayd, upstream].map(str::to_owned));
    }

    /// Whether every promise holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.lines.iter().any(|line| matches!(line, Line::Broken(_)))
    }

    /// Prints table and lines.
    ///
    /// # Errors
    /// The stream's.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::ASCII_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(TABLE_WIDTH);
        table.set_header(["", "the agent saw", "gatewayd saw", "the upstream saw"]);
        for row in &self.rows {
            table.add_row(row);
        }
        writeln!(out, "{table}\n")?;
        for line in &self.lines {
            match line {
                Line::Holds(text) => writeln!(out, "  ok      {text}")?,
                Line::Broken(text) => writeln!(out, "  FAILED  {text}")?,
                Line::NotLookedAt(text) => writeln!(out, "{text}")?,
            }
        }
        let is_whole = !self.lines.iter().any(|line| matches!(line, Line::NotLookedAt(_)));
        let end = match (self.holds(), is_whole) {
            (true, true) => "The key was used, and nobody but keyd and the upstream had it.",
            (true, false) => {
                "The key was used, and it is nowhere else that was looked at. Run this as root to look everywhere."
            }
            (false, _) => "The demo FAILED.",
        };
        writeln!(out, "\n{end}")
    }
}

/// All regular files below a directory.
///
/// # Errors
/// The system's.
pub fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

const TABLE_WIDTH: u16 = 118;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_breaks_the_report() {
        let needles = Needles::of(b"0123456789abcdefXYZ");
        let mut report = Report::default();
        report.no_key_in("a log", b"nothing here", &needles);
        let end = |report: &Report| {
            let mut text = Vec::new();
            report.print(&mut text).unwrap();
            String::from_utf8(text).unwrap().lines().last().unwrap().to_owned()
        };
        assert!(end(&report).contains("nobody but keyd and the upstream"));
        report.not_looked_at("memory: not looked at (needs root)");
        assert!(report.holds());
        assert!(end(&report).contains("nowhere else that was looked at"));
        report.no_key_in("a log", b"key=0123456789abcdefXYZ", &needles);
        assert!(!report.holds());
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().any(|line| line == "memory: not looked at (needs root)"), "{text}");
        assert!(text.contains("  FAILED  no key in a log (found: literal)"), "{text}");
    }

    #[test]
    fn a_place_where_nothing_could_be_read_is_no_proof() {
        let mut report = Report::default();
        report.no_key_in("an empty log", b"", &Needles::of(b"0123456789abcdefXYZ"));
        assert!(!report.holds());
    }
}
