//! The event loop: accepting, one HTTP server for each connection, and an orderly end.
//!
//! One thread does it all. It refuses connections over the limit, politely as long as few are refused at one time.
//! Called by `main`, last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nix::time::{ClockId, clock_gettime};
use strongroom_protocol::log::Brake;
use strongroom_protocol::service_manager::ServiceManager;
use strongroom_protocol::{Check, Refusal};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::Config;
use crate::connect::intercept::Opened;
use crate::connect::{self, Beginning, Granted, Granting, Outcome};
use crate::connection::{AgentIo, Connection, OwnWords, Received, Stream};
use crate::crowd::{Crowd, Place};
use crate::dial::lookups::MOST_THREADS;
use crate::gateway::Gateway;
use crate::hang_up::hang_up;
use crate::ingress::Door;
use crate::key_client::KeyClient;
use crate::listen::Sockets;
use crate::shutdown::{Signals, Wish};
use crate::start_error::StartError;
use crate::visitor::Visitor;

/// Where things come from.
#[derive(Debug)]
pub struct Sources {
    /// Read again on reload.
    pub config_file: PathBuf,
    /// keyd's.
    pub gateway_socket: PathBuf,
    /// How many may be open.
    pub descriptors: usize,
}

/// Serves until a signal says stop.
///
/// # Errors
/// Where the event loop cannot be started.
pub fn until_shutdown(
    mut config: Config,
    from: Sources,
    sockets: Sockets,
    checks: Vec<Check>,
    manager: ServiceManager,
) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // They resolve names and do nothing else.
        .max_blocking_threads(MOST_THREADS)
        .build()
        .map_err(StartError::Runtime)?;
    config.limits = config.limits.within(from.descriptors);
    let manager = Rc::new(manager);
    let run = async {
        let listeners = Listener::from_sockets(sockets).map_err(StartError::Runtime)?;
        let mut signals = Signals::listen().map_err(StartError::Runtime)?;
        let gateway = Gateway::new(config, KeyClient::new(manager.clone()));
        *gateway.listening.borrow_mut() = listeners.iter().filter_map(Listener::address).collect();
        let shared = gateway.clone();
        spawn_local(async move { shared.keyd.run(&from.gateway_socket, &checks, || shared.pool.clear()).await });
        let stop = async {
            while signals.next().await == Wish::Reload {
                manager.reloading(monotonic());
                reload(&gateway, &from.config_file, from.descriptors);
                manager.ready(gateway.keyd.standing().words());
            }
            manager.stopping("Finishing what runs.");
        };
        // Everything that can be asked is there: sockets, handlers of signals. keyd may come later.
        manager.ready(gateway.keyd.standing().words());
        let serving = async {
            // systemd may have started us for an agent whose connection waits already. Late is better than refused.
            let _ = timeout(FIRST_WORD, gateway.keyd.first_word()).await;
            serve(gateway.clone(), listeners, stop).await;
        };
        tokio::select! {
            () = serving => Ok(()),
            never = beat(&manager) => match never {},
        }
    };
    let result = LocalSet::new().block_on(&runtime, run);
    // A name that is still being resolved is no reason to wait.
    runtime.shutdown_background();
    result
}

/// Tells the service manager that the loop goes round, from no other task and in no other thread: one that hangs is to
/// be found out.
async fn beat(manager: &ServiceManager) -> Infallible {
    let Some(pace) = manager.pace() else { return std::future::pending().await };
    let mut pulse = interval(pace);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.tick().await;
        manager.alive();
    }
}

/// systemd compares the moment with those of its own.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Serves until `stop` is done, then finishes what runs, for as long as the configuration says.
pub async fn serve(gateway: Rc<Gateway>, listeners: Vec<Listener>, stop: impl Future<Output = ()>) {
    let crowd = Rc::new(Crowd::default());
    let (drain, draining) = watch::channel(false);
    for listener in listeners {
        spawn_local(accept(gateway.clone(), listener, crowd.clone(), draining.clone()));
    }
    let sweeping = async {
        loop {
            let idle = gateway.config().timeouts.idle.get();
            sleep((idle / 4).clamp(Duration::from_millis(100), Duration::from_secs(5))).await;
            gateway.pool.sweep(idle);
        }
    };
    tokio::select! {
        () = stop => {}
        () = sweeping => {}
    }
    tracing::info!(connections = crowd.size(), "stopping");
    drain.send_replace(true);
    if timeout(gateway.config().timeouts.drain.get(), crowd.wait_until_empty()).await.is_err() {
        tracing::warn!(connections = crowd.size(), "stopped with requests unfinished");
    }
}

/// A bad file changes nothing.
fn reload(gateway: &Gateway, file: &std::path::Path, descriptors: usize) {
    match Config::load_existing(file) {
        Ok(mut config) => {
            config.limits = config.limits.within(descriptors);
            gateway.reconfigure(config);
            tracing::info!("configuration read again; 'listen' and 'log-level' hold from the next start");
        }
        Err(error) => tracing::error!(%error, "configuration kept as it was"),
    }
}

/// One socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// agent.sock.
    Unix(UnixListener),
}

impl Listener {
    fn from_sockets(sockets: Sockets) -> std::io::Result<Vec<Self>> {
        let tcp = sockets.tcp.into_iter().map(|socket| TcpListener::from_std(socket).map(Self::Tcp));
        let agent = sockets.agent.into_iter().map(|socket| UnixListener::from_std(socket).map(Self::Unix));
        tcp.chain(agent).collect()
    }

    /// Where it listens, over TCP.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> std::io::Result<(Stream, Door)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let address = stream.local_addr()?;
                Ok((Stream::Tcp(stream), Door::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Door::Unix))
            }
        }
    }
}

async fn accept(gateway: Rc<Gateway>, listener: Listener, crowd: Rc<Crowd>, mut draining: watch::Receiver<bool>) {
    let (brake, full) = (Brake::new(), Brake::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|&stop| stop) => return,
        };
        match accepted {
            Ok((stream, door)) => {
                let config = gateway.config();
                let connection = Connection::new(stream, config.timeouts);
                let user = connection.user();
                let place = crowd.enter(user, config.limits.connections.get());
                if !place.as_ref().is_some_and(Place::is_welcome)
                    && let Some(held) = full.pass(Instant::now())
                {
                    tracing::warn!(user, connections = crowd.size(), held, "a connection too many was refused");
                }
                if let Some(place) = place {
                    let visitor = Visitor::new(&gateway, &connection, user);
                    spawn_local(converse(gateway.clone(), connection, visitor, door, place, draining.clone()));
                }
            }
            Err(error) => {
                if let Some(held) = brake.pass(Instant::now()) {
                    tracing::warn!(%error, held, "a connection could not be accepted");
                }
                // Out of descriptors or memory: others have to end first. A connection that is gone costs the same.
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Serves one connection to its end: CONNECTs first, then requests.
async fn converse(
    gateway: Rc<Gateway>,
    connection: Rc<Connection>,
    visitor: Rc<Visitor>,
    door: Door,
    place: Place,
    mut draining: watch::Receiver<bool>,
) {
    let mut io = AgentIo::new(connection.clone());
    let limits = (&gateway.config().limits).into();
    loop {
        let beginning = tokio::select! {
            beginning = connect::begin(&mut io, &limits) => beginning,
            _ = draining.wait_for(|&stop| stop) => return,
        };
        let head = match beginning {
            Ok(Beginning::Http) => break,
            Ok(_) if !place.is_welcome() => Err(Refusal::Overloaded),
            Ok(Beginning::Connect(head)) => Ok(*head),
            Ok(Beginning::Bad(refusal)) => Err(refusal),
            Err(_) => return,
        };
        match connect::answer(&gateway, &connection, &visitor, &mut io, head).await {
            Ok(Outcome::MayTryAgain) => {}
            Ok(Outcome::Granted(granted)) => {
                let place = Rc::new(place);
                return tunnel(&gateway, &connection, visitor, io, *granted, &place, draining).await;
            }
            Ok(Outcome::Refused) | Err(_) => return,
        }
    }
    speak_http(&gateway, connection, visitor, io, door, &Rc::new(place), draining).await;
}

/// What follows a CONNECT that was granted.
async fn tunnel(
    gateway: &Rc<Gateway>,
    connection: &Rc<Connection>,
    visitor: Rc<Visitor>,
    io: AgentIo,
    granted: Granted,
    place: &Rc<Place>,
    mut draining: watch::Receiver<bool>,
) {
    let Granted { authority, token, way, busy } = granted;
    match way {
        Granting::Tunnel(tunnel, upstream) => {
            let _busy = busy;
            tokio::select! {
                () = connect::tunnel::carry(gateway, connection, io, authority.host(), tunnel, upstream) => {}
                // Nobody can tell when a blind tunnel is at rest.
                _ = draining.wait_for(|&stop| stop) => {}
            }
        }
        Granting::Intercept(ready) => {
            let timeouts = gateway.config().timeouts;
            match connect::intercept::open(io, connection, &timeouts, authority, token, ready).await {
                Ok(Opened { io, connection: inner, inside }) => {
                    // The clocks of the connection inside tell a slow agent from a busy one; of the outer one, where that
                    // is another, nothing is expected.
                    let _busy = (!Rc::ptr_eq(connection, &inner)).then_some(busy);
                    speak_http(gateway, inner, visitor, io, Door::Inside(inside), place, draining).await;
                }
                Err(error) => tracing::debug!(%error, "no handshake with an agent"),
            }
        }
    }
}

/// Serves requests to the end of the connection.
async fn speak_http(
    gateway: &Rc<Gateway>,
    connection: Rc<Connection>,
    visitor: Rc<Visitor>,
    io: AgentIo,
    door: Door,
    place: &Rc<Place>,
    mut draining: watch::Receiver<bool>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let busy = connection.begin(request.version());
        let request = request.map(|body| Received::new(body, &busy));
        let (gateway, door, visitor) = (gateway.clone(), door.clone(), visitor.clone());
        let is_welcome = place.is_welcome();
        let is_http1 = request.version() < Version::HTTP_2;
        async move {
            let connection = busy.connection().clone();
            let mut response = if is_welcome {
                gateway.answer(request, door, visitor, busy).await
            } else {
                gateway.turn_away(request, busy)
            };
            if is_http1 && (!is_welcome || connection.has_double_framing()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let server = server(&gateway.config());
    let speaker = gateway.clone();
    let io = OwnWords::new(io, connection.clone(), move |refusal| speaker.refusal_bytes(refusal));
    let mut conversation = pin!(server.serve_connection(TokioIo::new(io), service));
    let mut watch = pin!(hang_up(&connection));
    let mut told = false;
    loop {
        tokio::select! {
            ended = conversation.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            // Dropping the conversation drops its requests, and they close their channels.
            () = watch.as_mut() => return,
            _ = draining.wait_for(|&stop| stop), if !told => {
                told = true;
                conversation.as_mut().graceful_shutdown();
            }
        }
    }
}

/// hyper's own limits lie above ours, so that an agent gets our words wherever that is possible.
fn server(config: &Config) -> Builder<Local> {
    let bytes = config.limits.header_bytes.get() + config.limits.uri_bytes.get();
    let mut builder = Builder::new(Local);
    builder
        .http1()
        .half_close(true)
        .auto_date_header(false)
        .max_headers(config.limits.header_count.get() * 2)
        .max_buf_size((bytes * 2).max(SMALLEST_BUFFER))
        // The connection's own clocks are finer.
        .header_read_timeout(None);
    builder
        .http2()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(bytes * 2).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS);
    builder
}

/// Runs hyper's tasks on this thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// In which keyd starts, where it was started for the same reason.
const FIRST_WORD: Duration = Duration::from_secs(3);

const BACK_OFF: Duration = Duration::from_millis(100);

/// Bodies are read through the same buffer.
const SMALLEST_BUFFER: usize = 128 * 1024;

/// Bytes of one request's body that may lie here, whoever does not read them.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same of one HTTP/2 connection. They may hold twice as much, and a connection on which they hold more is closed
/// (`connection/unread.rs`): with all connections that there may be it stays well within the unit's MemoryMax=.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Requests at one time on one HTTP/2 connection.
const STREAMS: u32 = 128;
