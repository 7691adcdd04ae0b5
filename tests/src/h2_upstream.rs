//! Upstreams that speak HTTP/2 over TLS: an honest one, and one whose every frame is a test's.
//!
//! The honest one is hyper's server, so that what keyd sends is read by an implementation that is not keyd's own code.
//! It speaks HTTP/1.1 too where ALPN says so. The other gives a test the decrypted connection as frames (RFC 9113, 4.1);
//! it refuses nothing, and answers only what a test answers. Used by the tests of upstreams.

use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame as BodyFrame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use strongroom_ctl::demo::certificate::Root;
use strongroom_ctl::demo::upstream::Upstream;
use tokio::sync::mpsc;

use crate::raw_upstream::{self, Raw};
use crate::scene::{HOST, Scene};
use crate::strongroom::Builder;

/// TLS for the usual host with these protocols.
///
/// # Panics
/// Where no certificate can be made.
#[must_use]
pub fn tls(root: &Root, protocols: &[&str]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&root.server(HOST).expect("a certificate"));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// An answer's body that is sent piece by piece: data, trailers, and an end when the sender is dropped.
pub struct Script(mpsc::Receiver<BodyFrame<Bytes>>);

/// Where the pieces go in.
#[derive(Clone)]
pub struct Pieces(mpsc::Sender<BodyFrame<Bytes>>);

impl Script {
    /// A body and the way to feed it.
    #[must_use]
    pub fn new() -> (Pieces, Self) {
        let (sender, receiver) = mpsc::channel(8);
        (Pieces(sender), Self(receiver))
    }

    /// A body that is there at once.
    ///
    /// # Panics
    /// Never: there is room for two pieces.
    #[must_use]
    pub fn whole(bytes: &[u8], trailers: Option<HeaderMap>) -> Self {
        let (pieces, script) = Self::new();
        let data =
            Some(bytes).filter(|bytes| !bytes.is_empty()).map(|bytes| BodyFrame::data(Bytes::copy_from_slice(bytes)));
        for frame in data.into_iter().chain(trailers.map(BodyFrame::trailers)) {
            pieces.0.try_send(frame).expect("room for two");
        }
        script
    }
}

impl Pieces {
    /// Sends data; waits for room. Nothing happens where nobody reads any more.
    pub async fn data(&self, bytes: impl Into<Bytes>) {
        let _ = self.0.send(BodyFrame::data(bytes.into())).await;
    }

    /// Sends trailers.
    pub async fn trailers(&self, trailers: HeaderMap) {
        let _ = self.0.send(BodyFrame::trailers(trailers)).await;
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// An honest upstream that speaks what ALPN says, HTTP/1.1 where it says nothing.
///
/// # Panics
/// Where no port can be had.
#[must_use]
pub fn honest<S, F>(root: &Root, protocols: &[&str], service: S) -> Upstream
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Script>> + Send + 'static,
{
    let tls = tls(root, protocols);
    let serve = move |socket: TcpStream| {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let socket = tokio::net::TcpStream::from_std(socket)?;
            let stream = tokio_rustls::TlsAcceptor::from(tls.clone()).accept(socket).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(|request| {
                let answer = service(request);
                async { io::Result::Ok(answer.await) }
            });
            let io = TokioIo::new(stream);
            if is_http2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.serve_connection(io, service).await.map_err(io::Error::other)
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service).await.map_err(io::Error::other)
            }
        })
    };
    Upstream::start_plain(serve).expect("a port")
}

/// A connection of which a test writes every frame.
pub struct Wire<'a> {
    raw: &'a mut Raw,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type; see the constants below.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// An upstream that hands each connection to `script` once the client's preface and first SETTINGS were read and
/// answered.
///
/// # Panics
/// Where no port can be had.
#[must_use]
pub fn by_hand(root: &Root, script: impl Fn(&mut Wire<'_>) -> io::Result<()> + Send + Sync + 'static) -> Upstream {
    raw_upstream::start(tls(root, &["h2"]), move |raw, _| {
        let preface = raw.take(PREFACE.len())?;
        assert_eq!(preface, PREFACE, "the preface comes first");
        raw.send(&encode(SETTINGS, 0, 0, &[]))?;
        script(&mut Wire { raw })
    })
}

impl Wire<'_> {
    /// The next frame.
    ///
    /// # Errors
    /// The stream's.
    pub fn frame(&mut self) -> io::Result<Frame> {
        let head: [u8; 9] = self.raw.take(9)?.try_into().expect("so many were taken");
        let [a, b, c, kind, flags, stream @ ..] = head;
        let payload = self.raw.take(u32::from_be_bytes([0, a, b, c]) as usize)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    /// The next request: its stream and its whole header block. SETTINGS and PING are answered on the way, DATA before
    /// it belongs to an older request.
    ///
    /// # Errors
    /// The stream's.
    pub fn request(&mut self) -> io::Result<(u32, Vec<u8>)> {
        loop {
            let frame = self.frame()?;
            match frame.kind {
                HEADERS => {
                    assert_eq!(frame.flags & (PADDED | PRIORITY_FLAG), 0, "h2 sends neither");
                    let mut block = frame.payload;
                    let mut flags = frame.flags;
                    while flags & END_HEADERS == 0 {
                        let more = self.frame()?;
                        assert_eq!((more.kind, more.stream), (CONTINUATION, frame.stream));
                        block.extend(more.payload);
                        flags = more.flags;
                    }
                    return Ok((frame.stream, block));
                }
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[])?,
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &frame.payload)?,
                _ => {}
            }
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The stream's.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.raw(&encode(kind, flags, stream, payload))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The stream's.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw.send(bytes)
    }

    /// Sends the head of an answer with status 200 and these fields.
    ///
    /// # Errors
    /// The stream's.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS | flags, stream, &[&[STATUS_200], block(fields).as_slice()].concat())
    }

    /// Answers whole.
    ///
    /// # Errors
    /// The stream's.
    pub fn answer(&mut self, stream: u32, body: &[u8]) -> io::Result<()> {
        self.head(stream, &[], 0)?;
        self.send(DATA, END_STREAM, stream, body)
    }

    /// Says goodbye: `last` is the newest stream that was looked at.
    ///
    /// # Errors
    /// The stream's.
    pub fn go_away(&mut self, last: u32, reason: u32) -> io::Result<()> {
        self.send(GO_AWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
    }

    /// Ends one stream.
    ///
    /// # Errors
    /// The stream's.
    pub fn reset(&mut self, stream: u32, reason: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes())
    }

    /// Reads until the peer closes; an error where it does not within half a minute.
    ///
    /// # Errors
    /// The stream's.
    pub fn until_closed(&mut self) -> io::Result<()> {
        loop {
            match self.frame() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }
}

/// A frame's bytes.
///
/// # Panics
/// Where the payload is longer than a frame can be.
#[must_use]
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("tests send small frames").to_be_bytes();
    assert_eq!(length[0], 0, "tests send small frames");
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields as HPACK literals that stand for themselves (RFC 7541, 6.2.2).
#[must_use]
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, 7, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// An integer behind the other bits of its first byte, which are zero (RFC 7541, 5.1).
fn integer(bytes: &mut Vec<u8>, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        bytes.push(u8::try_from(value).expect("below 128"));
        return;
    }
    bytes.push(u8::try_from(most).expect("at most 127"));
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("below 128") | 0x80);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("below 128"));
}

/// How one field stands in a header block (RFC 7541, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// A whole field out of a table.
    Indexed(usize),
    /// A literal that goes into the dynamic table: the name's index, 0 for a literal name; bytes of the value.
    Added(usize, usize),
    /// A literal that does not.
    NotAdded(usize, usize),
    /// A literal that nobody on the way may ever put into a table.
    NeverIndexed(usize, usize),
}

/// Takes a header block apart. Values are not decoded: Huffman's code is shorter than they.
///
/// # Panics
/// Where it is no header block.
#[must_use]
pub fn representations(mut block: &[u8]) -> Vec<Representation> {
    let mut found = Vec::new();
    while let Some(&first) = block.first() {
        match first {
            0x80.. => found.push(Representation::Indexed(take_integer(&mut block, 7))),
            0x40.. => {
                let (name, value) = take_literal(&mut block, 6);
                found.push(Representation::Added(name, value));
            }
            0x20.. => drop(take_integer(&mut block, 5)),
            0x10.. => {
                let (name, value) = take_literal(&mut block, 4);
                found.push(Representation::NeverIndexed(name, value));
            }
            _ => {
                let (name, value) = take_literal(&mut block, 4);
                found.push(Representation::NotAdded(name, value));
            }
        }
    }
    found
}

fn take_literal(block: &mut &[u8], bits: u32) -> (usize, usize) {
    let name = take_integer(block, bits);
    if name == 0 {
        take_text(block);
    }
    (name, take_text(block))
}

fn take_text(block: &mut &[u8]) -> usize {
    let length = take_integer(block, 7);
    *block = &block[length..];
    length
}

fn take_integer(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut value = usize::from(block[0]) & most;
    *block = &block[1..];
    if value == most {
        for shift in (0..).step_by(7) {
            let byte = usize::from(block[0]);
            *block = &block[1..];
            value += (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
    }
    value
}

const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, 6).
pub const DATA: u8 = 0;
/// A head or trailers.
pub const HEADERS: u8 = 1;
/// Without effect.
pub const PRIORITY: u8 = 2;
/// The end of a stream.
pub const RST_STREAM: u8 = 3;
/// Settings, or their acknowledgement.
pub const SETTINGS: u8 = 4;
/// A request that nobody made.
pub const PUSH_PROMISE: u8 = 5;
/// A question for a sign of life.
pub const PING: u8 = 6;
/// The end of the connection.
pub const GO_AWAY: u8 = 7;
/// Room for more data.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a head.
pub const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS: the last of the stream.
pub const END_STREAM: u8 = 1;
/// Flag of SETTINGS and PING: an answer.
pub const ACK: u8 = 1;
/// Flag of HEADERS and CONTINUATION: the last of the head.
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY_FLAG: u8 = 0x20;

/// `:status: 200` in the static table.
pub const STATUS_200: u8 = 0x88;

/// Reasons (RFC 9113, 7).
pub const NO_ERROR: u32 = 0;
/// An implementation's own fault.
pub const INTERNAL_ERROR: u32 = 2;
/// The stream was not looked at.
pub const REFUSED_STREAM: u32 = 7;

/// In front of an upstream that answers every request with what it saw of it.
///
/// # Panics
/// As [`Scene::before`].
#[must_use]
pub fn mirror(protocols: &[&str]) -> Scene {
    let root = Root::new("The tests' root").expect("a root");
    let upstream = honest(&root, protocols, |request: Request<_>| async move {
        let text = format!("{:?} {} {}", request.version(), request.method(), request.uri());
        Response::new(Script::whole(text.as_bytes(), None))
    });
    Scene::before(Builder::default(), upstream, root)
}
