//! The files of the log: their names, and finding a line in them without reading them whole.
//!
//! Files are named 000001.jsonl, 000002.jsonl ...; sequence numbers only grow, so a place is found by halving. It refuses
//! to read a line longer than [`LONGEST_LINE`], and to trust what it reads: a tampered file may lead the search astray,
//! never into more work. Called by `writer.rs`, `reader.rs` and `verify.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chain::Link;

/// Longest line, in bytes, newline included. A path of 16 KiB fits, every character escaped.
pub const LONGEST_LINE: usize = 128 * 1024;

/// What the log itself puts into each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Counts lines from 1.
    pub seq: u64,
    /// The chain's value before the line.
    pub before: Link,
}

impl Stamp {
    /// The stamp of a line without its newline; nothing where it is no line of ours.
    pub fn of(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            seq: u64,
            #[serde(borrow)]
            chain: &'a str,
        }
        let Fields { seq, chain } = serde_json::from_slice(line).ok()?;
        Some(Self { seq, before: Link::from_hex(chain)? })
    }
}

/// The path of a file by its number.
pub fn path_of(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:06}.jsonl"))
}

/// The numbers of all files, in order. Files with other names are not ours.
pub fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")).filter(|stem| stem.len() == 6);
        let number =
            number.filter(|stem| stem.bytes().all(|byte| byte.is_ascii_digit())).and_then(|stem| stem.parse().ok());
        numbers.extend(number.filter(|&number: &u32| number > 0));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether there is a line in a directory's files, or a part of one.
///
/// # Errors
/// The kernel's; a directory that is not there has none.
pub fn has_lines(directory: &Path) -> io::Result<bool> {
    let numbers = match numbers(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        numbers => numbers?,
    };
    for number in numbers {
        if fs::symlink_metadata(path_of(directory, number))?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens a file of the log to read it.
pub fn open(directory: &Path, number: u32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path_of(directory, number))
}

/// The lines of all files from one place on, one after another.
pub struct Lines {
    directory: PathBuf,
    /// Files still to come, the next one last.
    numbers: Vec<u32>,
    file: Option<BufReader<File>>,
}

/// One step of [`Lines`].
pub enum Next {
    /// A whole line, without its newline, is in the buffer.
    Line,
    /// More than [`LONGEST_LINE`] bytes without a newline, skipped to the end of their file.
    TooLong,
    /// Nothing more, but for a line that may still be in the making.
    End,
}

impl Lines {
    /// From a line at or before the first with this sequence number or a later one; not far before it.
    pub fn near(directory: &Path, seq: u64) -> io::Result<Self> {
        let mut numbers = numbers(directory)?;
        numbers.reverse();
        let mut lines = Self { directory: directory.to_owned(), numbers, file: None };
        // The last file that begins before `seq`; the one before the line that is looked for may be its end.
        let skipped = lines
            .numbers
            .iter()
            .position(|&number| begins_before(directory, number, seq))
            .unwrap_or(lines.numbers.len());
        let first = if skipped == lines.numbers.len() { None } else { Some(lines.numbers[skipped]) };
        if let Some(number) = first {
            lines.numbers.truncate(skipped);
            let mut file = open(directory, number)?;
            let offset = offset_near(&file, seq)?;
            file.seek(SeekFrom::Start(offset))?;
            lines.file = Some(BufReader::new(file));
        }
        Ok(lines)
    }

    /// Reads the next line into `line`, which is emptied first.
    pub fn next_into(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        loop {
            line.clear();
            let Some(file) = &mut self.file else {
                let Some(number) = self.numbers.pop() else { return Ok(Next::End) };
                self.file = Some(BufReader::new(open(&self.directory, number)?));
                continue;
            };
            file.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', line)?;
            if line.pop_if(|last| *last == b'\n').is_some() {
                return Ok(Next::Line);
            }
            let was_long = line.len() == LONGEST_LINE;
            self.file = None;
            if was_long {
                return Ok(Next::TooLong);
            }
            // A torn end is nothing in the last file, and a damaged line in any other.
            if !line.is_empty() && !self.numbers.is_empty() {
                return Ok(Next::Line);
            }
        }
    }
}

fn begins_before(directory: &Path, number: u32, seq: u64) -> bool {
    let first = || -> Option<Stamp> {
        let mut line = Vec::new();
        let file = open(directory, number).ok()?;
        BufReader::new(file).take(LONGEST_LINE as u64).read_until(b'\n', &mut line).ok()?;
        Stamp::of(line.trim_ascii_end())
    };
    first().is_some_and(|stamp| stamp.seq < seq)
}

/// The offset of a line in front of which every line is earlier than `seq`; at most a block and a line too early.
fn offset_near(file: &File, seq: u64) -> io::Result<u64> {
    let mut low = 0;
    let mut high = file.metadata()?.len();
    let mut window = vec![0; LONGEST_LINE];
    while high - low > BLOCK {
        let middle = low + (high - low) / 2;
        match first_line_after(file, middle, high, &mut window)? {
            Some((offset, found)) if found < seq && offset > low => low = offset,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line of ours that begins after `from` and before `until`, as offset and sequence number.
fn first_line_after(file: &File, from: u64, until: u64, window: &mut [u8]) -> io::Result<Option<(u64, u64)>> {
    let mut from = from;
    loop {
        let length = read_at(file, window, from)?;
        let mut newlines = window[..length].iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at);
        // What stands before the first newline began earlier.
        let Some(mut before) = newlines.next() else { return Ok(None) };
        let first = before;
        for newline in newlines {
            let start = from + before as u64 + 1;
            if start >= until {
                return Ok(None);
            }
            if let Some(stamp) = Stamp::of(&window[before + 1..newline]) {
                return Ok(Some((start, stamp.seq)));
            }
            before = newline;
        }
        // At the end of the file, or in a line that is longer than any of ours.
        if length < window.len() || (before == first && first == 0) {
            return Ok(None);
        }
        from += before as u64;
    }
}

/// Reads until the buffer is full or the file ends.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The vault's generation that the last line which names one has; looked for in the end of the file alone. In a line
/// no text can hold these bytes, for JSON escapes its quotes.
pub fn newest_generation(file: &File, length: u64) -> io::Result<Option<u64>> {
    const NAME: &[u8] = b"\"generation\":";
    const DIGITS: usize = 20;
    let mut window = vec![0; LONGEST_LINE];
    let mut end = length;
    for _ in 0..SEARCHED_WINDOWS {
        let start = end.saturating_sub(window.len() as u64);
        let read = read_at(file, &mut window, start)?;
        if let Some(at) = memchr::memmem::rfind(&window[..read], NAME) {
            let digits = window[at + NAME.len()..read].iter().take_while(|byte| byte.is_ascii_digit());
            let text: String = digits.map(|byte| char::from(*byte)).collect();
            return Ok(text.parse().ok());
        }
        if start == 0 {
            break;
        }
        // With as much of the window before as a name and a number may take.
        end = start + (NAME.len() + DIGITS) as u64;
    }
    Ok(None)
}

/// 8 MiB of lines: as much as 10,000 requests write.
const SEARCHED_WINDOWS: usize = 64;
/// Below this many bytes a file is read on rather than halved.
const BLOCK: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(seq: u64, padding: usize) -> String {
        format!("{{\"seq\":{seq},\"chain\":\"{}\",\"x\":\"{}\"}}\n", Link::FIRST.to_hex(), "x".repeat(padding))
    }

    fn first_seq(directory: &Path, seq: u64) -> (u64, usize) {
        let mut lines = Lines::near(directory, seq).unwrap();
        let mut line = Vec::new();
        for skipped in 0.. {
            match lines.next_into(&mut line).unwrap() {
                Next::Line => match Stamp::of(&line) {
                    Some(stamp) if stamp.seq >= seq => return (stamp.seq, skipped),
                    _ => {}
                },
                Next::TooLong => {}
                Next::End => return (0, skipped),
            }
        }
        unreachable!("the loop returns")
    }

    #[test]
    fn every_line_is_found_without_reading_much() {
        let directory = tempfile::tempdir().unwrap();
        let (mut seq, mut total) = (1, 0);
        for number in 1..=3 {
            let mut text = String::new();
            for _ in 0..2000 {
                text.push_str(&line(seq, usize::try_from(seq % 900).unwrap()));
                seq += 1;
            }
            total += text.len();
            fs::write(path_of(directory.path(), number), text).unwrap();
        }
        assert!(total > 3_000_000);
        for wanted in (1..=6000).step_by(97).chain([1999, 2000, 2001, 2002, 4000, 4001, 6000]) {
            let (found, skipped) = first_seq(directory.path(), wanted);
            assert_eq!(found, wanted);
            assert!(skipped < 800, "{skipped} lines read to find {wanted}");
        }
        assert_eq!(first_seq(directory.path(), 0).0, 1);
        assert_eq!(first_seq(directory.path(), 6001).0, 0);
    }

    #[test]
    fn damaged_stretches_are_searched_past() {
        let directory = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for seq in 1..=3000 {
            text.push_str(&if (500..2500).contains(&seq) { "garbage\n".repeat(20) } else { line(seq, 200) });
        }
        fs::write(path_of(directory.path(), 1), text).unwrap();
        assert_eq!(first_seq(directory.path(), 2700).0, 2700);
        assert_eq!(first_seq(directory.path(), 400).0, 400);
    }

    #[test]
    fn lines_without_end_cost_no_memory() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(path_of(directory.path(), 1), vec![b'x'; 1_000_000]).unwrap();
        fs::write(path_of(directory.path(), 2), line(5, 0)).unwrap();
        let mut lines = Lines::near(directory.path(), 0).unwrap();
        let mut buffer = Vec::new();
        assert!(matches!(lines.next_into(&mut buffer), Ok(Next::TooLong)));
        assert!(buffer.capacity() <= 2 * LONGEST_LINE);
        assert!(matches!(lines.next_into(&mut buffer), Ok(Next::Line)));
        assert_eq!(Stamp::of(&buffer).unwrap().seq, 5);
        assert!(matches!(lines.next_into(&mut buffer), Ok(Next::End)));
    }

    #[test]
    fn the_newest_generation_is_found_far_behind_and_no_text_forges_one() {
        let directory = tempfile::tempdir().unwrap();
        let found = |text: &str| {
            let path = path_of(directory.path(), 1);
            fs::write(&path, text).unwrap();
            newest_generation(&File::open(path).unwrap(), text.len() as u64).unwrap()
        };
        assert_eq!(found(""), None);
        let event = "{\"event\":\"vault.lock\",\"generation\":17}\n";
        let forged = "{\"path\":\"/\\\"generation\\\":99\"}\n";
        assert_eq!(found(&format!("{event}{forged}")), Some(17));
        for lines in [100, 1500, 1700] {
            assert_eq!(found(&format!("{event}{}", line(1, 0).repeat(lines))), Some(17), "{lines} lines behind it");
        }
    }

    #[test]
    fn only_our_names_are_files_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        for name in
            ["000002.jsonl", "000010.jsonl", "000000.jsonl", "1.jsonl", "000001.jsonl.gz", "+00001.jsonl", "abc"]
        {
            fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(numbers(directory.path()).unwrap(), [2, 10]);
    }
}
