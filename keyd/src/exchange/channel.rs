//! A channel: one end of a socket pair to gatewayd, one upstream connection, one agent.
//!
//! keyd is an HTTP/1.1 server on the pair. The upstream connection is opened by the first request that is admitted,
//! and bound to its agent and credentials; it lives no longer than the channel. Both descriptors were passed by a
//! process that is not trusted: their kind is checked, and they are read and written without ever blocking. It refuses
//! anything that is not a connected stream. Called by `gateway.rs`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use strongroom_protocol::exchange::DialFailure;
use strongroom_protocol::{Authority, Refusal};
use tokio_util::sync::CancellationToken;

use super::connect::Connection;
use super::forward;
use crate::policy::decide::Binding;
use crate::state::State;
use crate::sys::{self, PassedDescriptor, PassedSocket, SocketKind};

/// What the requests of one channel share.
pub struct Channel {
    /// Everything that is common to keyd.
    pub state: Rc<State>,
    /// Where it leads.
    pub authority: Authority,
    /// Its upstream connection.
    pub upstream: RefCell<UpstreamState>,
    /// Whom it serves, once it serves somebody.
    pub bound: RefCell<Option<Binding>>,
    /// Drops the channel.
    pub closed: CancellationToken,
    /// The upstream connection has ended: the channel ends after what it is doing, so that gatewayd does not offer it
    /// another request.
    pub upstream_gone: CancellationToken,
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
    /// Checks what was passed: our end of a stream pair, and a connected TCP socket where one was dialled.
    ///
    /// # Errors
    /// `bad_request` for any other kind or number of descriptors.
    pub fn check(descriptors: Vec<PassedDescriptor>, failure: Option<DialFailure>) -> Result<Self, Refusal> {
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
            (Some(socket), None, None) => UpstreamState::Dialled(usable(socket, SocketKind::is_connected_tcp)?),
            _ => return Err(Refusal::BadRequest),
        };
        Ok(Self { pair: usable(pair, SocketKind::is_connected_unix_stream)?, upstream })
    }
}

/// Serves requests until either side hangs up or access is taken away.
pub async fn serve(state: Rc<State>, authority: Authority, sockets: Sockets) {
    let closed = state.channels.child_token();
    let channel = Rc::new(Channel {
        state,
        authority,
        upstream: RefCell::new(sockets.upstream),
        bound: RefCell::new(None),
        closed: closed.clone(),
        upstream_gone: CancellationToken::new(),
    });
    let upstream_gone = channel.upstream_gone.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let channel = Rc::clone(&channel);
        async move { Ok::<_, Infallible>(forward::handle(channel, request).await) }
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME)
        .max_headers(MOST_FIELDS)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(sockets.pair), service);
    let mut connection = pin!(connection);
    let mut ending = false;
    loop {
        tokio::select! {
            // gatewayd hung up, or a message was malformed: either way the exchange it was about is over.
            _ = connection.as_mut() => return,
            () = closed.cancelled() => return,
            () = upstream_gone.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A channel that is silent for so long is closed; gatewayd closes idle ones sooner.
const IDLE_TIME: Duration = Duration::from_secs(120);
/// gatewayd's own limit is lower; this one is for a gatewayd that is not ours any more.
const MOST_FIELDS: usize = 512;
/// Bytes of a request's head, and of one read.
const LARGEST_HEAD: usize = 128 * 1024;
