//! keyd's side of the audit log: when to write, when to wait for the disk, what to do when it cannot be written.
//!
//! The log itself is `audit/`; lines can be written while the vault is unlocked, for its chain is keyed with a key of
//! the vault's. This file holds it together with the counter of repeated refusals and the thread that waits for the
//! disk. Uses, and admin operations that give access, are refused when their line cannot be written. Of what has happened
//! already (ends, refusals, access that was taken away) nothing is left to refuse: such lines wait until there is room
//! again, behind one that marks the gap, and `status` shows the trouble meanwhile. Called by `exchange/record.rs`, `admin/`
//! and `serve.rs`.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use strongroom_protocol::Refusal;

use crate::audit::record::{Event, EventKind, Record, Request};
use crate::audit::{AuditError, AuditLog, Found, Fsync, RefusalCounter};
use crate::worker::Worker;

/// The log in use.
pub struct Logbook {
    log: RefCell<AuditLog>,
    refusals: RefCell<RefusalCounter>,
    fsync: Fsync,
    worker: Worker,
    /// Lines about what has happened: written with the next one, or as soon as they can be.
    owed: RefCell<VecDeque<(Record, SystemTime)>>,
    /// Everybody who is ready now has a turn before they are written.
    is_flush_coming: Cell<bool>,
    /// Of those that had to wait, so many were too many.
    lost: Cell<u64>,
    /// Since when nothing can be written.
    gap: Cell<Option<SystemTime>>,
    dirty: Cell<bool>,
    /// The disk did not take what was written. Linux says so once, and may count the lost pages as written from then on
    /// (fsync(2)), so a later success proves nothing of them.
    is_unsynced: Cell<bool>,
    /// The vault's generation in the last line that named one, a line that waits among them.
    told: Cell<Option<u64>>,
}

impl Logbook {
    /// Over an opened log.
    #[must_use]
    pub fn new(log: AuditLog, fsync: Fsync, worker: Worker) -> Self {
        Self {
            log: RefCell::new(log),
            refusals: RefCell::default(),
            fsync,
            worker,
            owed: RefCell::default(),
            is_flush_coming: Cell::new(false),
            lost: Cell::new(0),
            gap: Cell::new(None),
            dirty: Cell::new(false),
            is_unsynced: Cell::new(false),
            told: Cell::new(None),
        }
    }

    /// The log, to read it.
    pub fn log(&self) -> RefMut<'_, AuditLog> {
        self.flush();
        self.log.borrow_mut()
    }

    /// The vault was unlocked: lines can be written. Says what the log knows of the vault.
    ///
    /// # Errors
    /// Where the log cannot be continued: without it no key may be used.
    pub fn open(&self, key: &[u8]) -> Result<Found, AuditError> {
        let found = self.log.borrow_mut().unlocked(key);
        let found = found.inspect_err(|error| tracing::error!(%error, "the audit log cannot be used"))?;
        // What is in the file now is what the chain goes on from.
        self.is_unsynced.set(false);
        // A line that waits is newer than all that are written.
        Ok(Found { generation: self.told.get().or(found.generation), ..found })
    }

    /// The vault's generation that the log has, or will have.
    #[must_use]
    pub fn told(&self) -> Option<u64> {
        self.told.get()
    }

    /// Whether half of the room for lines that wait is free: who never stops guessing at a locked vault gets no more.
    #[must_use]
    pub fn has_room_for_guesses(&self) -> bool {
        self.owed.borrow().len() < MOST_OWED / 2
    }

    /// The vault was locked: what was counted is written, and the key is wiped.
    pub fn close(self: &Rc<Self>) {
        let counted = self.refusals.borrow_mut().take_all();
        counted.into_iter().for_each(|record| self.keep(record));
        self.flush();
        self.log.borrow_mut().locked();
        self.sync_soon();
    }

    /// Whether the last line could not be written, or not be put on the disk.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.gap.get().is_some() || self.is_unsynced.get()
    }

    /// Whether a use would be refused, as far as is known without writing its line.
    #[must_use]
    pub fn refuses_uses(&self) -> bool {
        self.gap.get().is_some() || self.fsync == Fsync::Always && self.is_unsynced.get()
    }

    /// With `fsync = "always"`: what was written is on the disk when this returns.
    ///
    /// # Errors
    /// Where it is not, or something before it is not: what it announces must not be done.
    pub async fn settle(&self) -> Result<(), AuditError> {
        if self.fsync == Fsync::Always { self.sync().await } else { Ok(()) }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Where it cannot be written: what it announces must not be done.
    pub fn write(&self, record: &Record) -> Result<(), AuditError> {
        self.append(Some(record))
    }

    /// Writes a line about what has happened already, or is done whatever the disk says: now, or when it can be.
    pub fn keep(&self, record: Record) {
        self.owe(record);
        self.flush();
    }

    /// The same for the end of a use, with the next line, or when those who are ready now have had their turn. So a busy
    /// keyd makes one call for several lines, and an idle one waits for nothing.
    pub fn keep_end(self: &Rc<Self>, record: Record) {
        self.owe(record);
        if !self.is_flush_coming.replace(true) {
            let book = Rc::clone(self);
            tokio::task::spawn_local(async move { book.flush() });
        }
    }

    fn owe(&self, record: Record) {
        let mut owed = self.owed.borrow_mut();
        if owed.len() < MOST_OWED {
            self.tells(&record);
            owed.push_back((record, SystemTime::now()));
        } else {
            self.lost.set(self.lost.get() + 1);
        }
    }

    /// What cannot be written stays owed, and `status` shows the trouble.
    fn flush(&self) {
        self.is_flush_coming.set(false);
        if !self.owed.borrow().is_empty() || self.gap.get().is_some() {
            let _ = self.append(None);
        }
    }

    /// What is owed, and behind it a line of now; all or nothing.
    fn append(&self, announced: Option<&Record>) -> Result<(), AuditError> {
        let (owed, lost, now) = (self.owed.take(), self.lost.get(), SystemTime::now());
        let since = self.gap.get().or((lost > 0).then_some(now));
        let mark = since.map(|since| {
            let event = Event { lines_lost: Some(lost), ..Event::new(EventKind::AuditGap) };
            (Record::Event(event), since)
        });
        let before = mark.iter().chain(&owed).map(|(record, time)| (record, *time));
        let written = self.log.borrow_mut().append_all(before.chain(announced.map(|record| (record, now)))).map(drop);
        match &written {
            Ok(()) => {
                self.lost.set(0);
                announced.into_iter().for_each(|record| self.tells(record));
                if self.gap.take().is_some() {
                    tracing::info!("the audit log can be written again");
                }
            }
            // After the vault was locked nothing can be written, and nothing is wrong with the disk.
            Err(AuditError::Locked) => *self.owed.borrow_mut() = owed,
            Err(error) => {
                if let AuditError::TooLong(_) = error {
                    // It would never be written, and nothing behind it.
                    self.lost.set(lost + owed.len() as u64);
                } else {
                    *self.owed.borrow_mut() = owed;
                }
                self.is_unwritable(error);
            }
        }
        self.dirty.set(true);
        written
    }

    fn tells(&self, record: &Record) {
        if let Record::Event(Event { generation: Some(generation), .. }) = record {
            self.told.set(Some(*generation));
        }
    }

    fn is_unwritable(&self, error: &AuditError) {
        if self.gap.get().is_none() {
            self.gap.set(Some(SystemTime::now()));
            tracing::error!(%error, "the audit log cannot be written");
        }
    }

    /// Writes a refusal, or counts it where the same was written within the second.
    pub fn refusal(&self, request: Request, refusal: Refusal) {
        if self.refusals.borrow_mut().note(request.agent.as_ref(), refusal, Instant::now()) {
            self.keep(Record::Request(request));
        }
    }

    /// Once a second: counted refusals are written, and what is owed; and written lines go to the disk.
    pub fn tick(self: &Rc<Self>) {
        let due = self.refusals.borrow_mut().take_due(Instant::now());
        due.into_iter().for_each(|record| self.keep(record));
        // Where nobody writes, it is to be seen all the same that nobody could.
        if let Err(error) = self.log.borrow().in_place() {
            self.is_unwritable(&error);
        }
        self.flush();
        if self.fsync != Fsync::Never && self.dirty.get() {
            self.sync_soon();
        }
    }

    /// Waits until every line is on the disk.
    ///
    /// # Errors
    /// The disk's, and [`AuditError::Unsynced`] after one until the vault is unlocked anew.
    pub async fn sync(&self) -> Result<(), AuditError> {
        let file = self.log.borrow().file();
        self.dirty.set(false);
        if let Err(error) = self.worker.sync(file).await {
            self.dirty.set(true);
            self.is_unsynced.set(true);
            tracing::error!(%error, "the audit log could not be put on the disk");
            return Err(AuditError::from(error));
        }
        if self.is_unsynced.get() { Err(AuditError::Unsynced) } else { Ok(()) }
    }

    fn sync_soon(self: &Rc<Self>) {
        let book = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // Said in the log, and tried again a second later.
            let _ = book.sync().await;
        });
    }
}

/// Lines that wait for room, some hundred bytes each.
const MOST_OWED: usize = 4096;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::audit::writer::tests::KEY;

    #[tokio::test(flavor = "current_thread")]
    async fn guesses_at_a_locked_vault_leave_room_for_other_lines_and_are_written_when_it_opens() {
        let directory = tempfile::tempdir().unwrap();
        let worker = Worker::start(directory.path().join("vault")).unwrap();
        let book = Logbook::new(AuditLog::open(directory.path()).unwrap(), Fsync::Never, worker);
        let guess = || Record::Event(Event::new(EventKind::WrongPassphrase));
        let mut kept = 0;
        while book.has_room_for_guesses() {
            book.keep(guess());
            kept += 1;
        }
        assert_eq!((kept, book.is_broken()), (MOST_OWED / 2, false));
        book.open(&KEY).unwrap();
        book.write(&Record::Event(Event::new(EventKind::VaultUnlock))).unwrap();
        assert!(book.has_room_for_guesses() && book.lost.get() == 0);
        let lines = std::fs::read_dir(directory.path()).unwrap().flatten();
        let text: String = lines.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
        assert_eq!(text.matches("vault.wrong-passphrase").count(), kept);
    }

    /// A disk that fails once: its thread is gone, and is there again.
    #[tokio::test(flavor = "current_thread")]
    async fn a_line_that_may_be_lost_is_not_forgiven_by_a_later_success() {
        for fsync in [Fsync::Always, Fsync::Interval] {
            let directory = tempfile::tempdir().unwrap();
            let log = AuditLog::open(directory.path()).unwrap();
            let worker = || Worker::start(directory.path().join("vault")).unwrap();
            let mut book = Logbook::new(log, fsync, worker());
            book.open(&KEY).unwrap();
            let line = Record::Event(Event::new(EventKind::VaultLock));
            book.write(&line).unwrap();
            assert!(book.settle().await.is_ok() && !book.is_broken());
            book.worker = Worker::without_a_thread();
            assert!(book.sync().await.is_err() && book.is_broken());
            book.worker = worker();
            book.write(&line).unwrap();
            assert_eq!(book.settle().await.is_err(), fsync == Fsync::Always, "what waits for the disk is refused");
            assert!(book.sync().await.is_err() && book.is_broken());
            book.open(&KEY).unwrap();
            assert!(book.settle().await.is_ok() && !book.is_broken(), "unlocked anew");
        }
    }
}
