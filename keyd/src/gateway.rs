//! gatewayd's control connections: channels and sessions are opened here, CONNECTs are judged, and routes and the lock
//! are told.
//!
//! One SOCK_SEQPACKET connection each, postcard messages, descriptors beside them. Every message of gatewayd's gets
//! exactly one reply. It refuses more than a few connections at once (where one has been silent for long, it ends that, so that
//! the next comes in), a first message that is no Hello, and a peer
//! that does not read: what waits to be sent is bounded. Called by `serve.rs`, with connections whose uid was checked.

pub mod connect;
pub mod environment;
pub mod sessions;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use strongroom_protocol::exchange::{GatewayMessage, KeydMessage, ROUTES_IN_A_MESSAGE, Route, Upstream};
use strongroom_protocol::frame::{self, EXCHANGE_LIMIT, HEADER};
use strongroom_protocol::{Authority, Check, Refusal, channel as wire, socket_passing};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use self::connect::{Question, Tunnels};
use self::sessions::Sessions;
use crate::exchange::channel::{self, Sockets};
use crate::exchange::record::own_id;
use crate::exchange::room::Room;
use crate::peer::Caller;
use crate::state::State;
use crate::sys::{self, Account, Packet, PassedDescriptor};

/// The gatewayds that are connected.
#[derive(Default)]
pub struct Gateways {
    connected: RefCell<Vec<Rc<Gateway>>>,
    /// How many have gone and left unread what they were told.
    unread: Cell<usize>,
}

/// One of them.
pub struct Gateway {
    pid: u32,
    checks: RefCell<Option<Vec<Check>>>,
    sessions: Rc<Sessions>,
    tunnels: Tunnels,
    outbox: RefCell<Outbox>,
    wake: Notify,
    /// More waits than may.
    overflown: Notify,
    /// When it came or spoke last.
    heard: Cell<Instant>,
    /// Another wants its place.
    leave: Notify,
}

/// What waits to be sent.
#[derive(Default)]
struct Outbox {
    packets: VecDeque<Zeroizing<Vec<u8>>>,
    bytes: usize,
}

impl Outbox {
    /// Takes one more, however full it is.
    fn push(&mut self, packet: Zeroizing<Vec<u8>>) {
        self.bytes += packet.len();
        self.packets.push_back(packet);
    }

    fn pop(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }

    fn is_overfull(&self) -> bool {
        self.packets.len() > MOST_WAITING || self.bytes > MOST_BYTES_WAITING
    }
}

impl Gateways {
    /// Process id and account of the cage of the one that connected last.
    #[must_use]
    pub fn newest(&self) -> Option<(u32, Option<Vec<Check>>)> {
        self.connected.borrow().last().map(|gateway| (gateway.pid, gateway.checks.borrow().clone()))
    }

    /// Somebody has found no place. Of those who are here one may be nobody's any more: its own end can lie in the queue of an
    /// agent's socket that is held for its session, which ends with it. So the one that has been silent for longest goes,
    /// where that is long; a gatewayd that lives connects anew.
    fn make_room(&self, now: Instant) {
        let connected = self.connected.borrow();
        let longest = connected.iter().min_by_key(|gateway| gateway.heard.get());
        if let Some(gateway) = longest.filter(|gateway| now.duration_since(gateway.heard.get()) >= LONG_SILENCE) {
            gateway.leave.notify_one();
        }
    }

    /// Tells all of them the lock's state and the routes.
    pub fn announce(&self, state: &State) {
        for gateway in self.connected.borrow().iter().filter(|gateway| gateway.checks.borrow().is_some()) {
            gateway.announce(state);
        }
    }
}

impl Gateway {
    /// One that has said nothing yet.
    fn new(pid: u32) -> Self {
        Self {
            pid,
            checks: RefCell::new(None),
            sessions: Rc::default(),
            tunnels: Tunnels::default(),
            outbox: RefCell::default(),
            wake: Notify::new(),
            overflown: Notify::new(),
            heard: Cell::new(Instant::now()),
            leave: Notify::new(),
        }
    }

    fn say(&self, message: &KeydMessage) {
        self.say_all(std::slice::from_ref(message));
    }

    /// What belongs together is not counted against itself: a vault with many routes is not cut off for them.
    fn say_all(&self, messages: &[KeydMessage]) {
        // What would be left out could be the lock: whoever reads so little is cut off instead.
        if self.outbox.borrow().is_overfull() {
            return self.overflown.notify_one();
        }
        for message in messages {
            match frame::encode(message, EXCHANGE_LIMIT) {
                Ok(packet) => self.outbox.borrow_mut().push(packet),
                Err(error) => {
                    tracing::error!(%error, "a message to the gateway cannot be sent");
                    return self.overflown.notify_one();
                }
            }
        }
        self.wake.notify_one();
    }

    fn announce(&self, state: &State) {
        let live = state.live();
        for tunnel in self.tunnels.to_cut(live.as_ref()) {
            self.say(&KeydMessage::CutTunnel { tunnel });
        }
        let Some(live) = live else {
            self.say(&KeydMessage::Locked);
            return;
        };
        let parts = in_messages(live.routes());
        let count = parts.len();
        let message = |(index, routes)| KeydMessage::Routes { first: index == 0, last: index + 1 == count, routes };
        self.say_all(&parts.into_iter().enumerate().map(message).collect::<Vec<_>>());
    }
}

/// Splits routes into messages that fit the limit; at least one, for an empty list is news too.
fn in_messages(routes: Vec<Route>) -> Vec<Vec<Route>> {
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for route in routes {
        let own = postcard::experimental::serialized_size(&route).unwrap_or(EXCHANGE_LIMIT);
        let last = parts.last_mut().expect("begun with one");
        if !last.is_empty() && (size + own > EXCHANGE_LIMIT - ROOM_FOR_THE_REST || last.len() == ROUTES_IN_A_MESSAGE) {
            parts.push(vec![route]);
            size = own;
        } else {
            last.push(route);
            size += own;
        }
    }
    parts
}

/// Serves one control connection until it ends. Its channels live on until they end by themselves.
pub async fn serve(state: Rc<State>, socket: PassedDescriptor, caller: Caller) -> io::Result<()> {
    if state.gateways.connected.borrow().len() + state.gateways.unread.get() >= MOST_GATEWAYS {
        state.gateways.make_room(Instant::now());
        return Err(io::Error::other("too many are connected"));
    }
    let socket = sys::watched(socket)?;
    let gateway = Rc::new(Gateway::new(caller.pid));
    let connected = Connected::new(&state, &gateway);
    let outcome = tokio::select! {
        read = read(&state, &gateway, &socket) => read,
        written = write(&gateway, &socket) => written,
        () = gateway.overflown.notified() => Err(io::Error::other("the gateway does not read what it is told")),
        () = gateway.leave.notified() => Err(io::Error::other("it was silent for long, and another wants its place")),
    };
    drop(connected);
    tokio::task::spawn_local(async move {
        state.gateways.unread.set(state.gateways.unread.get() + 1);
        sys::let_go(socket.get_ref()).await;
        state.gateways.unread.set(state.gateways.unread.get() - 1);
    });
    outcome
}

/// A gateway in the list, with its sessions and tunnels, until this is dropped: by a panic too.
struct Connected(Rc<State>, Rc<Gateway>);

impl Connected {
    fn new(state: &Rc<State>, gateway: &Rc<Gateway>) -> Self {
        state.gateways.connected.borrow_mut().push(Rc::clone(gateway));
        Self(Rc::clone(state), Rc::clone(gateway))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let Self(state, gateway) = self;
        state.gateways.connected.borrow_mut().retain(|other| !Rc::ptr_eq(other, gateway));
        gateway.sessions.close_all(state);
        gateway.tunnels.end_all(state);
    }
}

async fn read(state: &Rc<State>, gateway: &Rc<Gateway>, socket: &AsyncFd<PassedDescriptor>) -> io::Result<()> {
    let mut buffer = vec![0; HEADER + EXCHANGE_LIMIT];
    // It waits for what it brought itself to be closed, and for nobody else's.
    let account = Account::default();
    loop {
        let Packet { length, descriptors } = sys::next_packet(socket, &account, &mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        gateway.heard.set(Instant::now());
        let message = frame::decode_packet(&buffer[..length], EXCHANGE_LIMIT).map_err(io::Error::other)?;
        handle(state, gateway, message, descriptors).await?;
        if gateway.outbox.borrow().is_overfull() {
            return Err(io::Error::other("the gateway does not read what it is told"));
        }
    }
}

async fn handle(
    state: &Rc<State>,
    gateway: &Rc<Gateway>,
    message: GatewayMessage,
    descriptors: Vec<PassedDescriptor>,
) -> io::Result<()> {
    let greeted = gateway.checks.borrow().is_some();
    match message {
        GatewayMessage::Hello { version, checks } if !greeted && descriptors.is_empty() => {
            if version != env!("CARGO_PKG_VERSION") {
                let version: String = version.chars().take(32).collect();
                tracing::warn!(?version, "the gateway is of another release; install programs of one release");
            }
            *gateway.checks.borrow_mut() = Some(checks);
            gateway.say(&KeydMessage::Welcome { version: env!("CARGO_PKG_VERSION").to_owned() });
            gateway.announce(state);
            Ok(())
        }
        GatewayMessage::OpenChannel { channel, authority, upstream } if greeted => {
            let reply = match open(state, &gateway.sessions, authority, upstream, descriptors) {
                Ok(()) => KeydMessage::Accepted { channel },
                Err(refusal) => KeydMessage::Refused { channel, refusal },
            };
            gateway.say(&reply);
            Ok(())
        }
        GatewayMessage::OpenSession { session, presented } if greeted => {
            gateway.say(&match gateway.sessions.open(state, session, presented, descriptors) {
                Ok(()) => KeydMessage::SessionOpened { session },
                Err(refusal) => KeydMessage::SessionRefused { session, refusal },
            });
            Ok(())
        }
        GatewayMessage::CloseSession { session } if greeted && descriptors.is_empty() => {
            gateway.sessions.close(state, session);
            Ok(())
        }
        GatewayMessage::Connect { question: number, session, authority, point, request_id, tunnel }
            if greeted && descriptors.is_empty() =>
        {
            // Whatever gatewayd says, both lines of the log have one id, and it is one.
            let request_id = if wire::is_request_id(request_id.as_bytes()) { request_id } else { own_id() };
            let question = Question { number, session, authority, point, request_id, may_be_tunnel: tunnel };
            let answer = connect::answer(state, &gateway.sessions, &gateway.tunnels, question).await;
            gateway.say(&answer);
            Ok(())
        }
        GatewayMessage::EndTunnel { tunnel, bytes_in, bytes_out, failure } if greeted && descriptors.is_empty() => {
            gateway.tunnels.end(state, tunnel, (bytes_in, bytes_out), failure.map(Refusal::from));
            Ok(())
        }
        GatewayMessage::AskEnvironment { question, session, placeholder, after }
            if greeted && descriptors.is_empty() =>
        {
            let page = environment::of_session(state, &gateway.sessions, session, placeholder.as_deref(), after);
            gateway.say(&match page {
                Ok(page) => KeydMessage::Environment { question, page },
                Err(refusal) => KeydMessage::NoEnvironment { question, refusal },
            });
            Ok(())
        }
        _ => Err(io::Error::other("the gateway's message is out of order")),
    }
}

fn open(
    state: &Rc<State>,
    sessions: &Rc<Sessions>,
    authority: Authority,
    upstream: Upstream,
    descriptors: Vec<PassedDescriptor>,
) -> Result<(), Refusal> {
    let failure = match upstream {
        Upstream::Connected => None,
        Upstream::Failed(failure) => Some(failure),
    };
    let sockets = Sockets::check(descriptors, failure, state.largest_queue)?;
    let live = state.live().ok_or(Refusal::VaultLocked)?;
    if !live.is_named(&authority) {
        return Err(Refusal::HostNotAllowed);
    }
    if state.channel_count.get() >= state.most_channels {
        return Err(Refusal::Overloaded);
    }
    let room = Room::open(&state.channel_room, sockets.queue())?;
    let counted = Counted::new(state);
    let (state, sessions) = (Rc::clone(state), Rc::clone(sessions));
    tokio::task::spawn_local(async move {
        let _counted = counted;
        channel::serve(state, sessions, authority, sockets, room).await;
    });
    Ok(())
}

/// A channel in the count, from its opening until its end, however it ends.
struct Counted(Rc<State>);

impl Counted {
    fn new(state: &Rc<State>) -> Self {
        state.channel_count.set(state.channel_count.get() + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.channel_count.set(self.0.channel_count.get() - 1);
    }
}

async fn write(gateway: &Gateway, socket: &AsyncFd<PassedDescriptor>) -> io::Result<()> {
    loop {
        let next = gateway.outbox.borrow_mut().pop();
        let Some(packet) = next else {
            gateway.wake.notified().await;
            continue;
        };
        socket
            .async_io(tokio::io::Interest::WRITABLE, |fd| socket_passing::send_packet(fd.as_fd(), &packet, &[]))
            .await?;
    }
}

/// The message's own bytes beside its routes: variant, flags, count.
const ROOM_FOR_THE_REST: usize = 64;
/// One, and another while the first drains.
const MOST_GATEWAYS: usize = 4;
/// Who has said nothing for so long makes room for another, where there is no other room.
const LONG_SILENCE: Duration = Duration::from_secs(60);
/// Replies and announcements that wait to be sent.
const MOST_WAITING: usize = 4096;
/// And their bytes, where one reply may have as many as [`EXCHANGE_LIMIT`].
const MOST_BYTES_WAITING: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use strongroom_protocol::exchange::BodyRequest;

    use super::*;

    fn routes(count: usize, fields: usize) -> Vec<Route> {
        (0..count)
            .map(|number| Route {
                name: format!("route-{number}").parse().unwrap(),
                authority: format!("h{number}.example").parse().unwrap(),
                fields: vec!["x".repeat(128); fields],
                bodies: vec![BodyRequest { method: "POST".to_owned(), path: "/x".repeat(256) }; fields],
            })
            .collect()
    }

    fn is_told(told: impl Future<Output = ()>) -> bool {
        std::pin::pin!(told).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_for_a_gateway_that_does_not_read_is_bounded_in_number_and_bytes() {
        let (small, large) = (Gateway::new(1), Gateway::new(1));
        for _ in 0..=MOST_WAITING {
            small.say(&KeydMessage::Locked);
        }
        assert!(!is_told(small.overflown.notified()));
        small.say(&KeydMessage::Locked);
        assert!(is_told(small.overflown.notified()));
        assert_eq!(small.outbox.borrow().packets.len(), MOST_WAITING + 1);

        let message = KeydMessage::Routes { first: true, last: true, routes: routes(1, 80) };
        let length = frame::encode(&message, EXCHANGE_LIMIT).unwrap().len();
        for _ in 0..2 * MOST_BYTES_WAITING / length {
            large.say(&message);
        }
        assert!(is_told(large.overflown.notified()));
        assert!(large.outbox.borrow().bytes <= MOST_BYTES_WAITING + length);
        while large.outbox.borrow_mut().pop().is_some() {}
        assert_eq!(large.outbox.borrow().bytes, 0);
    }

    #[test]
    fn the_longest_silent_one_makes_room_where_it_is_long() {
        let gateways = Gateways::default();
        let begin = Instant::now();
        for seconds in [20, 5, 40] {
            let gateway = Gateway::new(1);
            gateway.heard.set(begin + Duration::from_secs(seconds));
            gateways.connected.borrow_mut().push(Rc::new(gateway));
        }
        let leave = || gateways.connected.borrow().iter().map(|one| is_told(one.leave.notified())).collect::<Vec<_>>();
        gateways.make_room(begin + Duration::from_secs(64));
        assert_eq!(leave(), [false; 3]);
        gateways.make_room(begin + Duration::from_secs(65));
        assert_eq!(leave(), [false, true, false]);
    }

    #[test]
    fn every_message_fits_and_no_route_is_lost() {
        for (count, fields) in [(0, 0), (1, 1), (64, 1), (65, 1), (200, 32), (1000, 2)] {
            let parts = in_messages(routes(count, fields));
            assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), count);
            for routes in parts {
                let message = KeydMessage::Routes { first: true, last: true, routes };
                assert!(frame::encode(&message, EXCHANGE_LIMIT).is_ok(), "{count} routes with {fields} fields");
            }
        }
    }
}
