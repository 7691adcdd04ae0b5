//! The runtime: accepts on both sockets, keeps the audit log's clock, and ends on a signal.
//!
//! One thread. Behind the clock admins are served first in every round, those who are connected as well as those who come:
//! their tasks are a set of their own, of which all that are ready have their turn before channels have theirs. So taking
//! access away works under a flood of channels.
//! It refuses callers by uid at accept, before a byte of theirs is read. Called by `main`, inside the cage.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use strongroom_protocol::Check;
use strongroom_protocol::log::Brake;
use strongroom_protocol::service_manager::ServiceManager;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::admin::guests::{Guests, Place};
use crate::audit::AuditLog;
use crate::config::Config;
use crate::exchange::trust::Trust;
use crate::listen::Listeners;
use crate::logbook::Logbook;
use crate::peer::Caller;
use crate::policy::limit::Beginnings;
use crate::run_mark::RunMark;
use crate::secret::Secret;
use crate::start_error::StartError;
use crate::state::{CUT_TIME, Given, State, now};
use crate::sys::{self, PassedDescriptor, PassedSocket};
use crate::vault::LockedVault;
use crate::worker::Worker;
use crate::{admin, gateway, turn};

/// A runtime whose descriptors, those for signals too, exist.
pub struct Ready {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    largest_queue: usize,
}

/// What was opened before the cage.
pub struct Parts {
    /// keyd.toml.
    pub config: Config,
    /// Where gatewayd accepts agents' connections.
    pub agent_socket: PathBuf,
    /// Both sockets.
    pub listeners: Listeners,
    /// The vault, locked.
    pub vault: LockedVault,
    /// The audit log.
    pub audit: AuditLog,
    /// The platform's roots.
    pub trust: Trust,
    /// The disk thread.
    pub worker: Worker,
    /// What the cage says of itself.
    pub checks: Vec<Check>,
    /// The key of a slot that systemd decrypted for us.
    pub credential: Option<Secret>,
    /// Who waits to hear that keyd is ready, and then that it lives.
    pub manager: ServiceManager,
    /// Gone after a clean end.
    pub mark: RunMark,
    /// How limits begin.
    pub beginnings: Beginnings,
}

/// Makes the runtime. Before the filter, which allows no new epoll descriptor and no socket pair.
pub fn runtime() -> io::Result<Ready> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let [terminate, interrupt, hang_up] = runtime.block_on(async {
        Ok::<_, io::Error>([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ])
    })?;
    let largest_queue = sys::own_queue()?.max(LARGEST_QUEUE);
    Ok(Ready { runtime, terminate, interrupt, hang_up, largest_queue })
}

/// Whether the platform has roots: without any only credentials with `--ca` work.
pub fn roots_check(trust: &Trust) -> Check {
    match trust.platform_roots() {
        0 => Check::warning(
            "platform-roots",
            "the platform has no root certificates, so only credentials with --ca can be used.",
            "Install the package ca-certificates and start keyd again.",
        ),
        count => Check::ok("platform-roots", format!("{count} root certificates were read before the cage closed.")),
    }
}

/// Serves until a signal says stop.
pub fn until_shutdown(ready: Ready, parts: Parts) -> Result<(), StartError> {
    let Ready { runtime, mut terminate, mut interrupt, mut hang_up, largest_queue } = ready;
    let serving = async move {
        let Parts { config, agent_socket, listeners, vault, audit, trust, worker, checks, .. } = parts;
        let Parts { credential, manager, mark, beginnings, .. } = parts;
        let logbook = Rc::new(Logbook::new(audit, config.audit.fsync, worker.clone()));
        let most_channels = most_channels();
        let given = Given {
            vault,
            trust,
            worker,
            logbook,
            checks,
            most_channels,
            largest_queue,
            agent_socket,
            manager,
            beginnings,
        };
        let state = Rc::new(State::new(given, &config));
        let admin =
            Door::new("admin", sys::Door::Admin, OwnedFd::from(listeners.admin)).map_err(StartError::Runtime)?;
        let gateway = Door::new("gateway", sys::Door::Gateway, listeners.gateway).map_err(StartError::Runtime)?;
        let own = nix::unistd::geteuid().as_raw();
        let (guests, strangers) = (Rc::new(Guests::default()), Strangers::default());
        let mut tick = interval(AUDIT_TICK);
        let mut pulse = state.manager.pace().map(pulse);
        let brake = Brake::default();
        let admins = LocalSet::new();
        if let Some(key) = credential {
            admin::operation::vault::unlock_with_credential(&state, &key);
        }
        state.manager.ready(state.words());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), state = ?state.vault_state(), "keyd is ready");
        loop {
            tokio::select! {
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => tracing::warn!("SIGHUP changes nothing: keyd.toml is read when keyd starts"),
                // Whatever floods a socket: grants still expire, and lines go to the disk.
                _ = tick.tick() => {
                    state.tick();
                    state.logbook.tick();
                    state.running.cut_late(Instant::now(), now());
                    if state.running.has_fallen() {
                        sys::give_back();
                    }
                }
                // From here and no other task: a loop that hangs is to be found out.
                () = beat(&mut pulse) => state.manager.alive(),
                // Never ready: the set is also there while it is empty.
                () = admins.run_until(pending()) => {}
                socket = admin.next() => {
                    admin_connection(&state, socket, own, &config, &guests, &strangers, &admins);
                }
                socket = gateway.next() => gateway_connection(&state, socket, own, &config, &strangers, &brake),
            }
        }
        tracing::info!("keyd stops");
        state.manager.stopping("Locking the vault.");
        state.lock_by_itself();
        // What was cut is still written.
        let cut = async {
            while state.running.count() > 0 {
                sleep(GLANCE).await;
            }
        };
        let _ = admins.run_until(timeout(CUT_TIME * 2, cut)).await;
        // The keys are gone, and what was taken away is sealed: without a file of it, it would be back.
        if let Ok(Err(_)) | Err(_) = admins.run_until(timeout(LAST_WRITE, state.write_what_was_taken())).await {
            tracing::error!("what was taken away could not be written, and is back when keyd starts again");
        }
        state.logbook.close();
        // Admins are still told what became of their requests.
        let _ = admins.run_until(state.logbook.sync()).await;
        mark.remove();
        Ok(())
    };
    LocalSet::new().block_on(&runtime, turn::main(serving))
}

fn admin_connection(
    state: &Rc<State>,
    socket: PassedDescriptor,
    own: u32,
    config: &Config,
    guests: &Rc<Guests>,
    strangers: &Strangers,
    admins: &LocalSet,
) {
    let caller = Caller::of(&socket);
    let stream = match PassedSocket::urgent(socket) {
        Ok(stream) => stream,
        Err(error) => return strangers.refused("admin", caller.as_ref().ok(), &error.to_string()),
    };
    let caller = match caller {
        Ok(caller) if config.is_admin(caller.uid, own) => caller,
        Ok(caller) => return strangers.turn_away(stream, Some(&caller), "not an admin's uid", admins),
        Err(error) => return strangers.turn_away(stream, None, &error.to_string(), admins),
    };
    let Some(guest) = Place::take(guests, caller.uid) else {
        return strangers.refused("admin", Some(&caller), "too many requests at one time");
    };
    let state = Rc::clone(state);
    admins.spawn_local(async move {
        if let Err(error) = admin::serve::serve(state, stream, caller, &guest).await {
            tracing::debug!(uid = caller.uid, %error, "admin connection ended");
        }
    });
}

fn gateway_connection(
    state: &Rc<State>,
    socket: PassedDescriptor,
    own: u32,
    config: &Config,
    strangers: &Strangers,
    brake: &Brake,
) {
    let caller = match Caller::of(&socket) {
        Ok(caller) if config.is_gateway(caller.uid, own) => caller,
        Ok(caller) => return strangers.refused("gateway", Some(&caller), "not the gateway's uid"),
        Err(error) => return strangers.refused("gateway", None, &error.to_string()),
    };
    // A gateway that comes and goes without end writes no more than this.
    let noted = brake.pass(Instant::now());
    if let Some(held) = noted {
        tracing::info!(pid = caller.pid, held, "gateway connected");
    }
    let state = Rc::clone(state);
    spawn_local(async move {
        match gateway::serve(state, socket, caller).await {
            _ if noted.is_none() => {}
            Ok(()) => tracing::info!(pid = caller.pid, "gateway gone"),
            Err(error) => tracing::warn!(pid = caller.pid, %error, "gateway gone"),
        }
    });
}

/// What says that the loop goes round; late is as good as never, so what was missed is not made up for.
fn pulse(pace: Duration) -> Interval {
    let mut pulse = interval(pace);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

async fn beat(pulse: &mut Option<Interval>) {
    match pulse {
        Some(pulse) => drop(pulse.tick().await),
        None => pending().await,
    }
}

/// Connections that were refused: a line a second at most, for anybody can make as many as they like.
#[derive(Default)]
struct Strangers {
    /// How many are being told.
    told: Rc<Cell<usize>>,
    said: Cell<Option<Instant>>,
    unsaid: Cell<u64>,
}

impl Strangers {
    /// Tells somebody who is no admin so, unless too many are being told.
    fn turn_away(&self, stream: PassedSocket, caller: Option<&Caller>, why: &str, admins: &LocalSet) {
        self.refused("admin", caller, why);
        if self.told.get() < MOST_TOLD {
            let told = Rc::clone(&self.told);
            told.set(told.get() + 1);
            admins.spawn_local(async move {
                // Whether they listen is theirs.
                let _ = admin::serve::refuse(stream).await;
                told.set(told.get() - 1);
            });
        }
    }

    fn refused(&self, which: &str, caller: Option<&Caller>, why: &str) {
        if self.said.get().is_some_and(|said| said.elapsed() < Duration::from_secs(1)) {
            return self.unsaid.set(self.unsaid.get() + 1);
        }
        self.said.set(Some(Instant::now()));
        let (uid, pid, unsaid) = (caller.map(|one| one.uid), caller.map(|one| one.pid), self.unsaid.take());
        tracing::warn!(which, ?uid, ?pid, unsaid, "connection refused: {why}");
    }
}

/// A listening socket.
struct Door {
    name: &'static str,
    which: sys::Door,
    listener: AsyncFd<OwnedFd>,
    /// Until when it is left alone.
    rest: Cell<Option<tokio::time::Instant>>,
}

impl Door {
    fn new(name: &'static str, which: sys::Door, listener: OwnedFd) -> io::Result<Self> {
        Ok(Self { name, which, listener: sys::watched(listener)?, rest: Cell::default() })
    }

    /// Who comes next, when what came before and had to go is closed but for a little: each has a descriptor until then, and
    /// keyd needs some itself. Where nobody can be let in, for want of descriptors as a rule, there is nothing to do but to wait
    /// until some are free; whoever drops this meanwhile does not begin the wait anew.
    async fn next(&self) -> PassedDescriptor {
        loop {
            if let Some(until) = self.rest.get() {
                sleep_until(until).await;
                self.rest.set(None);
            }
            poll_fn(|context| sys::poll_door(context, self.which)).await;
            match self.listener.async_io(Interest::READABLE, |listener| sys::accept(listener.as_fd())).await {
                Ok(socket) => return socket,
                Err(error) => {
                    tracing::warn!(which = self.name, %error, "a connection could not be accepted");
                    self.rest.set(Some(tokio::time::Instant::now() + REST));
                }
            }
        }
    }
}

/// For the last write of the vault, on a disk that is slow.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// A channel has two descriptors, and channels may use half of them.
fn most_channels() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(soft / 4).unwrap_or(256).clamp(16, 2048)
}

/// What the pair of a channel may hold, where the machine's own sockets do not hold more: twice what is usual.
const LARGEST_QUEUE: usize = 512 * 1024;
/// Between two looks whether all is over.
const GLANCE: Duration = Duration::from_millis(5);
/// Between two attempts to accept.
const REST: Duration = Duration::from_millis(50);
/// Strangers at one time.
const MOST_TOLD: usize = 16;
/// Refusals are counted into a line a second, and lines are on the disk a second later.
const AUDIT_TICK: Duration = Duration::from_secs(1);
