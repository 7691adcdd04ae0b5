//! A state over a vault of its own, unlocked, whose disk can be held up and broken.
//!
//! It refuses nothing and serves no socket: operations are called as `dispatch` would. Used by the unit tests of changes.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;

use strongroom_protocol::admin::NewGrant;
use strongroom_protocol::service_manager::ServiceManager;
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::{Given, State};
use crate::audit::record::{Event, EventKind, Record};
use crate::audit::{AuditLog, Fsync};
use crate::config::Config;
use crate::exchange::trust::Trust;
use crate::logbook::Logbook;
use crate::peer::Caller;
use crate::policy::limit::Beginnings;
use crate::vault::create::tests::{KEY, new_vault};
use crate::vault::invariants::tests::furnished;
use crate::vault::room::Room;
use crate::vault::{Contents, Keys, LockedVault, UnlockError, Unlocked, create, every_kind, open_file};
use crate::worker::Worker;

/// Who asks.
pub const ADMIN: Caller = Caller { uid: 1000, gid: 1000, pid: 1 };

/// A grant of `openai` to this agent, without limits of its own.
pub fn new_grant(agent: &str) -> NewGrant {
    NewGrant {
        credential: "openai".parse().unwrap(),
        agent: agent.parse().unwrap(),
        rate: None,
        allow: Vec::new(),
        expires_in: None,
        named: false,
    }
}

/// The state, and where its files are.
pub struct Fixture {
    /// Unlocked, with [`furnished`] contents under [`KEY`].
    pub state: Rc<State>,
    directory: TempDir,
}

impl Fixture {
    /// With every file in a directory of its own.
    pub fn unlocked() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        create::create(&path, &new_vault(), 1).unwrap();
        let vault = LockedVault::open(&path).unwrap();
        let (keys, made) = vault.unlock(&KEY, every_kind).unwrap().into_parts();
        // The only passphrase's slot has no record.
        let contents = Contents { slots: Vec::new(), ca_keys: made.ca_keys, ..furnished() };
        std::fs::write(&path, keys.seal(&contents, Room::Narrowing).unwrap()).unwrap();
        // The file that is there now is the one that was opened.
        drop(vault.unlock(&KEY, every_kind).unwrap());
        let worker = Worker::start(path).unwrap();
        let log = AuditLog::open(&directory.path().join("audit")).unwrap();
        let logbook = Rc::new(Logbook::new(log, Fsync::Never, worker.clone()));
        logbook.open(&contents.audit_key).unwrap();
        logbook.keep(Record::Event(Event::new(EventKind::VaultLock).at_generation(contents.generation)));
        let given = Given {
            vault,
            trust: Trust::with_platform(Vec::new()),
            logbook,
            worker,
            checks: Vec::new(),
            most_channels: 1,
            largest_queue: 1,
            agent_socket: PathBuf::new(),
            manager: ServiceManager::default(),
            beginnings: Beginnings::default(),
        };
        let state = Rc::new(State::new(given, &Config::default()));
        state.unlocked(keys, contents).unwrap();
        Self { state, directory }
    }

    /// Runs what starts tasks of its own.
    pub async fn run<T>(&self, test: impl Future<Output = T>) -> T {
        LocalSet::new().run_until(test).await
    }

    /// Holds the disk up until what this gives is dropped.
    pub fn hold_the_disk(&self) -> mpsc::Sender<()> {
        let (held, until) = mpsc::channel();
        self.state.worker.then(move || {
            let _ = until.recv();
        });
        held
    }

    /// When what was asked before is written, nothing can be written any more.
    pub fn break_the_disk(&self) {
        let temporary = self.temporary();
        self.state.worker.then(move || std::fs::create_dir(temporary).unwrap());
    }

    /// It can be written again.
    pub fn mend_the_disk(&self) {
        std::fs::remove_dir(self.temporary()).unwrap();
    }

    /// The bytes of the file, whatever waits to be written.
    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("vault")).unwrap()
    }

    /// Puts bytes in its place.
    pub fn put(&self, bytes: &[u8]) {
        std::fs::write(self.directory.path().join("vault"), bytes).unwrap();
    }

    /// Moves it away.
    pub fn move_away(&self) {
        let path = self.directory.path().join("vault");
        std::fs::rename(&path, path.with_extension("away")).unwrap();
    }

    /// What is in it.
    pub fn file(&self, key: &[u8]) -> Result<(Keys, Contents), UnlockError> {
        open_file(&self.bytes(), key, every_kind).map(Unlocked::into_parts)
    }

    /// What is in the one before.
    pub fn backup(&self, key: &[u8]) -> Result<(Keys, Contents), UnlockError> {
        let file = std::fs::read(self.directory.path().join("vault.bak")).unwrap();
        open_file(&file, key, every_kind).map(Unlocked::into_parts)
    }

    /// The audit log's lines.
    pub fn audit(&self) -> String {
        drop(self.state.logbook.log());
        let files = std::fs::read_dir(self.directory.path().join("audit")).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// A directory in its place stops every write.
    fn temporary(&self) -> PathBuf {
        self.directory.path().join("vault.tmp")
    }
}
