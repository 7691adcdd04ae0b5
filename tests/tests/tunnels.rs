//! The first words in a blind tunnel: a TLS hello names the CONNECT's host or goes nowhere, and all else passes as it came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustls::{ClientConfig, ClientConnection, RootCertStore};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;
use strongroom_tests::tunnel::{Connect, Socket};

const ALLOWED: &str = "files.example";
/// As long as the other, and on the same servers.
const FRONTED: &str = "evils.example";
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
const DECODE_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 50];

/// One agent that may reach one host, where a server says this first and then says everything back.
struct Walk {
    strongroom: Strongroom,
    connect: Connect,
    ended: Receiver<usize>,
}

impl Walk {
    fn to_server(builder: Builder, banner: &'static [u8]) -> Self {
        let (address, ended) = server(banner);
        let (strongroom, connect) = allowed(builder.resolving(ALLOWED, address));
        Self { strongroom, connect, ended }
    }

    /// The tunnel ended without one byte to the server, which is on record.
    #[track_caller]
    fn assert_cut(&self, mut socket: Box<dyn Socket>, told: &[u8], code: &str) {
        let mut rest = Vec::new();
        // A reset behind the words is an end as well.
        let _ = socket.read_to_end(&mut rest);
        assert_eq!(rest, told);
        assert_eq!(self.ended.recv_timeout(Duration::from_secs(20)), Ok(0), "bytes that came to the server");
        let failure = format!("\"failure\":\"{code}\"");
        let end = within(Duration::from_secs(20), "the end is on record", || {
            let lines = self.strongroom.must(&["audit", "--agent", "walker", "--json"]);
            lines.lines().find(|line| line.contains(&failure)).map(str::to_owned)
        });
        assert!(end.contains("\"bytes_in\":0"), "{end}");
    }
}

fn allowed(builder: Builder) -> (Strongroom, Connect) {
    let strongroom = builder.start();
    let token = strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
    strongroom.must(&["agent", "allow", "walker", ALLOWED]);
    let connect = Connect::to(&strongroom, &format!("{ALLOWED}:443")).token("walker", &token);
    (strongroom, connect)
}

/// Says when a connection has ended, and how many bytes had come.
fn server(banner: &'static [u8]) -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, end) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let (mut buffer, mut total) = ([0; 4096], 0);
                stream.write_all(banner).unwrap();
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    total += length;
                    let _ = stream.write_all(&buffer[..length]);
                }
                let _ = ended.send(total);
            });
        }
    });
    (address, end)
}

/// What a client says first that wants to speak to this host.
fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same with another spelling of the name in it.
fn spelt(name: &str) -> Vec<u8> {
    let mut bytes = hello(ALLOWED);
    let at = bytes.windows(ALLOWED.len()).position(|window| window == ALLOWED.as_bytes()).unwrap();
    bytes[at..at + name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// The same in records of so many bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [&[22, 3, 1, 0, u8::try_from(piece.len()).unwrap()][..], piece].concat();
    hello[5..].chunks(size).flat_map(record).collect()
}

/// The server says all of it back.
#[track_caller]
fn passes(socket: &mut Box<dyn Socket>, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
    says(socket, bytes);
}

#[track_caller]
fn says(socket: &mut Box<dyn Socket>, bytes: &[u8]) {
    let mut back = vec![0; bytes.len()];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

#[test]
fn tls_to_the_connects_host_works_and_another_name_in_it_is_cut_and_on_record() {
    let root = Root::new("The tests' root").unwrap();
    let upstream =
        Upstream::start(root.server(ALLOWED).unwrap(), |exchange| exchange.respond("200 OK", &[], b"a file")).unwrap();
    let (_strongroom, connect) = allowed(Strongroom::new().resolving(ALLOWED, upstream.address()));
    let mut tls = connect.tls_as(ALLOWED, &root.pem()).unwrap();
    assert_eq!(tls.ask("GET", "/", &[("Host", ALLOWED)]).text(), "a file");

    let walk = Walk::to_server(Strongroom::new(), b"");
    let mut socket = walk.connect.raw();
    socket.write_all(&hello(FRONTED)).unwrap();
    walk.assert_cut(socket, UNRECOGNIZED_NAME, "authority_mismatch");
    passes(&mut walk.connect.raw(), &hello(ALLOWED));
}

#[test]
fn a_hello_that_comes_right_behind_the_connect_is_looked_at_too() {
    let walk = Walk::to_server(Strongroom::new(), b"");
    for (name, back) in [(ALLOWED, hello(ALLOWED)), (FRONTED, UNRECOGNIZED_NAME.to_vec())] {
        let mut socket = walk.connect.socket().unwrap();
        let words = if name == ALLOWED { back.clone() } else { hello(name) };
        socket.write_all(&[walk.connect.bytes(), words].concat()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        says(&mut socket, &back);
    }
}

#[test]
fn spellings_of_the_name_pass_as_they_came_and_so_does_a_hello_without_one() {
    let walk = Walk::to_server(Strongroom::new(), b"");
    for bytes in [spelt("FILES.Example"), hello("127.0.0.1")] {
        passes(&mut walk.connect.raw(), &bytes);
        assert_eq!(walk.ended.recv_timeout(Duration::from_secs(20)), Ok(bytes.len()));
    }
    for name in ["evil_.example", "files.exampl.", ".iles.example"] {
        let mut socket = walk.connect.raw();
        socket.write_all(&spelt(name)).unwrap();
        walk.assert_cut(socket, UNRECOGNIZED_NAME, "authority_mismatch");
    }
}

#[test]
fn a_hello_in_any_pieces_is_put_together_before_any_of_it_passes() {
    let walk = Walk::to_server(Strongroom::new(), b"");
    let write_slowly = |socket: &mut Box<dyn Socket>, bytes: &[u8]| {
        for byte in bytes {
            // Whoever is cut in the middle has been told already.
            if socket.write_all(&[*byte]).is_err() {
                break;
            }
        }
    };
    for size in [1, 7, 200] {
        let mut socket = walk.connect.raw();
        let bytes = in_records(&hello(ALLOWED), size);
        write_slowly(&mut socket, &bytes);
        says(&mut socket, &bytes);
        drop(socket);
        assert_eq!(walk.ended.recv_timeout(Duration::from_secs(20)), Ok(bytes.len()));
        let mut socket = walk.connect.raw();
        write_slowly(&mut socket, &in_records(&hello(FRONTED), size));
        walk.assert_cut(socket, UNRECOGNIZED_NAME, "authority_mismatch");
    }
}

#[test]
fn what_is_no_tls_passes_both_ways_and_the_server_may_speak_first() {
    let banner = b"SSH-2.0-server\r\n";
    let walk = Walk::to_server(Strongroom::new(), banner);
    let mut socket = walk.connect.raw();
    says(&mut socket, banner);
    for words in [&b"S"[..], b"SH-2.0-agent\r\n", &hello(FRONTED)] {
        // What comes behind the first words is nobody's to look at.
        passes(&mut socket, words);
    }
    for first in [&b"\x16\x02\x01"[..], b"\0", b"GET / HTTP/1.1\r\n"] {
        let mut socket = walk.connect.raw();
        says(&mut socket, banner);
        passes(&mut socket, first);
    }
    drop(socket);
    // An agent that has heard the server is told nothing in its place.
    for _ in 0..4 {
        walk.ended.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    let mut socket = walk.connect.raw();
    says(&mut socket, banner);
    socket.write_all(&hello(FRONTED)).unwrap();
    walk.assert_cut(socket, b"", "authority_mismatch");
}

#[test]
fn what_begins_as_tls_and_is_no_hello_that_can_be_read_goes_nowhere() {
    let walk = Walk::to_server(Strongroom::new().timeout("slow-headers = \"1s\""), b"");
    let good = hello(ALLOWED);
    // Servers pass over a warning in front of a hello.
    let warned = [b"\x15\x03\x01\x00\x02\x01\x00".to_vec(), good.clone()].concat();
    let doubled = in_records(&[&good[..], &good[5..]].concat(), 255);
    let endless = b"\x16\x03\x01\x00\x01\x01".repeat(20_000);
    for bytes in [&warned[..], b"\x16\x03\x01\x00\x00", &doubled, &endless, &good[..20], b"\x16"] {
        let mut socket = walk.connect.raw();
        // The cut may come while it is being written.
        let _ = socket.write_all(bytes);
        walk.assert_cut(socket, DECODE_ERROR, "bad_request");
    }
    passes(&mut walk.connect.raw(), &good);
}
