//! Lines for systemd's journal, with their values as fields of their own: `journalctl STRONGROOM_UID=1000`.
//!
//! systemd's "Native Journal Protocol": a datagram of fields, each a name, a length and so many bytes, so that no value can
//! be taken for another field. Beside `MESSAGE`, `PRIORITY` and `SYSLOG_IDENTIFIER` a value called `uid` becomes
//! `STRONGROOM_UID`. The socket is connected when it is made, before a cage closes. Where there is none, or it does not
//! take a line at once, the line goes to standard error, which is the journal's too, without its fields. It refuses to
//! wait for the journal, and to write more than one line for an event. Called by `log.rs`.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::service_manager::{journal_line, weight};

/// Writes events into the journal.
#[derive(Debug)]
pub struct Journal {
    socket: Option<UnixDatagram>,
    program: &'static str,
}

impl Journal {
    /// Connects to the system's journal.
    pub fn connect(program: &'static str) -> Self {
        Self::at(Path::new(SOCKET), program)
    }

    fn at(path: &Path, program: &'static str) -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.connect(path)?;
            Ok(socket)
        });
        Self { socket: socket.ok(), program }
    }

    /// Whether the journal has taken it.
    fn send(&self, weight: u8, line: &Line) -> bool {
        let Some(socket) = &self.socket else { return false };
        let mut entry = Vec::with_capacity(line.text.len() + line.fields.len() + 100);
        put(&mut entry, "MESSAGE", &line.text);
        put(&mut entry, "PRIORITY", &weight.to_string());
        put(&mut entry, "SYSLOG_IDENTIFIER", self.program);
        entry.extend(&line.fields);
        socket.send(&entry).is_ok()
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let weight = match *event.metadata().level() {
            Level::ERROR => weight::ERROR,
            Level::WARN => weight::WARNING,
            Level::INFO => weight::INFO,
            _ => weight::DEBUG,
        };
        let mut line = Line::default();
        event.record(&mut line);
        if !self.send(weight, &line) {
            // Where standard error is gone too there is nobody to tell.
            let _ = io::stderr().write_all(journal_line(weight, &line.text).as_bytes());
        }
    }
}

/// An event: its message and values as one line of text, and the values as fields.
#[derive(Debug, Default)]
struct Line {
    text: String,
    fields: Vec<u8>,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str, shown: fmt::Arguments<'_>) {
        let begin = self.text.len();
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.text, "{shown}")
        } else {
            put(&mut self.fields, &name(field.name()), value);
            write!(self.text, " {}={shown}", field.name())
        };
        // Others' words may be in it: they are to stay on their line, and to move nobody's cursor.
        if self.text[begin..].contains(char::is_control) {
            let clean = self.text[begin..].replace(char::is_control, " ");
            self.text.replace_range(begin.., &clean);
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.add(field, &text, format_args!("{text}"));
    }
}

/// Appends a field in the form that takes any bytes.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    entry.push(b'\n');
    entry.extend((value.len() as u64).to_le_bytes());
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

/// The journal takes capitals, digits and underscores, and keeps names that begin with one for itself.
fn name(field: &str) -> String {
    let letters =
        field.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
    "STRONGROOM_".chars().chain(letters).take(LONGEST_NAME).collect()
}

const SOCKET: &str = "/run/systemd/journal/socket";
const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The fields of an entry, read as journald does.
    fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, rest) = (String::from_utf8(entry[..end].to_vec()).unwrap(), &entry[end + 1..]);
            let (length, rest) = rest.split_first_chunk::<8>().unwrap();
            let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
            assert_eq!(rest[0], b'\n');
            assert!(fields.insert(name, String::from_utf8(value.to_vec()).unwrap()).is_none());
            entry = &rest[1..];
        }
        fields
    }

    fn heard(log: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let folder = std::env::temp_dir().join(format!(
            "strongroom-journal-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_nonblocking(true).unwrap();
        let layer = Journal::at(&path, "strongroom-test");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        std::fs::remove_dir_all(&folder).unwrap();
        let mut buffer = vec![0; 65_536];
        std::iter::from_fn(|| journal.recv(&mut buffer).ok().map(|length| fields(&buffer[..length]))).collect()
    }

    #[test]
    fn values_are_fields_and_a_part_of_the_line() {
        let entries = heard(|| tracing::warn!(uid = 7, from = %"a b", name = "x", "somebody came"));
        let expected = [
            ("MESSAGE", "somebody came uid=7 from=a b name=\"x\""),
            ("PRIORITY", "4"),
            ("STRONGROOM_FROM", "a b"),
            ("STRONGROOM_NAME", "x"),
            ("STRONGROOM_UID", "7"),
            ("SYSLOG_IDENTIFIER", "strongroom-test"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(entries, [BTreeMap::from(expected)]);
    }

    #[test]
    fn no_value_becomes_a_field_or_a_line_of_its_own() {
        let evil = "x\nPRIORITY=0\nMESSAGE\n\u{1b}[2J";
        let entries = heard(|| tracing::info!(error = %evil, "it failed"));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["MESSAGE"], "it failed error=x PRIORITY=0 MESSAGE  [2J");
        assert_eq!((entries[0]["PRIORITY"].as_str(), entries[0]["STRONGROOM_ERROR"].as_str()), ("6", evil));
        assert_eq!(entries[0].len(), 4);
    }

    #[test]
    fn a_journal_that_does_not_take_a_line_holds_nobody_up() {
        // Nobody reads: the queue is full after some lines, and the rest goes to standard error.
        let entries = heard(|| (0..2000).for_each(|number| tracing::debug!(number, "again")));
        assert!((1..2000).contains(&entries.len()), "{}", entries.len());
        assert!(entries.iter().all(|entry| entry["PRIORITY"] == "7"));
        let nobody = Journal::at(Path::new("/nonexistent/socket"), "strongroom-test");
        assert!(!nobody.send(6, &Line::default()));
    }
}
