//! An agent that speaks HTTP/2 with prior knowledge over plain TCP.
//!
//! One connection; requests at once, each answer read whole, or one at a time, piece by piece. It refuses nothing and hides nothing: what
//! hyper's client says is what the test gets. Used by the HTTP tests.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// An answer: head, body, trailers.
pub type Answer = (Response<()>, Bytes, HeaderMap);

/// Sends requests at once over one connection; answers are in the order of the requests.
///
/// # Panics
/// Where there is no connection.
#[track_caller]
#[must_use]
pub fn send(address: SocketAddr, requests: Vec<Request<Full<Bytes>>>) -> Vec<Result<Answer, hyper::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sender = connect(address).await;
        let running: Vec<_> = requests
            .into_iter()
            .map(|request| {
                let mut sender = sender.clone();
                tokio::spawn(async move { whole(sender.send_request(request).await?).await })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in running {
            answers.push(answer.await.expect("a client task does not panic"));
        }
        answers
    })
}

/// Opens a connection, for requests whose bodies are pieces.
///
/// # Panics
/// Where there is none.
pub async fn connect<B>(address: SocketAddr) -> SendRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.expect("gatewayd listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Reads an answer to its end.
///
/// # Errors
/// hyper's.
pub async fn whole(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((Response::from_parts(parts, ()), collected.to_bytes(), trailers))
}
