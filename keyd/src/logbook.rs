//! keyd's side of the audit log: when to write, when to wait for the disk, what to do when it cannot be written.
//!
//! The log itself is `audit/`; lines can be written while the vault is unlocked, for its chain is keyed with a key of
//! the vault's. This file holds it together with the counter of repeated refusals and the thread that waits for the
//! disk. Uses, and admin operations that give access, are refused when their line cannot be written; for ends and
//! refusals nothing is left to refuse, but the trouble is shown by `status`. Called by `exchange/record.rs`, `admin/`
//! and `serve.rs`.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use strongroom_protocol::Refusal;

use crate::audit::record::{Record, Request};
use crate::audit::{AuditError, AuditLog, Fsync, RefusalCounter};
use crate::worker::Worker;

/// The log in use.
pub struct Logbook {
    log: RefCell<AuditLog>,
    refusals: RefCell<RefusalCounter>,
    fsync: Fsync,
    worker: Worker,
    /// Ends that are written with the next line, or when everybody who is ready now has had a turn.
    ends: RefCell<Vec<(Record, SystemTime)>>,
    dirty: Cell<bool>,
    broken: Cell<bool>,
}

impl Logbook {
    /// Over an opened log.
    #[must_use]
    pub fn new(log: AuditLog, fsync: Fsync, worker: Worker) -> Self {
        let (refusals, ends) = (RefCell::default(), RefCell::default());
        let (dirty, broken) = (Cell::new(false), Cell::new(false));
        Self { log: RefCell::new(log), refusals, fsync, worker, ends, dirty, broken }
    }

    /// The log, to read it.
    pub fn log(&self) -> RefMut<'_, AuditLog> {
        self.write_ends();
        self.log.borrow_mut()
    }

    /// The vault was unlocked: lines can be written. Gives the newest generation of the vault that the log knows of.
    ///
    /// # Errors
    /// Where the log cannot be continued: without it no key may be used.
    pub fn open(&self, key: &[u8]) -> Result<Option<u64>, AuditError> {
        self.log.borrow_mut().unlocked(key).inspect_err(|error| tracing::error!(%error, "the audit log cannot be used"))
    }

    /// The vault was locked: what was counted is written, and the key is wiped.
    pub fn close(self: &Rc<Self>) {
        let counted = self.refusals.borrow_mut().take_all();
        for record in counted {
            let _ = self.write(&record);
        }
        self.write_ends();
        self.log.borrow_mut().locked();
        self.sync_soon();
    }

    /// Whether the last line could not be written.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Writes a line; with `fsync = "always"` it is on the disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be written: what it announces must not be done.
    pub async fn write_before(&self, record: &Record) -> Result<(), AuditError> {
        self.write(record)?;
        if self.fsync == Fsync::Always {
            self.sync().await?;
        }
        Ok(())
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), AuditError> {
        let ends = self.ends.take();
        let announced = std::iter::once((record, SystemTime::now()));
        let written = self
            .log
            .borrow_mut()
            .append_all(ends.iter().map(|(record, time)| (record, *time)).chain(announced))
            .map(drop);
        self.note(&written);
        written
    }

    /// Writes the end of a use, soon: with the next line, or when those who are ready now have had their turn. So a busy
    /// keyd makes one call for several lines, and an idle one waits for nothing.
    pub fn write_end(self: &Rc<Self>, record: Record) {
        let mut ends = self.ends.borrow_mut();
        ends.push((record, SystemTime::now()));
        if ends.len() == 1 {
            let book = Rc::clone(self);
            tokio::task::spawn_local(async move { book.write_ends() });
        }
    }

    /// Writes the end of something that nobody hurries, at once.
    pub fn write_end_now(&self, record: Record) {
        // There is nothing to refuse, and `status` shows the trouble.
        let _ = self.write(&record);
    }

    fn write_ends(&self) {
        let ends = self.ends.take();
        if !ends.is_empty() {
            let lines = ends.iter().map(|(record, time)| (record, *time));
            let written = self.log.borrow_mut().append_all(lines).map(drop);
            self.note(&written);
        }
    }

    fn note(&self, written: &Result<(), AuditError>) {
        match written {
            // An exchange that ended after the vault was locked: nothing is wrong with the disk.
            Err(AuditError::Locked) => {}
            Err(error) if !self.broken.replace(true) => tracing::error!(%error, "the audit log cannot be written"),
            Ok(()) if self.broken.replace(false) => tracing::info!("the audit log can be written again"),
            _ => {}
        }
        self.dirty.set(true);
    }

    /// Writes a refusal, or counts it where the same was written within the second.
    pub fn refusal(&self, request: Request, refusal: Refusal) {
        if self.refusals.borrow_mut().note(request.agent.as_ref(), refusal, Instant::now()) {
            // There is nothing left to refuse.
            let _ = self.write(&Record::Request(request));
        }
    }

    /// Once a second: counted refusals are written, and written lines go to the disk.
    pub fn tick(self: &Rc<Self>) {
        let due = self.refusals.borrow_mut().take_due(Instant::now());
        for record in due {
            let _ = self.write(&record);
        }
        if self.fsync == Fsync::Interval && self.dirty.get() {
            self.sync_soon();
        }
    }

    /// Waits until every line is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sync(&self) -> Result<(), AuditError> {
        let file = self.log.borrow().file();
        self.dirty.set(false);
        self.worker.sync(file).await.map_err(|source| {
            self.dirty.set(true);
            self.broken.set(true);
            tracing::error!(error = %source, "the audit log could not be put on the disk");
            AuditError::from(source)
        })
    }

    fn sync_soon(self: &Rc<Self>) {
        let book = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // Said in the log, and tried again a second later.
            let _ = book.sync().await;
        });
    }
}
