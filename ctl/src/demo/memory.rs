//! Another process's memory, read whole and searched.
//!
//! Every mapping of /proc/PID/smaps is read through /proc/PID/mem, whatever its permissions, page by page where a page
//! cannot be read; only those are left out of which the kernel holds no page, for interpreters reserve gigabytes. It refuses to call a scan clean that has read nothing: the caller names canaries, texts that must
//! be there, and [`Scan::canaries`] says how often they were. Used by the demo and the leak tests; needs root, or
//! capabilities over the user namespace in which the process began.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use super::needles::Needles;

/// What a scan saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes that were read.
    pub bytes: u64,
    /// Pages that the kernel did not let anyone read: reserved address space, secret memory.
    pub unreadable_pages: u64,
    /// How often any of the canaries was there.
    pub canaries: u64,
    /// The forms in which the key was there, with the mapping.
    pub found: Vec<String>,
}

/// Reads all memory of a process and looks for a key and for canaries.
///
/// # Errors
/// [`MemoryError::Forbidden`] where the kernel does not let us read this process; [`MemoryError::Gone`] where there is
/// no such process, or its memory cannot be listed.
pub fn scan(pid: u32, needles: &Needles, canaries: &[&[u8]]) -> Result<Scan, MemoryError> {
    let memory = File::open(format!("/proc/{pid}/mem")).map_err(|error| MemoryError::new(pid, error))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).map_err(|error| MemoryError::new(pid, error))?;
    let longest = canaries.iter().map(|canary| canary.len()).chain([needles.longest(), 1]).max().unwrap_or(1);
    let mut scan = Scan::default();
    for (start, end, name) in touched(&maps) {
        // The kernel's own pages: they hold code and clocks, and /proc/PID/mem does not give them.
        if matches!(name, "[vvar]" | "[vvar_vclock]" | "[vsyscall]") {
            continue;
        }
        let mut window = Vec::with_capacity(CHUNK + longest);
        let mut at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let kept = window.len();
            window.resize(kept + want, 0);
            let read = memory.read_at(&mut window[kept..], at).unwrap_or(0);
            window.truncate(kept + read);
            if read == 0 {
                // What was seen before the hole does not run on behind it.
                window.clear();
                scan.unreadable_pages += 1;
                at = (at / PAGE + 1) * PAGE;
                continue;
            }
            if let Some(form) = needles.find(&window) {
                scan.found.push(format!("{form} in {}", if name.is_empty() { "anonymous memory" } else { name }));
            }
            // One that lies wholly in what was kept would be counted twice: it is a canary, more than once is fine.
            scan.canaries +=
                canaries.iter().map(|canary| memmem::find_iter(&window, canary).count() as u64).sum::<u64>();
            scan.bytes += read as u64;
            at += read as u64;
            let keep = (longest - 1).min(window.len());
            window.drain(..window.len() - keep);
        }
    }
    // The process may have ended under our eyes; then the last reads were of nothing.
    if scan.bytes == 0 { Err(MemoryError::Gone(pid)) } else { Ok(scan) }
}

/// Why memory was not read.
#[derive(Debug)]
pub enum MemoryError {
    /// The kernel says no.
    Forbidden(u32),
    /// There is no such process, or it ended.
    Gone(u32),
    /// Something else.
    System(u32, io::Error),
}

impl MemoryError {
    fn new(pid: u32, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Forbidden(pid),
            io::ErrorKind::NotFound => Self::Gone(pid),
            _ => Self::System(pid, error),
        }
    }
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(pid) => write!(f, "The memory of process {pid} may not be read. Run this as root."),
            Self::Gone(pid) => write!(f, "Process {pid} is not there any more. Look into its log for the reason."),
            Self::System(pid, error) => write!(f, "The memory of process {pid} could not be read: {error}. Try again."),
        }
    }
}

impl std::error::Error for MemoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(_, error) => Some(error),
            _ => None,
        }
    }
}

/// The mappings of /proc/PID/smaps that have a page in memory or in swap.
fn touched(maps: &str) -> Vec<(u64, u64, &str)> {
    let mut mappings: Vec<(u64, u64, &str)> = Vec::new();
    let mut current = None;
    for line in maps.lines() {
        // Field names have no dash in front of their first space, ranges have one.
        if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            current = mapping(line);
        } else if let Some(size) = ["Rss:", "Swap:"].iter().find_map(|field| line.strip_prefix(field))
            && size.trim() != "0 kB"
        {
            mappings.extend(current.take());
        }
    }
    mappings
}

/// Start, end and name of the first line of one mapping.
fn mapping(line: &str) -> Option<(u64, u64, &str)> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let name = words.nth(4).unwrap_or_default().trim();
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, name))
}

const PAGE: u64 = 4096;
const CHUNK: usize = 1024 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_memory_is_found_and_a_missing_one_is_not() {
        // Made at run time and kept apart, so that neither the binary nor the needles' owner hold them in one piece.
        let make = |seed: u32| -> Vec<u8> {
            (0..48u32).map(|index| b'a' + u8::try_from((index * 7 + seed * index * index) % 26).unwrap()).collect()
        };
        let held = [b"Bearer ".to_vec(), make(3)].concat();
        // Our own memory holds the needles themselves: read a copy of it, in a child that has only `held`.
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env_clear()
            .env("HELD", String::from_utf8(held).unwrap())
            .spawn()
            .unwrap();
        let exec_is_over = || fs::read(format!("/proc/{}/comm", child.id())).is_ok_and(|comm| comm == b"sleep\n");
        while !exec_is_over() {
            std::thread::yield_now();
        }
        let with = scan(child.id(), &Needles::of(&make(3)), &[b"HELD="]);
        let without = scan(child.id(), &Needles::of(&make(5)), &[b"HELD="]);
        child.kill().unwrap();
        child.wait().unwrap();
        match (with, without) {
            (Ok(with), Ok(without)) => {
                assert!(with.found.iter().any(|found| found.contains("literal")), "{with:?}");
                assert!(with.canaries > 0 && without.canaries > 0 && without.bytes > 0);
                assert_eq!(without.found, Vec::<String>::new());
            }
            // Where even a child may not be read there is nothing to prove here; the demo says so to the user.
            (Err(MemoryError::Forbidden(_)), Err(MemoryError::Forbidden(_))) => {}
            (with, without) => panic!("{with:?} {without:?}"),
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(matches!(scan(pid, &Needles::of(b"0123456789abcdef"), &[]), Err(MemoryError::Gone(_))));
    }

    #[test]
    fn lines_of_maps_are_read() {
        assert_eq!(mapping("7f00-7f10 r--p 00000000 08:01 42      /lib/a b.so"), Some((0x7f00, 0x7f10, "/lib/a b.so")));
        assert_eq!(mapping("10-20 rw-p 00000000 00:00 0 "), Some((0x10, 0x20, "")));
        assert_eq!(mapping("garbage"), None);
    }

    #[test]
    fn only_mappings_with_pages_are_read_and_each_once() {
        let one = |range: &str, rss: u32, swap: u32| {
            format!(
                "{range} rw-p 00000000 00:00 0 \nSize: 64 kB\nRss: {rss} kB\nPrivate_Dirty: 4 kB\nSwap: {swap} kB\nVmFlags: rd wr\n"
            )
        };
        let text = [one("10-20", 4, 4), one("20-30", 0, 0), one("30-40", 0, 8)].concat();
        assert_eq!(touched(&text), [(0x10, 0x20, ""), (0x30, 0x40, "")]);
    }
}
