//! Requests with bodies: asked for when they are wanted, streamed in constant memory, answered early or all along.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request as HttpRequest, Response};
use strongroom_tests::h2_upstream::{Script, honest};
use strongroom_tests::h2c;
use strongroom_tests::prelude::*;
use strongroom_tests::raw_upstream;
use strongroom_tests::strongroom::Builder;

const MIB: u64 = 1024 * 1024;
const SOON: Duration = Duration::from_secs(10);

fn open(scene: &Scene) -> Connection {
    Connection::open(&scene.strongroom.ways()[0]).unwrap()
}

/// Sends heads that expect 100 and gives what comes first.
fn first_word(scene: &Scene, request: &Request) -> (Connection, u16) {
    let mut connection = open(scene);
    connection.write(&request.clone().field("Expect", "100-continue").field("Content-Length", "4").bytes()).unwrap();
    let status = connection.head().unwrap().expect("an answer").status();
    (connection, status)
}

#[test]
fn a_body_is_asked_for_when_the_request_is_admitted_and_not_before() {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        let expects = exchange.head().value("expect").is_some();
        exchange.respond("200 OK", &[], &[body.as_slice(), expects.to_string().as_bytes()].concat())
    });
    let request = scene.request("POST", "/openai/v1/x");
    // The second time the channel is one that served before.
    for _ in 0..2 {
        let (mut connection, word) = first_word(&scene, &request);
        assert_eq!(word, 100);
        connection.write(b"body").unwrap();
        assert_eq!(connection.answer("POST").unwrap().text(), "bodyfalse", "the expectation ends here");
    }
    let refusals = [
        (scene.strongroom.request("POST", "/openai/v1/x").bearer("sk-unknown-unknown-unknown"), 403),
        (scene.strongroom.request("POST", "/openai/v1/x"), 403),
        (scene.request("POST", "/nowhere/v1/x"), 403),
        (scene.request("POST", "/openai/v1/..%2fx"), 400),
    ];
    for (refused, status) in refusals {
        let (mut connection, word) = first_word(&scene, &refused);
        assert_eq!(word, status, "{refused:?}");
        // The body was never sent, so the connection cannot go on.
        let mut rest = Vec::new();
        while let Ok(Some(head)) = connection.head() {
            rest.push(head);
        }
        assert!(rest.is_empty(), "{rest:?}");
    }
    assert_eq!(scene.upstream.count(), 2, "no refused request reached the upstream");
}

#[test]
fn a_body_is_not_asked_for_where_there_is_no_upstream() {
    let root = Root::new("The tests' root").unwrap();
    let elsewhere = Root::new("Somebody else's root").unwrap();
    let upstream = Upstream::start(elsewhere.server(HOST).unwrap(), |_| Ok(())).unwrap();
    let scene = Scene::before(Builder::default(), upstream, root);
    assert_eq!(first_word(&scene, &scene.request("POST", "/openai/v1/x")).1, 502);
}

#[test]
fn interim_answers_that_nobody_asked_for_end_in_keyd() {
    let scene = Scene::with(|exchange| {
        for interim in ["100 Continue", "102 Processing", "103 Early Hints", "199 What"] {
            exchange.raw(format!("HTTP/1.1 {interim}\r\nlink: </x>\r\nx-key: 1\r\n\r\n").as_bytes())?;
        }
        exchange.respond("200 OK", &[], b"final")
    });
    for _ in 0..3 {
        let mut connection = open(&scene);
        connection.write(&scene.post("/openai/x", b"body").bytes()).unwrap();
        let head = connection.head().unwrap().expect("an answer");
        assert_eq!((head.status(), head.values("link").len(), head.values("x-key").len()), (200, 0, 0), "{head:?}");
    }
}

/// An upstream that answers while the upload runs, and then resets the connection or only closes its own side.
fn early(resets: bool) -> Scene {
    let root = Root::new("The tests' root").unwrap();
    let upstream = raw_upstream::start(root.server(HOST).unwrap(), move |raw, _| {
        raw.head()?;
        raw.take(100_000)?;
        raw.send(b"HTTP/1.1 413 Too Much\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much")?;
        if resets {
            return raw.reset();
        }
        raw.close_notify()?;
        raw.finish_writing()?;
        raw.stall();
        Ok(())
    });
    Scene::before(Builder::default(), upstream, root)
}

/// Sends without end until somebody closes, and reads what came meanwhile.
fn answer_while_sending(scene: &Scene) -> (u16, String) {
    let mut connection = open(scene);
    connection.set_patience(SOON).unwrap();
    let request = scene.request("POST", "/openai/x").field("Content-Length", &(256 * MIB).to_string());
    connection.write(&request.bytes()).unwrap();
    // What may be written while nobody reads is bounded; where it fails the answer is there to be read.
    for _ in 0..16 {
        if connection.write(&vec![0x80; 64 * 1024]).is_err() {
            break;
        }
    }
    let answer = connection.answer("POST").expect("an answer");
    (answer.status(), answer.text())
}

#[test]
fn an_early_answer_arrives_though_the_upstream_resets_right_behind_it() {
    let scene = early(true);
    for round in 0..20 {
        assert_eq!(answer_while_sending(&scene), (413, "too much".to_owned()), "round {round}");
    }
}

#[test]
fn an_early_answer_arrives_though_the_upstream_closes_its_side() {
    let scene = early(false);
    for round in 0..5 {
        assert_eq!(answer_while_sending(&scene), (413, "too much".to_owned()), "round {round}");
    }
}

#[test]
fn upload_and_answer_stream_at_once() {
    let scene = Scene::with(|exchange| {
        exchange.begin("200 OK", &[])?;
        while let Some(piece) = exchange.piece()? {
            exchange.chunk(&piece)?;
        }
        exchange.end(&[])
    });
    let request = scene.request("POST", "/openai/echo").field("Transfer-Encoding", "chunked");
    let mut stream = request.stream();
    for number in 0..100 {
        let text = format!("line {number}\n");
        stream.connection.write(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
        stream.read_text(&text);
    }
    stream.connection.write(b"0\r\n\r\n").unwrap();
    assert_eq!(stream.rest().unwrap(), b"");
}

#[test]
fn an_agent_may_close_its_side_behind_a_whole_body_and_not_within_one() {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        exchange.begin("200 OK", &[])?;
        for piece in body.chunks(2) {
            exchange.chunk(piece)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        exchange.end(&[])
    });
    for (framing, body, whole) in [
        (("Content-Length", "6"), "a.b.c.", true),
        (("Content-Length", "7"), "a.b.c.", false),
        (("Transfer-Encoding", "chunked"), "6\r\na.b.c.\r\n0\r\n\r\n", true),
        (("Transfer-Encoding", "chunked"), "6\r\na.b.c.\r\n", false),
    ] {
        let mut connection = open(&scene);
        let head = scene.request("POST", "/openai/x").field(framing.0, framing.1);
        connection.write(&[head.bytes().as_slice(), body.as_bytes()].concat()).unwrap();
        connection.finish_writing().unwrap();
        match connection.answer("POST") {
            Ok(answer) if whole => assert_eq!(answer.text(), "a.b.c."),
            Ok(answer) => assert_eq!(answer.status(), 400, "{framing:?}"),
            Err(error) => assert!(!whole && error.kind() != io::ErrorKind::WouldBlock, "{framing:?}: {error}"),
        }
    }
}

#[test]
fn an_upstream_that_closes_its_side_without_an_answer_has_its_code() {
    let scene = Scene::with(|exchange| {
        exchange.body()?;
        exchange.close();
        Ok(())
    });
    let begin = Instant::now();
    scene.post("/openai/x", b"body").send().assert_refused(Refusal::UpstreamUnreachable);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn an_upstream_that_does_not_read_slows_the_agent_down() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let scene = Scene::with(move |exchange| {
        wait.lock().unwrap().recv_timeout(Duration::from_secs(60)).map_err(io::Error::other)?;
        let mut length = 0;
        while let Some(piece) = exchange.piece()? {
            length += piece.len();
        }
        exchange.respond("200 OK", &[], length.to_string().as_bytes())
    });
    let daemons = [scene.strongroom.keyd(), scene.strongroom.gatewayd()];
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let mut connection = open(&scene);
            let head = scene.request("POST", "/openai/x").field("Content-Length", &(100 * MIB).to_string());
            connection.write(&head.bytes()).unwrap();
            for _ in 0..100 {
                connection.write(&vec![0x80; 1024 * 1024]).unwrap();
                written.fetch_add(MIB, Ordering::SeqCst);
            }
            connection.answer("POST").unwrap().text()
        });
        let (mut last, mut since) = (0, Instant::now());
        within(Duration::from_secs(30), "the agent stands still", || {
            let now = written.load(Ordering::SeqCst);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            (since.elapsed() > Duration::from_secs(1)).then_some(())
        });
        assert!(last < 64 * MIB, "{last} bytes were taken that nobody wanted");
        for pid in daemons {
            assert!(process::peak_resident(pid) < 64 * MIB, "{:?}", process::status_field(pid, "Name"));
        }
        go.send(()).unwrap();
        assert_eq!(agent.join().unwrap(), (100 * MIB).to_string(), "and nothing was lost");
    });
}

/// Memory of both daemons before and after; the growth is printed for whoever measures.
fn constant_memory(scene: &Scene, what: &str, upload: impl FnOnce()) {
    let daemons = [scene.strongroom.keyd(), scene.strongroom.gatewayd()];
    let before = daemons.map(process::resident);
    let begin = Instant::now();
    upload();
    let time = begin.elapsed();
    for (pid, before) in daemons.into_iter().zip(before) {
        let (name, peak) = (process::status_field(pid, "Name").unwrap_or_default(), process::peak_resident(pid));
        println!("{what}: {name} {} -> {} KiB in {time:?}", before / 1024, peak / 1024);
        assert!(before > MIB && peak < before + 16 * MIB, "{what}: {name} grew from {before} to {peak} bytes");
    }
}

#[test]
fn a_hundred_mib_go_up_in_constant_memory() {
    let scene = Scene::with(|exchange| {
        let mut length = 0;
        while let Some(piece) = exchange.piece()? {
            length += piece.len();
        }
        exchange.respond("200 OK", &[], length.to_string().as_bytes())
    });
    assert_eq!(scene.post("/openai/up", b"small").send().text(), "5");
    let block = vec![0x80; 1024 * 1024];
    for (what, name, value) in
        [("with a length", "Content-Length", &*(100 * MIB).to_string()), ("in chunks", "Transfer-Encoding", "chunked")]
    {
        let chunked = value == "chunked";
        constant_memory(&scene, what, || {
            let mut connection = open(&scene);
            connection.write(&scene.request("POST", "/openai/up").field(name, value).bytes()).unwrap();
            for _ in 0..100 {
                if chunked {
                    connection.write(b"100000\r\n").unwrap();
                }
                connection.write(&block).unwrap();
                if chunked {
                    connection.write(b"\r\n").unwrap();
                }
            }
            if chunked {
                connection.write(b"0\r\n\r\n").unwrap();
            }
            assert_eq!(connection.answer("POST").unwrap().text(), (100 * MIB).to_string());
        });
    }
}

#[test]
fn a_hundred_mib_go_up_over_http_2_in_constant_memory() {
    let root = Root::new("The tests' root").unwrap();
    let upstream = honest(&root, &["h2"], |request: HttpRequest<hyper::body::Incoming>| async move {
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        Response::new(Script::whole(length.to_string().as_bytes(), None))
    });
    let scene = Scene::before(Builder::default(), upstream, root);
    assert_eq!(scene.post("/openai/up", b"small").send().text(), "5");
    constant_memory(&scene, "over HTTP/2", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut sender = h2c::connect(scene.strongroom.address()).await;
            let (pieces, script) = Script::new();
            let request = HttpRequest::post(format!("http://{}/openai/up", scene.strongroom.address()))
                .header("authorization", format!("Bearer {}", scene.placeholder))
                .body(script)
                .unwrap();
            let feeding = tokio::spawn(async move {
                let block = Bytes::from(vec![0x80; 256 * 1024]);
                for _ in 0..400 {
                    pieces.data(block.clone()).await;
                }
            });
            let answer = sender.send_request(request).await.unwrap();
            let (_, text, _) = h2c::whole(answer).await.unwrap();
            feeding.await.unwrap();
            assert_eq!(text, (100 * MIB).to_string());
        });
    });
}

#[test]
fn thousands_of_fields_are_refused_either_way() {
    let scene = Scene::with(|exchange| {
        let count: usize = exchange.head().target().trim_start_matches('/').parse().unwrap_or(0);
        let fields: String = (0..count).map(|number| format!("x-{number}: v\r\n")).collect();
        exchange.body()?;
        exchange.raw(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nhi").as_bytes())
    });
    for (count, passes) in [(100, true), (300, false), (5_000, false), (50_000, false)] {
        let answer = scene.get(&format!("/openai/{count}")).send();
        if passes {
            assert_eq!(answer.text(), "hi", "{count}");
        } else {
            answer.assert_refused(Refusal::UpstreamProtocol);
        }
    }
    let reached = scene.upstream.count();
    for count in [1_000, 5_000, 20_000] {
        let request =
            (0..count).fold(scene.get("/openai/0"), |request, number| request.field(&format!("X-{number}"), "v"));
        let mut connection = open(&scene);
        // It may be refused before all of it was written.
        let _ = connection.write(&request.bytes());
        match connection.answer("GET") {
            Ok(answer) => assert_eq!(answer.status(), 431, "{count}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{count}"),
        }
    }
    assert_eq!(scene.upstream.count(), reached, "none of them went on");
    assert_eq!(scene.get("/openai/0").send().text(), "hi");
}

#[test]
fn an_upload_that_stands_still_times_out() {
    let scene = Scene::build(Builder::default().timeout("first-byte = \"1s\""), |exchange| {
        exchange.body()?;
        exchange.respond("200 OK", &[], b"")
    });
    let mut connection = open(&scene);
    let head = scene.request("POST", "/openai/x").field("Content-Length", "10");
    connection.write(&[head.bytes().as_slice(), b"half"].concat()).unwrap();
    let begin = Instant::now();
    let answer = connection.answer("POST").unwrap();
    answer.assert_refused(Refusal::UpstreamTimeout);
    assert!(answer.text().contains("the request's body did not come in time"), "{}", answer.text());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}
