//! The proxy's way in: CONNECT with our own leaves, blind tunnels to allowed hosts, plain `http://` in absolute form.

use std::io::{Read, Write};
use std::net::TcpListener;

use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;
use strongroom_tests::tunnel::Connect;

const PORT_HOST: &str = "api.upstream.example:443";

fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let body = exchange.body()?;
    exchange.respond("200 OK", &[], &body)
}

fn refusal(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status(), answer.head.value("strongroom-refusal").as_deref()),
        (status, Some(code)),
        "{}",
        answer.text()
    );
}

#[test]
fn a_granted_host_is_intercepted_with_a_leaf_of_ours_over_both_ways_in() {
    let scene = Scene::with(echo);
    let bearer = format!("Bearer {}", scene.placeholder);
    let fields = [("Host", HOST), ("Authorization", bearer.as_str())];
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    for connect in
        [connect.clone(), connect.clone().version("HTTP/1.0"), connect.clone().over_socket(&scene.strongroom)]
    {
        let mut tls = connect.tls();
        assert_eq!(tls.ask("GET", "/v1/models?x=1", &fields).status(), 200);
        // The same connection serves again.
        assert_eq!(tls.ask("GET", "/v1/models?x=2", &fields).status(), 200);
        // What is no request is refused in words here too.
        tls.ask("GET", "/v1/models", &[("no name", "v")]).assert_refused(Refusal::BadRequest);
    }
    let received = scene.upstream.received();
    assert_eq!(received.len(), 6);
    for one in received {
        assert_eq!(one.head.value("authorization"), Some(format!("Bearer {}", scene.key)));
        assert_eq!(one.head.value("host").as_deref(), Some(HOST));
    }
    let lines = scene.strongroom.must(&["audit", "--json"]);
    assert!(lines.contains("\"path\":\"/v1/models\"") && !lines.contains(&scene.key), "{lines}");
}

#[test]
fn http2_is_offered_and_spoken_with_the_agent() {
    let scene = Scene::with(echo);
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    let tls = connect.clone().alpn(&["h2", "http/1.1"]).tls();
    assert_eq!(tls.stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    let bearer = format!("Bearer {}", scene.placeholder);
    for version in ["http/1.1", "http/1.0"] {
        let mut tls = connect.clone().alpn(&[version]).tls();
        assert_eq!(tls.stream.conn.alpn_protocol(), Some(version.as_bytes()));
        assert_eq!(tls.ask("GET", "/v1", &[("Host", HOST), ("Authorization", &bearer)]).status(), 200, "{version}");
    }
}

#[test]
fn a_host_that_nobody_granted_is_refused_before_any_200_and_the_command_is_named() {
    let scene = Scene::with(echo);
    for target in
        ["elsewhere.example:443", "api.upstream.example:8443", "upstream.example:443", "127.0.0.1:443", "[::1]:443"]
    {
        let answer = Connect::to(&scene.strongroom, target).refused();
        refusal(&answer, 403, "host_not_allowed");
        let host = target.trim_end_matches(":443");
        assert!(answer.text().contains(&format!("strongroom agent allow AGENT {host}")), "{}", answer.text());
    }
    let _ = Connect::to(&scene.strongroom, PORT_HOST).tls();
    assert_eq!(scene.upstream.count(), 0);
}

/// A hint to let the agent pass without a key would be no help to whoever took it away.
#[test]
fn what_was_taken_away_is_called_so_through_the_proxy_too() {
    let scene = Scene::with(echo);
    let plain = || {
        let request = scene.strongroom.request("POST", "http://api.upstream.example/v1").host(HOST);
        request.bearer(&scene.placeholder).body(b"x").send()
    };
    assert_eq!(plain().status(), 200);
    scene.strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", AGENT]);
    let answer = Connect::to(&scene.strongroom, PORT_HOST).refused();
    refusal(&answer, 403, "revoked");
    assert!(!answer.text().contains("agent allow"), "{}", answer.text());
    let answer = plain();
    refusal(&answer, 403, "revoked");
    let id = answer.head.value("strongroom-request-id").unwrap();
    let lines = scene.strongroom.audit();
    let line = lines.iter().find(|line| line["request_id"] == *id).expect("it is on record");
    assert_eq!((&line["method"], &line["path"], &line["agent"]), (&"POST".into(), &"/v1".into(), &AGENT.into()));
    // A host that has nothing to do with it is refused as before, and nobody says what request that was.
    let elsewhere = scene.strongroom.request("POST", "http://elsewhere.example/v1").host("elsewhere.example").send();
    refusal(&elsewhere, 403, "host_not_allowed");
    let line = scene.strongroom.audit().pop().unwrap();
    assert_eq!((&line["host"], &line["method"]), (&"elsewhere.example".into(), &serde_json::Value::Null));
    scene.strongroom.must(&["credential", "remove", CREDENTIAL, "--yes"]);
    refusal(&plain(), 403, "revoked");
    refusal(&Connect::to(&scene.strongroom, PORT_HOST).refused(), 403, "revoked");
    scene.get("/openai/v1").send().assert_refused(Refusal::Revoked);
    assert_eq!(scene.upstream.count(), 1);
}

#[test]
fn two_names_are_refused_wherever_the_second_stands() {
    let scene = Scene::with(echo);
    let bearer = format!("Bearer {}", scene.placeholder);
    let connect = || Connect::to(&scene.strongroom, PORT_HOST);
    for host in ["evil.example:443", "api.upstream.example:444", "", "user@api.upstream.example"] {
        refusal(&connect().host(host).refused(), 400, "authority_mismatch");
    }
    for host in ["api.upstream.example", "API.UPSTREAM.example:443", PORT_HOST] {
        let _ = connect().host(host).raw();
    }
    // SNI: the handshake is by the leaf of the CONNECT's host, so only a client that checks nothing sees the answer.
    let ca = scene.strongroom.must(&["ca", "show"]);
    assert!(connect().tls_as("evil.example", &ca).is_err(), "the leaf is for the CONNECT's host alone");
    let mut tls = connect().tls_with("evil.example", careless()).unwrap();
    refusal(&tls.ask("GET", "/v1", &[("Host", HOST), ("Authorization", &bearer)]), 400, "authority_mismatch");
    // Host, and the other forms of a target.
    for (target, host) in [
        ("/v1", "evil.example"),
        ("/v1", "api.upstream.example:444"),
        ("https://evil.example/v1", HOST),
        ("http://api.upstream.example/v1", HOST),
        ("/v1", ""),
    ] {
        let mut tls = connect().tls();
        let answer = tls.ask("GET", target, &[("Host", host), ("Authorization", &bearer)]);
        refusal(&answer, 400, "authority_mismatch");
    }
    let mut tls = connect().tls();
    assert_eq!(
        tls.ask("GET", "https://api.upstream.example/v1", &[("Host", HOST), ("Authorization", &bearer)]).status(),
        200
    );
    assert_eq!(scene.upstream.count(), 1, "the positive twin alone");
}

/// Believes anybody.
fn careless() -> rustls::ClientConfig {
    use std::sync::Arc;
    #[derive(Debug)]
    struct Careless(Arc<rustls::crypto::CryptoProvider>);
    impl rustls::client::danger::ServerCertVerifier for Careless {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(
                message,
                certificate,
                signed,
                &self.0.signature_verification_algorithms,
            )
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                signed,
                &self.0.signature_verification_algorithms,
            )
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless(provider)))
        .with_no_client_auth()
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let scene = Scene::with(echo);
    let connect = |target: &str| Connect::to(&scene.strongroom, target);
    for target in [
        "api.upstream.example",
        "api.upstream.example:",
        "user@api.upstream.example:443",
        "https://x:443",
        "127.1:443",
        "api.upstream.example:0443",
    ] {
        let status = connect(target).host(PORT_HOST).refused();
        assert_eq!(status.status(), 400, "{target}: {}", status.text());
    }
    refusal(&connect(PORT_HOST).field("Content-Length", "5").refused(), 400, "bad_request");
    refusal(&connect(PORT_HOST).field("Transfer-Encoding", "chunked").refused(), 400, "bad_request");
    refusal(&connect(PORT_HOST).field("Proxy-Authorization", "Basic !!!").refused(), 400, "bad_request");
    refusal(&connect(PORT_HOST).field("X", &"x".repeat(90_000)).refused(), 431, "too_large");
    // What is sent in the clear behind the 200 is answered in the clear, and goes nowhere.
    let mut socket = connect(PORT_HOST).raw();
    let request = format!(
        "GET /v1 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        scene.placeholder
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_request"), "{answer}");
    assert_eq!(scene.upstream.count(), 0);
    let _ = connect(PORT_HOST).tls();
}

#[test]
fn a_locked_vault_is_said_before_any_200() {
    let scene = Scene::with(echo);
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    drop(connect.tls());
    scene.strongroom.must(&["lock"]);
    let answer = connect.refused();
    refusal(&answer, 503, "vault_locked");
    assert!(answer.head.value("retry-after").is_some());
    scene.strongroom.must(&["unlock"]);
    let _ = connect.tls();
}

/// A server of no HTTP: what a blind tunnel leads to.
fn plain_echo() -> (std::net::SocketAddr, std::sync::mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (ended, mut stream) = (ended.clone(), stream);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let mut total = 0;
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

#[test]
fn an_allowed_host_is_a_blind_tunnel_on_record_and_cut_when_it_is_taken_away() {
    let (address, end) = plain_echo();
    let builder = Strongroom::new().resolving("files.example", address).resolving("other.example", address);
    let scene = Scene::build(builder, echo);
    let token = scene.strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
    scene.strongroom.must(&["agent", "allow", "walker", "files.example"]);
    let connect = |target: &str| Connect::to(&scene.strongroom, target).token("walker", &token);
    let mut socket = connect("files.example:443").raw();
    socket.write_all(b"any bytes").unwrap();
    let mut back = [0; 9];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"any bytes");
    refusal(&connect("other.example:443").refused(), 403, "host_not_allowed");
    // Nobody in particular is asked for credentials, for somebody may go there.
    let asked = Connect::to(&scene.strongroom, "files.example:443").refused();
    refusal(&asked, 407, "agent_unknown");
    assert_eq!(asked.head.value("proxy-authenticate").as_deref(), Some("Basic realm=\"strongroom\""));
    refusal(
        &Connect::to(&scene.strongroom, "files.example:443").token("walker", "wrong").refused(),
        403,
        "agent_unknown",
    );

    for near in ["files.example:8443", "file.example"] {
        let missed = scene.strongroom.ctl(&["agent", "disallow", "walker", near]);
        assert!(missed.code == Some(1) && missed.stderr.contains("was not allowed"), "{missed:?}");
    }
    scene.strongroom.must(&["agent", "disallow", "walker", "files.example"]);
    let mut rest = Vec::new();
    assert!(matches!(socket.read_to_end(&mut rest), Ok(0) | Err(_)), "cut");
    assert_eq!(end.recv_timeout(Duration::from_secs(10)).unwrap(), 9);
    refusal(&connect("files.example:443").refused(), 403, "host_not_allowed");
    let records = within(Duration::from_secs(10), "the tunnel's end is on record", || {
        let lines = scene.strongroom.must(&["audit", "--agent", "walker", "--json"]);
        lines.contains("\"bytes_in\":9").then_some(lines)
    });
    assert!(records.contains("\"method\":\"CONNECT\"") && records.contains("\"evidence\":\"token\""), "{records}");
}

#[test]
fn locking_and_revoking_cut_tunnels_too() {
    let (address, _end) = plain_echo();
    let scene = Scene::build(Strongroom::new().resolving("files.example", address), echo);
    let token = scene.strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
    scene.strongroom.must(&["agent", "allow", "walker", "files.example"]);
    let open = || {
        let mut socket = Connect::to(&scene.strongroom, "files.example:443").token("walker", &token).raw();
        socket.write_all(b"x").unwrap();
        socket.read_exact(&mut [0]).unwrap();
        socket
    };
    let is_cut =
        |mut socket: Box<dyn strongroom_tests::tunnel::Socket>| matches!(socket.read(&mut [0]), Ok(0) | Err(_));
    let socket = open();
    scene.strongroom.must(&["lock"]);
    assert!(is_cut(socket));
    scene.strongroom.must(&["unlock"]);
    let socket = open();
    scene.strongroom.must(&["agent", "revoke", "walker"]);
    assert!(is_cut(socket));
    let answer = Connect::to(&scene.strongroom, "files.example:443").token("walker", &token).refused();
    refusal(&answer, 403, "revoked");
}

#[test]
fn addresses_that_are_not_dialled_are_none_for_tunnels_either() {
    let (address, end) = plain_echo();
    let scene = Scene::build(Builder::default(), echo);
    let token = scene.strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
    let target = format!("127.0.0.1:{}", address.port());
    for host in [target.as_str(), "169.254.169.254", "[::1]:443"] {
        scene.strongroom.must(&["agent", "allow", "walker", host]);
        let target = if host.contains("]:") || host == target { host.to_owned() } else { format!("{host}:443") };
        let answer = Connect::to(&scene.strongroom, &target).token("walker", &token).refused();
        refusal(&answer, 502, "upstream_forbidden_address");
    }
    assert!(end.try_recv().is_err(), "nobody was reached");
}

#[test]
fn plain_http_to_a_proxy_is_upgraded_and_never_sent_in_the_clear() {
    let scene = Scene::with(echo);
    let ask = |target: &str| scene.strongroom.request("GET", target).bearer(&scene.placeholder);
    assert_eq!(ask("http://api.upstream.example/v1?x=1").host(HOST).send().status(), 200);
    assert_eq!(ask("http://api.upstream.example:80/v1").host("api.upstream.example:80").send().status(), 200);
    assert_eq!(ask("https://api.upstream.example/v1").host(HOST).send().status(), 200);
    // A client that sends everything to its proxy, the gateway's own address too.
    let own = scene.strongroom.address();
    assert_eq!(ask(&format!("http://{own}/openai/v1")).send().status(), 200);
    assert_eq!(scene.upstream.count(), 4);
    let two_names = ask("http://api.upstream.example/v1").host("evil.example").send();
    refusal(&two_names, 400, "authority_mismatch");
    assert!(two_names.text().contains("here api.upstream.example"), "{}", two_names.text());
    let own_name = ask(&format!("http://{own}/openai/v1")).host("evil.example").send();
    refusal(&own_name, 400, "authority_mismatch");
    assert!(own_name.text().contains("as the base URL"), "the positive twin: {}", own_name.text());
    let elsewhere = ask("http://elsewhere.example/v1").host("elsewhere.example").send();
    refusal(&elsewhere, 403, "host_not_allowed");
    assert!(elsewhere.text().contains("a CONNECT to elsewhere.example:80"), "{}", elsewhere.text());
    refusal(&ask("ftp://api.upstream.example/v1").host(HOST).send(), 400, "bad_request");
    refusal(&ask("http://user:pw@api.upstream.example/v1").host(HOST).send(), 400, "bad_request");
    assert_eq!(scene.upstream.count(), 4);
}

#[test]
fn a_rotated_authority_signs_from_then_on_and_the_old_one_no_more() {
    let scene = Scene::with(echo);
    let before = scene.strongroom.must(&["ca", "show"]);
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    drop(connect.tls_as(HOST, &before).unwrap());
    scene.strongroom.must(&["ca", "rotate", "--yes"]);
    let after = scene.strongroom.must(&["ca", "show"]);
    assert_ne!(before, after);
    assert!(connect.tls_as(HOST, &before).is_err(), "an old leaf is not shown again");
    assert!(connect.tls_as(HOST, &after).is_ok());
    let shown = scene.strongroom.ctl(&["ca", "show", "--json"]).json();
    assert_eq!(shown.as_array().map(Vec::len), Some(2));
}

#[test]
fn whoever_dawdles_in_any_phase_is_let_go() {
    let builder = Builder::default().timeout("slow-headers = \"300ms\"").timeout("idle = \"600ms\"");
    let scene = Scene::build(builder, echo);
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    let ends = |mut socket: Box<dyn strongroom_tests::tunnel::Socket>| {
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        rest
    };
    // In the head of the CONNECT, before the handshake, and in it.
    let mut socket = connect.socket().unwrap();
    socket.write_all(b"CONNECT api.upstream").unwrap();
    assert_eq!(ends(socket), b"");
    assert_eq!(ends(connect.raw()), b"");
    let mut socket = connect.raw();
    socket.write_all(&[22, 3, 1, 0, 200, 1]).unwrap();
    assert_eq!(ends(socket), b"");
    // In the head of a request inside, and between two.
    for bytes in [&b"GET / HTTP"[..], b""] {
        let mut tls = connect.tls();
        tls.stream.write_all(bytes).unwrap();
        assert!(!matches!(tls.stream.read(&mut [0]), Ok(1)), "closed without a word");
    }
    let bearer = format!("Bearer {}", scene.placeholder);
    assert_eq!(connect.tls().ask("GET", "/v1", &[("Host", HOST), ("Authorization", &bearer)]).status(), 200);
}

#[test]
fn what_comes_behind_a_refused_connect_is_no_request() {
    let scene = Scene::with(echo);
    let smuggled = format!(
        "GET /openai/smuggled HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        scene.strongroom.address(),
        scene.placeholder
    );
    for target in ["elsewhere.example:443", "api.upstream.example"] {
        let connect = Connect::to(&scene.strongroom, target);
        let mut socket = connect.socket().unwrap();
        socket.write_all(&[&connect.bytes()[..], smuggled.as_bytes()].concat()).unwrap();
        let mut answers = String::new();
        let _ = socket.read_to_string(&mut answers);
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        assert!(answers.starts_with("HTTP/1.1 4") && answers.contains("connection: close"), "{answers}");
    }
    // Nor is what comes in the clear behind a 200.
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    let mut socket = connect.socket().unwrap();
    socket.write_all(&[&connect.bytes()[..], smuggled.as_bytes()].concat()).unwrap();
    let mut answers = [0; 4096];
    let _ = socket.read(&mut answers);
    let _ = socket.read(&mut answers);
    assert_eq!(scene.upstream.count(), 0);
    assert_eq!(scene.get("/openai/smuggled").send().status(), 200, "the positive twin");
}

#[test]
fn an_eager_client_with_a_large_hello_is_understood() {
    let scene = Scene::with(echo);
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    let mut alpn: Vec<String> = (0..120).map(|number| format!("a-protocol-of-a-long-name-{number}")).collect();
    alpn.push("http/1.1".to_owned());
    let alpn: Vec<&str> = alpn.iter().map(String::as_str).collect();
    let mut tls = connect.alpn(&alpn).eager_tls();
    let bearer = format!("Bearer {}", scene.placeholder);
    assert_eq!(tls.ask("GET", "/v1", &[("Host", HOST), ("Authorization", &bearer)]).status(), 200);
}

#[test]
fn tunnels_have_a_rate_and_each_failed_dial_says_so_in_the_log() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scene = Scene::build(Strongroom::new().resolving("files.example", closed), echo);
    let token = scene.strongroom.must(&["agent", "add", "walker", "--token"]).trim().to_owned();
    scene.strongroom.must(&["agent", "allow", "walker", "files.example"]);
    let connect = Connect::to(&scene.strongroom, "files.example:443").token("walker", &token);
    refusal(&connect.refused(), 502, "upstream_unreachable");
    let records = within(Duration::from_secs(10), "the end is on record", || {
        let lines = scene.strongroom.must(&["audit", "--agent", "walker", "--json"]);
        lines.contains("\"failure\":\"upstream_unreachable\"").then_some(lines)
    });
    assert!(records.contains("\"decision\":\"allowed\""), "{records}");
    let codes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let tries = (0..700).map(|_| connect.refused());
                    let limited = tries.filter(|answer| answer.status() == 429);
                    limited.map(|answer| answer.head.value("retry-after").is_some()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(codes.len() > 600 && codes.iter().all(|has_wait| *has_wait), "{} of 2800", codes.len());
}

#[test]
fn a_thousand_hosts_leaves_take_bounded_memory() {
    let scene = Scene::with(echo);
    scene.add_credential("many", &["--host", "many.example", "--host", "*.many.example", "--header", "x-many: {}"]);
    scene.grant("many", AGENT, &[]);
    let connect = Connect::to(&scene.strongroom, PORT_HOST);
    let gatewayd = scene.strongroom.gatewayd();
    let visit = |hosts: std::ops::Range<usize>| {
        std::thread::scope(|scope| {
            for lane in 0..4 {
                let (connect, hosts) = (connect.clone(), hosts.clone());
                scope.spawn(move || {
                    for number in hosts.filter(|number| number % 4 == lane) {
                        drop(connect.towards(&format!("h{number}.many.example:443")).tls());
                    }
                });
            }
        });
        process::resident(gatewayd)
    };
    let few = visit(0..50);
    let many = visit(50..1_200);
    assert!(many.saturating_sub(few) < 32 << 20, "from {few} to {many} bytes");
    assert!(few > 1 << 20, "a process without memory was not measured");
}
