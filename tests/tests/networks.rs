//! gatewayd behind a company's proxy: every upstream is reached through it, key and TLS stay keyd's. And in a network
//! whose name server knows nothing of some names.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::sched::{CloneFlags, unshare};
use strongroom_tests::network;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;
use strongroom_tests::tunnel::Connect;

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

/// Puts a file of the test's in place of one of /etc, for this thread and for what it starts.
fn replace(etc: &str, text: &str, directory: &tempfile::TempDir) {
    let path = directory.path().join(etc);
    std::fs::write(&path, text).unwrap();
    let mut mount = Command::new("mount");
    mount.arg("--bind").arg(&path).arg(format!("/etc/{etc}"));
    process::run(&mut mount, b"").assert_code(0);
}

/// A lookup cannot be broken off, so what it holds must be little, however often it is asked for.
#[test]
#[ignore = "needs root: a network and a resolver of its own"]
fn a_name_that_no_server_answers_for_stops_nobody_else() {
    const DEAD: &str = "dead.example";
    network::cut_off();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    process::run(Command::new("mount").args(["--make-rprivate", "/"]), b"").assert_code(0);
    let directory = tempfile::tempdir().unwrap();
    replace("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n", &directory);
    replace("hosts", &format!("127.0.0.1 localhost {HOST}\n"), &directory);
    let silent = UdpSocket::bind("127.0.0.1:53").unwrap();

    let root = Root::new("The tests' root").unwrap();
    let upstream = Upstream::start(root.server(HOST).unwrap(), echo).unwrap();
    let strongroom = Builder::default().timeout("dial = \"2s\"").created();
    let config = strongroom.home().gatewayd_config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("allow-private-upstreams = [\"127.0.0.0/8\"]\n{text}")).unwrap();
    strongroom.up();
    strongroom.must(&["unlock"]);
    let ca = strongroom.write("root.pem", root.pem());
    let host = format!("{HOST}:{}", upstream.address().port());
    let add = ["credential", "add", CREDENTIAL, "--host", &host, "--bearer", "--ca", ca.to_str().unwrap()];
    strongroom.must_with(&add, strongroom_tests::strongroom::random_key("sk-").as_bytes());
    strongroom.must(&["agent", "add", AGENT]);
    let placeholder = strongroom.must(&["grant", "add", CREDENTIAL, "--agent", AGENT]).trim().to_owned();
    let token = strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
    strongroom.must(&["agent", "allow", "walker", DEAD]);

    let connect = Connect::to(&strongroom, &format!("{DEAD}:443")).token("walker", &token);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| connect.refused().assert_refused(Refusal::UpstreamTimeout));
        }
    });
    let answer = strongroom.request("POST", "/openai/v1").bearer(&placeholder).body(b"meanwhile").send();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "meanwhile"), "{}", answer.text());
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 512]).is_ok(), "the name server was asked");
}

/// The zone of a name that an agent may reach can be anybody's; what listens here trusts who comes from here.
#[test]
#[ignore = "needs root: a network of its own"]
fn this_machines_own_public_address_is_not_dialled_unless_it_is_listed() {
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(5, 9, 77, 77);
    network::cut_off();
    network::give(PUBLIC);
    let listener = TcpListener::bind((PUBLIC, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let connect = |strongroom: &Strongroom| {
        let token = strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
        strongroom.must(&["agent", "allow", "walker", &target]);
        Connect::to(strongroom, &target).token("walker", &token)
    };
    let strongroom = Strongroom::new().start();
    connect(&strongroom).refused().assert_refused(Refusal::UpstreamForbiddenAddress);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    let listed = Builder::default().created();
    let config = listed.home().gatewayd_config();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("allow-private-upstreams = [\"{PUBLIC}/32\"]\n{text}")).unwrap();
    listed.up();
    listed.must(&["unlock"]);
    let _tunnel = connect(&listed).raw();
    assert!(listener.accept().is_ok());
}
