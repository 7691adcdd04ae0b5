//! The same two lines as keyd's for each request, by keyd's own encoder, chain and writer, and on the disk each second.
//!
//! It refuses to let a request pass that is not on record. Called by `forward`.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use strongroom_protocol::Name;

use crate::audit::record::{Decision, Ended, Evidence, Record, Request};
use crate::audit::{AuditError, AuditLog};
use crate::forward::Failure;

/// The log.
pub struct Book {
    log: RefCell<AuditLog>,
    dirty: Cell<bool>,
    random: SystemRandom,
    name: Name,
    host: String,
}

/// A request that is under way; its second line is written when this is dropped.
pub struct Entry {
    book: Rc<Book>,
    began: Instant,
    /// What the line says.
    pub line: Ended,
    uploaded: u64,
}

impl Book {
    /// A log of its own, with a fresh chain.
    pub fn open(directory: &Path, host: &str) -> Result<Rc<Self>, Failure> {
        let random = SystemRandom::new();
        let mut key = [0; 32];
        random.fill(&mut key).map_err(|_| "no random bytes")?;
        let mut log = AuditLog::open(directory)?;
        log.unlocked(&key)?;
        let (name, host) = ("bench".parse()?, host.to_owned());
        Ok(Rc::new(Self { log: RefCell::new(log), dirty: Cell::new(false), random, name, host }))
    }

    /// Writes the first line.
    pub fn allowed(self: &Rc<Self>, head: &http::request::Parts, uploaded: u64) -> Result<Entry, AuditError> {
        let mut bytes = [0; 16];
        // Without randomness the id is zero; it names a line and protects nothing.
        let _ = self.random.fill(&mut bytes);
        let request_id = format!("{:032x}", u128::from_be_bytes(bytes));
        self.write(&Record::Request(Request {
            request_id: Some(request_id.clone()),
            agent: Some(self.name.clone()),
            evidence: Some(Evidence::Placeholder),
            credential: Some(self.name.clone()),
            more_credentials: Vec::new(),
            method: Some(head.method.as_str().to_owned()),
            host: Some(self.host.clone()),
            path: Some(head.uri.path().to_owned()),
            decision: Decision::Allowed,
            count: None,
        }))?;
        let line = Ended {
            request_id,
            agent: Some(self.name.clone()),
            credential: Some(self.name.clone()),
            more_credentials: Vec::new(),
            status: None,
            failure: None,
            bytes_in: 0,
            bytes_out: 0,
            duration_ms: 0,
            scrubbed: 0,
            usage: None,
        };
        Ok(Entry { book: Rc::clone(self), began: Instant::now(), line, uploaded })
    }

    /// As keyd does it: once a second, in another thread, where something was written.
    pub async fn sync_each_second(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.dirty.replace(false) {
                let file = self.log.borrow().file();
                // A benchmark that loses its log to a crash of the machine has lost nothing.
                let _ = tokio::task::spawn_blocking(move || file.sync_data()).await;
            }
        }
    }

    fn write(&self, record: &Record) -> Result<(), AuditError> {
        self.dirty.set(true);
        self.log.borrow_mut().append_all(std::iter::once((record, SystemTime::now()))).map(drop)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.line.bytes_in = self.uploaded;
        self.line.duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The use was on record.
        let _ = self.book.write(&Record::Ended(self.line.clone()));
    }
}
