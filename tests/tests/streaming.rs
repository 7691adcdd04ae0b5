//! Bodies stream: event by event, in bounded memory, at the pace of the slower side, and no longer than both want.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use strongroom_tests::prelude::*;

const MIB: u64 = 1024 * 1024;

#[test]
fn events_arrive_one_by_one() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let scene = Scene::with(move |exchange| {
        exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
        for number in 0..20 {
            exchange.chunk(format!("event: tick\ndata: {{\"number\":{number}}}\n\n").as_bytes())?;
            released.lock().unwrap().recv_timeout(Duration::from_secs(20)).map_err(std::io::Error::other)?;
        }
        exchange.end(&[])
    });
    let mut stream = scene.post("/openai/v1/stream", b"{\"stream\":true}").stream();
    assert_eq!(stream.head.value("content-type").as_deref(), Some("text/event-stream"));
    for number in 0..20 {
        // The upstream says nothing more until this one has arrived.
        stream.read_text(&format!("event: tick\ndata: {{\"number\":{number}}}\n\n"));
        release.send(()).unwrap();
    }
    assert_eq!(stream.rest().unwrap(), b"");
}

#[test]
fn sixty_four_mib_go_each_way_in_bounded_memory() {
    let scene = Scene::with(|exchange| {
        let mut sum = Sum::default();
        while let Some(piece) = exchange.piece()? {
            sum.add(&piece);
        }
        exchange.begin("200 OK", &[("x-sum", &sum.to_string())])?;
        for block in 0..64 {
            exchange.chunk(&noise(block))?;
        }
        exchange.end(&[])
    });
    // One of each before measuring: the first request brings TLS and buffers.
    assert_eq!(scene.post("/openai/up", b"small").stream().head.status(), 200);
    let daemons = [scene.strongroom.keyd(), scene.strongroom.gatewayd()];
    let before = daemons.map(process::resident);

    let mut stream = {
        let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
        let head = scene.request("POST", "/openai/up").field("Content-Length", &(64 * MIB).to_string());
        connection.write(&head.bytes()).unwrap();
        for block in 0..64 {
            connection.write(&noise(block)).unwrap();
        }
        connection
    };
    let mut expected = Sum::default();
    (0..64).for_each(|block| expected.add(&noise(block)));
    let answer = stream.answer("POST").unwrap();
    assert_eq!(answer.head.value("x-sum"), Some(expected.to_string()), "what the upstream got");
    let mut got = Sum::default();
    got.add(&answer.body);
    assert_eq!(got.to_string(), expected.to_string(), "what the agent got");

    for (pid, before) in daemons.into_iter().zip(before) {
        let peak = process::peak_resident(pid);
        assert!(
            peak < before + 16 * MIB,
            "{:?} grew from {before} to {peak} bytes",
            process::status_field(pid, "Name")
        );
        assert!(peak > MIB, "a process without memory was not measured");
    }
}

#[test]
fn a_slow_reader_slows_the_upstream_down() {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let scene = Scene::with(move |exchange| {
        exchange.begin("200 OK", &[])?;
        for block in 0..256 {
            exchange.chunk(&noise(block))?;
            counter.fetch_add(MIB, Ordering::SeqCst);
        }
        exchange.end(&[])
    });
    let gatewayd = scene.strongroom.gatewayd();
    let mut stream = scene.get("/openai/large").stream();
    // Nobody reads: what the sockets hold fills up, then the upstream stands still.
    let last = until_still("the upstream", || sent.load(Ordering::SeqCst));
    assert!(last < 64 * MIB, "{last} bytes went out that nobody read");
    let peak = process::peak_resident(gatewayd);
    assert!(peak < 64 * MIB, "gatewayd holds {peak} bytes");
    let mut length = 0;
    while let Some(piece) = stream.piece().unwrap() {
        length += piece.len() as u64;
    }
    assert_eq!(length, 256 * MIB, "and nothing was lost");
}

#[test]
fn an_agent_that_hangs_up_ends_the_upstreams_work() {
    let (tell, told) = channel::<bool>();
    let tell = Mutex::new(tell);
    let scene = Scene::with(move |exchange| {
        if exchange.head().target() == "/calm" {
            return exchange.respond("200 OK", &[], b"calm");
        }
        exchange.begin("200 OK", &[])?;
        exchange.chunk(b"begin\n")?;
        let closed = exchange.peer_closes_within(Duration::from_secs(10));
        tell.lock().unwrap().send(closed).map_err(std::io::Error::other)
    });
    let mut stream = scene.get("/openai/long").stream();
    stream.read_text("begin\n");
    let at = Instant::now();
    drop(stream);
    assert!(told.recv_timeout(Duration::from_secs(15)).unwrap(), "the upstream still works for nobody");
    assert!(at.elapsed() < Duration::from_secs(5), "it took {:?}", at.elapsed());
    assert_eq!(scene.get("/openai/calm").send().text(), "calm");
}

#[test]
fn an_upstream_that_breaks_off_is_not_taken_for_an_end() {
    let scene = Scene::with(|exchange| {
        let key = exchange.head().value("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        match exchange.head().target() {
            "/short" => exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf\n")?,
            "/chunked" => {
                exchange.begin("200 OK", &[])?;
                exchange.chunk(b"half\n")?;
            }
            "/tail" => {
                exchange.begin("200 OK", &[])?;
                exchange.chunk(format!("half\n{}", &key[..key.len() - 1]).as_bytes())?;
            }
            "/until-close" => exchange.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf\n")?,
            _ => {
                exchange.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nwhole\n")?;
                exchange.close();
                return Ok(());
            }
        }
        exchange.abort();
        Ok(())
    });
    for path in ["/openai/short", "/openai/chunked", "/openai/tail", "/openai/until-close"] {
        let mut stream = scene.get(path).stream();
        let mut text = Vec::new();
        let end = loop {
            match stream.piece() {
                Ok(Some(piece)) => text.extend(piece),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.kind()),
            }
        };
        assert!(matches!(end, Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)), "{path}: {end:?}");
        assert!(
            !text.windows(8).any(|part| part == &scene.key.as_bytes()[..8]),
            "{path}: {:?}",
            String::from_utf8_lossy(&text)
        );
    }
    assert_eq!(scene.get("/openai/whole").send().text(), "whole\n", "with close_notify it is an end");
}

#[test]
fn an_upstream_that_answers_early_does_not_wait_for_the_body() {
    let scene = Scene::with(|exchange| {
        if exchange.head().target() == "/early" {
            // All that was sent so far: to close over unread bytes would be a reset, which may overtake the answer.
            let mut taken = 0;
            while taken < MIB {
                taken += exchange.piece()?.map_or(MIB, |piece| piece.len() as u64);
            }
            exchange.raw(b"HTTP/1.1 413 Too Much\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much")?;
            exchange.close();
            return Ok(());
        }
        exchange.respond("200 OK", &[], b"fine")
    });
    let mut socket = TcpStream::connect(scene.strongroom.address()).unwrap();
    let head = scene.request("POST", "/openai/early").field("Content-Length", &(64 * MIB).to_string());
    socket.write_all(&head.bytes()).unwrap();
    socket.write_all(&noise(1)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = strongroom_ctl::demo::http1::Reader::new(socket);
    let answer = reader.head().unwrap().expect("an answer while the body is still being sent");
    assert_eq!(answer.status(), 413);
    assert_eq!(scene.post("/openai/late", &noise(2)).send().text(), "fine");
}

/// A MiB that neither repeats nor looks like a key: every byte is in 0x80..=0xff.
fn noise(block: u64) -> Vec<u8> {
    let mut state = block.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(1024 * 1024);
    while bytes.len() < 1024 * 1024 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes().map(|byte| byte | 0x80));
    }
    bytes
}

/// Length and a sum in which order counts.
#[derive(Default)]
struct Sum(u64, u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 += 1;
            self.1 = (self.1 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:x}", self.0, self.1)
    }
}
