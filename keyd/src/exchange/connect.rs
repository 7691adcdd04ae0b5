//! TLS with the upstream, over the socket that gatewayd dialled.
//!
//! The name in SNI and in the certificate is the channel's authority, the roots are the credentials', the clock is
//! keyd's own: nothing that gatewayd says is believed. HTTP/1.1 is the only protocol offered. It refuses to go on
//! with an upstream that does not prove itself. Called by `forward`, with a request that was admitted already.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::trust::Trust;
use super::upload::Upload;
use crate::policy::live::Live;
use crate::sys::PassedSocket;

/// A connection with an upstream that proved itself.
pub struct Connection {
    sender: SendRequest<Upload>,
    received: Rc<Cell<u64>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Shakes hands. `gone` is cancelled when the upstream ends the connection.
    ///
    /// # Errors
    /// `upstream_untrusted`, `upstream_protocol`, `upstream_unreachable` or `upstream_timeout`.
    pub async fn open(
        socket: PassedSocket,
        authority: &Authority,
        trust: &Trust,
        live: &Rc<Live>,
        credentials: &[u64],
        gone: CancellationToken,
    ) -> Result<Self, Refusal> {
        let config = trust.client_config(live, credentials).map_err(|_| Refusal::UpstreamUntrusted)?;
        let name = match authority.host() {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Refusal::UpstreamUntrusted)?,
            Host::V4(address) => ServerName::IpAddress((*address).into()),
            Host::V6(address) => ServerName::IpAddress((*address).into()),
        };
        let handshake = TlsConnector::from(config).connect(name, socket);
        let stream = match tokio::time::timeout(HANDSHAKE_TIME, handshake).await {
            Err(_) => return Err(Refusal::UpstreamTimeout),
            Ok(Err(error)) => return Err(handshake_refusal(&error)),
            Ok(Ok(stream)) => stream,
        };
        let received = Rc::new(Cell::new(0));
        let counted = Counted { inner: stream, received: Rc::clone(&received) };
        let (sender, connection) = http1::Builder::new()
            .max_headers(MOST_FIELDS)
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|_| Refusal::UpstreamProtocol)?;
        let driver = tokio::task::spawn_local(async move {
            // The exchange sees the same error through its response or body.
            let _ = connection.await;
            gone.cancel();
        });
        Ok(Self { sender, received, driver })
    }

    /// Where requests go in.
    pub fn sender(&mut self) -> &mut SendRequest<Upload> {
        &mut self.sender
    }

    /// Decrypted bytes that have come so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.get()
    }
}

impl Drop for Connection {
    /// An upstream connection lives no longer than its channel.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn handshake_refusal(error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Refusal::UpstreamUntrusted
        }
        Some(_) => Refusal::UpstreamProtocol,
        None if error.kind() == io::ErrorKind::InvalidData => Refusal::UpstreamProtocol,
        None => Refusal::UpstreamUnreachable,
    }
}

/// What an error of hyper's client says about the upstream.
#[must_use]
pub fn exchange_refusal(error: &hyper::Error) -> Refusal {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            let tls = io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            return if tls { Refusal::UpstreamProtocol } else { Refusal::UpstreamUnreachable };
        }
        source = inner.source();
    }
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        Refusal::UpstreamUnreachable
    } else {
        Refusal::UpstreamProtocol
    }
}

/// Counts what is read, so that "nothing was answered" is known and not guessed.
struct Counted<T> {
    inner: T,
    received: Rc<Cell<u64>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = buf.filled().len() - before;
        self.received.set(self.received.get() + new as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// A handshake takes two round trips; ten seconds are generous.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Fields of an upstream's head.
const MOST_FIELDS: usize = 256;
/// Bytes of an upstream's head, and of one read.
const LARGEST_HEAD: usize = 128 * 1024;

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
