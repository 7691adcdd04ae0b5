//! The harness itself: an upstream that could not misbehave, or a scan that could not find, would prove nothing. Nor would
//! a promise of SECURITY.md that names a test which is not there.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use strongroom_ctl::demo::http1::Reader;
use strongroom_tests::prelude::*;

type Client = Reader<StreamOwned<ClientConnection, TcpStream>>;

fn connect(upstream: &Upstream, root: &Root) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(root.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(HOST).unwrap()).unwrap();
    let socket = TcpStream::connect(upstream.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Reader::new(StreamOwned::new(connection, socket))
}

fn get(client: &mut Client, path: &str) -> (Head, std::io::Result<Vec<u8>>) {
    write!(client.stream(), "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-B: 2\r\nx-a: 1\r\n\r\n").unwrap();
    let head = client.head().unwrap().unwrap();
    let body = client.whole(&mut head.response_framing("GET"));
    (head, body)
}

#[test]
fn the_upstream_does_what_its_script_says() {
    let root = Root::new("harness").unwrap();
    let upstream = Upstream::start(root.server(HOST).unwrap(), |exchange| match exchange.head().target() {
        "/chunks" => {
            exchange.begin("200 Fine", &[("trailer", "x-last")])?;
            exchange.chunk(b"one")?;
            exchange.chunk(b"two")?;
            exchange.end(&[("x-last", "yes")])
        }
        "/clean" | "/abrupt" => {
            exchange.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end")?;
            if exchange.head().target() == "/clean" {
                exchange.close()
            } else {
                exchange.abort()
            }
            Ok(())
        }
        _ => exchange.respond("404 No", &[], b"nothing"),
    })
    .unwrap();
    let mut client = connect(&upstream, &root);
    let (head, body) = get(&mut client, "/chunks");
    assert_eq!((head.start_line.as_str(), body.unwrap().as_slice()), ("HTTP/1.1 200 Fine", b"onetwo".as_slice()));
    assert_eq!(client.trailers, [("x-last".to_owned(), b"yes".to_vec())]);
    let (head, body) = get(&mut client, "/other");
    assert_eq!((head.status(), body.unwrap().as_slice()), (404, b"nothing".as_slice()));
    assert_eq!(upstream.connections(), 1);
    let names: Vec<_> = upstream.received()[0].head.fields.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, ["Host", "X-B", "x-a"], "order and case are kept");

    assert_eq!(get(&mut client, "/clean").1.unwrap(), b"to the end");
    let mut client = connect(&upstream, &root);
    // With and without close_notify are different ends for whoever looks.
    write!(client.stream(), "GET /abrupt HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(client.head().unwrap().unwrap().status(), 200);
    let mut rest = Vec::new();
    let end = client.stream().read_to_end(&mut rest).unwrap_err();
    assert!(matches!(end.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
}

#[test]
fn a_client_that_does_not_trust_the_upstream_sends_nothing() {
    let root = Root::new("harness").unwrap();
    let upstream =
        Upstream::start(root.server("other.example").unwrap(), |exchange| exchange.respond("200 OK", &[], b""))
            .unwrap();
    let mut client = connect(&upstream, &root);
    let outcome = client.stream().write_all(b"GET / HTTP/1.1\r\n\r\n").and_then(|()| client.head().map(drop));
    assert!(outcome.is_err());
    drop(client);
    within(Duration::from_secs(5), "the failed handshake is counted", || {
        (upstream.handshakes_failed() == 1).then_some(())
    });
    assert_eq!((upstream.count(), upstream.connections()), (0, 1));
}

#[test]
fn an_upstream_sees_when_its_peer_goes() {
    let root = Root::new("harness").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let upstream = Upstream::start(root.server(HOST).unwrap(), move |exchange| {
        let patience =
            if exchange.head().target() == "/stays" { Duration::from_millis(100) } else { Duration::from_secs(20) };
        tell.lock().unwrap().send(exchange.peer_closes_within(patience)).map_err(std::io::Error::other)
    })
    .unwrap();
    for (path, closes) in [("/stays", false), ("/goes", true)] {
        let mut client = connect(&upstream, &root);
        write!(client.stream(), "GET {path} HTTP/1.1\r\n\r\n").unwrap();
        client.stream().flush().unwrap();
        if closes {
            within(Duration::from_secs(5), "the request arrives", || (upstream.count() == 2).then_some(()));
            drop(client);
            assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
        } else {
            assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(false));
        }
    }
}

/// As SECURITY.md has them: a file, then the tests in it; below `tests/tests/`, or beside the code behind a crate's name,
/// to the next semicolon, cell or line.
#[test]
fn every_test_that_security_md_names_is_in_the_file_that_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (mut folder, mut file, mut named) = ("tests/tests".to_owned(), (String::new(), String::new()), 0);
    for (number, piece) in text.split('`').enumerate() {
        if number % 2 == 0 {
            if piece.contains(['\n', ';', '|']) {
                "tests/tests".clone_into(&mut folder);
            }
            let folders = [("keyd", "src"), ("gatewayd", "src"), ("protocol", "src"), ("ctl", "tests")];
            if let Some((name, inside)) =
                folders.iter().find(|(name, _)| piece.trim_end().ends_with(&format!("{name}:")))
            {
                folder = format!("{name}/{inside}");
            }
        } else if piece.ends_with(".rs") {
            let places = [format!("{folder}/{piece}"), format!("tests/tests/attack/{piece}")];
            let found = places.into_iter().find_map(|place| Some((fs::read_to_string(root.join(&place)).ok()?, place)));
            file = found.unwrap_or_else(|| panic!("there is no {piece} in {folder}"));
        } else if piece.matches('_').count() >= 2
            && piece.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        {
            assert!(file.0.contains(&format!("fn {piece}(")), "{piece} is not in {}", file.1);
            named += 1;
        }
    }
    assert!(named > 40, "only {named} were found");
}
