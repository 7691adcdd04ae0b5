//! A connection with an upstream that proved itself, in whichever HTTP version was agreed on.
//!
//! It carries one request at a time and ends with its channel. It refuses to guess what became of a request: what an
//! error says is told apart here. Made by `connect`, used by `forward`.

mod frames;
mod http2;
mod socket;
mod unread;

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header, uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2 as h2_client};
use hyper_util::rt::TokioIo;
use strongroom_protocol::{Authority, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

pub use self::socket::Socket;
pub use self::unread::Unread;
use super::link;
use super::upload::Upload;

/// A connection with an upstream that proved itself.
pub struct Connection {
    sender: Sender,
    count: Rc<Count>,
    tasks: CancellationToken,
}

/// Plain bytes that went through, so that "nothing was answered" and "nothing was sent" are known and not guessed.
#[derive(Default)]
struct Count {
    received: Cell<u64>,
    sent: Cell<u64>,
}

/// Where requests go in.
enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(h2_client::SendRequest<Upload>, uri::Authority, Rc<Unread>),
}

impl Connection {
    /// Speaks HTTP/1.1 over the stream. `gone` is cancelled when the upstream ends the connection.
    ///
    /// # Errors
    /// `upstream_protocol`.
    pub async fn http1<T>(stream: T, gone: CancellationToken) -> Result<Self, Refusal>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (count, tasks) = (Rc::new(Count::default()), CancellationToken::new());
        let counted = Counted { inner: stream, count: Rc::clone(&count) };
        let (sender, connection) = http1::Builder::new()
            .max_headers(MOST_FIELDS)
            .max_buf_size(LARGEST_HEAD)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|_| Refusal::UpstreamProtocol)?;
        drive(connection, tasks.clone(), gone);
        Ok(Self { sender: Sender::Http1(sender), count, tasks })
    }

    /// Speaks HTTP/2 over the stream.
    ///
    /// # Errors
    /// `upstream_protocol`, also for an authority that is none of HTTP's.
    pub async fn http2<T>(stream: T, authority: &Authority, gone: CancellationToken) -> Result<Self, Refusal>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (count, tasks) = (Rc::new(Count::default()), CancellationToken::new());
        let counted = Counted { inner: stream, count: Rc::clone(&count) };
        let authority = authority.to_host_field().parse().map_err(|_| Refusal::UpstreamProtocol)?;
        let unread = Rc::new(Unread::default());
        let started = http2::start(counted, http2::Tasks(tasks.clone()), Rc::clone(&unread)).await;
        let (sender, connection) = started.map_err(|_| Refusal::UpstreamProtocol)?;
        drive(connection, tasks.clone(), gone);
        Ok(Self { sender: Sender::Http2(sender, authority, unread), count, tasks })
    }

    /// Whether it is HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// What HTTP/2 holds of an answer.
    #[must_use]
    pub fn unread(&self) -> Option<Rc<Unread>> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(_, _, unread) => Some(Rc::clone(unread)),
        }
    }

    /// Waits until a request can be sent.
    ///
    /// # Errors
    /// Where the upstream is gone.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender, ..) => sender.ready().await,
        }
    }

    /// Makes a head, which is fit for HTTP/1.1, fit to send here with this body.
    ///
    /// # Errors
    /// `bad_request` where its target cannot stand in one.
    pub fn shape(&self, parts: &mut Parts, body: &Upload) -> Result<(), Refusal> {
        match &self.sender {
            Sender::Http1(_) => {
                // hyper takes a GET without framing for one without a body, and would drop what there is.
                let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
                if !has_length && !body.is_end_stream() {
                    parts.headers.insert(header::TRANSFER_ENCODING, CHUNKED);
                } else if !has_length && is_expected(&parts.method) {
                    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                Ok(())
            }
            Sender::Http2(_, authority, _) => http2::shape(parts, authority),
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// See [`exchange_refusal`].
    pub async fn send(&mut self, request: Request<Upload>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender, _, unread) => {
                // Nothing of an older answer is left.
                unread.is_read();
                sender.send_request(request).await
            }
        }
    }

    /// Decrypted bytes that have come so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.count.received.get()
    }

    /// Bytes that TLS has taken so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.count.sent.get()
    }
}

impl Drop for Connection {
    /// An upstream connection lives no longer than its channel.
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Whether a request with this method has a body as a rule: that there is none has to be said then (RFC 9110, 8.6), and
/// some answer 411 where it is not.
fn is_expected(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

fn drive<C: Future + 'static>(connection: C, tasks: CancellationToken, gone: CancellationToken) {
    tokio::task::spawn_local(async move {
        // The exchange sees the same error through its response or body.
        if tasks.run_until_cancelled(connection).await.is_some() {
            gone.cancel();
        }
    });
}

/// What an error of hyper's client says about the upstream.
#[must_use]
pub fn exchange_refusal(error: &hyper::Error) -> Refusal {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io_refusal(io);
        }
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return match h2.get_io() {
                Some(io) => io_refusal(io),
                // The upstream's own words end a stream or a connection; the library's are about what it sent.
                None if h2.is_remote() => Refusal::UpstreamUnreachable,
                None => Refusal::UpstreamProtocol,
            };
        }
        source = inner.source();
    }
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        Refusal::UpstreamUnreachable
    } else {
        Refusal::UpstreamProtocol
    }
}

/// TLS and the watch over frames say what is wrong with the bytes, the socket that there are none.
fn io_refusal(error: &io::Error) -> Refusal {
    let tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if tls || error.kind() == io::ErrorKind::InvalidData {
        Refusal::UpstreamProtocol
    } else {
        Refusal::UpstreamUnreachable
    }
}

/// Whether the upstream itself says that it has not looked at the request (RFC 9113, 8.7).
#[must_use]
pub fn is_unprocessed(error: &hyper::Error) -> bool {
    let Some(h2) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else { return false };
    let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    let too_late = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
    h2.is_remote() && (refused || too_late)
}

/// Whether the request's own body broke off.
#[must_use]
pub fn is_of_the_body(error: &hyper::Error) -> bool {
    error.source().is_some_and(|source| source.is::<link::Broken>())
}

/// Counts what is read and written.
struct Counted<T> {
    inner: T,
    count: Rc<Count>,
}

impl<T> Counted<T> {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = &written {
            self.count.sent.set(self.count.sent.get() + *length as u64);
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = buf.filled().len() - before;
        self.count.received.set(self.count.received.get() + new as u64);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(written)
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
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// Fields of an upstream's head.
pub const MOST_FIELDS: usize = 256;
/// Bytes of an upstream's head, and of one read.
const LARGEST_HEAD: usize = 128 * 1024;
