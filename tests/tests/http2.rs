//! Upstreams that speak HTTP/2: who gets it offered, what they see, and what hostile ones can do.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::{Request as HttpRequest, Response};
use strongroom_tests::h2_upstream::*;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::Builder;

const SOON: Duration = Duration::from_secs(10);
const BOTH: &[&str] = &["h2", "http/1.1"];

fn root() -> Root {
    Root::new("The tests' root").unwrap()
}

/// In front of an upstream whose every frame is the script's. A first request has shown that HTTP/2 is wanted.
fn by_hand_scene(script: impl Fn(&mut Wire<'_>) -> io::Result<()> + Send + Sync + 'static) -> Scene {
    let root = root();
    let upstream = by_hand(&root, script);
    Scene::before(Builder::default().timeout("first-byte = \"20s\""), upstream, root)
}

#[test]
fn http_1_1_is_spoken_where_both_are_and_nobody_asked() {
    let scene = mirror(BOTH);
    assert_eq!(scene.get("/openai/x").send().text(), "HTTP/1.1 GET /x");
}

#[test]
fn a_credential_that_says_so_gets_http_2_where_the_upstream_knows_it() {
    for (protocols, spoken) in [
        (BOTH, "HTTP/2.0 GET https://api.upstream.example/x"),
        (&["h2"], "HTTP/2.0 GET https://api.upstream.example/x"),
        (&["http/1.1"], "HTTP/1.1 GET /x"),
        (&[], "HTTP/1.1 GET /x"),
    ] {
        let scene = mirror(protocols);
        scene.add_credential("second", &["--host", HOST, "--header", "x-api-key: {}", "--http2"]);
        let placeholder = scene.grant("second", AGENT, &[]);
        for _ in 0..2 {
            let request = scene.strongroom.request("GET", "/second/x").field("x-api-key", &placeholder);
            assert_eq!(request.send().text(), spoken, "{protocols:?}");
        }
        assert_eq!(scene.upstream.connections(), 1, "{protocols:?}");
    }
}

#[test]
fn an_upstream_that_speaks_http_2_alone_is_dialled_once_more_and_never_again() {
    let scene = mirror(&["h2"]);
    for (path, body) in [("/a?b=c", &b""[..]), ("/d", b"a body that can be sent again")] {
        let answer = scene.request("POST", &format!("/openai{path}")).body(body).send();
        assert_eq!(answer.text(), format!("HTTP/2.0 POST https://{HOST}{path}"));
    }
    assert_eq!(scene.upstream.connections(), 2, "the one that failed, and the one that is used again");
    scene.strongroom.must(&["agent", "add", "other"]);
    let others = scene.grant(CREDENTIAL, "other", &[]);
    assert_eq!(scene.strongroom.request("GET", "/openai/x").bearer(&others).send().status(), 200);
    assert_eq!(scene.upstream.connections(), 3, "it is known what this upstream wants");
    let uses = scene.strongroom.audit().into_iter().filter(|record| record["decision"] == "allowed").count();
    assert_eq!(uses, 3, "a handshake that failed is no use");
}

#[test]
fn the_key_is_never_indexed() {
    let blocks = Arc::new(Mutex::new(Vec::new()));
    let seen = blocks.clone();
    let scene = by_hand_scene(move |wire| {
        loop {
            let (stream, block) = wire.request()?;
            seen.lock().unwrap().push(block);
            wire.answer(stream, b"fine")?;
        }
    });
    let long = "v".repeat(scene.key.len());
    for _ in 0..2 {
        let answer = scene.get("/openai/x").field("x-ordinary", &long).send();
        assert_eq!(answer.text(), "fine");
    }
    let blocks = blocks.lock().unwrap();
    assert_eq!(blocks.len(), 2);
    // RFC 7541, appendix A: 1 is :authority, 7 is :scheme https, 23 is authorization.
    let parts: Vec<_> = blocks.iter().map(|block| representations(block)).collect();
    // Huffman's code has at least 5 bits for a character.
    let shortest = (scene.key.len() + "Bearer ".len()) * 5 / 8;
    for part in &parts {
        let keys = part.iter().filter(|one| matches!(one, Representation::NeverIndexed(..))).collect::<Vec<_>>();
        assert!(
            matches!(keys[..], [Representation::NeverIndexed(23, length)] if *length >= shortest),
            "{keys:?} of {part:?}"
        );
        assert!(part.contains(&Representation::Indexed(7)), "{part:?}");
        let twice =
            |one: &&Representation| matches!(one, Representation::Added(23, _) | Representation::NotAdded(23, _));
        assert_eq!(part.iter().find(twice), None, "{part:?}");
    }
    // The positive twin: an ordinary value goes into the table the first time and comes out of it the second.
    let added = |part: &[Representation]| {
        part.iter().filter(|one| matches!(one, Representation::Added(0, length) if *length >= 20)).count()
    };
    assert_eq!((added(&parts[0]), added(&parts[1])), (1, 0), "{parts:?}");
    assert!(blocks[1].len() < blocks[0].len());
}

#[test]
fn an_upstream_that_says_goodbye_costs_no_request() {
    for how in ["goodbye", "late goodbye", "refused stream", "closed"] {
        let first = Mutex::new(true);
        let scene = by_hand_scene(move |wire| {
            let is_first = std::mem::take(&mut *first.lock().unwrap());
            let (stream, _) = wire.request()?;
            wire.answer(stream, b"fine")?;
            if is_first {
                match how {
                    // Said while nothing runs.
                    "goodbye" => wire.go_away(stream, NO_ERROR)?,
                    // Said when the next request is there already, which it was not looked at.
                    "late goodbye" => {
                        wire.request()?;
                        wire.go_away(stream, NO_ERROR)?;
                    }
                    "refused stream" => {
                        let (next, _) = wire.request()?;
                        wire.reset(next, REFUSED_STREAM)?;
                    }
                    _ => return Ok(()),
                }
                return wire.until_closed();
            }
            loop {
                let (stream, _) = wire.request()?;
                wire.answer(stream, b"again")?;
            }
        });
        // Nor a use; but what met an unannounced end may have been looked at, and is one.
        let uses = if how == "closed" { "4/hour" } else { "3/hour" };
        scene.strongroom.must(&["agent", "add", "scarce"]);
        let placeholder = scene.grant(CREDENTIAL, "scarce", &["--rate", uses]);
        // A POST that meets an unannounced end on its way is not sent again.
        let ask = |path: &str| {
            let request = |method| scene.strongroom.request(method, path).bearer(&placeholder);
            if how == "closed" { request("GET") } else { request("POST").body(b"small") }
        };
        let texts = ["/openai/a", "/openai/b", "/openai/c"].map(|path| ask(path).send().text());
        assert_eq!(texts, ["fine", "fine", "again"], "{how}");
        if how != "closed" {
            ask("/openai/d").send().assert_refused(Refusal::RateLimited);
        }
    }
}

#[test]
fn a_request_that_may_have_been_looked_at_is_not_sent_again() {
    for how in ["goodbye", "reset", "fault", "closed"] {
        let requests = Arc::new(Mutex::new(0));
        let count = requests.clone();
        let scene = by_hand_scene(move |wire| {
            let (stream, _) = wire.request()?;
            wire.answer(stream, b"fine")?;
            let (stream, _) = wire.request()?;
            *count.lock().unwrap() += 1;
            // Something came for it, so it was looked at.
            wire.send(WINDOW_UPDATE, 0, 0, &1000u32.to_be_bytes())?;
            match how {
                "goodbye" => wire.go_away(stream, NO_ERROR)?,
                "reset" => wire.reset(stream, INTERNAL_ERROR)?,
                "fault" => wire.go_away(stream, INTERNAL_ERROR)?,
                _ => {}
            }
            Ok(())
        });
        assert_eq!(scene.post("/openai/a", b"small").send().text(), "fine");
        let begin = Instant::now();
        scene.post("/openai/b", b"small").send().assert_refused(Refusal::UpstreamUnreachable);
        assert!(begin.elapsed() < SOON, "{how}: {:?}", begin.elapsed());
        assert_eq!(*requests.lock().unwrap(), 1, "{how}");
    }
}

/// Runs `script` for each request of any connection, with the request's number and stream; the connection goes on while
/// it says so.
fn each_request(
    script: impl Fn(&mut Wire<'_>, usize, u32) -> io::Result<bool> + Send + Sync + 'static,
) -> impl Fn(&mut Wire<'_>) -> io::Result<()> + Send + Sync + 'static {
    let next = AtomicUsize::new(0);
    move |wire| {
        loop {
            let (stream, _) = wire.request()?;
            let number = next.fetch_add(1, Ordering::SeqCst);
            if !script(wire, number, stream)? {
                return Ok(());
            }
        }
    }
}

#[test]
fn an_answer_without_its_end_is_not_taken_for_a_whole_one() {
    let scene = by_hand_scene(each_request(|wire, number, stream| {
        // After an answer in parts, one whose promised length is not kept.
        let length: &[(&str, &str)] = if number == 3 { &[("content-length", "100")] } else { &[] };
        wire.head(stream, length, 0)?;
        wire.send(DATA, 0, stream, b"half\n")?;
        match number {
            0 => wire.reset(stream, NO_ERROR)?,
            1 => wire.reset(stream, INTERNAL_ERROR)?,
            2 => return Ok(false),
            3 => wire.send(DATA, END_STREAM, stream, b"")?,
            4 => wire
                .send(99, 0, 0, b"an unknown kind")
                .and_then(|()| wire.send(DATA, END_STREAM, stream, b"whole\n"))?,
            // RFC 9113, 8.1: a whole answer, and no interest in the rest of the request.
            _ => {
                wire.send(DATA, END_STREAM, stream, b"whole\n")?;
                wire.reset(stream, NO_ERROR)?;
            }
        }
        Ok(true)
    }));
    for number in 0..6 {
        let answer = scene.get("/openai/x").try_send();
        match number {
            // Broken, or refused where the reset came before its head was looked at.
            0..4 => assert!(answer.as_ref().is_err() || answer.as_ref().is_ok_and(|one| one.refusal().is_some())),
            _ => assert_eq!(answer.unwrap().text(), "half\nwhole\n", "{number}"),
        }
    }
}

#[test]
fn what_is_no_http_2_and_what_is_too_much_of_it_has_its_code() {
    let long = "v".repeat(10_000);
    let many: Vec<_> = (0..300).map(|number| (format!("x-{number}"), "v")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let (long_head, many_fields) = (block(&[("x-long", &long)]), block(&many));
    let faults: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec()),
        (
            "an upper-case field",
            encode(HEADERS, 5, 1, &[&[STATUS_200], block(&[("X-Upper", "1")]).as_slice()].concat()),
        ),
        (
            "a field of one hop",
            encode(HEADERS, 5, 1, &[&[STATUS_200], block(&[("connection", "close")]).as_slice()].concat()),
        ),
        ("no status", encode(HEADERS, 5, 1, &block(&[("x-a", "1")]))),
        ("a head that cannot be decoded", encode(HEADERS, 5, 1, &[0xff, 0xff, 0xff, 0xff])),
        ("a frame that is too large", [&[0xff, 0, 0, DATA, 0, 0, 0, 0, 1][..], &[0; 100]].concat()),
        ("data before the head", encode(DATA, 0, 1, b"x")),
        ("a stream that nobody opened", encode(HEADERS, 5, 9, &[STATUS_200])),
        (
            "a push",
            encode(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], block(&[(":path", "/")]).as_slice()].concat()),
        ),
        ("a continuation of nothing", encode(CONTINUATION, END_HEADERS, 1, &[])),
        ("window updates of nothing", encode(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("too many fields", encode(HEADERS, 5, 1, &[&[STATUS_200], many_fields.as_slice()].concat())),
        ("a head without end", {
            let rest = encode(CONTINUATION, 0, 1, &long_head).repeat(2000);
            [encode(HEADERS, 0, 1, &[STATUS_200]), rest].concat()
        }),
        ("a head that is too large", {
            let rest = encode(CONTINUATION, 0, 1, &long_head).repeat(20);
            [encode(HEADERS, 1, 1, &[STATUS_200]), rest, encode(CONTINUATION, END_HEADERS, 1, &[])].concat()
        }),
    ];
    let names: Vec<_> = faults.iter().map(|(name, _)| *name).collect();
    let scene = by_hand_scene(each_request(move |wire, number, stream| {
        match faults.get(number) {
            Some((_, bytes)) => wire.raw(bytes)?,
            None => wire.answer(stream, b"fine")?,
        }
        // Only an answer leaves the connection in order; the rest is the client's to close.
        if number < faults.len() { wire.until_closed().map(|()| false) } else { Ok(true) }
    }));
    for name in names {
        let begin = Instant::now();
        let answer = scene.get("/openai/x").send();
        assert_eq!(answer.refusal().as_deref(), Some("upstream_protocol"), "{name}");
        assert!(begin.elapsed() < SOON, "{name}: {:?}", begin.elapsed());
    }
    assert_eq!(scene.get("/openai/x").send().text(), "fine");
}

#[test]
fn floods_of_frames_are_cut_off_in_bounded_memory() {
    let floods: [(&str, Vec<u8>, bool); 7] = [
        ("pings", encode(PING, 0, 0, &[0; 8]), false),
        ("settings", encode(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]), false),
        ("resets", encode(RST_STREAM, 0, 1, &[0; 4]), false),
        ("priorities", encode(PRIORITY, 0, 1, &[0, 0, 0, 0, 0]), false),
        ("window updates", encode(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()), false),
        ("interim answers", encode(HEADERS, END_HEADERS, 1, &[&[0x08, 3], b"103".as_slice()].concat()), false),
        ("empty data", encode(DATA, 0, 1, &[]), true),
    ];
    let names = floods.each_ref().map(|(name, ..)| *name);
    let scene = by_hand_scene(each_request(move |wire, number, stream| {
        let Some((_, frame, has_head)) = floods.get(number) else {
            return wire.answer(stream, b"fine").map(|()| true);
        };
        if *has_head {
            wire.head(stream, &[], 0)?;
        }
        let many = frame.repeat(1000);
        // A hundred million bytes at the most: the error that ends this is the client's hanging up.
        for _ in 0..5000 {
            wire.raw(&many)?;
        }
        Ok(false)
    }));
    let keyd = scene.strongroom.keyd();
    let before = process::resident(keyd);
    for name in names {
        let begin = Instant::now();
        match scene.get("/openai/x").try_send() {
            Ok(answer) => {
                // The first of the resets ends the request by itself.
                let code = if name == "resets" { "upstream_unreachable" } else { "upstream_protocol" };
                assert_eq!(answer.refusal().as_deref(), Some(code), "{name}");
            }
            Err(_) => assert_eq!(name, "empty data", "the head was out already"),
        }
        assert!(begin.elapsed() < SOON, "{name}: {:?}", begin.elapsed());
    }
    let peak = process::peak_resident(keyd);
    assert!(peak < before + 16 * 1024 * 1024, "keyd grew from {before} to {peak} bytes");
    assert_eq!(scene.get("/openai/x").send().text(), "fine");
}

#[test]
fn an_upstream_that_sends_faster_than_the_agent_reads_is_held_back() {
    let root = root();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let upstream = honest(&root, &["h2"], move |_: HttpRequest<_>| {
        let counter = counter.clone();
        async move {
            let (pieces, script) = Script::new();
            tokio::spawn(async move {
                for _ in 0..2048 {
                    pieces.data(vec![0x80; 32 * 1024]).await;
                    counter.fetch_add(32 * 1024, Ordering::SeqCst);
                }
            });
            Response::new(script)
        }
    });
    let scene = Scene::before(Builder::default(), upstream, root);
    let keyd = scene.strongroom.keyd();
    let before = process::resident(keyd);
    let mut stream = scene.get("/openai/large").stream();
    let last = until_still("the upstream", || sent.load(Ordering::SeqCst));
    assert!(last < 32 * 1024 * 1024, "{last} bytes went out that nobody read");
    assert_eq!(stream.rest().unwrap().len(), 64 * 1024 * 1024, "and nothing was lost");
    let peak = process::peak_resident(keyd);
    assert!(peak < before + 16 * 1024 * 1024, "keyd grew from {before} to {peak} bytes");
}

#[test]
fn an_agent_that_hangs_up_ends_the_stream() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = Mutex::new(tell);
    let scene = by_hand_scene(each_request(move |wire, number, stream| {
        if number > 0 {
            return wire.answer(stream, b"calm").map(|()| true);
        }
        wire.head(stream, &[], 0)?;
        wire.send(DATA, 0, stream, b"begin\n")?;
        let closed = wire.until_closed().is_ok();
        tell.lock().unwrap().send(closed).map_err(io::Error::other)?;
        Ok(false)
    }));
    let mut stream = scene.get("/openai/long").stream();
    stream.read_text("begin\n");
    drop(stream);
    assert_eq!(told.recv_timeout(SOON), Ok(true), "the upstream still works for nobody");
    assert_eq!(scene.get("/openai/calm").send().text(), "calm");
}

#[test]
fn an_upstream_that_likes_no_protocol_is_dialled_twice_and_no_more() {
    let upstream = Upstream::start_plain(|mut socket| {
        let mut head = [0; 5];
        socket.read_exact(&mut head)?;
        socket.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))])?;
        // A fatal alert: no_application_protocol (RFC 7301, 3.2).
        socket.write_all(&[21, 3, 3, 0, 2, 2, 120])
    });
    let scene = Scene::before(Builder::default(), upstream.unwrap(), root());
    scene.post("/openai/x", b"small").send().assert_refused(Refusal::UpstreamProtocol);
    assert_eq!(scene.upstream.connections(), 2);
    scene.post("/openai/x", b"small").send().assert_refused(Refusal::UpstreamProtocol);
    assert_eq!(scene.upstream.connections(), 3, "with both offered there is nothing left to try");
}

/// Also on a connection that has served nobody yet: the upstream says itself that it has not looked.
#[test]
fn a_first_request_that_was_not_looked_at_is_sent_once_more() {
    for refusals in [1, 2] {
        let left = Mutex::new(refusals);
        let scene = by_hand_scene(move |wire| {
            let (stream, _) = wire.request()?;
            let refuses = {
                let mut left = left.lock().unwrap();
                *left -= 1;
                *left >= 0
            };
            if refuses {
                wire.reset(stream, REFUSED_STREAM)?;
            } else {
                wire.answer(stream, b"fine")?;
            }
            wire.until_closed()
        });
        let answer = scene.post("/openai/x", b"small").send();
        match refusals {
            1 => assert_eq!(answer.text(), "fine"),
            _ => answer.assert_refused(Refusal::UpstreamUnreachable),
        }
        // The first was for learning that it speaks HTTP/2.
        assert_eq!(scene.upstream.connections(), 3, "{answer:?}");
    }
}
