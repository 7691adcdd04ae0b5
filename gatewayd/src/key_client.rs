//! The conversation with keyd: greeting, channels, sessions, CONNECTs, routes, the lock; and connecting again, for ever.
//!
//! While there is no connection nothing waits for one: requests are refused at once. It refuses to trust a reply to a
//! question that it did not ask, and to wait for one beyond its time limit.
//! Run as one task by `serve`; asked by the forwarding of each request.

mod given;
mod packet_socket;
mod routes;
#[cfg(test)]
mod test_keyd;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use strongroom_protocol::environment::Environment;
use strongroom_protocol::exchange::{DialFailure, GatewayMessage, KeydMessage, Leaf, Route, Upstream};
use strongroom_protocol::service_manager::ServiceManager;
use strongroom_protocol::session::Presented;
use strongroom_protocol::{Authority, Check, Refusal};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

pub use self::given::Tunnel;
use self::given::{Cuts, Given, tell};
use self::packet_socket::{LinkError, PacketSocket};
pub use self::routes::{Positions, Routes, Standing};

/// What is known of keyd, and the way to ask it.
#[derive(Default)]
pub struct KeyClient {
    standing: RefCell<Standing>,
    changed: Notify,
    link: RefCell<Link>,
    /// Who waits for which reply; channels, sessions and questions share their numbers.
    waiting: RefCell<HashMap<u64, oneshot::Sender<Given>>>,
    last_number: Cell<u64>,
    /// What was told, counted: what was made before may be of no use any more.
    told: Cell<u64>,
    /// Tunnels that keyd may cut.
    tunnels: Cuts,
    /// Connections to keyd that have ended.
    links: Cell<u64>,
    /// Who is told how keyd stands.
    manager: Rc<ServiceManager>,
}

/// What keyd says to a CONNECT.
pub enum Way {
    /// TLS ends here.
    Intercept {
        /// A certificate, where a point was sent.
        leaf: Option<Leaf>,
        /// Where placeholders may stand.
        positions: Positions,
    },
    /// Nobody looks inside.
    Tunnel(Tunnel),
}

#[derive(Default)]
enum Link {
    #[default]
    Down,
    Up(Rc<PacketSocket>),
    /// A keyd inside the test: it gets the other end of the pair by hand, for receiving a passed descriptor needs
    /// unsafe code, which this crate has none of.
    #[cfg(test)]
    Test(Rc<dyn Fn(UnixStream, Upstream) -> Result<(), Refusal>>),
}

impl KeyClient {
    /// One that tells the service manager how keyd stands.
    #[must_use]
    pub fn new(manager: Rc<ServiceManager>) -> Self {
        Self { manager, ..Self::default() }
    }

    /// How keyd stands to us now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Comes back when keyd has said how it stands, or could not be reached. For the start: whoever waited for us to be
    /// there is not to be refused for a moment's sake.
    pub async fn first_word(&self) {
        loop {
            let told = self.changed.notified();
            if self.told.get() > 0 {
                return;
            }
            told.await;
        }
    }

    /// Why a channel may have died that nobody meant to die. keyd closes channels and tells of the lock, or goes away,
    /// at the same moment but on different sockets, so a moment is waited for the word.
    pub async fn why_channels_die(&self) -> Refusal {
        let told = self.changed.notified();
        if let Err(refusal) = self.standing().routes() {
            return refusal;
        }
        let _ = timeout(SETTLING, told).await;
        self.standing().routes().err().unwrap_or(Refusal::UpstreamUnreachable)
    }

    /// Opens a channel to an upstream, or one that will only tell why there is no upstream. Our end comes back.
    ///
    /// # Errors
    /// keyd's refusal, or [`Refusal::KeydUnavailable`].
    pub async fn open_channel(
        &self,
        authority: &Authority,
        upstream: Result<TcpStream, DialFailure>,
    ) -> Result<UnixStream, Refusal> {
        let (ours, theirs) = UnixStream::pair().map_err(|_| Refusal::Overloaded)?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).map_err(|_| Refusal::Overloaded)?;
        }
        let kind = upstream.as_ref().map_or_else(|&failure| Upstream::Failed(failure), |_| Upstream::Connected);
        let socket = match &*self.link.borrow() {
            Link::Up(socket) => socket.clone(),
            Link::Down => return Err(Refusal::KeydUnavailable),
            #[cfg(test)]
            Link::Test(keyd) => return keyd(theirs, kind).map(|()| ours),
        };
        let (channel, reply) = self.expect();
        let question = GatewayMessage::OpenChannel { channel, authority: authority.clone(), upstream: kind };
        let asking = async {
            let mut descriptors: Vec<BorrowedFd<'_>> = vec![theirs.as_fd()];
            descriptors.extend(upstream.as_ref().ok().map(AsFd::as_fd));
            socket.send(&question, &descriptors).await.map_err(|_| Refusal::KeydUnavailable)?;
            // Only keyd's copies may be left: the channel ends when keyd closes it.
            drop(descriptors);
            drop((theirs, upstream));
            reply.await.map_err(|_| Refusal::KeydUnavailable)
        };
        match self.patiently(channel, asking).await? {
            KeydMessage::Accepted { .. } => Ok(ours),
            KeydMessage::Refused { refusal, .. } => Err(refusal),
            _ => Err(Refusal::KeydUnavailable),
        }
    }

    /// Presents an agent's connection; its number comes back, and which link to keyd it belongs to.
    ///
    /// # Errors
    /// keyd's refusal, or [`Refusal::KeydUnavailable`].
    pub async fn open_session(&self, presented: Presented, socket: Option<BorrowedFd<'_>>) -> Result<u64, Refusal> {
        let (session, reply) = self.expect();
        #[cfg(test)]
        if matches!(&*self.link.borrow(), Link::Test(_)) {
            return Ok(session);
        }
        let question = GatewayMessage::OpenSession { session, presented };
        match self.ask(session, reply, &question, socket.as_slice()).await? {
            KeydMessage::SessionOpened { .. } => Ok(session),
            KeydMessage::SessionRefused { refusal, .. } => Err(refusal),
            _ => Err(Refusal::KeydUnavailable),
        }
    }

    /// The agent has gone.
    pub fn close_session(&self, session: u64) {
        tell(&self.socket(), GatewayMessage::CloseSession { session });
    }

    /// May this session go there?
    ///
    /// # Errors
    /// keyd's refusal, or [`Refusal::KeydUnavailable`].
    pub async fn connect(
        &self,
        session: u64,
        authority: &Authority,
        point: Option<Vec<u8>>,
        request_id: String,
        tunnel: bool,
    ) -> Result<Way, Refusal> {
        let (question, reply) = self.expect();
        let authority = authority.clone();
        let message = GatewayMessage::Connect { question, session, authority, point, request_id, tunnel };
        match self.ask(question, reply, &message, &[]).await? {
            KeydMessage::Intercept { leaf, fields, bodies, .. } => {
                Ok(Way::Intercept { leaf, positions: Positions::new(&fields, bodies) })
            }
            KeydMessage::Tunnel { .. } => Ok(Way::Tunnel(Tunnel::new(question, self.socket(), &self.tunnels))),
            KeydMessage::NotConnected { refusal, .. } => Err(refusal),
            _ => Err(Refusal::KeydUnavailable),
        }
    }

    /// A page of the agent's own environment.
    ///
    /// # Errors
    /// keyd's refusal, or [`Refusal::KeydUnavailable`].
    pub async fn environment(
        &self,
        session: u64,
        placeholder: Option<String>,
        after: Option<u64>,
    ) -> Result<Environment, Refusal> {
        let (question, reply) = self.expect();
        let message = GatewayMessage::AskEnvironment { question, session, placeholder, after };
        match self.ask(question, reply, &message, &[]).await? {
            KeydMessage::Environment { page, .. } => Ok(page),
            KeydMessage::NoEnvironment { refusal, .. } => Err(refusal),
            _ => Err(Refusal::KeydUnavailable),
        }
    }

    /// Counts what keyd has told: leaves and sessions that were made before it last changed may be of no use.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told.get()
    }

    /// Tells one connection to keyd from the next: sessions end with it.
    #[must_use]
    pub fn link(&self) -> u64 {
        self.links.get()
    }

    fn expect(&self) -> (u64, oneshot::Receiver<Given>) {
        let number = self.last_number.get() + 1;
        self.last_number.set(number);
        let (sender, reply) = oneshot::channel();
        self.waiting.borrow_mut().insert(number, sender);
        (number, reply)
    }

    async fn ask(
        &self,
        number: u64,
        reply: oneshot::Receiver<Given>,
        message: &GatewayMessage,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<KeydMessage, Refusal> {
        let socket = self.socket();
        let asking = async {
            let socket = socket.ok_or(Refusal::KeydUnavailable)?;
            socket.send(message, descriptors).await.map_err(|_| Refusal::KeydUnavailable)?;
            reply.await.map_err(|_| Refusal::KeydUnavailable)
        };
        self.patiently(number, asking).await
    }

    async fn patiently(
        &self,
        number: u64,
        asking: impl Future<Output = Result<Given, Refusal>>,
    ) -> Result<KeydMessage, Refusal> {
        let _question = Question { client: self, number };
        let answer = timeout(PATIENCE, asking).await;
        let given = answer.unwrap_or(Err(Refusal::KeydUnavailable))?;
        given.take().ok_or(Refusal::KeydUnavailable)
    }

    fn socket(&self) -> Option<Rc<PacketSocket>> {
        match &*self.link.borrow() {
            Link::Up(socket) => Some(socket.clone()),
            _ => None,
        }
    }

    /// Connects, listens, and connects again when the connection ends. `cut` is called when channels that were opened
    /// before are of no use any more: after a loss, and when the vault was locked.
    pub async fn run(&self, path: &Path, checks: &[Check], cut: impl Fn()) {
        let mut pause = SHORTEST_PAUSE;
        let mut said = String::new();
        loop {
            let started = Instant::now();
            let error = match PacketSocket::connect(path) {
                Ok(socket) => self.converse(Rc::new(socket), checks, &cut).await,
                Err(error) => LinkError::Io(error),
            };
            self.lose();
            cut();
            // The same trouble, tried every second, is one line in the log.
            let text = error.to_string();
            if said != text || started.elapsed() > LONGEST_PAUSE {
                tracing::warn!(socket = %path.display(), error = %text, "keyd is unavailable");
                said = text;
            }
            pause = if started.elapsed() > LONGEST_PAUSE { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            sleep(pause).await;
        }
    }

    async fn converse(&self, socket: Rc<PacketSocket>, checks: &[Check], cut: &impl Fn()) -> LinkError {
        if let Ok(peer) = socket.peer() {
            tracing::info!(pid = peer.pid(), uid = peer.uid(), "connected to keyd");
        }
        let hello = GatewayMessage::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), checks: checks.to_vec() };
        if let Err(error) = socket.send(&hello, &[]).await {
            return error;
        }
        *self.link.borrow_mut() = Link::Up(socket.clone());
        let mut buffer = Vec::new();
        let mut list = Vec::new();
        loop {
            match socket.receive(&mut buffer).await {
                Ok(Some(message)) => self.hear(message, &mut list, cut),
                Ok(None) => return LinkError::Closed,
                Err(error) => return error,
            }
        }
    }

    fn hear(&self, message: KeydMessage, list: &mut Vec<Route>, cut: &impl Fn()) {
        match message {
            KeydMessage::Welcome { version } => {
                if version != env!("CARGO_PKG_VERSION") {
                    tracing::warn!(
                        keyd = version,
                        gatewayd = env!("CARGO_PKG_VERSION"),
                        "keyd has another version; restart both"
                    );
                }
            }
            KeydMessage::Accepted { channel: number }
            | KeydMessage::Refused { channel: number, .. }
            | KeydMessage::SessionOpened { session: number }
            | KeydMessage::SessionRefused { session: number, .. }
            | KeydMessage::Intercept { question: number, .. }
            | KeydMessage::Tunnel { question: number }
            | KeydMessage::NotConnected { question: number, .. }
            | KeydMessage::Environment { question: number, .. }
            | KeydMessage::NoEnvironment { question: number, .. } => self.answer(number, message),
            KeydMessage::CutTunnel { tunnel } => {
                if let Some(cut) = self.tunnels.borrow().get(&tunnel) {
                    cut.notify_one();
                }
            }
            KeydMessage::Locked => {
                tracing::info!("the vault is locked");
                self.set(Standing::Locked);
                cut();
            }
            KeydMessage::Routes { first, last, routes } => {
                if first {
                    list.clear();
                }
                list.extend(routes);
                if last {
                    tracing::info!(routes = list.len(), "the vault is unlocked");
                    self.set(Standing::Open(Rc::new(Routes::new(std::mem::take(list)))));
                }
            }
        }
    }

    fn answer(&self, number: u64, answer: KeydMessage) {
        // A reply that comes after its time has nobody waiting: what it gave is given back, and keyd sees a pair closed.
        let given = Given::new(answer, self.socket(), &self.tunnels);
        if let Some(sender) = self.waiting.borrow_mut().remove(&number) {
            let _ = sender.send(given);
        }
    }

    fn lose(&self) {
        *self.link.borrow_mut() = Link::Down;
        self.set(Standing::Unavailable);
        // Dropping the senders tells every asker at once.
        self.waiting.borrow_mut().clear();
        self.links.set(self.links.get() + 1);
        // What nobody watches over any more is not to go on.
        self.tunnels.borrow().values().for_each(|cut| cut.notify_one());
    }

    fn set(&self, standing: Standing) {
        self.manager.status(standing.words());
        *self.standing.borrow_mut() = standing;
        self.told.set(self.told.get() + 1);
        self.changed.notify_waiters();
    }
}

/// One that is under way. Nobody waits for its reply any more when it is dropped, though it was never sent.
struct Question<'a> {
    client: &'a KeyClient,
    number: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.client.waiting.borrow_mut().remove(&self.number);
    }
}

/// For keyd's reply to a channel that is wanted.
const PATIENCE: Duration = Duration::from_secs(5);

/// For keyd's word, after a channel died.
const SETTLING: Duration = Duration::from_millis(100);

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
impl KeyClient {
    /// A client of a keyd that lives in the test.
    pub fn with_test_keyd(
        routes: Vec<Route>,
        keyd: impl Fn(UnixStream, Upstream) -> Result<(), Refusal> + 'static,
    ) -> Self {
        let client = Self::default();
        client.set(Standing::Open(Rc::new(Routes::new(routes))));
        *client.link.borrow_mut() = Link::Test(Rc::new(keyd));
        client
    }

    /// What keyd would have told.
    pub fn tell(&self, standing: Standing) {
        self.set(standing);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::test_keyd::{Keyd, routes};
    use super::*;

    async fn until(client: &KeyClient, what: &str, condition: impl Fn(&Standing) -> bool) {
        let waiting = async {
            while !condition(&client.standing()) {
                client.changed.notified().await;
            }
        };
        timeout(Duration::from_secs(10), waiting).await.expect(what);
    }

    /// Runs a client against keyd's side, which gets what to do as a closure on another thread.
    async fn against<T: Send + 'static>(
        keyd: impl FnOnce(Keyd) -> T + Send + 'static,
        test: impl AsyncFnOnce(&KeyClient),
    ) -> T {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.sock");
        let listener = Keyd::bind(&path);
        let side = std::thread::spawn(move || keyd(listener));
        let client = KeyClient::default();
        let checks = [Check::ok("x", "y")];
        let run = async {
            tokio::select! {
                () = client.run(&path, &checks, || {}) => unreachable!("it runs for ever"),
                () = test(&client) => {}
            }
        };
        LocalSet::new().run_until(run).await;
        side.join().unwrap()
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_back() {
        let (go, wait) = std::sync::mpsc::channel();
        let keyd = move |keyd: Keyd| {
            let line = keyd.accept();
            line.hear().unwrap();
            line.say(&routes(true, true, "one"));
            let Some(GatewayMessage::OpenSession { session, .. }) = line.hear() else { panic!("a session is wanted") };
            let Some(GatewayMessage::Connect { question, .. }) = line.hear() else { panic!("a tunnel is wanted") };
            wait.recv().unwrap();
            line.say(&KeydMessage::SessionOpened { session });
            let closed = line.hear();
            line.say(&KeydMessage::Tunnel { question });
            (session, question, closed, line.hear())
        };
        let (session, question, closed, ended) = against(keyd, async |client: &KeyClient| {
            until(client, "routes", |standing| standing.routes().is_ok()).await;
            let moment = Duration::from_millis(50);
            let asked = timeout(moment, client.open_session(Presented::default(), None)).await;
            assert!(asked.is_err(), "the request was dropped");
            let authority = "a.example".parse().unwrap();
            let asked = timeout(moment, client.connect(1, &authority, None, "id".to_owned(), true)).await;
            assert!(asked.is_err(), "the request was dropped");
            go.send(()).unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        })
        .await;
        assert!(matches!(closed, Some(GatewayMessage::CloseSession { session: closed }) if closed == session));
        assert!(matches!(ended, Some(GatewayMessage::EndTunnel { tunnel, .. }) if tunnel == question));
    }

    #[tokio::test]
    async fn questions_that_are_dropped_leave_nothing_behind_though_they_were_never_sent() {
        let (go, wait) = std::sync::mpsc::channel();
        let keyd = move |keyd: Keyd| {
            let line = keyd.accept();
            line.hear().unwrap();
            line.say(&routes(true, true, "one"));
            wait.recv().unwrap();
            let mut heard = 0;
            loop {
                match line.hear() {
                    Some(GatewayMessage::Connect { .. }) => heard += 1,
                    Some(GatewayMessage::OpenSession { session, .. }) => {
                        line.say(&KeydMessage::SessionOpened { session });
                        return heard;
                    }
                    _ => panic!("a question"),
                }
            }
        };
        let heard = against(keyd, async |client: &KeyClient| {
            until(client, "routes", |standing| standing.routes().is_ok()).await;
            let authority = "a.example".parse().unwrap();
            let ask = |_| Box::pin(client.connect(1, &authority, None, "i".repeat(1000), true));
            let mut asking: Vec<_> = (0..MANY).map(ask).collect();
            let first_look = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(asking.iter_mut().all(|one| one.as_mut().poll(cx).is_pending()))
            });
            assert!(tokio::task::unconstrained(first_look).await, "keyd says nothing");
            assert_eq!(client.waiting.borrow().len(), MANY);
            drop(asking);
            assert_eq!(client.waiting.borrow().len(), 0);
            go.send(()).unwrap();
            assert!(client.open_session(Presented::default(), None).await.is_ok(), "the next one is answered");
        })
        .await;
        assert!(heard < MANY, "the socket took all of them");
    }

    /// More than the socket takes.
    const MANY: usize = 2000;

    #[tokio::test]
    async fn a_cut_that_comes_right_behind_its_tunnel_is_not_lost() {
        let keyd = |keyd: Keyd| {
            let line = keyd.accept();
            line.hear().unwrap();
            line.say(&routes(true, true, "one"));
            let Some(GatewayMessage::Connect { question, .. }) = line.hear() else { panic!("a tunnel is wanted") };
            line.say(&KeydMessage::Tunnel { question });
            line.say(&KeydMessage::CutTunnel { tunnel: question });
            line.hear()
        };
        let ended = against(keyd, async |client: &KeyClient| {
            until(client, "routes", |standing| standing.routes().is_ok()).await;
            let authority = "a.example".parse().unwrap();
            let way = client.connect(1, &authority, None, "id".to_owned(), true).await;
            let Ok(Way::Tunnel(tunnel)) = way else { panic!("a tunnel") };
            timeout(Duration::from_secs(10), tunnel.cut()).await.expect("cut");
            tunnel.moved(3, 4);
            drop(tunnel);
            tokio::time::sleep(Duration::from_millis(200)).await;
        })
        .await;
        assert!(matches!(ended, Some(GatewayMessage::EndTunnel { bytes_in: 3, bytes_out: 4, .. })));
    }

    #[tokio::test]
    async fn hello_comes_first_and_routes_count_when_they_are_complete() {
        let (go, wait) = std::sync::mpsc::channel();
        let keyd = move |keyd: Keyd| {
            let line = keyd.accept();
            let hello = line.hear().unwrap();
            assert!(
                matches!(hello, GatewayMessage::Hello { version, checks } if version == "0.1.0" && checks.len() == 1)
            );
            line.say(&KeydMessage::Welcome { version: "0.1.0".to_owned() });
            line.say(&KeydMessage::Locked);
            wait.recv().unwrap();
            line.say(&routes(true, false, "one"));
            line.say(&routes(false, true, "two"));
            wait.recv().unwrap();
            line.say(&routes(true, true, "three"));
            wait.recv().unwrap();
        };
        against(keyd, async |client| {
            until(client, "locked", |standing| matches!(standing, Standing::Locked)).await;
            go.send(()).unwrap();
            let has = |standing: &Standing, name: &str| {
                standing.routes().is_ok_and(|routes| routes.authority(&name.parse().unwrap()).is_some())
            };
            until(client, "two routes", |standing| has(standing, "one") && has(standing, "two")).await;
            go.send(()).unwrap();
            until(client, "a new list", |standing| has(standing, "three") && !has(standing, "one")).await;
            go.send(()).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn channels_are_accepted_refused_or_lost_with_the_connection() {
        let keyd = |keyd: Keyd| {
            let line = keyd.accept();
            line.hear();
            line.say(&routes(true, true, "a"));
            for round in 0..3 {
                let Some(GatewayMessage::OpenChannel { channel, authority, upstream }) = line.hear() else {
                    panic!("no channel")
                };
                assert_eq!(authority.to_string(), "a.example:443");
                assert_eq!(upstream, Upstream::Failed(DialFailure::Unreachable));
                // An answer to a question that was never asked is ignored.
                line.say(&KeydMessage::Refused { channel: channel + 99, refusal: Refusal::Revoked });
                match round {
                    0 => line.say(&KeydMessage::Accepted { channel }),
                    1 => line.say(&KeydMessage::Refused { channel, refusal: Refusal::HostNotAllowed }),
                    _ => return,
                }
            }
        };
        against(keyd, async |client| {
            until(client, "routes", |standing| standing.routes().is_ok()).await;
            let authority: Authority = "a.example".parse().unwrap();
            let open = || client.open_channel(&authority, Err(DialFailure::Unreachable));
            assert!(open().await.is_ok());
            assert_eq!(open().await.unwrap_err(), Refusal::HostNotAllowed);
            assert_eq!(open().await.unwrap_err(), Refusal::KeydUnavailable);
            assert_eq!(open().await.unwrap_err(), Refusal::KeydUnavailable, "and at once, without a connection");
            assert!(client.waiting.borrow().is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn it_connects_again_after_a_loss_and_after_nonsense() {
        let (go, wait) = std::sync::mpsc::channel();
        let keyd = move |keyd: Keyd| {
            let line = keyd.accept();
            line.hear();
            line.say(&routes(true, true, "a"));
            wait.recv().unwrap();
            drop(line);
            let line = keyd.accept();
            line.send(b"SR\x63\x00\x00\x00\x00\x00");
            let again = keyd.accept();
            again.hear();
            again.say(&KeydMessage::Locked);
            again
        };
        against(keyd, async |client| {
            until(client, "routes", |standing| standing.routes().is_ok()).await;
            go.send(()).unwrap();
            until(client, "gone", |standing| matches!(standing, Standing::Unavailable)).await;
            until(client, "locked", |standing| matches!(standing, Standing::Locked)).await;
        })
        .await;
    }
}
