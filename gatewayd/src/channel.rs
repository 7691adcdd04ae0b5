//! One channel: HTTP/1.1 over our end of a socket pair, one request at a time, and the clock of that request.
//!
//! The rest of gatewayd knows a channel only through this interface, so that its transport may change. It refuses to
//! outlive its use: dropping it closes the pair, and with it whatever ran there. A channel goes back to the pool only
//! when both bodies ended.
//! Opened by the forwarding of a request; kept by the pool.

mod clock;
mod pair;

use std::os::unix::net::UnixStream;
use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use strongroom_protocol::Refusal;
use tokio::task::AbortHandle;

pub use self::clock::Clock;
use self::pair::Pair;
use crate::forward::replay::Replay;
use crate::pool::Permit;

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    sender: SendRequest<Replay>,
    clock: Rc<Clock>,
    task: AbortHandle,
    _permit: Permit,
}

impl Channel {
    /// Speaks HTTP over our end of a pair whose other end keyd has accepted.
    ///
    /// # Errors
    /// [`Refusal::KeydUnavailable`] where the pair is of no use already.
    pub async fn start(ours: UnixStream, permit: Permit) -> Result<Self, Refusal> {
        let stream = tokio::net::UnixStream::from_std(ours).map_err(|_| Refusal::Overloaded)?;
        let handshake = Builder::new()
            .max_headers(MOST_FIELDS)
            .max_header_size(LARGEST_HEAD)
            .handshake(TokioIo::new(Pair::new(stream)))
            .await;
        let (sender, connection) = handshake.map_err(|_| Refusal::KeydUnavailable)?;
        let clock = Rc::new(Clock::default());
        let limit = clock.clone();
        let run = async move {
            tokio::select! {
                // Errors reach the request that they belong to.
                _ = connection => {}
                () = limit.run_out() => {}
            }
        };
        let task = tokio::task::spawn_local(run).abort_handle();
        Ok(Self { sender, clock, task, _permit: permit })
    }

    /// Whether it can take a request now. It never waits: a channel where something of the last request is still under
    /// way may stay so for ever.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether the other end has closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Where the channel dies before there is one, by [`Clock::has_run_out`] or otherwise.
    pub async fn send(&mut self, request: Request<Replay>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// The clock of the request that is being sent.
    #[must_use]
    pub fn clock(&self) -> &Rc<Clock> {
        &self.clock
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fields in an answer's head; keyd has its own limit below it.
const MOST_FIELDS: usize = 1024;

/// Bytes of an answer's head, and of its trailers.
const LARGEST_HEAD: usize = 384 * 1024;
