//! Recomputes the chain, a stretch at a time, and names the first line that does not fit.
//!
//! It finds a byte that was changed, and lines that were removed, added, moved or repeated, the first file's absence
//! among them. What it cannot find alone is an end that was cut off together with everything after it: for that the
//! caller brings the head, which keyd holds while it runs, and people keep checkpoints. Called by `writer`.

use std::io;
use std::path::Path;

use strongroom_protocol::admin::AuditVerified;

use super::chain::Link;
use super::files::{Lines, Next, Stamp};

/// Where the log ends, by the writer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the next line.
    pub next: u64,
    /// The chain's value after the last line.
    pub link: Link,
}

/// Checks lines from `from` on (0 and 1: from the first), at most `most_lines`.
///
/// # Errors
/// The kernel's.
pub fn verify(directory: &Path, key: &[u8], from: u64, head: Head, most_lines: u64) -> io::Result<AuditVerified> {
    let from = from.clamp(1, head.next);
    let mut walk = Walk { lines: Lines::near(directory, from)?, line: Vec::new(), key };
    let mut place = Head { next: from, link: Link::FIRST };
    let outcome = walk.run(&mut place, head, most_lines)?;
    // The line that does not fit may be known by the one after it.
    let holding = if let Outcome::Broken(seq) = outcome { place.next.min(seq.max(from)) } else { place.next };
    Ok(AuditVerified {
        lines: holding - from,
        next: holding,
        end: !matches!(outcome, Outcome::More),
        broken_at: if let Outcome::Broken(seq) = outcome { Some(seq) } else { None },
        chain: place.link.to_hex(),
    })
}

struct Walk<'a> {
    lines: Lines,
    line: Vec<u8>,
    key: &'a [u8],
}

enum Outcome {
    More,
    End,
    Broken(u64),
}

/// A line in the walk.
enum Found {
    Ours(Stamp),
    Damaged,
    End,
}

impl Walk<'_> {
    /// Moves `place` forward over every line that fits.
    fn run(&mut self, place: &mut Head, head: Head, most_lines: u64) -> io::Result<Outcome> {
        let mut found = self.step()?;
        if place.next > 1 {
            // The line before the stretch was checked by the last call; from it comes the link to begin with.
            let wanted = place.next - 1;
            let mut last = Found::End;
            let mut link = Link::FIRST;
            while !matches!(found, Found::End) && !matches!(found, Found::Ours(stamp) if stamp.seq > wanted) {
                if let Found::Ours(stamp) = found {
                    link = stamp.before.next(self.key, &self.line);
                }
                last = found;
                found = self.step()?;
            }
            if !matches!(last, Found::Ours(stamp) if stamp.seq == wanted) {
                return Ok(Outcome::Broken(wanted));
            }
            place.link = link;
        }
        let stop = place.next.saturating_add(most_lines.max(1));
        loop {
            let stamp = match found {
                Found::Ours(stamp) => stamp,
                Found::Damaged => return Ok(Outcome::Broken(place.next)),
                Found::End => return Ok(end_of(*place, head)),
            };
            if stamp.seq != place.next {
                return Ok(Outcome::Broken(stamp.seq.min(place.next)));
            }
            if stamp.before != place.link {
                return self.which_of_two(stamp, head).map(Outcome::Broken);
            }
            // The line after the stretch was looked at too, so nothing can hide between two stretches.
            if place.next == stop {
                return Ok(Outcome::More);
            }
            place.link = place.link.next(self.key, &self.line);
            place.next += 1;
            found = self.step()?;
        }
    }

    /// A line's link does not fit the line before it: was that one changed, or this one? The line after it knows.
    fn which_of_two(&mut self, stamp: Stamp, head: Head) -> io::Result<u64> {
        let after = stamp.before.next(self.key, &self.line);
        let known = match self.step()? {
            Found::Ours(next) => Some(next.before),
            Found::Damaged => None,
            Found::End => (head.next == stamp.seq + 1).then_some(head.link),
        };
        Ok(if known == Some(after) { (stamp.seq - 1).max(1) } else { stamp.seq })
    }

    fn step(&mut self) -> io::Result<Found> {
        Ok(match self.lines.next_into(&mut self.line)? {
            Next::Line => Stamp::of(&self.line).map_or(Found::Damaged, Found::Ours),
            Next::TooLong => Found::Damaged,
            Next::End => Found::End,
        })
    }
}

fn end_of(place: Head, head: Head) -> Outcome {
    if place.next < head.next {
        return Outcome::Broken(place.next);
    }
    if place.next > head.next {
        return Outcome::Broken(head.next);
    }
    // Only the last line can differ here, for every other one was checked by the line after it.
    if place.link == head.link { Outcome::End } else { Outcome::Broken((place.next - 1).max(1)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::audit::AuditLog;
    use crate::audit::record::tests::{at, request};
    use crate::audit::writer::tests::{KEY, log};

    const LINES: u64 = 12;

    struct Fixture {
        directory: tempfile::TempDir,
        lines: Vec<String>,
        head: Head,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let mut log: AuditLog = log(directory.path());
            for number in 0..LINES {
                log.append(&request(&format!("request-{number}"), "coder", "openai"), at(number)).unwrap();
            }
            let text = fs::read_to_string(directory.path().join("000001.jsonl")).unwrap();
            let lines = text.lines().map(str::to_owned).collect();
            Self { head: log.head(), directory, lines }
        }

        /// Writes other lines, and verifies in one stretch and in stretches of one and three: all must agree.
        fn broken_at(&self, lines: &[String]) -> Option<u64> {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(self.directory.path().join("000001.jsonl"), text).unwrap();
            let whole = self.stretches(1000);
            assert_eq!(self.stretches(1), whole, "in stretches of one");
            assert_eq!(self.stretches(3), whole, "in stretches of three");
            whole
        }

        fn stretches(&self, most_lines: u64) -> Option<u64> {
            let mut from = 0;
            for _ in 0..100 {
                let verified = verify(self.directory.path(), &KEY, from, self.head, most_lines).unwrap();
                if verified.end {
                    if verified.broken_at.is_none() {
                        assert_eq!((verified.next, verified.chain), (self.head.next, self.head.link.to_hex()));
                    }
                    return verified.broken_at;
                }
                assert!(verified.lines <= most_lines && verified.broken_at.is_none());
                from = verified.next;
            }
            panic!("no end")
        }

        fn seq(index: usize) -> u64 {
            u64::try_from(index).unwrap() + 1
        }
    }

    #[test]
    fn an_untouched_log_holds() {
        let fixture = Fixture::new();
        assert_eq!(fixture.broken_at(&fixture.lines.clone()), None);
        let verified = verify(fixture.directory.path(), &KEY, 0, fixture.head, 5).unwrap();
        assert_eq!((verified.lines, verified.next, verified.end), (5, 6, false));
        let beyond = verify(fixture.directory.path(), &KEY, 999, fixture.head, 5).unwrap();
        assert_eq!((beyond.lines, beyond.end, beyond.broken_at), (0, true, None));
    }

    #[test]
    fn another_key_fits_nowhere() {
        let fixture = Fixture::new();
        let verified = verify(fixture.directory.path(), &[9; 32], 0, fixture.head, 100).unwrap();
        assert!(verified.broken_at.is_some());
    }

    #[test]
    fn a_changed_byte_is_found_in_its_line() {
        let fixture = Fixture::new();
        for index in 0..fixture.lines.len() {
            let mut lines = fixture.lines.clone();
            lines[index] = lines[index].replace("coder", "coven");
            assert_eq!(fixture.broken_at(&lines), Some(Fixture::seq(index)), "line {index}");
        }
    }

    #[test]
    fn every_single_byte_counts() {
        let fixture = Fixture::new();
        for (index, line) in fixture.lines.iter().enumerate().take(3) {
            for at in 0..line.len() {
                let mut lines = fixture.lines.clone();
                let mut bytes = line.clone().into_bytes();
                bytes[at] ^= 1;
                lines[index] = String::from_utf8(bytes).unwrap();
                let found = fixture.broken_at(&lines).expect("found");
                // A changed sequence number is found at whichever of the two numbers is less.
                assert!(found == Fixture::seq(index) || line[..at].len() < 12, "line {index}, byte {at}: {found}");
            }
        }
    }

    #[test]
    fn a_changed_link_is_found_in_its_line() {
        let fixture = Fixture::new();
        for index in 0..fixture.lines.len() {
            let mut lines = fixture.lines.clone();
            let at = lines[index].find("\"chain\":\"").unwrap() + 9;
            let other = if lines[index].as_bytes()[at] == b'0' { "1" } else { "0" };
            lines[index].replace_range(at..=at, other);
            assert_eq!(fixture.broken_at(&lines), Some(Fixture::seq(index)), "line {index}");
        }
    }

    #[test]
    fn a_removed_line_is_missed_in_its_place() {
        let fixture = Fixture::new();
        for index in 0..fixture.lines.len() {
            let mut lines = fixture.lines.clone();
            lines.remove(index);
            assert_eq!(fixture.broken_at(&lines), Some(Fixture::seq(index)), "line {index}");
        }
    }

    #[test]
    fn lines_that_changed_places_are_found() {
        let fixture = Fixture::new();
        for index in 0..fixture.lines.len() - 1 {
            let mut lines = fixture.lines.clone();
            lines.swap(index, index + 1);
            assert_eq!(fixture.broken_at(&lines), Some(Fixture::seq(index)), "line {index}");
        }
    }

    #[test]
    fn an_added_line_is_found() {
        let fixture = Fixture::new();
        for index in 0..fixture.lines.len() {
            for added in [fixture.lines[index].clone(), "{}".to_owned(), String::new()] {
                let mut lines = fixture.lines.clone();
                lines.insert(index, added.clone());
                let found = fixture.broken_at(&lines);
                assert_eq!(found, Some(Fixture::seq(index)), "line {index}, {added:?}");
            }
        }
    }

    #[test]
    fn an_end_that_was_cut_is_found_against_the_head() {
        let fixture = Fixture::new();
        for kept in 0..fixture.lines.len() {
            assert_eq!(fixture.broken_at(&fixture.lines[..kept]), Some(Fixture::seq(kept)), "{kept} lines kept");
        }
    }

    #[test]
    fn a_line_that_the_writer_did_not_write_is_found_at_the_end() {
        let fixture = Fixture::new();
        let mut lines = fixture.lines.clone();
        let forged = lines[0].replace("\"seq\":1,", &format!("\"seq\":{},", LINES + 1));
        lines.push(forged);
        assert_eq!(fixture.broken_at(&lines), Some(LINES + 1));
    }

    #[test]
    fn a_first_file_that_is_missing_is_found() {
        let fixture = Fixture::new();
        let first = fixture.directory.path().join("000001.jsonl");
        let text: Vec<String> = fixture.lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&first, text[..6].concat()).unwrap();
        fs::write(fixture.directory.path().join("000002.jsonl"), text[6..].concat()).unwrap();
        assert_eq!(fixture.stretches(4), None, "two files hold as well as one");
        fs::remove_file(first).unwrap();
        assert_eq!(fixture.stretches(4), Some(1));
    }
}
