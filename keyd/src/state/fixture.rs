//! A state over a vault of its own, unlocked. For tests.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::rc::Rc;

use strongroom_protocol::service_manager::ServiceManager;
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::{Given, State};
use crate::audit::{AuditLog, Fsync};
use crate::config::Config;
use crate::exchange::trust::Trust;
use crate::logbook::Logbook;
use crate::peer::Caller;
use crate::policy::limit::Beginnings;
use crate::vault::create::tests::{KEY, new_vault};
use crate::vault::invariants::tests::furnished;
use crate::vault::{Contents, LockedVault, create, every_kind};
use crate::worker::Worker;

/// Who asks.
pub const ADMIN: Caller = Caller { uid: 1000, gid: 1000, pid: 1 };

/// The state, and where its files are.
pub struct Fixture {
    /// Unlocked, with [`furnished`] contents under [`KEY`].
    pub state: Rc<State>,
    _directory: TempDir,
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
        std::fs::write(&path, keys.seal(&contents).unwrap()).unwrap();
        let worker = Worker::start(path).unwrap();
        let log = AuditLog::open(&directory.path().join("audit")).unwrap();
        let given = Given {
            vault,
            trust: Trust::with_platform(Vec::new()),
            logbook: Rc::new(Logbook::new(log, Fsync::Never, worker.clone())),
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
        Self { state, _directory: directory }
    }

    /// Runs what starts tasks of its own.
    pub async fn run<T>(&self, test: impl Future<Output = T>) -> T {
        LocalSet::new().run_until(test).await
    }
}
