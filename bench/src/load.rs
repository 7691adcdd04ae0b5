//! A closed loop: so many connections, each with one request under way, until time or count is over.
//!
//! One thread, raw HTTP/1.1 on plain TCP or TLS. It refuses to go on after an answer that is not the expected one: a
//! figure that counts errors is worth nothing. Called by `measure`.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::error::{BenchError, Outcome, While};
use crate::http1::Reader;
use crate::scenario::{Amount, Scenario};

/// Whom to ask.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// With TLS, and which name must be proved.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    /// For `Host`.
    pub host: String,
    /// A CONNECT to there comes first.
    pub through: Option<String>,
    /// HTTP/2 is spoken.
    pub is_http2: bool,
    /// In front of the upstream's target.
    pub prefix: String,
    /// For `Authorization: Bearer`.
    pub bearer: String,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Exchanges that ended in the measured time.
    pub exchanges: u64,
    /// The measured time.
    pub time: Duration,
    /// How long each took, sorted.
    pub latencies: Vec<Duration>,
    /// From request to the first byte of a body, sorted.
    pub first_bytes: Vec<Duration>,
}

impl Run {
    /// The latency under which this part of the exchanges stayed.
    #[must_use]
    pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((sorted.len() as f64 - 1.0) * part).round().max(0.0) as usize;
        sorted.get(index).copied().unwrap_or_default()
    }
}

/// Runs a scenario against a target. `mark` is called at the beginning and at the end of the measured time.
///
/// # Errors
/// Where an exchange failed or gave another answer.
pub async fn run(target: &Target, scenario: &Scenario, mut mark: impl FnMut()) -> Outcome<Run> {
    let shared = Rc::new(Shared::new(target, scenario));
    let mut workers = JoinSet::new();
    for _ in 0..scenario.connections {
        let (shared, target) = (Rc::clone(&shared), target.clone());
        workers.spawn_local(async move { shared.work(&target).await });
    }
    let began;
    match scenario.amount {
        Amount::Time(time) => {
            watched(&mut workers, tokio::time::sleep(WARM_UP)).await?;
            mark();
            began = Instant::now();
            shared.measuring.set(true);
            watched(&mut workers, tokio::time::sleep(time)).await?;
            shared.measuring.set(false);
            mark();
        }
        Amount::Count(_) => {
            // All connections are there and warm.
            watched(&mut workers, shared.all_ready()).await?;
            tokio::time::sleep(SETTLE).await;
            mark();
            began = Instant::now();
            shared.measuring.set(true);
            shared.go.notify_waiters();
            watched(&mut workers, shared.all_done()).await?;
        }
    }
    let time = began.elapsed();
    if let Amount::Count(_) = scenario.amount {
        // What is done after the last byte belongs to it.
        tokio::time::sleep(SETTLE).await;
        mark();
    }
    shared.stop.set(true);
    while let Some(ended) = workers.join_next().await {
        ended.during("a connection")?.during("an exchange")?;
    }
    let mut run = shared.run.take();
    run.time = time;
    run.latencies.sort_unstable();
    run.first_bytes.sort_unstable();
    if run.exchanges == 0 {
        return Err(BenchError::new("no exchange ended in the measured time"));
    }
    Ok(run)
}

/// How many connections the upstream has had, this one included; it says so in the reason phrase.
///
/// # Errors
/// Where it does not answer.
pub async fn connections(upstream: &Target) -> Outcome<u64> {
    let exchange = async {
        let mut stream = connect(upstream).await?;
        stream.write_all(&head(upstream, "GET", "/connections", 0)).await?;
        stream.flush().await?;
        let head = Reader::default().head(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let count = head.first_line.strip_prefix("HTTP/1.1 200 ").and_then(|count| count.parse().ok());
        count.ok_or_else(|| io::Error::other(head.first_line))
    };
    exchange.await.during("asking the upstream")
}

/// Waits for something, unless a connection fails before it comes.
async fn watched(workers: &mut JoinSet<io::Result<()>>, what: impl Future<Output = ()>) -> Outcome<()> {
    tokio::pin!(what);
    loop {
        tokio::select! {
            () = &mut what => return Ok(()),
            Some(ended) = workers.join_next() => ended.during("a connection")?.during("an exchange")?,
        }
    }
}

struct Shared {
    scenario: Scenario,
    request: Vec<u8>,
    block: Vec<u8>,
    measuring: Cell<bool>,
    stop: Cell<bool>,
    ready: Cell<usize>,
    done: Cell<usize>,
    changed: tokio::sync::Notify,
    go: tokio::sync::Notify,
    run: RefCell<Run>,
}

impl Shared {
    fn new(target: &Target, scenario: &Scenario) -> Self {
        let method = if scenario.upload > 0 { "POST" } else { "GET" };
        let mut request = head(target, method, scenario.target, scenario.upload);
        let block = vec![b'x'; usize::try_from(scenario.upload).unwrap_or(BLOCK).min(BLOCK)];
        // A small body goes out with its head, as clients do it.
        if block.len() < BLOCK {
            request.extend_from_slice(&block);
        }
        Self {
            scenario: *scenario,
            request,
            block,
            measuring: Cell::new(false),
            stop: Cell::new(false),
            ready: Cell::new(0),
            done: Cell::new(0),
            changed: tokio::sync::Notify::new(),
            go: tokio::sync::Notify::new(),
            run: RefCell::default(),
        }
    }

    async fn work(&self, target: &Target) -> io::Result<()> {
        let mut connection = None;
        match self.scenario.amount {
            Amount::Time(_) => {
                while !self.stop.get() {
                    self.exchange(target, &mut connection).await?;
                }
            }
            Amount::Count(count) => {
                self.exchange(target, &mut connection).await?;
                self.ready.set(self.ready.get() + 1);
                let go = self.go.notified();
                self.changed.notify_waiters();
                go.await;
                for _ in 0..count {
                    self.exchange(target, &mut connection).await?;
                }
                self.done.set(self.done.get() + 1);
                self.changed.notify_waiters();
            }
        }
        Ok(())
    }

    /// One exchange, on the connection where there is one.
    async fn exchange(&self, target: &Target, connection: &mut Option<Connection>) -> io::Result<()> {
        let began = Instant::now();
        if connection.is_none() || self.scenario.cold {
            *connection = Some(Connection::open(target).await?);
        }
        let sent = Instant::now();
        let (stream, reader) = match connection.as_mut() {
            None => return Ok(()),
            Some(Connection::Raw { stream, reader }) => (stream, reader),
            Some(Connection::Http2(sender)) => {
                let (length, first) = http2_exchange(sender, target, &self.scenario, sent).await?;
                return self.note(length, began.elapsed(), first);
            }
        };
        stream.write_all(&self.request).await?;
        if self.block.len() == BLOCK {
            for _ in 0..self.scenario.upload / BLOCK as u64 {
                stream.write_all(&self.block).await?;
            }
        }
        stream.flush().await?;
        let head = reader.head(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !head.first_line.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(head.first_line));
        }
        let mut first = Duration::ZERO;
        let length = reader.body(stream, head.framing, || first = sent.elapsed()).await?;
        self.note(length, began.elapsed(), first)
    }

    fn note(&self, length: u64, latency: Duration, first: Duration) -> io::Result<()> {
        if length != self.scenario.answer {
            return Err(io::Error::other(format!("an answer of {length} bytes in place of {}", self.scenario.answer)));
        }
        if self.measuring.get() {
            let mut run = self.run.borrow_mut();
            run.exchanges += 1;
            run.latencies.push(latency);
            run.first_bytes.push(first);
        }
        Ok(())
    }

    async fn all_ready(&self) {
        self.wait(|| self.ready.get() == self.scenario.connections).await;
    }

    async fn all_done(&self) {
        self.wait(|| self.done.get() == self.scenario.connections).await;
    }

    async fn wait(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

enum Connection {
    Raw { stream: Stream, reader: Reader },
    Http2(SendRequest<Empty<Bytes>>),
}

impl Connection {
    async fn open(target: &Target) -> io::Result<Self> {
        let stream = connect(target).await?;
        if !target.is_http2 {
            return Ok(Self::Raw { stream, reader: Reader::default() });
        }
        let (sender, driver) = http2::handshake(Local, TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(driver);
        Ok(Self::Http2(sender))
    }
}

/// One GET over HTTP/2: how many bytes came, and when the first.
async fn http2_exchange(
    sender: &mut SendRequest<Empty<Bytes>>,
    target: &Target,
    scenario: &Scenario,
    sent: Instant,
) -> io::Result<(u64, Duration)> {
    let request = Request::get(format!("https://{}{}", target.host, scenario.target))
        .header("authorization", format!("Bearer {}", target.bearer))
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .header("user-agent", "bench/1.0")
        .header("x-sdk-lang", "rust")
        .header("x-sdk-os", "Linux")
        .body(Empty::new())
        .map_err(io::Error::other)?;
    sender.ready().await.map_err(io::Error::other)?;
    let mut response = sender.send_request(request).await.map_err(io::Error::other)?;
    if response.status() != 200 {
        return Err(io::Error::other(response.status().to_string()));
    }
    let (mut length, mut first) = (0, Duration::ZERO);
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(io::Error::other)?;
        if length == 0 {
            first = sent.elapsed();
        }
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok((length, first))
}

/// Runs hyper's tasks on this thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

async fn connect(target: &Target) -> io::Result<Stream> {
    let mut socket = TcpStream::connect(target.address).await?;
    socket.set_nodelay(true)?;
    if let Some(through) = &target.through {
        socket.write_all(format!("CONNECT {through} HTTP/1.1\r\nhost: {through}\r\n\r\n").as_bytes()).await?;
        // Nothing follows until we speak.
        let head = Reader::default().head(&mut socket).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !head.first_line.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(head.first_line));
        }
    }
    Ok(match &target.tls {
        None => Box::new(socket),
        Some((connector, name)) => Box::new(connector.connect(name.clone(), socket).await?),
    })
}

/// With about the fields that an SDK sends.
fn head(target: &Target, method: &str, path: &str, upload: u64) -> Vec<u8> {
    let length = if upload > 0 { format!("content-length: {upload}\r\n") } else { String::new() };
    format!(
        "{method} {}{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: application/json\r\n\
         content-type: application/json\r\nuser-agent: bench/1.0\r\nx-sdk-lang: rust\r\nx-sdk-os: Linux\r\n{length}\r\n",
        target.prefix, target.host, target.bearer
    )
    .into_bytes()
}

/// Connections are made and caches filled before the measured time.
const WARM_UP: Duration = Duration::from_millis(250);
/// What is done behind the last byte (records, the pool) is done by then.
const SETTLE: Duration = Duration::from_millis(5);
/// A large body is written in pieces of this size.
const BLOCK: usize = 64 * 1024;
