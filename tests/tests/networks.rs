//! gatewayd behind a company's proxy: every upstream is reached through it, key and TLS stay keyd's.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;

fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let body = exchange.body()?;
    exchange.respond("200 OK", &[], &body)
}

/// A proxy that knows some names, and keeps the heads that it got and all bytes that went through it.
struct Corporate {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    passed: Arc<Mutex<Vec<u8>>>,
    names: Arc<Mutex<HashMap<String, SocketAddr>>>,
}

impl Corporate {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let corporate = Self {
            address: listener.local_addr().unwrap(),
            heads: Arc::default(),
            passed: Arc::default(),
            names: Arc::default(),
        };
        let (heads, passed, names) = (corporate.heads.clone(), corporate.passed.clone(), corporate.names.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (heads, passed, names) = (heads.clone(), passed.clone(), names.clone());
                std::thread::spawn(move || serve(client, &heads, &passed, &names));
            }
        });
        corporate
    }
}

fn serve(
    mut client: TcpStream,
    heads: &Mutex<Vec<String>>,
    passed: &Arc<Mutex<Vec<u8>>>,
    names: &Mutex<HashMap<String, SocketAddr>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.split(' ').nth(1)?.to_owned();
    heads.lock().unwrap().push(head);
    let Some(address) = names.lock().unwrap().get(&target).copied() else {
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").ok();
    };
    let mut upstream = TcpStream::connect(address).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut back, mut to_client) = (upstream.try_clone().ok()?, client.try_clone().ok()?);
    let other = passed.clone();
    std::thread::spawn(move || pass(&mut back, &mut to_client, &other));
    pass(&mut client, &mut upstream, passed);
    Some(())
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, passed: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        passed.lock().unwrap().extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn upstreams_are_reached_through_the_companys_proxy_that_sees_no_key() {
    let corporate = Corporate::start();
    let root = Root::new("The tests' root").unwrap();
    let upstream = Upstream::start(root.server(HOST).unwrap(), echo).unwrap();
    corporate.names.lock().unwrap().insert(format!("{HOST}:443"), upstream.address());
    let tables = format!("[upstream-proxy]\nurl = \"http://{}\"\n", corporate.address);
    // A name that nobody resolves here: only the proxy knows it.
    let strongroom = Builder::default().tables(&tables).start();
    let key = strongroom_tests::strongroom::random_key("sk-");
    let ca = strongroom.write("root.pem", root.pem());
    let add = ["credential", "add", CREDENTIAL, "--host", HOST, "--bearer", "--ca", ca.to_str().unwrap()];
    strongroom.must_with(&add, key.as_bytes());
    strongroom.must(&["agent", "add", AGENT]);
    let placeholder = strongroom.must(&["grant", "add", CREDENTIAL, "--agent", AGENT]).trim().to_owned();
    let ask = || strongroom.request("POST", "/openai/v1").bearer(&placeholder).body(b"through the proxy").send();
    let answer = ask();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "through the proxy"), "{}", answer.text());
    assert_eq!(upstream.received()[0].head.value("authorization"), Some(format!("Bearer {key}")));
    let heads = corporate.heads.lock().unwrap().clone();
    assert!(heads[0].starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n")), "{heads:?}");
    let passed = corporate.passed.lock().unwrap().clone();
    assert!(passed.len() > 1000 && Needles::of(key.as_bytes()).find(&passed).is_none(), "the proxy saw TLS alone");

    corporate.names.lock().unwrap().clear();
    strongroom.must(&["lock"]);
    strongroom.must(&["unlock"]);
    ask().assert_refused(Refusal::UpstreamUnreachable);
}
