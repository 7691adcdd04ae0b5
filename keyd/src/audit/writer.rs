//! The log's one writer: a line is in the kernel's hands, whole, before `append` returns.
//!
//! The files are opened at the start; the audit key comes with each unlocking, and without it no line can be written.
//! A write that fails half-way (a full disk) is cut off again, so the log stays valid and goes on by itself when there
//! is space. A torn line that a crash left was never acted upon: it is cut and noted. It refuses to write to a file that
//! has lost its name, for nobody would read that, and to continue a log whose end it cannot read. Files are rotated by
//! size; the chain runs on across them. Called by `logbook.rs`.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use strongroom_protocol::admin::AuditVerified;

use super::chain::Link;
use super::files::{self, LONGEST_LINE, Stamp};
use super::reader::{self, Filter, Page};
use super::record::{self, Event, EventKind, Record};
use super::verify::{self, Head};
use crate::secret::Secret;

/// When lines are pressed onto the disk. A crash of keyd loses nothing in any case; a crash of the machine may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Once a second.
    Interval,
    /// Before what a line announces is done.
    Always,
    /// When the kernel likes.
    Never,
}

/// The log.
pub struct AuditLog {
    directory: PathBuf,
    file: Arc<File>,
    number: u32,
    /// While the vault is unlocked.
    chain: Option<Chain>,
    /// Sequence number of the last line that was there; kept while the vault is locked, so that it shows if lines go.
    last: u64,
    rotate_at: u64,
}

/// What the end of the log says when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The vault's generation in the last line that names one: 0 where there is no line at all, nothing where it is not
    /// known.
    pub generation: Option<u64>,
    /// Lines that were there when this process last looked.
    pub lines_lost: u64,
}

/// Where the chain is, and what it takes to go on.
struct Chain {
    key: Secret,
    head: Head,
    /// Bytes of whole lines in the file.
    length: u64,
    /// Bytes behind `length` may hold a part of a line.
    torn: bool,
    /// Bytes of a torn line that were cut and are not noted yet.
    cut: u64,
}

impl AuditLog {
    /// Opens the newest file in a directory that is made where it is missing. Nothing is read yet.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn open(directory: &Path) -> Result<Self, AuditError> {
        let open_error = |source| AuditError::Open { path: directory.to_owned(), source };
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(open_error(source)),
            _ => {}
        }
        let (file, number) = open_newest(directory)?;
        let directory = directory.to_owned();
        Ok(Self { directory, file, number, chain: None, last: 0, rotate_at: ROTATE_AT })
    }

    /// The vault was unlocked: goes on after the last whole line, and says what the log knows of the vault. A file that
    /// has lost its name by now is given up, and what lies in the directory is the log.
    ///
    /// # Errors
    /// [`AuditError::Open`], [`AuditError::NoRoom`], and [`AuditError::Damaged`] where the last line is none of ours.
    pub fn unlocked(&mut self, key: &[u8]) -> Result<Found, AuditError> {
        let key = Secret::copy_from(key).map_err(|_| AuditError::NoRoom)?;
        if let Err(AuditError::Gone { .. }) = self.has_name() {
            self.chain = None;
            (self.file, self.number) = open_newest(&self.directory)?;
        }
        let path = files::path_of(&self.directory, self.number);
        let open_error = |source| AuditError::Open { path: path.clone(), source };
        let tail = Tail::of(&self.file).map_err(open_error)?;
        let head = match &tail.last {
            Last::Line(line) => head_after(line, &key),
            Last::None => self.head_of_the_file_before(&key).map_err(open_error)?,
            Last::TooLong => None,
        };
        let head = head.ok_or_else(|| AuditError::Damaged { path: path.clone() })?;
        if tail.torn > 0 {
            self.file.set_len(tail.length).map_err(open_error)?;
        }
        let generation = if head.next == 1 { Some(0) } else { self.generation(tail.length).map_err(open_error)? };
        let lines_lost = (self.last + 1).saturating_sub(head.next);
        self.last = head.next - 1;
        // Noted in front of the next line: there may be no room for it now.
        self.chain = Some(Chain { key, head, length: tail.length, torn: false, cut: tail.torn });
        Ok(Found { generation, lines_lost })
    }

    /// The vault's generation in the last line that names one.
    fn generation(&self, length: u64) -> io::Result<Option<u64>> {
        let found = files::newest_generation(&self.file, length)?;
        // The newest file may have been begun a moment ago.
        if found.is_none()
            && self.number > 1
            && let Ok(before) = files::open(&self.directory, self.number - 1)
        {
            let length = before.metadata()?.len();
            return files::newest_generation(&before, length);
        }
        Ok(found)
    }

    /// Whether the file that lines go to is the one that has its name. While no line can be written it does not matter.
    ///
    /// # Errors
    /// [`AuditError::Gone`], and [`AuditError::Open`] where the kernel does not say.
    pub fn in_place(&self) -> Result<(), AuditError> {
        if self.chain.is_some() { self.has_name() } else { Ok(()) }
    }

    fn has_name(&self) -> Result<(), AuditError> {
        let path = files::path_of(&self.directory, self.number);
        let which = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let compared = self.file.metadata().and_then(|ours| match fs::symlink_metadata(&path) {
            Ok(named) => Ok(which(ours) == which(named)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        });
        match compared {
            Ok(true) => Ok(()),
            Ok(false) => Err(AuditError::Gone { path }),
            Err(source) => Err(AuditError::Open { path, source }),
        }
    }

    /// The vault was locked: wipes the key. No line can be written until it is unlocked again.
    pub fn locked(&mut self) {
        self.chain = None;
    }

    /// Writes one record.
    #[cfg(test)]
    pub fn append(&mut self, record: &Record, now: SystemTime) -> Result<u64, AuditError> {
        self.append_all([(record, now)].into_iter())
    }

    /// Writes records with one call, all of them or none, and gives the last one's sequence number. When this returns,
    /// the lines are in the kernel's page cache: a crash of keyd cannot lose them any more.
    ///
    /// # Errors
    /// [`AuditError`]; the log is as it was, and what the records announce must not be done.
    pub fn append_all<'a>(
        &mut self,
        records: impl Iterator<Item = (&'a Record, SystemTime)> + Clone,
    ) -> Result<u64, AuditError> {
        if let Some((_, first)) = records.clone().next() {
            self.note_cut(first)?;
        }
        self.write_lines(records)
    }

    /// The file that lines go to, for the worker to sync.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// A page of lines, from a sequence number on.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn read(&self, from: u64, filter: &Filter) -> Result<Page, AuditError> {
        reader::read(&self.directory, from, filter).map_err(|source| self.read_error(source))
    }

    /// Recomputes a stretch of the chain, from a sequence number on.
    ///
    /// # Errors
    /// [`AuditError::Open`], and [`AuditError::Locked`], for where the log ends is known while it is unlocked.
    pub fn verify(&self, key: &[u8], from: u64) -> Result<AuditVerified, AuditError> {
        let head = self.chain.as_ref().ok_or(AuditError::Locked)?.head;
        verify::verify(&self.directory, key, from, head, VERIFY_LINES).map_err(|source| self.read_error(source))
    }

    fn note_cut(&mut self, now: SystemTime) -> Result<(), AuditError> {
        if let Some(Chain { cut: cut @ 1.., .. }) = self.chain {
            let event = Event { bytes_cut: Some(cut), ..Event::new(EventKind::AuditRecovered) };
            self.write_lines([(&Record::Event(event), now)].into_iter())?;
            if let Some(chain) = &mut self.chain {
                chain.cut = 0;
            }
        }
        Ok(())
    }

    fn write_lines<'a>(&mut self, records: impl Iterator<Item = (&'a Record, SystemTime)>) -> Result<u64, AuditError> {
        self.in_place()?;
        let chain = self.chain.as_mut().ok_or(AuditError::Locked)?;
        let (mut lines, mut head) = (Vec::new(), chain.head);
        for (record, now) in records {
            let begin = lines.len();
            record::encode(record, head.next, now, &head.link, &mut lines);
            let line = &lines[begin..];
            if line.len() > LONGEST_LINE {
                return Err(AuditError::TooLong(line.len()));
            }
            head = Head { next: head.next + 1, link: head.link.next(&chain.key, &line[..line.len() - 1]) };
        }
        let write_error = |number, source| AuditError::Write { path: files::path_of(&self.directory, number), source };
        if let Err(source) = mend(&self.file, chain) {
            return Err(write_error(self.number, source));
        }
        if chain.length > 0 && chain.length + lines.len() as u64 > self.rotate_at {
            (self.file, self.number) = next_file(&self.directory, &self.file, self.number)?;
            chain.length = 0;
        }
        chain.torn = true;
        if let Err(source) = (&*self.file).write_all(&lines) {
            // At once, so that readers and the next start find whole lines; tried again where even this fails.
            let _ = mend(&self.file, chain);
            return Err(write_error(self.number, source));
        }
        chain.torn = false;
        chain.length += lines.len() as u64;
        chain.head = head;
        self.last = head.next - 1;
        Ok(self.last)
    }

    /// The newest file was made and nothing was written yet: the one before has the last line, if there is one.
    fn head_of_the_file_before(&self, key: &[u8]) -> io::Result<Option<Head>> {
        if self.number == 1 {
            return Ok(Some(Head { next: 1, link: Link::FIRST }));
        }
        let numbers = files::numbers(&self.directory)?;
        let Some(&before) = numbers.iter().rev().find(|&&number| number < self.number) else { return Ok(None) };
        match Tail::of(&files::open(&self.directory, before)?)? {
            Tail { last: Last::Line(line), torn: 0, .. } => Ok(head_after(&line, key)),
            _ => Ok(None),
        }
    }

    fn read_error(&self, source: io::Error) -> AuditError {
        AuditError::Open { path: self.directory.clone(), source }
    }
}

/// The newest file in a directory, or the first.
fn open_newest(directory: &Path) -> Result<(Arc<File>, u32), AuditError> {
    let open_error = |source| AuditError::Open { path: directory.to_owned(), source };
    let number = files::numbers(directory).map_err(open_error)?.last().copied().unwrap_or(1);
    let path = files::path_of(directory, number);
    let file = open_to_append(&path).map_err(|source| AuditError::Open { path, source })?;
    sync_directory(directory).map_err(open_error)?;
    Ok((Arc::new(file), number))
}

/// Cuts off what a failed write left behind the last whole line.
fn mend(file: &File, chain: &mut Chain) -> io::Result<()> {
    if chain.torn {
        if file.metadata()?.len() > chain.length {
            file.set_len(chain.length)?;
        }
        chain.torn = false;
    }
    Ok(())
}

/// Begins the next file. The old one is put on the disk first, for nobody asks for it any more.
fn next_file(directory: &Path, old: &File, number: u32) -> Result<(Arc<File>, u32), AuditError> {
    let number = number + 1;
    let path = files::path_of(directory, number);
    let opened =
        old.sync_data().and_then(|()| open_to_append(&path)).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (length, file) = opened.map_err(|source| AuditError::Write { path: path.clone(), source })?;
    if length > 0 {
        return Err(AuditError::Damaged { path });
    }
    sync_directory(directory).map_err(|source| AuditError::Write { path, source })?;
    Ok((Arc::new(file), number))
}

/// The end of a file.
struct Tail {
    /// Bytes up to and with the last newline.
    length: u64,
    /// Bytes behind it.
    torn: u64,
    last: Last,
}

enum Last {
    /// The last whole line, without its newline.
    Line(Vec<u8>),
    /// There is no whole line.
    None,
    /// There is a newline, and no beginning of its line within the longest line's length.
    TooLong,
}

impl Tail {
    fn of(file: &File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let start = size.saturating_sub(2 * LONGEST_LINE as u64);
        let mut window = vec![0; 2 * LONGEST_LINE];
        let length = files::read_at(file, &mut window, start)?;
        window.truncate(length);
        let Some(end) = window.iter().rposition(|&byte| byte == b'\n') else {
            let last = if start == 0 { Last::None } else { Last::TooLong };
            return Ok(Self { length: 0, torn: size, last });
        };
        let begin = window[..end].iter().rposition(|&byte| byte == b'\n').map(|newline| newline + 1);
        let last = match begin {
            Some(begin) => Last::Line(window[begin..end].to_vec()),
            None if start == 0 => Last::Line(window[..end].to_vec()),
            None => Last::TooLong,
        };
        let length = start + end as u64 + 1;
        Ok(Self { length, torn: size - length, last })
    }
}

fn head_after(line: &[u8], key: &[u8]) -> Option<Head> {
    let stamp = Stamp::of(line)?;
    Some(Head { next: stamp.seq.checked_add(1)?, link: stamp.before.next(key, line) })
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Why a record was not written, or the log not read.
#[derive(Debug)]
pub enum AuditError {
    /// A file or the directory cannot be opened or read.
    Open {
        /// Which.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A line could not be written.
    Write {
        /// To this file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The file that lines go to was removed or renamed, or another has its name.
    Gone {
        /// Its name.
        path: PathBuf,
    },
    /// The end of this file is none of ours, so the chain cannot go on from it.
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The line would have this many bytes.
    TooLong(usize),
    /// The vault is locked, and the chain's key with it.
    Locked,
    /// The chain's key does not fit into locked memory.
    NoRoom,
    /// Lines are written, and could not be put on the disk.
    Sync(io::Error),
    /// That was so a while ago, and what became of them is not known.
    Unsynced,
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => {
                write!(f, "the audit log {} cannot be read: {source}. Check its owner and the disk.", path.display())
            }
            Self::Write { path, source } => {
                write!(f, "the audit log {} cannot be written: {source}. Make room on its disk.", path.display())
            }
            Self::Gone { path } => {
                write!(
                    f,
                    "the audit log {} was removed, renamed or replaced while it is written. Put that same file back under its name; where it is lost, lock and unlock the vault, and the log says that lines are missing.",
                    path.display()
                )
            }
            Self::Damaged { path } => {
                write!(
                    f,
                    "the end of the audit log {} is damaged. Keep a copy of it, and restore it or cut it back to its last good line.",
                    path.display()
                )
            }
            Self::Locked => f.write_str("the audit log is not written while the vault is locked. Unlock the vault."),
            Self::NoRoom => {
                f.write_str("there is no locked memory left. Raise the limit on locked memory and start keyd again.")
            }
            Self::Sync(source) => write!(f, "the audit log could not be put on the disk: {source}. Check the disk."),
            Self::Unsynced => f.write_str(
                "lines of the audit log may be missing on the disk. Check the disk, then lock and unlock the vault.",
            ),
            Self::TooLong(length) => {
                write!(f, "an audit record of {length} bytes is over the limit. Shorten the request's path.")
            }
        }
    }
}

impl std::error::Error for AuditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { source, .. } | Self::Write { source, .. } | Self::Sync(source) => Some(source),
            Self::Gone { .. }
            | Self::Damaged { .. }
            | Self::TooLong(_)
            | Self::Locked
            | Self::NoRoom
            | Self::Unsynced => None,
        }
    }
}

/// What the worker says when it could not sync.
impl From<io::Error> for AuditError {
    fn from(source: io::Error) -> Self {
        Self::Sync(source)
    }
}

/// A new file is begun before one grows over this.
const ROTATE_AT: u64 = 64 * 1024 * 1024;

/// Lines that one call verifies: some milliseconds of work.
const VERIFY_LINES: u64 = 2000;

#[cfg(test)]
#[path = "writer_tests.rs"]
pub mod tests;
