//! A TLS upstream whose every byte is decided by a closure: the demo's and the system tests' other end.
//!
//! A thread a connection, blocking: what a script says next is what goes out next, so a test can hold an answer back,
//! break it off or send what no HTTP library would. It records the heads of all requests as they came. It refuses
//! nothing that a peer sends and must not be reachable from elsewhere: it listens on loopback only.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::error::DemoError;
use super::http1::{Framing, Head, Reader};

/// A server on loopback, until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    received: Mutex<Vec<Received>>,
    connections: AtomicU64,
    handshakes_failed: AtomicU64,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Number of the connection on which it came; the first is 1.
    pub connection: u64,
    /// Its head.
    pub head: Head,
}

impl Upstream {
    /// Serves TLS; `script` answers each request. An error that it returns ends the connection as [`Exchange::abort`] does.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start(
        tls: Arc<ServerConfig>,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        Self::start_raw(move |socket, number, shared| {
            let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, socket);
            // Half a minute without a byte: the test is over, or has failed and says so itself.
            stream.sock.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.sock.set_nodelay(true)?;
            while stream.conn.is_handshaking() {
                if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                    shared.handshakes_failed.fetch_add(1, Ordering::SeqCst);
                    return Err(error);
                }
            }
            serve(Reader::new(stream), number, shared, &script)
        })
    }

    /// Hands every TCP connection to `script` as it is: plain text, broken TLS, silence.
    ///
    /// # Errors
    /// Where no port can be had.
    pub fn start_plain(
        script: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        Self::start_raw(move |socket, _, _| script(socket))
    }

    fn start_raw(
        script: impl Fn(TcpStream, u64, &Shared) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(DemoError::system("a port to listen on"))?;
        let address = listener.local_addr().map_err(DemoError::system("the port's number"))?;
        let shared = Arc::new(Shared::default());
        let (accepting, script) = (shared.clone(), Arc::new(script));
        thread::spawn(move || {
            for socket in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(socket) = socket else { continue };
                let number = accepting.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (shared, script) = (accepting.clone(), script.clone());
                // What ends a connection here is what the peer did or what the script meant.
                thread::spawn(move || script(socket, number, &shared).ok());
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many requests so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.shared.received).len()
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them never got through the handshake.
    #[must_use]
    pub fn handshakes_failed(&self) -> u64 {
        self.shared.handshakes_failed.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; where it is gone already there is nothing to wake.
        let _ = TcpStream::connect(self.address);
    }
}

/// One request, and the way to answer it.
pub struct Exchange<'a> {
    head: &'a Head,
    framing: Framing,
    reader: &'a mut Reader<Tls>,
    ends: bool,
    aborted: bool,
}

impl Exchange<'_> {
    /// The request's head.
    #[must_use]
    pub fn head(&self) -> &Head {
        self.head
    }

    /// The next piece of the request's body; none at its end.
    ///
    /// # Errors
    /// As [`Reader::piece`].
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.reader.piece(&mut self.framing)
    }

    /// What is left of the request's body.
    ///
    /// # Errors
    /// As [`Reader::piece`].
    pub fn body(&mut self) -> io::Result<Vec<u8>> {
        self.reader.whole(&mut self.framing)
    }

    /// Answers with a body of known length. The request's body is read first.
    ///
    /// # Errors
    /// The stream's.
    pub fn respond(&mut self, status: &str, fields: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        self.body()?;
        let length = body.len().to_string();
        let mut message = head_bytes(status, fields, ("content-length", &length));
        if self.head.method() != "HEAD" {
            message.extend_from_slice(body);
        }
        self.raw(&message)
    }

    /// Begins an answer in chunks.
    ///
    /// # Errors
    /// The stream's.
    pub fn begin(&mut self, status: &str, fields: &[(&str, &str)]) -> io::Result<()> {
        self.raw(&head_bytes(status, fields, ("transfer-encoding", "chunked")))
    }

    /// Sends one chunk, at once.
    ///
    /// # Errors
    /// The stream's.
    pub fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut message = format!("{:x}\r\n", bytes.len()).into_bytes();
        message.extend_from_slice(bytes);
        message.extend_from_slice(b"\r\n");
        self.raw(&message)
    }

    /// Ends an answer in chunks.
    ///
    /// # Errors
    /// The stream's.
    pub fn end(&mut self, trailers: &[(&str, &str)]) -> io::Result<()> {
        let fields: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.raw(format!("0\r\n{fields}\r\n").as_bytes())
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// The stream's.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.reader.stream();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Closes after this answer, as TLS wants it: with close_notify.
    pub fn close(&mut self) {
        self.ends = true;
    }

    /// Closes the socket without close_notify, as a cut cable or an attacker would.
    pub fn abort(&mut self) {
        self.ends = true;
        self.aborted = true;
    }

    /// Waits until the peer closes; false where it has not after this time.
    pub fn peer_closes_within(&mut self, time: Duration) -> bool {
        let stream = self.reader.stream();
        if stream.sock.set_read_timeout(Some(time)).is_err() {
            return true;
        }
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return false;
                }
                Err(_) => return true,
            }
        }
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

fn serve(
    mut reader: Reader<Tls>,
    connection: u64,
    shared: &Shared,
    script: &impl Fn(&mut Exchange<'_>) -> io::Result<()>,
) -> io::Result<()> {
    while let Some(head) = reader.head()? {
        lock(&shared.received).push(Received { connection, head: head.clone() });
        let framing = head.request_framing();
        let mut exchange = Exchange { head: &head, framing, reader: &mut reader, ends: false, aborted: false };
        let outcome = script(&mut exchange);
        if exchange.aborted || outcome.is_err() {
            reader.stream().sock.shutdown(Shutdown::Both)?;
            return outcome;
        }
        if exchange.ends {
            break;
        }
        exchange.body()?;
    }
    let stream = reader.stream();
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)
}

fn head_bytes(status: &str, fields: &[(&str, &str)], framing: (&str, &str)) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in fields.iter().chain([&framing]) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A panic in one script must not hide what the others recorded.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
