//! The attacker's end of a channel: any frame, any head, any bytes, and what comes back.
//!
//! Heads are written here byte by byte, for the protocol's own encoder writes only good ones. It refuses to wait for
//! long: a keyd that does not answer is a failure with a name. Made by [`super::Hostile`].

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use hyper::HeaderMap;
use strongroom_protocol::Refusal;
use strongroom_protocol::channel::frames::{Decoder, Frame};
use strongroom_protocol::channel::head::AnswerHead;
use strongroom_protocol::channel::{REFUSAL, STALE};

use super::Loot;

/// A channel.
pub struct Channel {
    pair: UnixStream,
    /// The other end, which keyd was given a copy of.
    pub theirs: UnixStream,
    /// A duplicate of the upstream's socket.
    pub upstream: Option<TcpStream>,
    decoder: Decoder,
    loot: Loot,
}

/// A request's head, as an attacker would have it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// 1 where a body follows.
    pub flags: u8,
    /// Any bytes.
    pub method: Vec<u8>,
    /// Any bytes.
    pub target: Vec<u8>,
    /// Any names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A whole answer, or as much of it as came.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub head: AnswerHead,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether its end came.
    pub is_whole: bool,
    /// Fields behind the body.
    pub trailers: Bytes,
}

/// What came of a request.
#[derive(Debug)]
pub enum Heard {
    /// An answer of the upstream's.
    Answer(Answer),
    /// keyd's refusal.
    Refused(Refusal),
    /// The connection died before this request, and it may be sent again.
    Stale,
    /// keyd ended the channel without an answer.
    Nothing,
}

impl Ask {
    /// A good request with a placeholder as its bearer token.
    #[must_use]
    pub fn bearer(method: &str, target: &str, placeholder: &str) -> Self {
        let ask = Self { flags: 0, method: method.into(), target: target.into(), fields: Vec::new() };
        ask.field("host", "an.agents.host").field("authorization", format!("Bearer {placeholder}"))
    }

    /// With one more field.
    #[must_use]
    pub fn field(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// That says a body follows.
    #[must_use]
    pub fn with_body(mut self) -> Self {
        self.flags = 1;
        self
    }

    /// As a frame's payload.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        let mut out = vec![self.flags];
        let short = |out: &mut Vec<u8>, text: &[u8]| {
            out.put_u16(u16::try_from(text.len()).expect("a test's text is short"));
            out.extend_from_slice(text);
        };
        let long = |out: &mut Vec<u8>, text: &[u8]| {
            out.put_u32(u32::try_from(text.len()).expect("a test's text is short"));
            out.extend_from_slice(text);
        };
        short(&mut out, &self.method);
        long(&mut out, &self.target);
        for (name, value) in &self.fields {
            short(&mut out, name);
            long(&mut out, value);
        }
        out
    }
}

impl Channel {
    /// Over a pair of which keyd has one end.
    ///
    /// # Panics
    /// Where the kernel sets no time limit.
    #[must_use]
    pub fn new(pair: UnixStream, theirs: UnixStream, upstream: Option<TcpStream>, loot: Loot) -> Self {
        pair.set_read_timeout(Some(PATIENCE)).expect("a socket of ours");
        pair.set_write_timeout(Some(PATIENCE)).expect("a socket of ours");
        Self { pair, theirs, upstream, decoder: Decoder::default(), loot }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The socket's.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pair.write_all(bytes)
    }

    /// Sends a frame of any kind.
    ///
    /// # Errors
    /// The socket's.
    pub fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let [_, a, b, c] = u32::try_from(payload.len()).expect("a test's payload is short").to_be_bytes();
        self.raw(&[&[kind, a, b, c], payload].concat())
    }

    /// Sends a request without a body and hears what comes of it.
    pub fn ask(&mut self, ask: &Ask) -> Heard {
        // keyd may have closed already; then that is what is heard.
        let _ = self.frame(HEAD, &ask.payload());
        self.hear()
    }

    /// Sends a request with a body and hears what comes of it.
    pub fn ask_with(&mut self, ask: &Ask, body: &[u8]) -> Heard {
        let payload = ask.clone().with_body().payload();
        let _ = self.frame(HEAD, &payload).and_then(|()| self.frame(DATA, body)).and_then(|()| self.frame(END, b""));
        self.hear()
    }

    /// The next frame; nothing where keyd has closed.
    ///
    /// # Panics
    /// Where what came is no frame, or nothing comes for long.
    #[track_caller]
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("keyd sends frames") {
                return Some(frame);
            }
            let mut buffer = [0; 64 * 1024];
            match self.pair.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => {
                    self.loot.take(&buffer[..length]);
                    self.decoder.room().extend_from_slice(&buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("keyd neither answers nor closes: {error}"),
            }
        }
    }

    /// What has come within this time, be it nothing, byte for byte as frames.
    pub fn within(&mut self, time: Duration) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.pair.set_read_timeout(Some(time)).expect("a socket of ours");
        let mut buffer = [0; 64 * 1024];
        while let Ok(length @ 1..) = self.pair.read(&mut buffer) {
            self.loot.take(&buffer[..length]);
            self.decoder.room().extend_from_slice(&buffer[..length]);
        }
        while let Some(frame) = self.decoder.next_frame().expect("keyd sends frames") {
            frames.push(frame);
        }
        self.pair.set_read_timeout(Some(PATIENCE)).expect("a socket of ours");
        frames
    }

    /// A whole answer, as far as it comes.
    #[track_caller]
    pub fn hear(&mut self) -> Heard {
        let head = loop {
            match self.next_frame() {
                Some(Frame::Head(payload)) => break AnswerHead::decode(payload).expect("keyd writes heads"),
                Some(Frame::Continue) => {}
                // It looks at no request any more: one that was on its way may be sent again.
                Some(Frame::End(trailers)) if trailers.is_empty() => return Heard::Stale,
                Some(other) => panic!("no answer begins with {other:?}"),
                None => return Heard::Nothing,
            }
        };
        if let Some(refusal) = refusal(&head.fields) {
            return if head.fields.contains_key(STALE) { Heard::Stale } else { Heard::Refused(refusal) };
        }
        let mut answer = Answer { is_whole: !head.has_body, head, body: Vec::new(), trailers: Bytes::new() };
        while !answer.is_whole {
            match self.next_frame() {
                Some(Frame::Data(data)) => answer.body.extend_from_slice(&data),
                Some(Frame::End(trailers)) => (answer.is_whole, answer.trailers) = (true, trailers),
                Some(other) => panic!("in an answer: {other:?}"),
                None => break,
            }
        }
        Heard::Answer(answer)
    }
}

impl Heard {
    /// The answer's status.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer(answer) => Some(answer.head.status.as_u16()),
            _ => None,
        }
    }

    /// The refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }

    /// The body of an answer.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Answer(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            other => panic!("no answer but {other:?}"),
        }
    }
}

fn refusal(fields: &HeaderMap) -> Option<Refusal> {
    fields.get(REFUSAL).map(|code| code.to_str().ok().and_then(|code| code.parse().ok()).expect("a code of ours"))
}

/// Frame kinds, by number.
pub const HEAD: u8 = 1;
/// A piece of a body.
pub const DATA: u8 = 2;
/// A body's end.
pub const END: u8 = 3;
/// keyd's word that it wants the body.
pub const GO_ON: u8 = 4;

const PATIENCE: Duration = Duration::from_secs(30);
