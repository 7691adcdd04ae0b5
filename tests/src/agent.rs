//! An agent's HTTP/1.1 client: builds a request like a sentence, sends it, and shows the answer as it came.
//!
//! Blocking and byte-true, for tests look at the order of fields, at chunk boundaries and at what comes after a fault.
//! It refuses to repair anything: no redirects, no decoding, no second try. Used through [`crate::strongroom`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_ctl::demo::http1::{Framing, Head, Reader};
use strongroom_protocol::Refusal;
use strongroom_protocol::refusal::Retry;

/// How an agent reaches gatewayd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The base URL's port.
    Tcp(SocketAddr),
    /// `agent.sock`.
    Unix(PathBuf),
}

/// A request that is being put together.
#[derive(Debug, Clone)]
pub struct Request {
    way: Way,
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request that goes this way; Host is the address, as clients send it.
    #[must_use]
    pub fn new(way: Way, method: &str, target: &str) -> Self {
        let host = match &way {
            Way::Tcp(address) => address.to_string(),
            Way::Unix(_) => "localhost".to_owned(),
        };
        let fields = vec![("Host".to_owned(), host)];
        Self { way, method: method.to_owned(), target: target.to_owned(), fields, body: Vec::new() }
    }

    /// Adds `Authorization: Bearer ...`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.field("Authorization", &format!("Bearer {token}"))
    }

    /// Adds a field, behind those that are there.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes all fields of a name away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// Puts another Host in the place of the right one.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        self.without("host").field("Host", host)
    }

    /// A body of known length.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        body.clone_into(&mut self.body);
        self.without("content-length").field("Content-Length", &body.len().to_string())
    }

    /// Sends it on a connection of its own and reads the answer whole.
    ///
    /// # Panics
    /// Where there is no whole answer.
    #[track_caller]
    #[must_use]
    pub fn send(&self) -> Answer {
        match self.try_send() {
            Ok(answer) => answer,
            Err(error) => panic!("{} {}: {error}", self.method, self.target),
        }
    }

    /// As [`Request::send`], for requests that may break off.
    ///
    /// # Errors
    /// The connection's; `UnexpectedEof` for an answer that breaks off.
    pub fn try_send(&self) -> io::Result<Answer> {
        self.send_over(&mut Connection::open(&self.way)?)
    }

    /// Sends it over a connection that may serve again.
    ///
    /// # Errors
    /// As [`Request::try_send`].
    pub fn send_over(&self, connection: &mut Connection) -> io::Result<Answer> {
        connection.write(&self.bytes())?;
        connection.answer(&self.method)
    }

    /// Sends it and reads the answer's head alone: the body comes piece by piece.
    ///
    /// # Panics
    /// Where no head comes.
    #[track_caller]
    #[must_use]
    pub fn stream(&self) -> Streaming {
        let mut connection = Connection::open(&self.way).expect("gatewayd listens");
        connection.write(&self.bytes()).expect("a request can be written");
        let head = connection.head().expect("a head").expect("a head before the end");
        Streaming { framing: head.response_framing(&self.method), head, connection, surplus: Vec::new() }
    }

    /// The head as bytes, with a body where there is one.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}

/// A connection to gatewayd.
#[derive(Debug)]
pub struct Connection {
    reader: Reader<Socket>,
}

impl Connection {
    /// Opens one; nothing is waited for longer than half a minute.
    ///
    /// # Errors
    /// The system's.
    pub fn open(way: &Way) -> io::Result<Self> {
        let socket = match way {
            Way::Tcp(address) => Socket::Tcp(TcpStream::connect(address)?),
            Way::Unix(path) => Socket::Unix(UnixStream::connect(Path::new(path))?),
        };
        socket.set_read_timeout(PATIENCE)?;
        Ok(Self { reader: Reader::new(socket) })
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The socket's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream().write_all(bytes)
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// The socket's.
    pub fn finish_writing(&mut self) -> io::Result<()> {
        match self.reader.stream() {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    /// Sets how long reading waits.
    ///
    /// # Errors
    /// The socket's.
    pub fn set_patience(&mut self, time: Duration) -> io::Result<()> {
        self.reader.stream().set_read_timeout(time)
    }

    /// Whether something has come by now.
    ///
    /// # Panics
    /// Where the socket takes no time limit.
    #[must_use]
    pub fn has_been_answered(&mut self) -> bool {
        self.set_patience(Duration::from_millis(1)).expect("a socket of ours");
        let came = self.reader.head().is_ok();
        self.set_patience(PATIENCE).expect("a socket of ours");
        came
    }

    /// The next head; none where gatewayd closed.
    ///
    /// # Errors
    /// As [`Reader::head`].
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        self.reader.head()
    }

    /// The next answer, whole, to a request of this method.
    ///
    /// # Errors
    /// As [`Reader::head`] and [`Reader::piece`]; `UnexpectedEof` where gatewayd closed instead.
    pub fn answer(&mut self, method: &str) -> io::Result<Answer> {
        let head = loop {
            let head = self.reader.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            // 100 and its like go before the answer; a test that looks for them calls `head`.
            if !(100..200).contains(&head.status()) {
                break head;
            }
        };
        let body = self.reader.whole(&mut head.response_framing(method))?;
        Ok(Answer { head, body, trailers: self.reader.trailers.clone() })
    }

    /// Whether gatewayd closes, without a byte before, within half a minute.
    #[must_use]
    pub fn is_closed_by_peer(&mut self) -> bool {
        match self.reader.stream().read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    /// The answer's head.
    pub head: Head,
    /// The connection, to write more of the request.
    pub connection: Connection,
    framing: Framing,
    /// Came with what was asked for, and was not asked for yet.
    surplus: Vec<u8>,
}

impl Streaming {
    /// The next piece as it came; none at a clean end.
    ///
    /// # Errors
    /// As [`Reader::piece`].
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.surplus.is_empty() {
            return Ok(Some(std::mem::take(&mut self.surplus)));
        }
        self.connection.reader.piece(&mut self.framing)
    }

    /// Reads this text, and nothing behind it.
    ///
    /// # Panics
    /// Where the body ends before, or holds something else.
    #[track_caller]
    pub fn read_text(&mut self, wanted: &str) {
        let mut text = Vec::new();
        while text.len() < wanted.len() {
            let piece =
                self.piece().unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&text)));
            text.extend(piece.unwrap_or_else(|| panic!("the body ended after {:?}", String::from_utf8_lossy(&text))));
        }
        self.surplus = text.split_off(wanted.len());
        assert_eq!(String::from_utf8_lossy(&text), wanted);
    }

    /// What is left of the body.
    ///
    /// # Errors
    /// As [`Reader::piece`].
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.surplus);
        rest.extend(self.connection.reader.whole(&mut self.framing)?);
        Ok(rest)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailer fields.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The code with which it was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.head.value("strongroom-refusal")
    }

    /// All of it, to be searched.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.start_line.clone().into_bytes();
        for (name, value) in self.head.fields.iter().chain(&self.trailers) {
            bytes.extend([b"\n", name.as_bytes(), b": ", value].concat());
        }
        bytes.extend([b"\n", self.body.as_slice()].concat());
        bytes
    }

    /// Checks that this is Strongroom's refusal with this code, in every part that the contract names.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn assert_refused(&self, refusal: Refusal) {
        self.assert_refused_with(refusal, refusal.status());
    }

    /// The same with another status, where the code has two.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn assert_refused_with(&self, refusal: Refusal, status: u16) {
        let seen = String::from_utf8_lossy(&self.bytes()).into_owned();
        assert_eq!(self.refusal().as_deref(), Some(refusal.code()), "{seen}");
        assert_eq!(self.status(), status, "{seen}");
        let id = self.head.value("strongroom-request-id").unwrap_or_else(|| panic!("no request id: {seen}"));
        assert!(strongroom_protocol::channel::is_request_id(id.as_bytes()), "{seen}");
        let later = self.head.value("retry-after").map(|value| value.parse::<u32>().expect("Retry-After is a number"));
        assert_eq!(later.is_some(), refusal.retry() == Retry::Later, "{seen}");
        // Longer than a client library should sleep by itself is as good as never.
        let useless = refusal.retry() == Retry::Useless || later.is_some_and(|seconds| seconds > 60);
        assert_eq!(self.head.value("x-should-retry"), useless.then(|| "false".to_owned()), "{seen}");
        assert_eq!(self.head.value("content-type").as_deref(), Some("application/json"), "{seen}");
        let body: serde_json::Value =
            serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {seen}"));
        let error = &body["error"];
        assert_eq!(error["type"], "strongroom", "{seen}");
        assert_eq!(error["code"], refusal.code(), "{seen}");
        assert_eq!(error["request_id"], id.as_str(), "{seen}");
        for part in ["message", "hint"] {
            assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "{part}: {seen}");
        }
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn set_read_timeout(&self, time: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_read_timeout(Some(time)),
            Self::Unix(socket) => socket.set_read_timeout(Some(time)),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
