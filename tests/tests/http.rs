//! HTTP as the RFCs have it: what belongs to one hop ends there, what belongs to both ends arrives unchanged, and what
//! can be read in two ways is not passed on.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;
use strongroom_tests::tunnel::Connect;
use strongroom_tests::{h2_upstream, h2c, raw_upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn hello(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.respond("200 OK", &[], b"hello")
}

#[test]
fn fields_of_one_hop_end_there_and_others_arrive_in_order() {
    let scene = Scene::with(|exchange| {
        let fields = [
            ("connection", "x-hop-back"),
            ("x-hop-back", "1"),
            ("keep-alive", "timeout=5"),
            ("x-multi", "a"),
            ("x-multi", "b, c"),
            ("set-cookie", "session=1"),
            ("strongroom-refusal", "vault_locked"),
            ("strongroom-other", "x"),
            ("location", "https://elsewhere.example/"),
        ];
        exchange.respond("302 Found", &fields, b"moved")
    });
    let answer = scene
        .post("/openai/v1/x", b"body")
        .field("Connection", "x-hop, close")
        .field("X-Hop", "1")
        .field("Keep-Alive", "timeout=5")
        .field("TE", "trailers")
        .field("Proxy-Authorization", "Basic eDp5")
        .field("Strongroom-Request-Id", "forged-by-the-agent")
        .field("Accept-Encoding", "gzip, br")
        .field("X-Multi", "1")
        .field("X-Other", "between")
        .field("X-Multi", "2, 3")
        .send();
    let sent = &scene.upstream.received()[0].head;
    for name in [
        "x-hop",
        "keep-alive",
        "proxy-authorization",
        "strongroom-request-id",
        "upgrade",
        "via",
        "x-forwarded-for",
        "user-agent",
        "forwarded",
    ] {
        assert_eq!(sent.values(name), Vec::<String>::new(), "{sent:?}");
    }
    assert_eq!(sent.values("x-multi"), ["1", "2, 3"]);
    assert_eq!(sent.values("x-other"), ["between"]);
    assert_eq!(sent.values("accept-encoding"), ["identity"], "what is encoded cannot be scrubbed");
    assert_eq!(sent.values("content-length"), ["4"]);

    assert_eq!((answer.status(), answer.text().as_str()), (302, "moved"), "redirects are the agent's to follow");
    assert_eq!(answer.head.value("location").as_deref(), Some("https://elsewhere.example/"));
    assert_eq!(answer.head.values("x-multi"), ["a", "b, c"]);
    for name in ["x-hop-back", "keep-alive", "set-cookie", "strongroom-refusal", "strongroom-other", "server", "date"] {
        assert_eq!(answer.head.values(name), Vec::<String>::new(), "{answer:?}");
    }
    assert_ne!(answer.head.value("strongroom-request-id").as_deref(), Some("forged-by-the-agent"));
}

#[test]
fn unknown_methods_and_bodies_of_every_kind_are_passed_on() {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        let line = exchange.head().start_line.clone();
        match exchange.head().target() {
            "/204" => exchange.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
            "/304" => exchange.raw(b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"),
            "/hints" => {
                exchange.raw(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n")?;
                exchange.respond("200 OK", &[], b"after hints")
            }
            _ => exchange.respond("200 OK", &[], [line.as_bytes(), b"|", &body].concat().as_slice()),
        }
    });
    for method in ["PURGE", "QUERY", "M-SEARCH", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(
            scene.request(method, "/openai/a?b=c").body(b"{}").send().text(),
            format!("{method} /a?b=c HTTP/1.1|{{}}")
        );
    }
    let head = scene.request("HEAD", "/openai/a").send();
    assert_eq!((head.status(), head.body.len()), (200, 0));
    assert_eq!(scene.get("/openai/204").send().status(), 204);
    assert_eq!(scene.get("/openai/304").send().status(), 304);
    assert_eq!(scene.get("/openai/hints").send().text(), "after hints");
    assert_eq!(scene.get("/openai").send().text(), "GET / HTTP/1.1|");
    assert_eq!(scene.get("/openai/%7Euser/%2Fx?q=%20&r").send().text(), "GET /~user/%2Fx?q=%20&r HTTP/1.1|");

    let chunked = scene.request("POST", "/openai/chunks").field("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    connection
        .write(&[chunked.bytes().as_slice(), b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nx-trailer: 1\r\n\r\n"].concat())
        .unwrap();
    assert_eq!(connection.answer("POST").unwrap().text(), "POST /chunks HTTP/1.1|abcdefg");
}

#[test]
fn requests_in_one_packet_and_a_half_closed_connection_are_answered_in_order() {
    let scene = Scene::with(|exchange| {
        let target = exchange.head().target().to_owned();
        exchange.respond("200 OK", &[], target.as_bytes())
    });
    let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    let bytes: Vec<u8> =
        ["one", "two", "three"].iter().flat_map(|name| scene.get(&format!("/openai/{name}")).bytes()).collect();
    connection.write(&bytes).unwrap();
    connection.finish_writing().unwrap();
    for name in ["/one", "/two", "/three"] {
        assert_eq!(connection.answer("GET").unwrap().text(), name);
    }
    assert!(connection.is_closed_by_peer());
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        exchange.respond("200 OK", &[], &body)
    });
    let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    let head = scene.request("POST", "/openai/x").field("Expect", "100-continue").field("Content-Length", "4");
    connection.write(&head.bytes()).unwrap();
    assert_eq!(connection.head().unwrap().expect("an interim answer").status(), 100);
    connection.write(b"body").unwrap();
    assert_eq!(connection.answer("POST").unwrap().text(), "body");
}

#[test]
fn upstream_connections_are_used_again_and_a_dead_one_is_replaced() {
    let scene = Scene::with(|exchange| {
        let dies = exchange.head().target() == "/dies";
        exchange.respond("200 OK", &[], b"hello")?;
        if dies {
            // Closed without a word after a whole answer: the next request finds the connection dead.
            exchange.abort();
        }
        Ok(())
    });
    for _ in 0..5 {
        assert_eq!(scene.get("/openai/lives").send().status(), 200);
    }
    assert_eq!(scene.upstream.connections(), 1);
    for _ in 0..5 {
        assert_eq!(scene.get("/openai/dies").send().status(), 200);
        assert_eq!(scene.request("PUT", "/openai/lives").body(b"a body that can be sent again").send().status(), 200);
    }
}

#[test]
fn http_2_agents_are_served() {
    let scene = Scene::with(|exchange| {
        let (target, got) =
            (exchange.head().target().to_owned(), exchange.head().value("authorization").unwrap_or_default());
        exchange.begin("200 OK", &[("x-echo", &got), ("trailer", "x-last")])?;
        exchange.chunk(format!("{target} {got}\n").as_bytes())?;
        exchange.end(&[("x-last", &got)])
    });
    let address = scene.strongroom.address();
    let request = |path: &str, authority: &str, token: Option<&str>| {
        let mut request = hyper::Request::get(format!("http://{authority}/openai{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.header("te", "trailers").body(Full::<Bytes>::default()).unwrap()
    };
    let own = address.to_string();
    let answers = h2c::send(
        address,
        (0..20).map(|number| request(&format!("/{number}"), &own, Some(&scene.placeholder))).collect(),
    );
    let masked = format!("Bearer {}", "*".repeat(scene.key.len()));
    for (number, answer) in answers.into_iter().enumerate() {
        let (head, body, trailers) = answer.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["x-echo"], masked.as_str());
        assert_eq!(String::from_utf8_lossy(&body), format!("/{number} {masked}\n"));
        assert_eq!(trailers.get("x-last").map(|value| value.as_bytes()), Some(masked.as_bytes()));
    }
    let refused =
        h2c::send(address, vec![request("/x", &own, None), request("/x", "evil.example", Some(&scene.placeholder))]);
    let codes: Vec<_> = refused
        .into_iter()
        .map(|answer| answer.unwrap().0.headers()["strongroom-refusal"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(codes, ["no_placeholder", "authority_mismatch"]);
}

#[test]
fn only_its_own_names_and_no_browser_get_in_over_tcp() {
    let scene = Scene::with(hello);
    let port = scene.strongroom.address().port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("LOCALHOST:{port}")] {
        assert_eq!(scene.get("/openai/x").host(&host).send().status(), 200, "{host}");
    }
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        "127.0.0.1:1".to_owned(),
        HOST.to_owned(),
    ] {
        scene.get("/openai/x").host(&host).send().assert_refused(Refusal::AuthorityMismatch);
    }
    for (name, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        scene.get("/openai/x").field(name, value).send().assert_refused(Refusal::AuthorityMismatch);
    }
    let twice = scene.get("/openai/x").field("Host", &format!("localhost:{port}")).send();
    assert_eq!(twice.status(), 400);
    assert_eq!(scene.get("/openai/x").without("host").send().status(), 400);
    let [_, socket] = scene.strongroom.ways();
    let over_socket = Request::new(socket, "GET", "/openai/x").bearer(&scene.placeholder).host("anything.example");
    assert_eq!(over_socket.send().status(), 200, "on agent.sock Host says nothing");
    for (name, value) in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(over_socket.clone().field(name, value).send().status(), 200, "nor does {name}: no page reaches it");
    }
}

#[test]
fn health_needs_no_identity_and_nothing_else_is_there() {
    let scene = Scene::with(hello);
    let health = scene.strongroom.request("GET", "/.strongroom/health");
    assert_eq!(health.send().status(), 200);
    scene.strongroom.request("GET", "/.strongroom/other").send().assert_refused(Refusal::HostNotAllowed);
    health.host("evil.example").send().assert_refused(Refusal::AuthorityMismatch);
    scene.strongroom.must(&["lock"]);
    assert_eq!(scene.strongroom.request("GET", "/.strongroom/health").send().status(), 200);
}

#[test]
fn limits_of_heads_are_kept() {
    let scene = Scene::with(hello);
    let with_fields = |count: usize, length: usize| {
        let fields = (0..count)
            .fold(scene.get("/openai/x"), |request, number| request.field(&format!("X-{number}"), &"v".repeat(length)));
        fields.send()
    };
    assert_eq!(with_fields(100, 100).status(), 200);
    with_fields(250, 10).assert_refused(Refusal::TooLarge);
    with_fields(100, 1_000).assert_refused(Refusal::TooLarge);
    assert_eq!(scene.get(&format!("/openai/{}", "a".repeat(8_000))).send().status(), 200);
    scene.get(&format!("/openai/{}", "a".repeat(20_000))).send().assert_refused(Refusal::TooLarge);
}

#[test]
fn slow_heads_end_and_hold_nobody_up() {
    let scene = Scene::build(Builder::default().timeout("slow-headers = \"1s\""), hello);
    let way = &scene.strongroom.ways()[0];
    let mut slow: Vec<_> = ["", "GET /open", "GET /openai/x HTTP/1.1\r\nHost: local"]
        .into_iter()
        .map(|begin| {
            let mut connection = Connection::open(way).unwrap();
            connection.write(begin.as_bytes()).unwrap();
            connection
        })
        .collect();
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let begin = std::time::Instant::now();
    for connection in &mut slow[1..] {
        // Either a word of 408 or just the end.
        while let Ok(Some(head)) = connection.head() {
            assert_eq!(head.status(), 408, "{head:?}");
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    // A connection that was used may be idle for longer than a head may take.
    let mut idle = Connection::open(way).unwrap();
    for _ in 0..2 {
        assert_eq!(scene.get("/openai/x").send_over(&mut idle).unwrap().status(), 200);
        std::thread::sleep(Duration::from_millis(1_500));
    }
}

#[test]
fn what_two_parsers_could_read_in_two_ways_is_not_passed_on() {
    let scene = Scene::with(hello);
    let usual = format!("Host: {}\r\nAuthorization: Bearer {}\r\n", scene.strongroom.address(), scene.placeholder);
    let attempts = [
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Content-Length: 4, 5\r\n\r\nabcde",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Content-Length: +4\r\n\r\nabcd",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Content-Length: -4\r\n\r\nabcd",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /openai/a HTTP/1.1\r\nUSUAL\
         X-A: b\r\n folded: yes\r\nContent-Length: 0\r\n\r\n",
        "GET /openai/a HTTP/1.1\r\nUSUAL\
         X-A: b\0c\r\n\r\n",
        "GET /openai/a HTTP/1.1\r\nUSUAL\
         X A: b\r\n\r\n",
        "GET /openai/a b HTTP/1.1\r\nUSUAL\r\n",
        "GET /openai/a HTTP/1.1\r\nUSUAL\
         Connection: authorization\r\n\r\n",
        "GET /openai/a HTTP/9.9\r\nUSUAL\r\n",
        "GET http://api.upstream.example/openai/a HTTP/1.1\r\nUSUAL\r\n",
        "GET /openai/a\\..\\b HTTP/1.1\r\nUSUAL\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
    ];
    for attempt in attempts {
        let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
        connection.write(attempt.replace("USUAL", &usual).as_bytes()).unwrap();
        // It may have been refused and closed already.
        let _ = connection.finish_writing();
        // A 4xx or 5xx of ours or the end of the connection: never an answer of the upstream's.
        match connection.answer("GET") {
            Ok(answer) => assert!((400..600).contains(&answer.status()), "{attempt:?}: {answer:?}"),
            Err(error) => assert!(error.kind() != std::io::ErrorKind::WouldBlock, "{attempt:?}: {error}"),
        }
    }
    assert_eq!(scene.upstream.count(), 0, "{:?}", scene.upstream.received());
    let mut right = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    right.write(format!("POST /openai/a HTTP/1.1\r\n{usual}Content-Length: 4\r\n\r\nabcd").as_bytes()).unwrap();
    assert_eq!(right.answer("POST").unwrap().text(), "hello", "written rightly it is passed on");
}

#[test]
fn a_body_that_breaks_off_never_looks_whole_to_the_upstream() {
    let (tell, told) = std::sync::mpsc::channel::<bool>();
    let tell = std::sync::Mutex::new(tell);
    let scene = Scene::with(move |exchange| {
        let whole = exchange.body().is_ok();
        tell.lock().unwrap().send(whole).map_err(std::io::Error::other)?;
        exchange.respond("200 OK", &[], b"hello")
    });
    let bodies: [(&str, &str, bool); 4] = [
        ("Content-Length: 10", "abc", false),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n", false),
        ("Transfer-Encoding: chunked", "zz\r\nabc\r\n0\r\n\r\n", false),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", true),
    ];
    for (framing, body, whole) in bodies {
        let (name, value) = framing.split_once(": ").unwrap();
        let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
        let head = scene.request("POST", "/openai/x").field(name, value);
        connection.write(&[head.bytes().as_slice(), body.as_bytes()].concat()).unwrap();
        if !whole {
            drop(connection);
            // It may never have come so far as to be begun.
            let seen = told.recv_timeout(Duration::from_secs(3));
            assert_ne!(seen, Ok(true), "{framing} {body:?}");
            continue;
        }
        assert_eq!(connection.answer("POST").unwrap().status(), 200);
        assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(true));
    }
}

/// The socket takes everything and the window nothing: without a clock of their own such answers would hold channels and
/// connections for ever.
#[test]
fn an_http2_agent_that_leaves_its_answers_lying_is_let_go() {
    let builder = Builder::default().timeout("stalled = \"1s\"").limit("channels = 4");
    let scene = Scene::build(builder, |exchange| exchange.respond("200 OK", &[], &[b'x'; 60_000]));
    let address = scene.strongroom.address();
    let request = |target: &str| {
        let request = hyper::Request::get(format!("http://{address}{target}"));
        let request = request.header("authorization", format!("Bearer {}", scene.placeholder));
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for targets in [&["/openai/x"; 4][..], &["/nowhere/x"], &["/.strongroom/health"]] {
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(0)
                .handshake(TokioIo::new(stream))
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            let mut answers = Vec::new();
            for target in targets {
                answers.push(sender.clone().send_request(request(target)).await.unwrap());
            }
            let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
            assert!(ended.is_ok(), "{targets:?}: it is held for ever");
        });
        // All of its channels are free again.
        for _ in 0..8 {
            assert_eq!(scene.get("/openai/x").send().text().len(), 60_000, "{targets:?}");
        }
    }
    for answer in h2c::send(address, vec![request("/openai/x"); 4]) {
        assert_eq!(answer.expect("the twin: who reads gets all").1.len(), 60_000);
    }
}

/// The protocol is what is spoken when requests come, and not what the connection began with.
#[test]
fn a_connect_in_front_frees_no_http2_agent_from_its_clocks() {
    const ELSEWHERE: &str = "files.example";
    let clocks = Builder::default().timeout("stalled = \"1s\"").timeout("idle = \"1s\"").limit("channels = 4");
    let scene = Scene::build(clocks, |exchange| exchange.respond("200 OK", &[], &[b'x'; 60_000]));
    scene.strongroom.must(&["agent", "add", "bound", "--token"]);
    scene.strongroom.must(&["agent", "allow", "bound", ELSEWHERE]);
    let address = scene.strongroom.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (host, target, status, code) in [
        (ELSEWHERE, format!("http://{address}/openai/x"), "http/1.1 407 ", None),
        (HOST, format!("http://{HOST}/x"), "http/1.1 200 ", Some("bad_request")),
    ] {
        let connect = Connect::to(&scene.strongroom, &format!("{host}:443"));
        let speak = async |window: u32| {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(&connect.bytes()).await.unwrap();
            let answer = http1_answer(&mut stream).await;
            assert!(answer.starts_with(status), "{answer}");
            let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(window)
                .handshake(TokioIo::new(stream))
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            let mut answers = Vec::new();
            for _ in 0..4 {
                let request = hyper::Request::get(&target);
                let request = request.header("authorization", format!("Bearer {}", scene.placeholder));
                let request = request.body(Full::<Bytes>::default()).unwrap();
                answers.push(sender.clone().send_request(request).await.unwrap());
            }
            // hyper takes a connection for ended that nobody can send on any more.
            (sender, connection, answers)
        };
        runtime.block_on(async {
            let (_sender, connection, _lying) = speak(0).await;
            let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
            assert!(ended.is_ok(), "behind {status}it is held for ever");
        });
        // All of its channels are free again.
        for _ in 0..8 {
            assert_eq!(scene.get("/openai/x").send().text().len(), 60_000, "behind {status}");
        }
        runtime.block_on(async {
            for answer in speak(100_000).await.2 {
                let (head, body, _) = h2c::whole(answer).await.expect("the twin: who reads gets all");
                assert_eq!(
                    head.headers().get("strongroom-refusal").map(|value| value.as_bytes()),
                    code.map(str::as_bytes)
                );
                assert!(code.is_some() || body.len() == 60_000, "{body:?}");
            }
        });
    }
}

/// Its head in small letters; not a byte is read behind what its length announces.
async fn http1_answer(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    head
}

/// A GET may have a body, and one without a length too.
#[test]
fn the_body_of_a_get_arrives_whatever_frames_it() {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        exchange.respond("200 OK", &[], &body)
    });
    let by_length = scene.request("GET", "/openai/_search").body(b"{\"query\":1}");
    assert_eq!(by_length.send().text(), "{\"query\":1}");
    let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    for method in ["GET", "DELETE", "POST"] {
        let head = scene.request(method, "/openai/_search").field("Transfer-Encoding", "chunked").bytes();
        connection.write(&[&head[..], b"b\r\n{\"query\":2}\r\n0\r\n\r\n"].concat()).unwrap();
        assert_eq!(connection.answer(method).unwrap().text(), "{\"query\":2}", "{method}");
        let head = scene.request(method, "/openai/_search").field("Transfer-Encoding", "chunked").bytes();
        connection.write(&[&head[..], b"0\r\n\r\n"].concat()).unwrap();
        assert_eq!(connection.answer(method).unwrap().text(), "", "{method}");
    }
    let address = scene.strongroom.address();
    let request = hyper::Request::get(format!("http://{address}/openai/_search"))
        .header("authorization", format!("Bearer {}", scene.placeholder))
        .body(Full::from("{\"query\":3}"))
        .unwrap();
    assert_eq!(h2c::send(address, vec![request]).remove(0).unwrap().1, "{\"query\":3}");
}

/// What an answer says of its length is one number when it reaches the agent, or it is refused in words.
#[test]
fn lengths_of_answers_are_one_number_or_none() {
    let scene = Scene::with(|exchange| {
        let lengths = match exchange.head().target() {
            "/twice" => "content-length: 2\r\ncontent-length: 2",
            "/list" => "content-length: 2, 2",
            "/differ" => "content-length: 2\r\ncontent-length: 3",
            "/word" => "content-length: abc",
            _ => "content-length: 2",
        };
        let body = if exchange.head().method() == "HEAD" { "" } else { "hi" };
        exchange.raw(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n{body}").as_bytes())
    });
    for method in ["GET", "HEAD"] {
        for target in ["/openai/once", "/openai/twice", "/openai/list"] {
            let answer = scene.request(method, target).send();
            let length = answer.head.value("content-length");
            assert_eq!((answer.status(), length.as_deref()), (200, Some("2")), "{method} {target}");
        }
        for target in ["/openai/differ", "/openai/word"] {
            let answer = scene.request(method, target).send();
            assert_eq!(answer.refusal().as_deref(), Some("upstream_protocol"), "{method} {target}: {}", answer.text());
        }
    }
}

#[test]
fn cookies_that_come_one_by_one_arrive_as_one() {
    let scene = Scene::with(|exchange| {
        let cookies = exchange.head().values("cookie").join("|");
        exchange.respond("200 OK", &[], cookies.as_bytes())
    });
    let address = scene.strongroom.address();
    let request = hyper::Request::get(format!("http://{address}/openai/x"))
        .header("authorization", format!("Bearer {}", scene.placeholder))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::<Bytes>::default())
        .unwrap();
    assert_eq!(h2c::send(address, vec![request]).remove(0).unwrap().1, "a=1; b=2");
}

/// In front of an upstream that keeps the heads that it got, byte for byte.
fn raw_heads() -> (Scene, Arc<Mutex<Vec<String>>>) {
    let root = Root::new("The tests' root").unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    let upstream = raw_upstream::start(h2_upstream::tls(&root, &["http/1.1"]), move |raw, _| {
        loop {
            let head = raw.head()?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            raw.take(length.map_or(0, |length| length.parse().unwrap()))?;
            kept.lock().unwrap().push(head);
            raw.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    });
    (Scene::before(Builder::default(), upstream, root), heads)
}

#[test]
fn a_request_that_has_a_body_as_a_rule_says_so_when_it_has_none() {
    let (scene, heads) = raw_heads();
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("GET", None), ("DELETE", None)]
    {
        for field in [None, Some("0")] {
            let request = scene.request(method, "/openai/x").without("content-length");
            let request = field.iter().fold(request, |request, value| request.field("Content-Length", value));
            assert_eq!(request.send().status(), 200);
            let head = heads.lock().unwrap().pop().unwrap();
            let lines: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
            let expected = length.or(field).into_iter().collect::<Vec<_>>();
            assert!(lines == expected || field.is_some() && length.is_none(), "{method} {field:?}: {head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
        }
    }
    assert_eq!(scene.post("/openai/x", b"body").send().status(), 200);
    let head = heads.lock().unwrap().pop().unwrap();
    assert_eq!(head.matches("content-length: 4\r\n").count(), 1, "{head}");
    assert_eq!(head.matches("content-length").count(), 1, "{head}");
}

/// Servers behind WSGI and CGI cannot tell `_` from `-`.
#[test]
fn fields_of_the_framing_do_not_pass_with_an_underscore() {
    let (scene, heads) = raw_heads();
    let request = scene.post("/openai/x", b"body").field("Content_Length", "3").field("Transfer_Encoding", "chunked");
    let request =
        request.field("Proxy_Authorization", "Basic eDp5").field("Keep_Alive", "timeout=5").field("X_Kept", "1");
    assert_eq!(request.send().status(), 200);
    let head = heads.lock().unwrap().pop().unwrap();
    let written: Vec<_> = head.lines().filter(|line| line.contains('_')).collect();
    assert_eq!(written, ["x_kept: 1"], "{head}");
}
