//! A channel: one end of a socket pair to gatewayd, one upstream connection, one agent.
//!
//! On the pair gatewayd asks and keyd answers, in frames ([`super::link`]). The upstream connection is opened by the first
//! request that is admitted, and bound to its agent and credentials; it lives no longer than the channel. Both descriptors were passed by a
//! process that is not trusted: their kind is checked, and they are read and written without ever blocking. It refuses
//! anything that is not a connected stream. Called by `gateway.rs`.

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use strongroom_protocol::exchange::DialFailure;
use strongroom_protocol::{Authority, Refusal};
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::decode::memory::Share;
use super::forward;
use super::link::Link;
use super::room::Room;
use crate::gateway::sessions::Sessions;
use crate::policy::decide::Binding;
use crate::state::State;
use crate::sys::{self, PassedDescriptor, PassedSocket, SocketKind};

/// What the requests of one channel share.
pub struct Channel {
    /// Everything that is common to keyd.
    pub state: Rc<State>,
    /// The sessions of the gateway that opened it.
    pub sessions: Rc<Sessions>,
    /// Where it leads.
    pub authority: Authority,
    /// Its part of the memory.
    pub room: Room,
    /// What the head of the request under way has of the room for large ones, until it is handed to the connection.
    pub head: Cell<Option<Share>>,
    /// Its upstream connection.
    pub upstream: RefCell<UpstreamState>,
    /// Whom it serves, once it serves somebody.
    pub bound: RefCell<Option<Binding>>,
    /// The request for which it was dialled was refused: the upstream has been waiting for a handshake since.
    pub has_waited: Cell<bool>,
    /// When the last answer ended.
    pub answered: Cell<Option<Instant>>,
    /// Drops the channel.
    pub closed: CancellationToken,
    /// The upstream connection has ended: the channel ends after what it is doing, so that gatewayd does not offer it
    /// another request.
    pub upstream_gone: CancellationToken,
}

impl Channel {
    /// Its connection has ended between two requests. One that ends right behind an answer, without having said so, will
    /// do so again: a request that must not be sent twice is better off on a connection of its own there.
    pub fn upstream_left(&self) {
        if self.answered.get().is_some_and(|answered| answered.elapsed() < AT_ONCE) {
            self.state.close_at_once.learn(&self.authority);
        }
    }

    /// Comes back when the connection has outlived its last answer for long enough.
    pub async fn settles(&self) {
        let rest = self.answered.get().map_or(Duration::ZERO, |answered| AT_ONCE.saturating_sub(answered.elapsed()));
        tokio::time::sleep(rest).await;
    }
}

/// How far the upstream connection has come.
pub enum UpstreamState {
    /// gatewayd could not dial.
    Failed(DialFailure),
    /// Dialled; no request was admitted yet.
    Dialled(PassedSocket),
    /// A request has it, or it is shaking hands.
    Busy,
    /// Ready for the next request.
    Ready(Connection),
    /// Broken: every further request is told that it is stale.
    Gone,
}

/// The descriptors of a new channel, checked.
pub struct Sockets {
    pair: PassedSocket,
    upstream: UpstreamState,
}

impl Sockets {
    /// Checks what was passed: our end of a stream pair, and a TCP socket where one was dialled. Its peer may have reset
    /// it since: the handshake tells.
    ///
    /// # Errors
    /// `bad_request` for any other kind or number of descriptors, and for a pair that may hold more than `largest_queue`.
    pub fn check(
        descriptors: Vec<PassedDescriptor>,
        failure: Option<DialFailure>,
        largest_queue: usize,
    ) -> Result<Self, Refusal> {
        let mut descriptors = descriptors.into_iter();
        let (pair, upstream, more) = (descriptors.next(), descriptors.next(), descriptors.next());
        let pair = pair.ok_or(Refusal::BadRequest)?;
        let usable = |socket: PassedDescriptor, is: fn(&SocketKind) -> bool| {
            let kind = sys::socket_kind(socket.as_fd()).map_err(|_| Refusal::BadRequest)?;
            if is(&kind) {
                PassedSocket::new(socket).map_err(|_| Refusal::BadRequest)
            } else {
                Err(Refusal::BadRequest)
            }
        };
        let upstream = match (upstream, failure, more) {
            (None, Some(failure), None) => UpstreamState::Failed(failure),
            (Some(socket), None, None) => UpstreamState::Dialled(usable(socket, SocketKind::is_tcp_stream)?),
            _ => return Err(Refusal::BadRequest),
        };
        let pair = usable(pair, SocketKind::is_connected_unix_stream)?;
        if pair.queue() > largest_queue { Err(Refusal::BadRequest) } else { Ok(Self { pair, upstream }) }
    }

    /// What the pair may hold of ours, by the kernel's count.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.pair.queue()
    }
}

/// Serves requests until either side hangs up or access is taken away.
pub async fn serve(state: Rc<State>, sessions: Rc<Sessions>, authority: Authority, sockets: Sockets, room: Room) {
    let closed = state.channels.child_token();
    let channel = Rc::new(Channel {
        state,
        sessions,
        authority,
        room,
        head: Cell::default(),
        upstream: RefCell::new(sockets.upstream),
        bound: RefCell::new(None),
        has_waited: Cell::new(false),
        answered: Cell::new(None),
        closed: closed.clone(),
        upstream_gone: CancellationToken::new(),
    });
    let link = Link::new(sockets.pair, channel.state.head_room.clone());
    // Whatever ends the channel drops the exchange that is under way, and resets both connections.
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        () = serve_requests(&channel, &link) => {}
    }
    *channel.upstream.borrow_mut() = UpstreamState::Gone;
    channel.room.close();
    // A gateway that keeps its end open keeps what it has not read in memory, and that is counted as ours.
    link.let_go().await;
}

/// One request after another, until one of them is the last.
async fn serve_requests(channel: &Rc<Channel>, link: &Rc<Link>) {
    loop {
        let idle = if channel.has_waited.get() { UNUSED_TIME } else { IDLE_TIME };
        let next = tokio::select! {
            biased;
            next = tokio::time::timeout(idle, link.request()) => next,
            // gatewayd is not to offer it another request.
            () = channel.upstream_gone.cancelled() => {
                channel.upstream_left();
                return link.retire();
            }
        };
        let Ok(next) = next else { return link.retire() };
        let Some(request) = next else { return };
        channel.head.set(link.take_share());
        let exchange = async {
            let answer = forward::handle(Rc::clone(channel), request).await;
            channel.head.take();
            link.answer(answer).await
        };
        let answered = tokio::select! {
            biased;
            answered = exchange => answered,
            () = link.hung_up() => return,
        };
        if answered != Ok(true) {
            return;
        }
        channel.room.end();
        channel.answered.set(Some(Instant::now()));
        channel.has_waited.set(matches!(&*channel.upstream.borrow(), UpstreamState::Dialled(_)));
    }
}

/// Who closes later than that has waited for another request.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A channel that is silent for so long is closed; gatewayd closes idle ones sooner.
const IDLE_TIME: Duration = Duration::from_secs(120);

/// The same where the upstream waits for a handshake: it may serve nobody else meanwhile, and the agent whose request was
/// refused may come again with the right placeholder at once.
const UNUSED_TIME: Duration = Duration::from_secs(5);
