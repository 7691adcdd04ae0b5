//! An agent's way through CONNECT: the head as a test wants it, the TLS inside, and requests over that.
//!
//! Byte-true like [`crate::agent`]: the test says which name goes into the CONNECT, the handshake and Host. It refuses to
//! believe a leaf that the given authority did not sign. Used by the tests of the proxy's way in.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use strongroom_ctl::demo::http1::Reader;

use crate::agent::{Answer, Way};
use crate::strongroom::Strongroom;

/// A CONNECT that is being put together.
#[derive(Debug, Clone)]
pub struct Connect {
    way: Way,
    target: String,
    version: &'static str,
    fields: Vec<(String, String)>,
    ca: String,
    alpn: Vec<Vec<u8>>,
}

/// The TLS inside a tunnel.
pub struct Tls {
    /// The agent's end.
    pub stream: StreamOwned<ClientConnection, Box<dyn Socket>>,
}

/// What a tunnel runs over.
pub trait Socket: Read + Write + Send {}
impl Socket for TcpStream {}
impl Socket for UnixStream {}

/// What came of a CONNECT.
pub enum Opened {
    /// 200: what follows is the tunnel's.
    Yes(Box<dyn Socket>),
    /// Anything else.
    No(Answer),
}

impl Connect {
    /// To a host and port, over TCP, as clients send it.
    #[must_use]
    pub fn to(strongroom: &Strongroom, target: &str) -> Self {
        let ca = strongroom.must(&["ca", "show"]);
        let (target, fields) = (target.to_owned(), vec![("Host".to_owned(), target.to_owned())]);
        Self { way: Way::Tcp(strongroom.address()), target, version: "HTTP/1.1", fields, ca, alpn: Vec::new() }
    }

    /// The same, to another host and port.
    #[must_use]
    pub fn towards(&self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self.clone() }.host(target)
    }

    /// Over `agent.sock`.
    #[must_use]
    pub fn over_socket(self, strongroom: &Strongroom) -> Self {
        Self { way: Way::Unix(strongroom.home().agent_socket()), ..self }
    }

    /// In another version.
    #[must_use]
    pub fn version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another Host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.fields.retain(|(name, _)| name != "Host");
        self.field("Host", host)
    }

    /// With an agent's token.
    #[must_use]
    pub fn token(self, agent: &str, token: &str) -> Self {
        use base64ct::{Base64, Encoding};
        let blob = Base64::encode_string(format!("{agent}:{token}").as_bytes());
        self.field("Proxy-Authorization", &format!("Basic {blob}"))
    }

    /// Offers these protocols in the handshake.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// The head as bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("CONNECT {} {}\r\n", self.target, self.version);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// A connection with nothing sent on it.
    ///
    /// # Errors
    /// The system's.
    pub fn socket(&self) -> io::Result<Box<dyn Socket>> {
        Ok(match &self.way {
            Way::Tcp(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Box::new(socket)
            }
            Way::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Box::new(socket)
            }
        })
    }

    /// Sends it.
    ///
    /// # Panics
    /// Where no whole answer comes.
    #[track_caller]
    #[must_use]
    pub fn open(&self) -> Opened {
        let mut socket = self.socket().expect("gatewayd listens");
        socket.write_all(&self.bytes()).expect("a head can be written");
        self.opened(socket)
    }

    fn opened(&self, mut socket: Box<dyn Socket>) -> Opened {
        // Byte by byte: what follows the head is not ours to read.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        if head.starts_with(b"HTTP/1.1 200 ") {
            return Opened::Yes(socket);
        }
        let mut reader = Reader::new(io::Cursor::new(head).chain(socket));
        let head = reader.head().expect("a head").expect("a head before the end");
        let body = reader.whole(&mut head.response_framing("GET")).expect("a whole body");
        Opened::No(Answer { head, body, trailers: Vec::new() })
    }

    /// The refusal that it gets.
    ///
    /// # Panics
    /// Where it gets 200.
    #[track_caller]
    #[must_use]
    pub fn refused(&self) -> Answer {
        match self.open() {
            Opened::No(answer) => answer,
            Opened::Yes(_) => panic!("200 to {}", self.target),
        }
    }

    /// The tunnel as it is, for those who speak no TLS in it.
    ///
    /// # Panics
    /// Where it is refused.
    #[track_caller]
    #[must_use]
    pub fn raw(&self) -> Box<dyn Socket> {
        match self.open() {
            Opened::Yes(socket) => socket,
            Opened::No(answer) => panic!("{} to {}: {}", answer.status(), self.target, answer.text()),
        }
    }

    /// TLS inside, by the name in the CONNECT.
    ///
    /// # Panics
    /// Where the CONNECT or the handshake is refused.
    #[track_caller]
    #[must_use]
    pub fn tls(&self) -> Tls {
        let name = self.target.rsplit_once(':').map_or(self.target.as_str(), |(host, _)| host);
        self.tls_as(name, &self.ca).expect("a handshake")
    }

    /// TLS inside, by any name, believing the authority in this PEM.
    ///
    /// # Errors
    /// The handshake's.
    ///
    /// # Panics
    /// Where the CONNECT is refused.
    #[track_caller]
    pub fn tls_as(&self, name: &str, ca: &str) -> io::Result<Tls> {
        self.tls_with(name, self.config(ca))
    }

    fn config(&self, ca: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// TLS inside, its first flight sent behind the head without waiting for the answer.
    ///
    /// # Panics
    /// Where the CONNECT or the handshake is refused.
    #[track_caller]
    #[must_use]
    pub fn eager_tls(&self) -> Tls {
        let name = self.target.rsplit_once(':').map_or(self.target.as_str(), |(host, _)| host);
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut connection = ClientConnection::new(Arc::new(self.config(&self.ca)), name).expect("a client");
        let mut first = self.bytes();
        connection.write_tls(&mut first).expect("into memory");
        let mut socket = self.socket().expect("gatewayd listens");
        socket.write_all(&first).expect("a head can be written");
        let Opened::Yes(mut socket) = self.opened(socket) else { panic!("refused") };
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).expect("a handshake");
        }
        Tls { stream: StreamOwned::new(connection, socket) }
    }

    /// TLS inside, by a configuration of the test's own.
    ///
    /// # Errors
    /// The handshake's.
    ///
    /// # Panics
    /// Where the CONNECT is refused.
    #[track_caller]
    pub fn tls_with(&self, name: &str, config: ClientConfig) -> io::Result<Tls> {
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut socket = self.raw();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Tls { stream: StreamOwned::new(connection, socket) })
    }
}

impl Tls {
    /// One request, whole, and its answer.
    ///
    /// # Panics
    /// Where there is no whole answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.stream.write_all(text.as_bytes()).expect("a request can be written");
        let mut reader = Reader::new(&mut self.stream);
        let head = reader.head().expect("a head").expect("a head before the end");
        let body = reader.whole(&mut head.response_framing(method)).expect("a whole body");
        Answer { head, body, trailers: Vec::new() }
    }
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
