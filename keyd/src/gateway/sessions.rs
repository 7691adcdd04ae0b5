//! Agents' connections, as gatewayd presents them and as keyd has checked them.
//!
//! An agent.sock connection comes with its own socket, and the kernel tells whose it is: the socket must have been
//! accepted at agent.sock's path and have an unnamed peer, for on a client's end the credentials are those of whoever
//! listens. The session ends when that socket hangs up, whatever gatewayd says. A token is kept as it came; whose it is
//! is asked at each request. It refuses more sessions than there is room for, and numbers that are taken.
//! Kept for each gateway connection; asked by `connect.rs`, `environment.rs` and, in `exchange/`, `forward.rs` and
//! `record.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::{Rc, Weak};

use nix::sys::socket::{UnixAddr, getpeername, getsockname};
use strongroom_protocol::Refusal;
use strongroom_protocol::session::{LONGEST_TOKEN, Presented, PresentedToken};
use tokio_util::sync::CancellationToken;

use crate::peer::Caller;
use crate::policy::identity::{Identity, Seen};
use crate::policy::live::Live;
use crate::state::State;
use crate::sys::{self, PassedDescriptor, unit};

/// The sessions of one gateway connection.
#[derive(Default)]
pub struct Sessions(RefCell<HashMap<u64, Rc<Session>>>);

/// One agent's connection.
pub struct Session {
    uid: Option<u32>,
    by_socket: bool,
    /// The control group of the peer's process, where the kernel says it.
    cgroup: Option<u64>,
    token: Option<PresentedToken>,
    /// Told apart from every other session of this keyd's.
    id: u64,
    ended: CancellationToken,
    /// Who it is, by the records of one generation: units are looked up in the file system.
    known: RefCell<Option<Known>>,
    _held: Option<Held>,
}

/// What was found out, and of which records.
type Known = (Weak<Live>, Result<Identity, Refusal>);

/// Descriptors of agents' sockets, by user.
#[derive(Default)]
pub struct SessionSockets(Rc<RefCell<HashMap<u32, usize>>>);

/// One of them, until dropped.
struct Held {
    of: Rc<RefCell<HashMap<u32, usize>>>,
    uid: u32,
}

impl SessionSockets {
    fn take(&self, uid: u32, most: usize) -> Result<Held, Refusal> {
        let mut counts = self.0.borrow_mut();
        let all: usize = counts.values().sum();
        let own = counts.entry(uid).or_default();
        if all >= most || *own >= most / 2 {
            return Err(Refusal::Overloaded);
        }
        *own += 1;
        Ok(Held { of: Rc::clone(&self.0), uid })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.of.borrow_mut();
        if let Some(count) = counts.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

impl Sessions {
    /// Opens a session, and watches its socket.
    ///
    /// # Errors
    /// `bad_request` where the socket is no agent's or the number is taken, `overloaded` where there is no room.
    pub fn open(
        self: &Rc<Self>,
        state: &Rc<State>,
        number: u64,
        presented: Presented,
        mut descriptors: Vec<PassedDescriptor>,
    ) -> Result<(), Refusal> {
        let Presented { socket, uid, token } = presented;
        if descriptors.len() != usize::from(socket) {
            return Err(Refusal::BadRequest);
        }
        if token.as_ref().is_some_and(|token| token.token.len() > LONGEST_TOKEN) {
            return Err(Refusal::AgentUnknown);
        }
        if !socket && self.0.borrow().values().filter(|session| !session.by_socket).count() >= MOST_WITHOUT_SOCKET {
            return Err(Refusal::Overloaded);
        }
        let socket = descriptors.pop();
        let peer = socket.as_ref().map(|socket| agents_socket(socket, &state.agent_socket)).transpose()?;
        // A descriptor each, whichever gateway has them; and one user is not to have all of them.
        let held = peer.as_ref().map(|peer| state.session_sockets.take(peer.uid, state.most_channels)).transpose()?;
        let session = Rc::new(Session {
            uid: peer.as_ref().map(|peer| peer.uid).or(uid),
            by_socket: peer.is_some(),
            cgroup: socket.as_ref().and_then(|socket| unit::cgroup_of_peer(socket.as_fd())),
            token,
            id: state.next_session(),
            ended: CancellationToken::new(),
            known: RefCell::default(),
            _held: held,
        });
        match self.0.borrow_mut().entry(number) {
            Entry::Occupied(_) => return Err(Refusal::BadRequest),
            Entry::Vacant(place) => drop(place.insert(Rc::clone(&session))),
        }
        if let Some(socket) = socket {
            let (sessions, state) = (Rc::clone(self), Rc::clone(state));
            tokio::task::spawn_local(async move {
                tokio::select! {
                    biased;
                    () = session.ended.cancelled() => {}
                    // By now its number may be another's.
                    () = sys::hung_up(socket) => {
                        sessions.0.borrow_mut().retain(|_, one| !Rc::ptr_eq(one, &session));
                        session.end(&state);
                    }
                }
            });
        }
        Ok(())
    }

    /// The connection has ended: what runs for it is cut.
    pub fn close(&self, state: &State, number: u64) {
        let closed = self.0.borrow_mut().remove(&number);
        if let Some(session) = closed {
            session.end(state);
        }
    }

    /// gatewayd has gone, and its word with it.
    pub fn close_all(&self, state: &State) {
        self.0.take().into_values().for_each(|session| session.end(state));
    }

    /// A session that has not ended.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Rc<Session>> {
        self.0.borrow().get(&number).cloned()
    }
}

impl Session {
    /// Which agent it is, by the records as they are.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub fn identity(&self, live: &Rc<Live>) -> Result<Identity, Refusal> {
        if self.ended.is_cancelled() {
            return Err(Refusal::AgentUnknown);
        }
        let mut known = self.known.borrow_mut();
        match &*known {
            Some((of, identity)) if of.upgrade().is_some_and(|of| Rc::ptr_eq(&of, live)) => identity.clone(),
            _ => {
                let identity = self.identify(live);
                *known = Some((Rc::downgrade(live), identity.clone()));
                identity
            }
        }
    }

    /// Whether the agent has hung up, or gatewayd has said so.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    fn identify(&self, live: &Live) -> Result<Identity, Refusal> {
        let in_unit = |name: &str| self.cgroup.is_some_and(|cgroup| unit::is_cgroup_of(name, cgroup));
        let token = self.token.as_ref().map(|token| (token.token.expose(), token.agent.as_ref()));
        Identity::of(live, &Seen { uid: self.uid, by_socket: self.by_socket, in_unit: &in_unit, token })
    }

    /// Tells it from every other session.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    fn end(&self, state: &State) {
        self.ended.cancel();
        state.running.cut(Refusal::AgentUnknown, |exchange| exchange.is_of_session(self.id));
    }
}

/// Who is at the other end of a socket that was accepted on agent.sock.
fn agents_socket(socket: &PassedDescriptor, path: &Path) -> Result<Caller, Refusal> {
    let kind = sys::socket_kind(socket.as_fd()).map_err(|_| Refusal::BadRequest)?;
    if !kind.is_connected_unix_stream() {
        return Err(Refusal::BadRequest);
    }
    let raw = std::os::fd::AsRawFd::as_raw_fd(socket);
    let own = getsockname::<UnixAddr>(raw).map_err(|_| Refusal::BadRequest)?;
    let peer = getpeername::<UnixAddr>(raw).map_err(|_| Refusal::BadRequest)?;
    let is_accepted = own.path() == Some(path) && peer.is_unnamed();
    if !is_accepted {
        return Err(Refusal::BadRequest);
    }
    Caller::of(socket).map_err(|_| Refusal::AgentUnknown)
}

/// They cost memory alone, and gatewayd takes a thousand connections by default.
const MOST_WITHOUT_SOCKET: usize = 16_384;

#[cfg(test)]
#[path = "sessions_tests.rs"]
mod tests;
