//! What one agent may take of the gateway - memory, connections, channels - and what that leaves to others.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::socket::{Backlog, listen};
use strongroom_tests::h2_upstream::{ACK, DATA, END_HEADERS, HEADERS, PING, SETTINGS, WINDOW_UPDATE, block, encode};
use strongroom_tests::hostile::with_uid;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;

fn ok(exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.respond("200 OK", &[], b"ok")
}

/// An HTTP/2 connection whose every frame is written here.
struct Wire {
    stream: TcpStream,
    /// Bytes that may still be sent on the connection, and on each stream.
    window: usize,
    stream_window: usize,
}

impl Wire {
    /// Takes nothing of any answer's body.
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let no_window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &0u32.to_be_bytes()].concat();
        stream.write_all(&[PREFACE, &encode(SETTINGS, 0, 0, &no_window)].concat()).unwrap();
        let mut wire = Self { stream, window: 65_535, stream_window: 65_535 };
        wire.until_all_is_read();
        wire
    }

    fn frame(&mut self) -> (u8, u8, Vec<u8>) {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap()) as usize;
        match head[3] {
            SETTINGS if head[4] & ACK == 0 => {
                let values = payload.chunks(6).filter(|chunk| chunk[..2] == INITIAL_WINDOW_SIZE.to_be_bytes());
                self.stream_window = values.map(|chunk| number(&chunk[2..])).next_back().unwrap_or(65_535);
                self.stream.write_all(&encode(SETTINGS, ACK, 0, &[])).unwrap();
            }
            WINDOW_UPDATE if head[5..] == [0; 4] => self.window += number(&payload),
            _ => {}
        }
        (head[3], head[4], payload)
    }

    /// All that was sent has been taken off the socket and looked at.
    fn until_all_is_read(&mut self) {
        self.stream.write_all(&encode(PING, 0, 0, b"all read")).unwrap();
        while !matches!(self.frame(), (PING, ACK, _)) {}
    }

    /// Uploads for a route that there is not, in frames as small as are borne, until a window is full.
    fn fill(&mut self, authority: &str) {
        let head = [(":method", "POST"), (":scheme", "http"), (":path", "/nowhere/x"), (":authority", authority)];
        for stream in (1..).step_by(2) {
            let mut bytes = encode(HEADERS, END_HEADERS, stream, &block(&head));
            let most = self.window.min(self.stream_window);
            for _ in 0..most / SMALL {
                bytes.extend(encode(DATA, 0, stream, &[b'x'; SMALL]));
            }
            self.window -= most / SMALL * SMALL;
            self.stream.write_all(&bytes).unwrap();
            if self.window < SMALL {
                return self.until_all_is_read();
            }
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;
/// Bytes of a frame of which there may be many.
const SMALL: usize = 257;

/// The refusals cannot go out, and the bodies wait for that: the more of them, the less memory for everybody.
#[test]
fn bodies_of_http2_that_nobody_reads_hold_little_of_the_gateways_memory() {
    const CONNECTIONS: usize = 64;
    let scene = Scene::with(ok);
    let (gatewayd, address) = (scene.strongroom.gatewayd(), scene.strongroom.address());
    let before = process::resident(gatewayd);
    let held: Vec<Wire> = (0..CONNECTIONS)
        .map(|_| {
            let mut wire = Wire::open(address);
            wire.fill(&address.to_string());
            wire
        })
        .collect();
    let each = process::resident(gatewayd).saturating_sub(before) / CONNECTIONS as u64;
    assert!(each > 64 * 1024, "they are held: {each} bytes for each connection");
    // A thousand of them have room in MemoryMax= of gatewayd's unit, 1 GiB.
    assert!(each < 700 * 1024, "{each} bytes for each connection");
    assert_eq!(scene.get("/openai/x").send().text(), "ok");
    drop(held);
}

/// Of requests that were sent, how many were told that there is too much to do.
fn overloaded(sent: &mut [(TcpStream, Vec<u8>)]) -> usize {
    for (stream, heard) in sent.iter_mut() {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..length]);
        }
    }
    sent.iter().filter(|(_, heard)| String::from_utf8_lossy(heard).contains("overloaded")).count()
}

/// Nothing of such a request is judged before its upstream was dialled, so anybody can send them.
#[test]
fn an_upstream_that_takes_no_connection_leaves_channels_to_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The same call again only shortens the queue; it is full then, and further connections get no answer.
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let full = listener.local_addr().unwrap();
    let _queue: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&full, Duration::from_millis(300)).ok()).collect();
    let builder = Strongroom::new().resolving("full.example", full).limit("channels = 32").timeout("dial = \"60s\"");
    let scene = Scene::build(builder, ok);
    scene.add_credential("full", &["--host", "full.example", "--bearer"]);
    let mut sent: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(scene.strongroom.address()).unwrap();
            stream.write_all(&scene.strongroom.request("GET", "/full/x").bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            (stream, Vec::new())
        })
        .collect();
    within(Duration::from_secs(20), "all channels wait for it", || (overloaded(&mut sent) == 8).then_some(()));
    let mut held = Vec::new();
    for _ in 0..2 {
        let answer = scene.get("/openai/x").stream();
        assert_eq!(answer.head.status(), 200);
        held.push(answer);
    }
    assert_eq!(overloaded(&mut sent), 8, "they still wait");
}

#[test]
#[ignore = "needs root: connects as another user"]
fn a_user_with_all_connections_leaves_some_to_others() {
    let scene = Scene::build(Builder::default().limit("connections = 64"), ok);
    let health = scene.strongroom.request("GET", "/.strongroom/health");
    let address = scene.strongroom.address();
    let held: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            // It is served, and has its place.
            stream.write_all(&health.bytes()).unwrap();
            assert_ne!(stream.read(&mut [0; 64]).unwrap(), 0);
            stream
        })
        .collect();
    health.send().assert_refused(Refusal::Overloaded);
    let others = health.clone();
    assert_eq!(with_uid(OTHER, move || others.send().status()), 200);
    health.send().assert_refused(Refusal::Overloaded);
    assert!(scene.strongroom.logs().contains("a connection too many was refused"));
    drop(held);
    within(Duration::from_secs(20), "their places are free", || (health.send().status() == 200).then_some(()));
}

/// A user that has no connection yet.
const OTHER: u32 = 61_017;
