//! Results on standard output: tables for people, tab-separated lines for pipes, JSON for machines.
//!
//! Colours and frames only on a terminal, and none where NO_COLOR is set. A reader that goes away is no error, but for
//! what is shown only once. Called by the commands.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use strongroom_protocol::terminal::steers;

use crate::error::{CtlError, Outcome};

/// Prints a line on standard output.
///
/// # Errors
/// Where it cannot be written.
pub fn line(text: &str) -> Outcome<()> {
    write(&format!("{text}\n"))
}

/// Prints a line that will not be shown again.
///
/// # Errors
/// As [`line`], and where nobody reads it.
pub fn only_once(text: &str) -> Outcome<()> {
    match one_of_many(text)? {
        Reader::Reads => Ok(()),
        Reader::Gone => Err(CtlError::fault("nobody reads standard output. Check where it leads.")),
    }
}

/// Prints words on standard error. Paths and names in them may hold anything.
pub fn note(text: &str) {
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", printable_lines(text));
}

/// Prints JSON.
///
/// # Errors
/// As [`line`].
pub fn json(value: &Value) -> Outcome<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CtlError::fault(format!("JSON could not be made: {error}. Report it.")))?;
    line(&escaped(&text))
}

/// A path in JSON, which holds text alone: serde gives up where it is none.
#[must_use]
pub fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// JSON that says the same without what would steer a terminal: JSON itself lets all but the lowest characters stand.
#[must_use]
pub fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        // Those between values, which no string holds as they are.
        if steers(character) && !matches!(character, '\n' | '\t' | '\r') {
            text += &format!("\\u{:04x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

/// Prints rows under a heading: a table on a terminal, else one line a row with tabs between.
///
/// # Errors
/// As [`line`].
pub fn table(heading: &[&str], rows: Vec<Vec<String>>) -> Outcome<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    if !io::stdout().is_terminal() {
        return write(&rows.iter().map(|row| row.join("\t") + "\n").collect::<String>());
    }
    line(&framed(heading, rows, Table::new()).to_string())
}

/// A table for people, as wide as its terminal.
fn framed(heading: &[&str], rows: Vec<Vec<String>>, mut table: Table) -> Table {
    table.load_style(presets::NOTHING);
    // A terminal that does not know its width, such as a serial line, says 0.
    if table.width().is_some_and(|width| width > 0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(heading.iter().map(|text| text.to_uppercase()));
    table.add_rows(rows);
    for (column, name) in table.column_iter_mut().zip(heading) {
        // It is there to be copied.
        if *name == "placeholder" {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

/// Prints the fields of a JSON object, one a line.
///
/// # Errors
/// As [`line`].
pub fn fields(object: Value) -> Outcome<()> {
    let Value::Object(fields) = object else { return line(&object.to_string()) };
    table(&["what", "value"], fields.into_iter().map(|(name, value)| vec![name, words(&value)]).collect())
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", words(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The text without what would steer a terminal: paths, methods and logs hold what agents and upstreams sent.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if steers(character) { '\u{fffd}' } else { character }).collect()
}

/// As [`printable`], for words of several lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Seconds of the Unix epoch, as people and programs read a time.
#[must_use]
pub fn time(seconds: u64) -> String {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .map_or_else(String::new, |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// Prints a line of many, and says whether anybody still reads: without a reader there is no sense in the next.
///
/// # Errors
/// As [`line`].
pub fn one_of_many(text: &str) -> Outcome<Reader> {
    write_to(&mut io::stdout().lock(), &format!("{text}\n"))
}

/// Waits this long, or until nobody reads standard output any more: who has nothing to print would not notice.
#[must_use]
pub fn wait_while_read(patience: Duration) -> Reader {
    wait_while(io::stdout().as_fd(), patience)
}

fn wait_while(out: BorrowedFd<'_>, patience: Duration) -> Reader {
    // Nothing is asked for: that the other end is gone is said unasked.
    let mut watched = [PollFd::new(out, PollFlags::empty())];
    match poll(&mut watched, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
        Ok(0) | Err(_) => Reader::Reads,
        Ok(_) => Reader::Gone,
    }
}

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Somebody, as far as is known.
    Reads,
    /// Nobody any more.
    Gone,
}

/// A command that has more to do, or an exit code to give, goes on where its reader went away.
fn write(text: &str) -> Outcome<()> {
    write_to(&mut io::stdout().lock(), text).map(drop)
}

fn write_to(out: &mut impl Write, text: &str) -> Outcome<Reader> {
    match out.write_all(text.as_bytes()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => {
            Err(CtlError::fault(format!("standard output could not be written: {error}. Check where it leads.")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_printed() {
        assert_eq!(printable("/v1/\u{1b}[2Jx\r\n\u{202e}y\u{9b}"), "/v1/\u{fffd}[2Jx\u{fffd}\u{fffd}\u{fffd}y\u{fffd}");
        assert_eq!(printable("GET /grüße?ключ=1 ~"), "GET /grüße?ключ=1 ~");
    }

    #[test]
    fn json_is_equal_and_holds_nothing_that_steers_a_terminal() {
        let value = serde_json::json!({ "a\u{202e}": "/\u{7f}\u{85}\u{9b}31m\u{2066}\u{200f}\u{61c}\n\t\"\\ grüße" });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let escaped = escaped(&text);
            assert!(escaped.chars().all(|character| character == '\n' || !steers(character)), "{escaped}");
            assert!(escaped.contains("\\u009b31m") && escaped.contains("grüße"), "{escaped}");
            assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
        }
        assert_eq!(escaped("{}"), "{}");
    }

    #[test]
    fn words_of_several_lines_stay_so() {
        assert_eq!(printable_lines("a\n\n\u{1b}[31mb\rc\n"), "a\n\n\u{fffd}[31mb\u{fffd}c\n");
    }

    #[test]
    fn a_placeholder_stays_whole_in_the_narrowest_table() {
        let long = "sk-".to_owned() + &"placeholder0".repeat(6);
        let words = "an agent with a long name ".repeat(4);
        let mut narrow = Table::new();
        narrow.set_width(60);
        let text = framed(&["placeholder", "agent"], vec![vec![long.clone(), words]], narrow).to_string();
        assert!(text.contains(&long) && text.lines().count() > 3, "{text}");
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_one_that_reads_and_from_a_fault() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(write_to(&mut writer, "x\n"), Ok(Reader::Reads));
        assert_eq!(wait_while(writer.as_fd(), Duration::from_millis(1)), Reader::Reads);
        drop(reader);
        assert_eq!(wait_while(writer.as_fd(), Duration::from_secs(60)), Reader::Gone);
        assert_eq!(write_to(&mut writer, "x\n"), Ok(Reader::Gone));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(wait_while(file.as_fd(), Duration::from_millis(1)), Reader::Reads);
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(write_to(&mut full, "x\n").unwrap_err().code(), 70);
    }

    #[test]
    fn what_is_in_json_is_in_words() {
        let value = serde_json::json!({ "a": ["x", "y"], "b": null, "c": true, "d": { "e": 1 } });
        assert_eq!(words(&value), "a x, y, b -, c true, d e 1");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
