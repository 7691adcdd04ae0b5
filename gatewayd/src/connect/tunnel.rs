//! A blind tunnel: bytes both ways, to a host that the agent may reach without a key.
//!
//! The address rules hold here too. It ends when both sides have, when nothing moved for too long, when it has had its
//! time, when keyd cuts it, or at once where the agent's TLS hello names another host; keyd is told how much went through.
//! It refuses to look at anything else inside. Called by `connect` (to dial) and `serve` (to carry).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::hello_gate::{self, HelloGate};
use crate::config::Timeouts;
use crate::connection::{AgentIo, Connection};
use crate::dial::{self, NoSocket};
use crate::gateway::Gateway;
use crate::key_client::Tunnel;

/// A socket to the host.
///
/// # Errors
/// Why there is none.
pub async fn dial(gateway: &Gateway, authority: &Authority) -> Result<std::net::TcpStream, NoSocket> {
    dial::dial(authority, &gateway.config(), &gateway.dials).await
}

/// What the agent is told where there is none.
#[must_use]
pub fn refusal(no: NoSocket) -> Refusal {
    match no {
        NoSocket::Upstream(failure) => failure.into(),
        NoSocket::NoRoom => Refusal::Overloaded,
    }
}

/// Carries bytes until the tunnel ends, and tells keyd.
pub async fn carry(
    gateway: &Gateway,
    connection: &Connection,
    io: AgentIo,
    host: &Host,
    tunnel: Tunnel,
    upstream: std::net::TcpStream,
) {
    let timeouts = gateway.config().timeouts;
    let (moved, refused) = (Rc::new(Moved::default()), Rc::default());
    let gate = HelloGate::new(io, host.clone(), timeouts.slow_headers.get(), Rc::clone(&refused));
    let mut agent = Counted { inner: gate, moved: moved.clone() };
    {
        // Told however this ends, also where the task is dropped.
        let _record = Record { tunnel: &tunnel, moved: moved.clone() };
        let upstream = upstream.set_nonblocking(true).and_then(|()| TcpStream::from_std(upstream));
        let Ok(mut upstream) = upstream else { return };
        tokio::select! {
            ended = copy_bidirectional(&mut agent, &mut upstream) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, refused = refused.get().is_some(), "tunnel ended");
                }
            }
            () = tunnel.cut() => {}
            () = moved.has_stalled(&timeouts) => {}
        }
    }
    let Some(failure) = refused.get() else { return };
    tunnel.failed(failure);
    // On record before the agent hears of it.
    drop(tunnel);
    // To whoever has heard the server speak an alert of ours would be the server's.
    if moved.to_agent.get() == 0 {
        connection.leave_body_unread();
        let told = async {
            agent.write_all(&hello_gate::alert(failure)).await?;
            agent.shutdown().await
        };
        // It may have gone.
        let _ = told.await;
    }
}

/// What went through, and when something last did.
#[derive(Debug)]
struct Moved {
    from_agent: Cell<u64>,
    to_agent: Cell<u64>,
    last: Cell<Instant>,
}

impl Default for Moved {
    fn default() -> Self {
        Self { from_agent: Cell::new(0), to_agent: Cell::new(0), last: Cell::new(Instant::now()) }
    }
}

impl Moved {
    async fn has_stalled(&self, timeouts: &Timeouts) {
        let end = Instant::now() + timeouts.total.get();
        loop {
            let stalled = self.last.get() + timeouts.stalled.get();
            if Instant::now() >= stalled.min(end) {
                return;
            }
            sleep_until(stalled.min(end)).await;
        }
    }

    fn add(&self, count: &Cell<u64>, bytes: usize) {
        count.set(count.get() + bytes as u64);
        self.last.set(Instant::now());
    }
}

struct Record<'a> {
    tunnel: &'a Tunnel,
    moved: Rc<Moved>,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.tunnel.moved(self.moved.from_agent.get(), self.moved.to_agent.get());
    }
}

/// The agent's side, counted.
struct Counted {
    inner: HelloGate<AgentIo>,
    moved: Rc<Moved>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.moved.add(&self.moved.from_agent, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.moved.add(&self.moved.to_agent, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
