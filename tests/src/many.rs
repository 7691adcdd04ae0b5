//! Many agents at once: hundreds of connections from one process, each kept open and asked as often as a test wants.
//!
//! Asynchronous, for a thread a connection would be a load of its own. It refuses to repair anything, as the blocking
//! agent does: an answer that breaks off is an error. Used by the tests of load and faults.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;

/// One connection to gatewayd, kept open.
pub struct Line {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The code with which it was refused.
    pub refusal: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Stream {
    /// Its head.
    pub response: Response<Incoming>,
    ahead: Vec<u8>,
}

/// Runs many agents to their end, with descriptors for all of them.
///
/// # Panics
/// Where there is no runtime.
pub fn run<T>(agents: impl Future<Output = T>) -> T {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it fails the test says what it lacks.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(agents)
}

impl Line {
    /// Opens one.
    ///
    /// # Errors
    /// The system's, or hyper's.
    pub async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let shaken = Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// Sends a request and reads the answer whole.
    ///
    /// # Errors
    /// Where there is none, or it breaks off.
    pub async fn ask(&mut self, method: &str, target: &str, token: &str, body: &[u8]) -> Result<Reply, String> {
        let Stream { response, .. } = self.stream(method, target, token, body).await?;
        let refusal =
            response.headers().get("strongroom-refusal").and_then(|code| code.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Reply { status, refusal, body })
    }

    /// Sends a request and reads the answer's head.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn stream(&mut self, method: &str, target: &str, token: &str, body: &[u8]) -> Result<Stream, String> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        Ok(Stream { response, ahead: Vec::new() })
    }
}

impl Stream {
    /// The next line of the body, without its end; none at a clean end.
    ///
    /// # Errors
    /// Where the body breaks off, or ends inside a line.
    pub async fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.ahead.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            match self.response.body_mut().frame().await.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.ahead.extend_from_slice(&data),
                Some(Ok(Err(_trailers))) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None if self.ahead.is_empty() => return Ok(None),
                None => return Err("an end inside a line".to_owned()),
            }
        }
    }
}
