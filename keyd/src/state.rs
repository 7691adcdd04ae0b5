//! What keyd is at this moment: locked or unlocked, which exchanges run, which gateways are connected.
//!
//! One thread runs everything, so `Cell` and `RefCell` are enough, and no borrow is held across an await. It refuses to
//! say of a locked vault what is in it. [`changes`] is how the vault becomes another. Called by `exchange/`, `admin/` and
//! `gateway.rs`.

mod changes;
#[cfg(test)]
pub mod fixture;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strongroom_protocol::admin::{Failure, Rate, VaultState};
use strongroom_protocol::service_manager::ServiceManager;
use strongroom_protocol::{Authority, Check, Refusal};
use tokio_util::sync::CancellationToken;

use crate::audit::Found;
use crate::audit::record::{Event, EventKind, Record};
use crate::config::Config;
use crate::exchange::decode::memory::{Memories, Memory};
use crate::exchange::link::ROOM_FOR_HEADS;
use crate::exchange::protocol::Learnt;
use crate::exchange::room::ROOM_FOR_CHANNELS;
use crate::exchange::running::Running;
use crate::exchange::scrub::cache::Cache;
use crate::exchange::scrub::patterns::Patterns;
use crate::exchange::trust::Trust;
use crate::exchange::whole_body::BodyRoom;
use crate::gateway::Gateways;
use crate::gateway::sessions::SessionSockets;
use crate::logbook::Logbook;
use crate::mismatch::Mismatches;
use crate::policy::limit::{Beginnings, Bucket};
use crate::policy::live::Live;
use crate::tries::Tries;
use crate::vault::ca;
use crate::vault::contents::{Contents, Grant};
use crate::vault::{Keys, LockedVault};
use crate::waking::Waking;
use crate::worker::Worker;

/// Everything that requests share.
pub struct State {
    /// The file, and the lock on it.
    pub vault: LockedVault,
    /// Whom keyd believes.
    pub trust: Trust,
    /// Upstreams that have to be spoken to in HTTP/2.
    pub want_http2: Learnt,
    /// Upstreams that close a connection behind an answer without a word.
    pub close_at_once: Learnt,
    /// Of those, which have closed while a request waited for it.
    pub seen_to_close: Learnt,
    /// The thread that waits for the disk.
    pub worker: Worker,
    /// The audit log.
    pub logbook: Rc<Logbook>,
    /// Exchanges under way.
    pub running: Rc<Running>,
    /// Room for bodies that are held whole.
    pub body_room: BodyRoom,
    /// Room for large heads.
    pub head_room: Memory,
    /// What decoding encoded answers may take.
    pub decoding: Memories,
    /// Agents' sockets, which are descriptors too.
    pub session_sockets: SessionSockets,
    /// Room for channels and what goes through them.
    pub channel_room: Memory,
    /// The most that the pair of a channel may hold.
    pub largest_queue: usize,
    /// Channels that are open.
    pub channel_count: Cell<usize>,
    /// Most of them; with two descriptors each they use half of those that there are, so that admin.sock always has some.
    pub most_channels: usize,
    /// Parent of every channel's token; locking cancels it.
    pub channels: ChannelTokens,
    /// Connected gatewayds.
    pub gateways: Gateways,
    /// keyd's account of its cage.
    pub checks: Vec<Check>,
    /// Where gatewayd accepts agents' connections.
    pub agent_socket: PathBuf,
    /// Who is told whether the vault is open.
    pub manager: ServiceManager,
    /// Placeholders that came from the wrong agent.
    pub mismatches: Mismatches,
    /// When a wrong passphrase was last written down.
    pub wrong_passphrase: Cell<Option<Instant>>,
    /// Who gave wrong passphrases.
    pub tries: Tries,
    waking: Waking,
    sessions: Cell<u64>,
    turns: Cell<u64>,
    open: RefCell<Option<Open>>,
    buckets: RefCell<HashMap<u64, Bucket>>,
    beginnings: Beginnings,
    changing: tokio::sync::Mutex<()>,
    /// What whoever writes the vault is told of: see `changes`.
    watched: RefCell<Weak<RefCell<Rc<Live>>>>,
    /// Something was taken away that the file does not know of.
    unwritten: Cell<bool>,
    /// What the file should be, where the vault was locked before it could be written; with its generation.
    pending: RefCell<Option<(u64, Rc<Vec<u8>>)>>,
    /// Values were purged that older files beside the vault still have.
    purged: Cell<bool>,
    /// Held from the judgement of a proof to the end of what it allows; see [`Self::one_proof_at_a_time`].
    proving: tokio::sync::Mutex<()>,
}

/// What was made before the first peer.
pub struct Given {
    /// The file, and the lock on it.
    pub vault: LockedVault,
    /// Whom keyd believes.
    pub trust: Trust,
    /// The thread that waits for the disk.
    pub worker: Worker,
    /// The audit log.
    pub logbook: Rc<Logbook>,
    /// keyd's account of its cage.
    pub checks: Vec<Check>,
    /// Most channels.
    pub most_channels: usize,
    /// The most that the pair of a channel may hold.
    pub largest_queue: usize,
    /// Where gatewayd accepts agents' connections.
    pub agent_socket: PathBuf,
    /// Who is told whether the vault is open.
    pub manager: ServiceManager,
    /// How limits begin.
    pub beginnings: Beginnings,
}

/// What there is while the vault is unlocked.
struct Open {
    keys: Rc<Keys>,
    live: Rc<Live>,
    /// What the scrubber made ready from it.
    patterns: Cache,
    /// Tells one unlocking from the next.
    turn: u64,
}

/// Whether a change gives access or takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// On disk first, then in force.
    Widening,
    /// In force first, then on disk.
    Narrowing,
}

impl State {
    /// At the start: locked.
    #[must_use]
    pub fn new(given: Given, config: &Config) -> Self {
        let Given { vault, trust, worker, logbook, checks, most_channels, largest_queue, .. } = given;
        let Given { agent_socket, manager, beginnings, .. } = given;
        Self {
            vault,
            trust,
            want_http2: Learnt::default(),
            close_at_once: Learnt::default(),
            seen_to_close: Learnt::default(),
            worker,
            logbook,
            running: Rc::default(),
            body_room: BodyRoom::default(),
            head_room: Memory::of(ROOM_FOR_HEADS),
            decoding: Memories::default(),
            session_sockets: SessionSockets::default(),
            channel_room: Memory::of(ROOM_FOR_CHANNELS),
            largest_queue,
            channel_count: Cell::new(0),
            most_channels,
            channels: ChannelTokens::default(),
            gateways: Gateways::default(),
            checks,
            agent_socket,
            manager,
            mismatches: Mismatches::default(),
            wrong_passphrase: Cell::new(None),
            tries: Tries::default(),
            waking: Waking::new(config.auto_lock, config.lock_on_suspend),
            sessions: Cell::new(0),
            turns: Cell::new(0),
            open: RefCell::new(None),
            buckets: RefCell::default(),
            beginnings,
            changing: tokio::sync::Mutex::new(()),
            watched: RefCell::default(),
            unwritten: Cell::new(false),
            pending: RefCell::default(),
            purged: Cell::new(false),
            proving: tokio::sync::Mutex::new(()),
        }
    }

    /// The unlocked vault's records, where it is unlocked.
    #[must_use]
    pub fn live(&self) -> Option<Rc<Live>> {
        self.open.borrow().as_ref().map(|open| Rc::clone(&open.live))
    }

    /// The keys that could come back from an authority to an agent, by these records.
    #[must_use]
    pub fn patterns(&self, live: &Rc<Live>, authority: &Authority, agent: u64) -> Rc<Patterns> {
        match self.open.borrow().as_ref() {
            Some(open) if Rc::ptr_eq(&open.live, live) => open.patterns.patterns(live, authority, agent),
            // An exchange that outlives its generation; what it needs must not be kept when it ends.
            _ => Rc::new(Patterns::new(live, authority, agent)),
        }
    }

    /// The data key, where the vault is unlocked.
    #[must_use]
    pub fn keys(&self) -> Option<Rc<Keys>> {
        self.open.borrow().as_ref().map(|open| Rc::clone(&open.keys))
    }

    /// For `status`.
    #[must_use]
    pub fn vault_state(&self) -> VaultState {
        if self.open.borrow().is_some() { VaultState::Unlocked } else { self.vault.state() }
    }

    /// The same, for `systemctl status`.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self.vault_state() {
            VaultState::Unlocked => "The vault is unlocked.",
            VaultState::Locked => "The vault is locked; 'strongroom unlock' opens it.",
            VaultState::Uninitialised => "There is no vault yet; 'strongroom init' makes one.",
            VaultState::Unusable(_) => "The vault cannot be used; 'strongroom status' says why.",
        }
    }

    /// A number for a session, never given before.
    pub fn next_session(&self) -> u64 {
        self.sessions.set(self.sessions.get() + 1);
        self.sessions.get()
    }

    /// A grant's bucket; where it was not used yet, as buckets begin in this run.
    pub fn bucket(&self, grant: &Grant, now: Instant) -> RefMut<'_, Bucket> {
        self.bucket_of(grant.id, grant.rate, now)
    }

    /// An agent's bucket for tunnels. No two things in the vault have the same id.
    pub fn tunnel_bucket(&self, agent: u64, now: Instant) -> RefMut<'_, Bucket> {
        self.bucket_of(agent, Rate::DEFAULT, now)
    }

    fn bucket_of(&self, id: u64, rate: Rate, now: Instant) -> RefMut<'_, Bucket> {
        RefMut::map(self.buckets.borrow_mut(), |buckets| {
            let bucket = buckets.entry(id).or_insert_with(|| self.beginnings.bucket(id, rate, now));
            if bucket.rate() != rate {
                bucket.set_rate(rate, now);
            }
            bucket
        })
    }

    /// Puts an unlocked vault in place and tells the gateways.
    ///
    /// # Errors
    /// Where the audit log cannot be continued: without it no key is used.
    pub fn unlocked(self: &Rc<Self>, keys: Keys, mut contents: Contents) -> Result<(), Failure> {
        // An older release made the key alone; the certificate is kept with the next change.
        for key in contents.ca_keys.iter_mut().filter(|key| key.certificate.is_empty()) {
            key.certificate = ca::certificate(key).map_err(|_| Failure::Internal)?;
        }
        let found = self.logbook.open(&contents.audit_key).map_err(|_| Failure::Audit)?;
        self.note_what_is_missing(&found, contents.generation);
        let turn = self.turns.get() + 1;
        self.turns.set(turn);
        self.beginnings.unlocked(contents.next_id);
        let live = Rc::new(Live::new(contents));
        *self.open.borrow_mut() = Some(Open { keys: Rc::new(keys), live, patterns: Cache::default(), turn });
        self.unwritten.set(self.pending.take().is_some());
        self.gateways.announce(self);
        self.waking.unlocked();
        self.manager.status(self.words());
        Ok(())
    }

    /// Vault and log each know how far the other has come: where one is behind, the log says so from then on.
    fn note_what_is_missing(&self, found: &Found, generation: u64) {
        let (known, lines_lost) = (found.generation, found.lines_lost);
        if known.is_some_and(|known| known > generation) {
            tracing::error!(
                generation,
                known,
                "the vault is older than the log: an older file was put in place, or an announced change was never written"
            );
            // A backup that was restored on purpose looks the same: it is said and not refused.
            let event = Event::new(EventKind::VaultRolledBack).at_generation(generation);
            self.logbook.keep(Record::Event(event));
        }
        // What `init` made is in no log.
        if lines_lost > 0 || known.is_some_and(|known| known.max(1) < generation) {
            tracing::warn!(
                generation,
                known,
                lines_lost,
                "lines are missing at the end of the audit log: its newest file was removed, renamed or cut, or a newer vault was put in place"
            );
            let lines_lost = (lines_lost > 0).then_some(lines_lost);
            let event = Event { log_generation: known, lines_lost, ..Event::new(EventKind::AuditCut) };
            self.logbook.keep(Record::Event(event.at_generation(generation)));
        }
    }

    /// Locks where it is time to, where the machine slept and the configuration says so, and where the file was exchanged for
    /// another vault. Called each second.
    pub fn tick(self: &Rc<Self>) {
        if let Some(why) = self.waking.tick()
            && self.live().is_some()
        {
            tracing::info!(%why, "the vault locks by itself");
            self.lock_by_itself();
        }
        self.let_go_of_another();
        // A disk that was full may have room again.
        if self.is_unwritten() && self.changing.try_lock().is_ok() {
            let state = Rc::clone(self);
            tokio::task::spawn_local(async move {
                if state.write_what_was_taken().await.is_ok() {
                    tracing::info!("what was taken away is on the disk now");
                }
            });
        }
    }

    /// Whether something was taken away that would be back with the file as it is.
    #[must_use]
    pub fn is_unwritten(&self) -> bool {
        self.unwritten.get() || self.purged.get() || self.pending.borrow().is_some()
    }

    /// Locks though no admin said so, and says in the log which generation that was.
    pub fn lock_by_itself(self: &Rc<Self>) {
        if let Some(live) = self.live() {
            self.lock_leaving(live.contents().generation);
        }
    }

    fn lock_leaving(self: &Rc<Self>, generation: u64) {
        self.logbook.keep(Record::Event(Event::new(EventKind::VaultLock).at_generation(generation)));
        self.lock();
    }

    /// Wipes the keys and cuts every exchange. At once: nothing is waited for but that those who have no answer yet
    /// are told why.
    pub fn lock(self: &Rc<Self>) {
        if let Some(open) = self.open.take()
            && self.unwritten.get()
        {
            self.leave(&open.keys, open.live.contents());
        }
        self.trust.forget();
        self.want_http2.forget();
        self.close_at_once.forget();
        self.seen_to_close.forget();
        self.running.cut(Refusal::VaultLocked, |_| true);
        self.channels.cancel_soon();
        self.gateways.announce(self);
        self.manager.status(self.words());
        let state = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // The ends of what was cut are still written, unless the vault was unlocked again meanwhile.
            tokio::time::sleep(CUT_TIME * 2).await;
            if state.live().is_none() {
                state.logbook.close();
            }
        });
    }
}

/// The parent of all channels' tokens, renewed each time that it is cancelled.
#[derive(Default)]
pub struct ChannelTokens(RefCell<CancellationToken>);

impl ChannelTokens {
    /// A token for a new channel.
    #[must_use]
    pub fn child_token(&self) -> CancellationToken {
        self.0.borrow().child_token()
    }

    /// Drops every channel that there is, idle ones too, when refusals have had the time to go out.
    pub fn cancel_soon(&self) {
        let old = self.0.replace(CancellationToken::new());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(CUT_TIME).await;
            old.cancel();
        });
    }
}

/// Seconds of the Unix epoch, by keyd's own clock.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// In which refusals go out to those who were cut before they had an answer.
pub const CUT_TIME: Duration = Duration::from_millis(100);
