//! HTTP/2 with an upstream: one stream at a time, with limits that hold against a hostile one.
//!
//! A request is made fit: `:authority` is keyd's own and `Host` goes, `TE` says that trailers are taken, and what
//! belongs to one HTTP/1.1 hop has gone before. The key's field is marked sensitive, so HPACK never indexes it. No
//! server push, bounded windows and heads, and a watch over frames that carry nothing. It refuses to run on when its
//! connection is dropped: every task of it ends then. Called by `connect` and [`super::Connection`].

use std::future::Future;
use std::rc::Rc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Uri, Version};
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use strongroom_protocol::Refusal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::frames::Watched;
use super::unread::Unread;
use crate::exchange::upload::Upload;

/// Runs the tasks of one connection on this thread, until it ends.
#[derive(Clone)]
pub struct Tasks(pub CancellationToken);

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let end = self.0.clone();
        tokio::task::spawn_local(async move { end.run_until_cancelled(task).await });
    }
}

/// Sends the preface.
///
/// # Errors
/// The stream's.
pub async fn start<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: T,
    tasks: Tasks,
    unread: Rc<Unread>,
) -> hyper::Result<(SendRequest<Upload>, Connection<TokioIo<Watched<T>>, Upload, Tasks>)> {
    Builder::new(tasks)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(LARGEST_HEAD)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_reset_streams(MOST_RESET)
        .handshake(TokioIo::new(Watched::new(stream, unread)))
        .await
}

/// Makes a request's head fit to send over HTTP/2.
///
/// # Errors
/// `bad_request` where its target cannot stand in one.
pub fn shape(parts: &mut Parts, authority: &Authority) -> Result<(), Refusal> {
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(authority.clone());
    parts.uri = Uri::from_parts(uri).map_err(|_| Refusal::BadRequest)?;
    parts.version = Version::HTTP_2;
    parts.headers.remove(header::HOST);
    parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(())
}

/// Bytes of an answer that may be on their way or unread, whoever does not read them.
const WINDOW: u32 = 512 * 1024;
/// Names and values of an answer's fields together.
const LARGEST_HEAD: u32 = 128 * 1024;
/// Bytes of a request that wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;
/// There is one stream at a time.
const MOST_RESET: usize = 8;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_authority_is_our_own_and_host_goes() {
        let request = Request::post("/v1/x?y=z").header("host", "a.example").header("x-kept", "1").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        shape(&mut parts, &"a.example:8443".parse().unwrap()).unwrap();
        assert_eq!(parts.uri, "https://a.example:8443/v1/x?y=z");
        assert_eq!(parts.version, Version::HTTP_2);
        let fields: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-kept", &b"1"[..]), ("te", b"trailers")]);
    }
}
