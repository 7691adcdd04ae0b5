//! An upstream of which a test writes every byte inside TLS, and closes, resets or stalls at any moment.
//!
//! Where `demo::upstream` answers requests, this one has a connection and nothing else: it refuses nothing and repairs
//! nothing. Used by the tests of upstreams that fail.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use strongroom_ctl::demo::upstream::Upstream;

/// A connection that has shaken hands.
pub struct Raw {
    stream: StreamOwned<ServerConnection, TcpStream>,
}

/// Shakes hands on every connection and gives it to `script` with its number, from 0; the end of the script closes the
/// socket without a word.
///
/// # Panics
/// Where no port can be had.
#[must_use]
pub fn start(
    tls: Arc<ServerConfig>,
    script: impl Fn(&mut Raw, usize) -> io::Result<()> + Send + Sync + 'static,
) -> Upstream {
    let next = AtomicUsize::new(0);
    let serve = move |socket: TcpStream| {
        let mut raw = Raw::accept(socket, &tls)?;
        script(&mut raw, next.fetch_add(1, Ordering::SeqCst))
    };
    Upstream::start_plain(serve).expect("a port")
}

/// Makes the next close a reset.
///
/// # Errors
/// The socket's.
pub fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(socket, sockopt::Linger, &linger).map_err(io::Error::from)
}

impl Raw {
    /// Shakes hands as a server. Nothing is waited for longer than half a minute.
    ///
    /// # Errors
    /// The handshake's.
    pub fn accept(socket: TcpStream, tls: &Arc<ServerConfig>) -> io::Result<Self> {
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.set_nodelay(true)?;
        let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The stream's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads until so many bytes have come.
    ///
    /// # Errors
    /// The stream's.
    pub fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).map(|()| bytes)
    }

    /// Reads an HTTP/1.1 head, and nothing behind it.
    ///
    /// # Errors
    /// The stream's.
    pub fn head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.take(1)?);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Closes as TLS wants it, but for the socket.
    ///
    /// # Errors
    /// The stream's.
    pub fn close_notify(&mut self) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()
    }

    /// Closes our side of the socket.
    ///
    /// # Errors
    /// The socket's.
    pub fn finish_writing(&mut self) -> io::Result<()> {
        self.stream.sock.shutdown(Shutdown::Write)
    }

    /// Resets the connection when the script ends.
    ///
    /// # Errors
    /// The socket's.
    pub fn reset(&mut self) -> io::Result<()> {
        reset_on_close(&self.stream.sock)
    }

    /// Says nothing until the peer closes, for half a minute at most.
    pub fn stall(&mut self) {
        while matches!(self.stream.read(&mut [0; 4096]), Ok(1..)) {}
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}
