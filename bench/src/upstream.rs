//! The other end of every path: a TLS server on loopback that answers from memory.
//!
//! One thread, one process of its own, so that its CPU time is nobody else's. Each event of a stream is flushed by
//! itself. It offers no session tickets, so that each new connection costs everybody the same handshake. It refuses
//! nothing; it must not be reachable from elsewhere. Run by `main.rs` as a role of its own.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::NoServerSessionStorage;
use strongroom_ctl::demo::certificate::Root;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::{Outcome, While};
use crate::http1::{Head, Reader};
use crate::scenario::{BULK, EVENT, EVENTS, FIRST_EVENTS, PACE, PACED_EVENTS, SMALL};

/// The name in its certificate.
pub const HOST: &str = "api.upstream.example";

/// Serves until standard input ends; writes its root's certificate to a file and its port to standard output.
///
/// # Errors
/// Where the system gives no port or file.
pub fn run(root_file: &Path) -> Outcome<()> {
    let root = Root::new("The benchmark's root").during("making a certificate")?;
    let mut config = (*root.server(HOST).during("making a certificate")?).clone();
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    fs::write(root_file, root.pem()).during("writing the root's certificate")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("starting an event loop")?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.during("finding a port")?;
        let port = listener.local_addr().during("finding a port")?.port();
        writeln!(io::stdout(), "{port}").during("saying the port")?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        spawn_local(accept(listener, acceptor, Rc::new(Answers::new())));
        // Whoever started us holds the other end.
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || ended.send(io::copy(&mut io::stdin(), &mut io::sink())));
        let _ = end.await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, answers: Rc<Answers>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        answers.connections.set(answers.connections.get() + 1);
        let (acceptor, answers) = (acceptor.clone(), Rc::clone(&answers));
        // A connection that breaks is seen by the one who measures.
        spawn_local(async move { serve(socket, &acceptor, &answers).await.ok() });
    }
}

async fn serve(socket: TcpStream, acceptor: &TlsAcceptor, answers: &Answers) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = acceptor.accept(socket).await?;
    let mut reader = Reader::default();
    while let Some(head) = reader.head(&mut stream).await? {
        reader.body(&mut stream, head.framing, || ()).await?;
        let closes = answers.answer(&head, &mut stream).await?;
        if closes {
            stream.shutdown().await?;
            // The peer closes in its turn; what else it sends is not ours.
            return stream.read(&mut [0; 16]).await.map(drop);
        }
    }
    Ok(())
}

/// What goes out, made once.
struct Answers {
    json: Vec<u8>,
    json_and_close: Vec<u8>,
    small: Vec<u8>,
    stream_head: Vec<u8>,
    event: Vec<u8>,
    bulk_head: Vec<u8>,
    block: Vec<u8>,
    connections: Cell<u64>,
}

impl Answers {
    fn new() -> Self {
        let json = text(1024);
        let event = [b"data: ", &text(usize::try_from(EVENT).unwrap_or(0) - 8)[..], b"\n\n"].concat();
        Self {
            json: message("application/json", "", &json),
            json_and_close: message("application/json", "connection: close\r\n", &json),
            small: message("application/json", "", &text(usize::try_from(SMALL).unwrap_or(0))),
            stream_head: head("text/event-stream", "transfer-encoding: chunked\r\n"),
            event: [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat(),
            bulk_head: head("application/json", &format!("content-length: {BULK}\r\n")),
            block: text(BLOCK),
            connections: Cell::new(0),
        }
    }

    /// Gives whether the connection is to be closed.
    async fn answer(&self, head: &Head, stream: &mut TlsStream<TcpStream>) -> io::Result<bool> {
        let target = head.first_line.split(' ').nth(1).unwrap_or_default();
        match target {
            "/json" => send(stream, &self.json).await?,
            "/post" | "/up" => send(stream, &self.small).await?,
            "/sse" => self.stream(stream, EVENTS, None).await?,
            "/sse-paced" => self.stream(stream, PACED_EVENTS, Some(PACE)).await?,
            "/sse-first" => self.stream(stream, FIRST_EVENTS, Some(PACE)).await?,
            "/down" => {
                stream.write_all(&self.bulk_head).await?;
                for _ in 0..BULK / BLOCK as u64 {
                    stream.write_all(&self.block).await?;
                }
                stream.flush().await?;
            }
            "/close" => {
                send(stream, &self.json_and_close).await?;
                return Ok(true);
            }
            "/connections" => {
                let count = self.connections.get();
                send(stream, format!("HTTP/1.1 200 {count}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(false)
    }

    async fn stream(&self, stream: &mut TlsStream<TcpStream>, events: u64, pace: Option<Duration>) -> io::Result<()> {
        send(stream, &self.stream_head).await?;
        for index in 0..events {
            match pace {
                Some(pace) if index > 0 => tokio::time::sleep(pace).await,
                Some(_) => {}
                // Streams take turns; what comes together is the reader's pace and not ours.
                None => yield_now().await,
            }
            send(stream, &self.event).await?;
        }
        send(stream, b"0\r\n\r\n").await
    }
}

async fn send(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn message(kind: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n{fields}", body.len());
    [head(kind, &length), body.to_vec()].concat()
}

/// With about the fields that an API behind a content delivery network sends.
fn head(kind: &str, fields: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\ncontent-type: {kind}\r\n{fields}\
         x-request-id: req_0123456789abcdef\r\nx-ratelimit-limit-requests: 10000\r\n\
         x-ratelimit-remaining-requests: 9999\r\nprocessing-ms: 12\r\nserver: upstream\r\n\
         strict-transport-security: max-age=31536000\r\nx-content-type-options: nosniff\r\n\r\n"
    )
    .into_bytes()
}

/// JSON-like text of this length: words, quotes, brackets, numbers; nothing repeats within some KiB.
fn text(length: usize) -> Vec<u8> {
    let words = ["model", "choice", "index", "message", "assistant", "the quick answer", "token", "usage"];
    let mut text = String::with_capacity(length + 64);
    let mut state = 0x2545_f491_u32;
    while text.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = words[state as usize >> 8 & 7];
        text.push_str(&format!("{{\"{word}\": \"{word} {:08x}\", \"n\": {}}}, ", state, state >> 20));
    }
    let mut bytes = text.into_bytes();
    bytes.truncate(length);
    bytes
}

/// A large body is written in pieces of this size.
const BLOCK: usize = 256 * 1024;
