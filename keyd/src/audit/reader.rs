//! Pages of the log for `strongroom audit`: from a sequence number on, filtered, bounded in bytes and in work.
//!
//! It refuses to judge: damaged lines are skipped here and found by `verify.rs`. Sequence numbers in a page only grow,
//! whatever the files say, so that a reader who asks again from `next` always comes to an end. Called by `writer`.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use strongroom_protocol::Name;

use super::files::{Lines, Next};

/// Which lines are wanted; all, by default.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not before this time, in seconds of the Unix epoch.
    pub since: Option<u64>,
    /// Only of this agent.
    pub agent: Option<Name>,
    /// Only of this credential.
    pub credential: Option<Name>,
}

/// Some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// JSON objects, without newlines.
    pub lines: Vec<String>,
    /// Ask again from here.
    pub next: u64,
    /// Nothing is left for now.
    pub end: bool,
}

/// Reads one page, from a sequence number on; 0 and 1 are the first line.
///
/// # Errors
/// The kernel's.
pub fn read(directory: &Path, from: u64, filter: &Filter) -> io::Result<Page> {
    let mut lines = Lines::near(directory, from)?;
    let mut page = Page { lines: Vec::new(), next: from, end: false };
    let mut line = Vec::new();
    let (mut taken, mut examined) = (0, 0);
    loop {
        match lines.next_into(&mut line)? {
            Next::End => return Ok(Page { end: true, ..page }),
            Next::TooLong => continue,
            Next::Line => {}
        }
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(&line) else { continue };
        if fields.seq < page.next {
            continue;
        }
        examined += line.len();
        if taken + line.len() > PAGE_BYTES || page.lines.len() == PAGE_LINES || examined > EXAMINED_BYTES {
            return Ok(page);
        }
        page.next = fields.seq.saturating_add(1);
        if filter.matches(&fields) {
            taken += line.len();
            page.lines.extend(String::from_utf8(std::mem::take(&mut line)).ok());
        }
    }
}

impl Filter {
    fn matches(&self, fields: &Fields<'_>) -> bool {
        let is = |wanted: &Name, value: Option<&Cow<'_, str>>| value.is_some_and(|value| *value == wanted.as_str());
        let event_is_of = |kind: &str| fields.event.as_ref().is_some_and(|event| event.starts_with(kind));
        let since = self.since.is_none_or(|seconds| {
            humantime::parse_rfc3339(&fields.time).unwrap_or(SystemTime::UNIX_EPOCH)
                >= UNIX_EPOCH + Duration::from_secs(seconds.min(FAR))
        });
        let agent = self.agent.as_ref().is_none_or(|wanted| {
            is(wanted, fields.agent.as_ref()) || (event_is_of("agent.") && is(wanted, fields.name.as_ref()))
        });
        let credential = self.credential.as_ref().is_none_or(|wanted| {
            is(wanted, fields.credential.as_ref())
                || fields.more_credentials.iter().any(|more| is(wanted, Some(more)))
                || (event_is_of("credential.") && is(wanted, fields.name.as_ref()))
        });
        since && agent && credential
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    seq: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    agent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    credential: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    more_credentials: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

/// Most bytes of lines in a page; several fit one message on `admin.sock`.
const PAGE_BYTES: usize = 256 * 1024;

/// Most lines in a page.
const PAGE_LINES: usize = 1000;

/// Most bytes that one call looks at once it has found its place; keyd serves others in between.
const EXAMINED_BYTES: usize = 2 * 1024 * 1024;

/// The year 9999, after which RFC 3339 has no names.
const FAR: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::record::tests::{at, request};
    use crate::audit::record::{Event, EventKind, Record};
    use crate::audit::writer::tests::log;

    fn seqs(page: &Page) -> Vec<u64> {
        page.lines.iter().map(|line| serde_json::from_str::<Fields<'_>>(line).unwrap().seq).collect()
    }

    #[test]
    fn filters_choose_lines_and_their_events() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path());
        let name = |text: &str| text.parse::<Name>().unwrap();
        let records = [
            request("request-1", "coder", "openai"),
            request("request-2", "tester", "github"),
            Record::Event(Event::by(EventKind::AgentAdd, 0).named(name("coder"))),
            Record::Event(Event::by(EventKind::CredentialAdd, 0).named(name("coder"))),
            Record::Event(Event::by(EventKind::GrantAdd, 0).of_grant(name("github"), name("coder"))),
        ];
        for (seconds, record) in (0..).zip(&records) {
            log.append(record, at(seconds)).unwrap();
        }
        let choose = |from, filter: Filter| seqs(&read(directory.path(), from, &filter).unwrap());
        assert_eq!(choose(0, Filter::default()), [1, 2, 3, 4, 5]);
        assert_eq!(choose(4, Filter::default()), [4, 5]);
        assert_eq!(choose(0, Filter { agent: Some(name("coder")), ..Filter::default() }), [1, 3, 5]);
        assert_eq!(choose(0, Filter { credential: Some(name("github")), ..Filter::default() }), [2, 5]);
        assert_eq!(choose(0, Filter { credential: Some(name("coder")), ..Filter::default() }), [4]);
        assert_eq!(choose(0, Filter { since: Some(1_700_000_003), ..Filter::default() }), [4, 5]);
        assert_eq!(choose(0, Filter { since: Some(u64::MAX), ..Filter::default() }), [0; 0]);
        let page = read(directory.path(), 6, &Filter::default()).unwrap();
        assert_eq!(page, Page { lines: Vec::new(), next: 6, end: true });
    }

    #[test]
    fn pages_are_bounded_and_lead_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path());
        for seconds in 0..3000 {
            log.append(
                &request("request-1", "coder", if seconds % 1000 == 7 { "rare" } else { "openai" }),
                at(seconds),
            )
            .unwrap();
        }
        for (credential, expected) in [(None, 3000), (Some("rare"), 3)] {
            let filter = Filter { credential: credential.map(|name| name.parse().unwrap()), ..Filter::default() };
            let mut from = 0;
            let (mut total, mut pages) = (0, 0);
            loop {
                let page = read(directory.path(), from, &filter).unwrap();
                assert!(
                    page.lines.iter().map(String::len).sum::<usize>() <= PAGE_BYTES && page.lines.len() <= PAGE_LINES
                );
                total += page.lines.len();
                pages += 1;
                if page.end {
                    break;
                }
                assert!(page.next > from);
                from = page.next;
            }
            assert_eq!(total, expected);
            assert!(pages < 10);
        }
    }

    #[test]
    fn damaged_and_repeated_lines_do_not_hold_a_reader_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path());
        for seconds in 0..3 {
            log.append(&request("request-1", "coder", "openai"), at(seconds)).unwrap();
        }
        let path = directory.path().join("000001.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        std::fs::write(
            &path,
            format!("{}\n{}\n\u{0}garbage\n{}\n{}\n{{\"torn", lines[0], lines[1], lines[0], lines[2]),
        )
        .unwrap();
        let page = read(directory.path(), 0, &Filter::default()).unwrap();
        assert_eq!((seqs(&page), page.next, page.end), (vec![1, 2, 3], 4, true));
    }
}
