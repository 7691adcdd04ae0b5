//! Results on standard output: tables for people, tab-separated lines for pipes, JSON for machines.
//!
//! Colours and frames only on a terminal, and none where NO_COLOR is set. A reader that goes away is no error. Called
//! by the commands.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::error::{CtlError, Outcome};

/// Prints a line on standard output.
///
/// # Errors
/// Where it cannot be written.
pub fn line(text: &str) -> Outcome<()> {
    write(&format!("{text}\n"))
}

/// Prints words on standard error.
pub fn note(text: &str) {
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints JSON.
///
/// # Errors
/// As [`line`].
pub fn json(value: &Value) -> Outcome<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CtlError::fault(format!("JSON could not be made: {error}. Report it.")))?;
    line(&text)
}

/// Prints rows under a heading: a table on a terminal, else one line a row with tabs between.
///
/// # Errors
/// As [`line`].
pub fn table(heading: &[&str], rows: Vec<Vec<String>>) -> Outcome<()> {
    if !io::stdout().is_terminal() {
        return write(&rows.iter().map(|row| row.join("\t") + "\n").collect::<String>());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(heading.iter().map(|text| text.to_uppercase()));
    table.add_rows(rows);
    line(&table.to_string())
}

/// Seconds of the Unix epoch, as people and programs read a time.
#[must_use]
pub fn time(seconds: u64) -> String {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .map_or_else(String::new, |time| humantime::format_rfc3339_seconds(time).to_string())
}

fn write(text: &str) -> Outcome<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CtlError::fault(format!("standard output could not be written: {error}. Check where it leads.")))
        }
        _ => Ok(()),
    }
}
