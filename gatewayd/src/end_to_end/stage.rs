//! The stage of the whole-request tests: a gateway on a free port, and a keyd that lives in the test.
//!
//! The keyd speaks real HTTP on real socket pairs, but is handed its end without descriptor passing, which needs
//! unsafe code to receive. It refuses to know TLS or policy.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use strongroom_protocol::Refusal;
use strongroom_protocol::exchange::{Route, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::config::Config;
use crate::gateway::Gateway;
use crate::key_client::KeyClient;
use crate::serve::{Listener, serve};

pub type Reply = Response<Scripted>;

pub use super::framed_keyd::{Incoming, Scripted};

/// What the test's keyd was asked.
#[derive(Default)]
pub struct Seen {
    pub channels: Cell<usize>,
    pub requests: RefCell<Vec<(http::request::Parts, usize)>>,
    pub upstreams: RefCell<Vec<Upstream>>,
    ended: Notify,
    pub ended_channels: Cell<usize>,
}

pub struct Stage {
    pub address: SocketAddr,
    pub gateway: Rc<Gateway>,
    pub seen: Rc<Seen>,
    pub stop: Rc<Notify>,
    pub stopped: Rc<Cell<bool>>,
}

/// Runs a gateway with routes `a` and `b`, both at one resolved address where somebody listens and nobody speaks.
/// `keyd` answers each request; its second argument counts the requests on that channel from 1.
pub async fn stage<A, F>(text: &str, keyd: A, test: impl AsyncFnOnce(Stage))
where
    A: Fn(Request<Incoming>, usize) -> F + 'static,
    F: Future<Output = Option<Reply>> + 'static,
{
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let resolve = upstream.local_addr().unwrap();
    let text = format!("{text}\n[resolve]\n\"a.example\" = \"{resolve}\"\n\"b.example\" = \"{resolve}\"");
    let config: Config = toml::from_str(&text).unwrap();
    let run = async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(Seen::default());
        let client = test_keyd(seen.clone(), Rc::new(keyd));
        let gateway = Gateway::new(config, client);
        let (stop, stopped) = (Rc::new(Notify::new()), Rc::new(Cell::new(false)));
        let (stop_wish, end) = (stop.clone(), stopped.clone());
        let serving = gateway.clone();
        spawn_local(async move {
            serve(serving, vec![Listener::Tcp(listener)], stop_wish.notified()).await;
            end.set(true);
        });
        test(Stage { address, gateway, seen, stop, stopped }).await;
    };
    timeout(Duration::from_secs(30), LocalSet::new().run_until(run)).await.expect("the test ends");
}

fn test_keyd<A, F>(seen: Rc<Seen>, answer: Rc<A>) -> KeyClient
where
    A: Fn(Request<Incoming>, usize) -> F + 'static,
    F: Future<Output = Option<Reply>> + 'static,
{
    let route = |name: &str, fields: &[&str]| Route {
        name: name.parse().unwrap(),
        authority: format!("{name}.example:443").parse().unwrap(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        bodies: Vec::new(),
    };
    let routes = vec![route("a", &["authorization"]), route("b", &[]), route("forbidden", &[])];
    KeyClient::with_test_keyd(routes, move |theirs, upstream| {
        seen.channels.set(seen.channels.get() + 1);
        seen.upstreams.borrow_mut().push(upstream);
        let (seen, answer, count) = (seen.clone(), answer.clone(), Rc::new(Cell::new(0)));
        let stream = tokio::net::UnixStream::from_std(theirs).unwrap();
        spawn_local(async move {
            let log = seen.clone();
            let service = move |request: Request<Incoming>| {
                count.set(count.get() + 1);
                let (head, body) = request.into_parts();
                log.requests.borrow_mut().push((head.clone(), count.get()));
                answer(Request::from_parts(head, body), count.get())
            };
            super::framed_keyd::serve(stream, service).await;
            seen.ended_channels.set(seen.ended_channels.get() + 1);
            seen.ended.notify_waiters();
        });
        Ok(())
    })
}

impl Seen {
    pub async fn until_channels_ended(&self, count: usize) {
        while self.ended_channels.get() < count {
            self.ended.notified().await;
        }
    }
}

impl Stage {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of its own and reads to the end.
    pub async fn raw(&self, bytes: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, target: &str, fields: &str) -> String {
        self.raw(&format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n", self.address)).await
    }
}

pub async fn ok(_: Request<Incoming>, _: usize) -> Option<Reply> {
    Some(Response::new(Scripted::whole("fine")))
}

pub fn refusal(code: Refusal, is_stale: bool) -> Reply {
    let mut reply = Response::builder().header("strongroom-refusal", code.code()).header("strongroom-retry-after", "9");
    if is_stale {
        reply = reply.header("strongroom-stale", "1");
    }
    reply.body(Scripted::empty()).unwrap()
}
