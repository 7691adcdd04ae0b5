//! Upstreams that fail: at every stage of an exchange, in every way that a network and a server have, each with its
//! code within seconds, and nobody else is harmed. What certificates prove is in `tls.rs`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use strongroom_tests::prelude::*;
use strongroom_tests::raw_upstream::{self, Raw, reset_on_close};
use strongroom_tests::strongroom::Builder;

const SOON: Duration = Duration::from_secs(8);

fn root() -> Root {
    Root::new("The tests' root").unwrap()
}

/// What an agent gets within seconds: the refusal, or `broken` for an answer that broke off, or `ok`.
#[track_caller]
fn outcome(scene: &Scene) -> String {
    let begin = Instant::now();
    let outcome = match scene.get("/openai/x").try_send() {
        Ok(answer) => answer.refusal().unwrap_or_else(|| "ok".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => "hangs".to_owned(),
        Err(_) => "broken".to_owned(),
    };
    assert!(begin.elapsed() < SOON, "{outcome} after {:?}", begin.elapsed());
    outcome
}

/// A name, what the script does on its connection, and what becomes of the request.
type Case<S> = (&'static str, S, &'static str);
type Inside = fn(&mut Raw) -> io::Result<()>;
type Before = fn(TcpStream) -> io::Result<()>;

/// One request after another meets one case after another; the one behind them is answered well.
#[track_caller]
fn meet(scene: &Scene, codes: &[(&str, &str)]) {
    for (name, code) in codes {
        let outcome = outcome(scene);
        // Where it breaks off at once, it may do so before its head was passed on.
        let early = *code == "broken" && outcome == "upstream_unreachable";
        assert!(outcome == *code || early, "{name}: {outcome}");
    }
    assert_eq!(outcome(scene), "ok", "an upstream that has recovered");
}

/// Cases that begin behind the handshake.
fn inside_tls(builder: Builder, cases: Vec<Case<Inside>>) {
    let root = root();
    let (codes, scripts): (Vec<_>, Vec<_>) =
        cases.into_iter().map(|(name, script, code)| ((name, code), script)).unzip();
    let upstream = raw_upstream::start(root.server(HOST).unwrap(), move |raw, number| match scripts.get(number) {
        Some(script) => script(raw),
        None => answer_well(raw),
    });
    meet(&Scene::before(builder, upstream, root), &codes);
}

/// Cases that begin before the handshake.
fn before_tls(builder: Builder, cases: Vec<Case<Before>>) {
    let root = root();
    let (codes, scripts): (Vec<_>, Vec<_>) =
        cases.into_iter().map(|(name, script, code)| ((name, code), script)).unzip();
    let (tls, next) = (root.server(HOST).unwrap(), AtomicUsize::new(0));
    let upstream = Upstream::start_plain(move |socket| match scripts.get(next.fetch_add(1, Ordering::SeqCst)) {
        Some(script) => script(socket),
        None => answer_well(&mut Raw::accept(socket, &tls)?),
    });
    meet(&Scene::before(builder, upstream.unwrap(), root), &codes);
}

fn answer_well(raw: &mut Raw) -> io::Result<()> {
    loop {
        raw.head()?;
        raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
    }
}

/// Reads a TLS record, head and all.
fn record(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; 5];
    socket.read_exact(&mut record)?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([record[3], record[4]]))];
    socket.read_exact(&mut rest)?;
    record.extend(rest);
    Ok(record)
}

#[test]
fn a_reset_has_its_code_at_every_stage() {
    before_tls(
        Builder::default(),
        vec![
            ("at once", |socket| reset_on_close(&socket), "upstream_unreachable"),
            (
                "behind the client's hello",
                |mut socket| record(&mut socket).and_then(|_| reset_on_close(&socket)),
                "upstream_unreachable",
            ),
            (
                "within the server's hello",
                |mut socket| {
                    record(&mut socket)?;
                    socket.write_all(&SERVER_HELLO[..20])?;
                    reset_on_close(&socket)
                },
                "upstream_unreachable",
            ),
        ],
    );
    inside_tls(
        Builder::default(),
        vec![
            ("behind the handshake", |raw| raw.reset(), "upstream_unreachable"),
            ("behind the request", |raw| raw.head().and_then(|_| raw.reset()), "upstream_unreachable"),
            (
                "within the head",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ncontent-le")?;
                    raw.reset()
                },
                "upstream_unreachable",
            ),
            (
                "within the body",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf\n")?;
                    raw.reset()
                },
                "broken",
            ),
        ],
    );
}

#[test]
fn a_close_has_its_code_at_every_stage() {
    inside_tls(
        Builder::default(),
        vec![
            ("behind the handshake", |raw| raw.close_notify(), "upstream_unreachable"),
            ("behind the request", |raw| raw.head().and_then(|_| raw.close_notify()), "upstream_unreachable"),
            (
                "within the head",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\nx-a: b\r\n")?;
                    raw.close_notify()
                },
                "upstream_unreachable",
            ),
            (
                "within a chunk's size",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabc\n\r\n1")?;
                    raw.close_notify()
                },
                "broken",
            ),
            (
                "within a chunk",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc\n")?;
                    raw.close_notify()
                },
                "broken",
            ),
            (
                "before the last chunk",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabc\n\r\n")?;
                    raw.close_notify()
                },
                "broken",
            ),
            (
                "within the trailers",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabc\n\r\n0\r\nx-a")?;
                    raw.close_notify()
                },
                "broken",
            ),
        ],
    );
}

#[test]
fn a_stall_ends_at_every_stage() {
    let builder = || Builder::default().timeout("first-byte = \"1s\"").timeout("stalled = \"1s\"");
    before_tls(
        builder(),
        vec![(
            "within the server's hello",
            |mut socket| {
                record(&mut socket)?;
                socket.write_all(&SERVER_HELLO[..20])?;
                while socket.read(&mut [0; 1024])? > 0 {}
                Ok(())
            },
            "upstream_timeout",
        )],
    );
    inside_tls(
        builder(),
        vec![
            (
                "behind the request",
                |raw| {
                    raw.head()?;
                    raw.stall();
                    Ok(())
                },
                "upstream_timeout",
            ),
            (
                "within the head",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ncontent-le")?;
                    raw.stall();
                    Ok(())
                },
                "upstream_timeout",
            ),
            (
                "in a head that goes on and on",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\nx-a: ")?;
                    for _ in 0..600 {
                        raw.send(b"b")?;
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Ok(())
                },
                "upstream_timeout",
            ),
            (
                "in interim answers that go on and on",
                |raw| {
                    raw.head()?;
                    for _ in 0..600 {
                        raw.send(b"HTTP/1.1 102 Processing\r\n\r\n")?;
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Ok(())
                },
                "upstream_timeout",
            ),
            (
                "within the body",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf\n")?;
                    raw.stall();
                    Ok(())
                },
                "broken",
            ),
        ],
    );
}

#[test]
fn what_is_no_answer_has_its_code() {
    inside_tls(
        Builder::default(),
        vec![
            ("bytes", |raw| raw.head().and_then(|_| raw.send(&[0xff, 0, 1, 2, 13, 10, 13, 10])), "upstream_protocol"),
            ("HTTP/2", |raw| raw.head().and_then(|_| raw.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0])), "upstream_protocol"),
            ("no status", |raw| raw.head().and_then(|_| raw.send(b"HTTP/1.1 abc OK\r\n\r\n")), "upstream_protocol"),
            (
                "two lengths",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi!")
                },
                "upstream_protocol",
            ),
            (
                "a length below nothing",
                |raw| raw.head().and_then(|_| raw.send(b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nhi")),
                "upstream_protocol",
            ),
            (
                "an upgrade that nobody asked for",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
                },
                "upstream_protocol",
            ),
            (
                "a field without a name",
                |raw| raw.head().and_then(|_| raw.send(b"HTTP/1.1 200 OK\r\n: x\r\ncontent-length: 0\r\n\r\n")),
                "upstream_protocol",
            ),
            (
                "a head without end",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\nx-a: ")?;
                    loop {
                        raw.send(&[b'b'; 4096])?;
                    }
                },
                "upstream_protocol",
            ),
            (
                "a chunk of no size",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabc\n\r\nzz\r\n")
                },
                "broken",
            ),
            (
                "a chunk of all sizes",
                |raw| {
                    raw.head()?;
                    raw.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\n\r\n")
                },
                "broken",
            ),
        ],
    );
}

#[test]
fn a_second_answer_that_nobody_asked_for_reaches_no_request() {
    let root = root();
    let upstream = raw_upstream::start(root.server(HOST).unwrap(), |raw, _| {
        loop {
            let target = raw.head()?.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            match target.as_str() {
                // In one write, so that it is there before the next request.
                "/twice" => raw.send((answer("first") + &answer("stray")).as_bytes())?,
                "/more" => raw.send((answer("first") + "stray").as_bytes())?,
                _ => raw.send(answer(&target).as_bytes())?,
            }
        }
    });
    let scene = Scene::before(Builder::default(), upstream, root);
    for round in 0..10 {
        for path in ["/twice", "/more"] {
            assert_eq!(scene.get(&format!("/openai{path}")).send().text(), "first", "{path}, round {round}");
            let next = format!("/next-{round}");
            assert_eq!(scene.get(&format!("/openai{next}")).send().text(), next, "after {path}");
        }
    }
}

#[test]
fn alerts_and_other_versions_of_tls_have_their_code() {
    before_tls(
        Builder::default(),
        vec![
            ("handshake failure", |socket| alert(socket, 40), "upstream_protocol"),
            ("protocol version", |socket| alert(socket, 70), "upstream_protocol"),
            ("internal error", |socket| alert(socket, 80), "upstream_protocol"),
            ("unrecognized name", |socket| alert(socket, 112), "upstream_protocol"),
            ("certificate required", |socket| alert(socket, 116), "upstream_protocol"),
            ("close notify", |socket| alert(socket, 0), "upstream_unreachable"),
            (
                "TLS 1.1",
                |mut socket| {
                    record(&mut socket)?;
                    socket.write_all(SERVER_HELLO)?;
                    // The client's alert.
                    record(&mut socket).map(drop)
                },
                "upstream_protocol",
            ),
            (
                "a record that is too large",
                |mut socket| {
                    record(&mut socket)?;
                    socket.write_all(&[22, 3, 3, 0xff, 0xff])?;
                    socket.write_all(&[0; 70_000])
                },
                "upstream_protocol",
            ),
            (
                "garbage",
                |mut socket| {
                    record(&mut socket)?;
                    socket.write_all(&[0xa5; 600])
                },
                "upstream_protocol",
            ),
            (
                "an echo",
                |mut socket| {
                    let hello = record(&mut socket)?;
                    socket.write_all(&hello)
                },
                "upstream_protocol",
            ),
        ],
    );
}

fn alert(mut socket: TcpStream, description: u8) -> io::Result<()> {
    record(&mut socket)?;
    // A record of type 21 with two bytes: 2 is fatal, 1 a warning, which close_notify is (RFC 8446, 6).
    socket.write_all(&[21, 3, 3, 0, 2, if description == 0 { 1 } else { 2 }, description])
}

/// A whole ServerHello that chooses TLS 1.1 and TLS_RSA_WITH_AES_128_CBC_SHA (RFC 4346, 7.4.1.3).
const SERVER_HELLO: &[u8] = &[
    22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 0x2f, 0,
];

#[test]
fn a_chain_that_is_too_long_is_refused_and_one_that_is_long_is_not() {
    let ok = |exchange: &mut Exchange<'_>| exchange.respond("200 OK", &[], b"ok");
    for (count, padding, code) in [(10, 10, "ok"), (300, 10, "upstream_untrusted"), (100, 20_000, "upstream_protocol")]
    {
        let chain = |root: &Root| root.server_with_chain(HOST, |_| (), namesakes(count, padding)).unwrap();
        let scene = Scene::build_tls(Builder::default(), chain, ok);
        let outcome = outcome(&scene);
        // A message that does not fit is no certificate; of what fits none may lead keyd around for long.
        let refused = ["upstream_untrusted", "upstream_protocol"].contains(&outcome.as_str());
        assert!(outcome == code || code != "ok" && refused, "{count} certificates: {outcome}");
    }
}

/// Authorities of one name, which is the root's, and as many keys; none of them signed anything.
fn namesakes(count: usize, padding: usize) -> Vec<CertificateDer<'static>> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "The tests' root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 25, 1], vec![5; padding]));
    let sign = || params.clone().self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
    (0..count).map(|_| sign()).collect()
}

#[test]
fn a_certificate_with_the_mark_of_our_own_is_untrusted_wherever_it_stands() {
    let ok = |exchange: &mut Exchange<'_>| exchange.respond("200 OK", &[], b"ok");
    // A UUID in an octet string, as keyd writes it into every leaf that it signs.
    let mark: &[u8] =
        &[0x04, 0x10, 0xd6, 0xb6, 0xd1, 0xa5, 0x3f, 0x0e, 0x4c, 0x0e, 0x8f, 0x5e, 0x6f, 0x1f, 0x2f, 0x0b, 0x9c, 0x11];
    let with = |content: &[u8]| {
        let extension = CustomExtension::from_oid_content(&[2, 25, 1], content.to_vec());
        move |params: &mut CertificateParams| params.custom_extensions.push(extension)
    };
    let marked_leaf = |content: &[u8]| {
        Scene::build_tls(Builder::default(), |root| root.server_with(HOST, with(content)).unwrap(), ok)
    };
    assert_eq!(outcome(&marked_leaf(mark)), "upstream_untrusted");
    assert_eq!(outcome(&marked_leaf(&mark[1..])), "ok", "its positive twin");
    let beside = |content: &[u8]| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        with(content)(&mut params);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        Scene::build_tls(Builder::default(), |root| root.server_with_chain(HOST, |_| (), vec![der]).unwrap(), ok)
    };
    assert_eq!(outcome(&beside(mark)), "upstream_untrusted");
    assert_eq!(outcome(&beside(&mark[1..])), "ok", "its positive twin");
}

#[test]
fn a_connection_that_is_not_taken_times_out() {
    // A queue of one that is full: further connections get no answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The same call again only shortens the queue.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
    let _full: Vec<_> = std::iter::from_fn(fill).collect();
    let builder = Strongroom::new().resolving("full.example", address).timeout("dial = \"1s\"");
    let scene = Scene::build(builder, |exchange| exchange.respond("200 OK", &[], b"ok"));
    scene.add_credential("full", &["--host", "full.example", "--bearer"]);
    let placeholder = scene.grant("full", AGENT, &[]);
    let begin = Instant::now();
    scene.strongroom.request("GET", "/full/x").bearer(&placeholder).send().assert_refused(Refusal::UpstreamTimeout);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(outcome(&scene), "ok");
}

#[test]
#[ignore = "needs root: a network namespace in which nothing answers"]
fn names_and_addresses_that_lead_nowhere_have_their_code() {
    // Of this thread, and of all that it starts.
    unshare(CloneFlags::CLONE_NEWNET).expect("root may");
    let ip = |arguments: &str| {
        let output = process::run(std::process::Command::new("ip").args(arguments.split(' ')), b"");
        output.assert_code(0);
    };
    ip("link set lo up");
    // Whose hardware address leads to nobody.
    ip("link add void type veth peer name deep");
    ip("address add 198.51.100.1/24 dev void");
    ip("link set void up");
    ip("link set deep up");
    ip("neighbour add 198.51.100.2 lladdr 02:00:00:00:00:01 dev void nud permanent");
    let unreachable: SocketAddr = "203.0.113.1:443".parse().unwrap();
    let builder = Strongroom::new()
        .resolving("void.example", "198.51.100.2:443".parse().unwrap())
        .resolving("unreachable.example", unreachable)
        .timeout("dial = \"2s\"");
    let scene = Scene::build(builder, |exchange| exchange.respond("200 OK", &[], b"ok"));
    for (name, codes) in [
        ("void", &["upstream_timeout"][..]),
        ("unreachable", &["upstream_unreachable"]),
        // The resolver has nobody to ask; how long it tries is its own affair, and the dial's limit holds.
        ("nameless", &["upstream_unreachable", "upstream_timeout"]),
    ] {
        scene.add_credential(name, &["--host", &format!("{name}.example"), "--bearer"]);
        let placeholder = scene.grant(name, AGENT, &[]);
        let begin = Instant::now();
        let answer = scene.strongroom.request("GET", &format!("/{name}/x")).bearer(&placeholder).send();
        let code = answer.refusal().expect("a refusal");
        assert!(codes.contains(&code.as_str()), "{name}: {code}");
        assert!(begin.elapsed() < SOON, "{name}: {:?}", begin.elapsed());
    }
    assert_eq!(outcome(&scene), "ok");
}
