//! Heads and frames that two parsers would read in two ways.

use strongroom_tests::hostile::{DATA, END, GO_ON, HEAD};

use super::*;

/// Lines that must not reach an upstream as a request of their own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// The upstream's targets since `before`.
fn targets(siege: &Siege, before: usize) -> Vec<String> {
    siege.scene.upstream.received()[before..].iter().map(|one| one.head.target().to_owned()).collect()
}

#[test]
fn a_head_that_frames_its_body_by_itself_goes_nowhere() {
    let siege = Siege::lay();
    let before = siege.scene.upstream.count();
    let with =
        |fields: &[(&str, &str)]| fields.iter().fold(siege.ask("/framed"), |ask, (name, value)| ask.field(name, value));
    let bodiless = [
        &[("content-length", "5")][..],
        &[("content-length", "0"), ("content-length", "0")],
        &[("content-length", "+0")],
        &[("content-length", " 0")],
        &[("content-length", "0, 0")],
        &[("content-length", "")],
        &[("content-length", "0x0")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("Transfer-Encoding", "xchunked")],
    ];
    for fields in bodiless {
        let heard = siege.dial().ask(&with(fields));
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{fields:?}: {heard:?}");
    }
    let with_body = [
        &[("content-length", "5"), ("content-length", "6")][..],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "chunked")],
        &[("content-length", "-1")],
        &[("content-length", "99999999999999999999999")],
    ];
    for fields in with_body {
        let heard = siege.dial().ask_with(&with(fields), b"hello");
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{fields:?}: {heard:?}");
    }
    assert_eq!(targets(&siege, before), Vec::<String>::new());
    siege.hold();
}

#[test]
fn a_body_of_another_length_than_announced_swallows_no_request_and_makes_none() {
    let siege = Siege::lay();
    let before = siege.scene.upstream.count();
    for (announced, sent) in [(5, SMUGGLED.len() + 5), (SMUGGLED.len() + 400, 5), (0, SMUGGLED.len())] {
        let mut channel = siege.dial();
        let body: Vec<u8> = [b"hello", SMUGGLED.as_bytes()].concat().into_iter().take(sent.max(5)).collect();
        let ask = siege.ask("/length").field("content-length", announced.to_string()).with_body();
        let _ = channel.frame(HEAD, &ask.payload());
        let _ = channel.frame(DATA, &body);
        let _ = channel.frame(END, b"");
        // The next head with the key must not become the rest of the first one's body.
        let _ = channel.frame(HEAD, &siege.ask("/second").payload());
        for _ in 0..2 {
            if let Heard::Answer(answer) = channel.hear() {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let body = text.split_once("\n\n").map_or("", |(_, body)| body);
                assert!(!body.contains("authorization"), "a head became a body: {text}");
            }
        }
    }
    let seen = targets(&siege, before);
    assert!(seen.iter().all(|target| target == "/length" || target == "/second"), "{seen:?}");
    siege.hold();
}

#[test]
fn what_is_no_origin_form_or_no_http_goes_nowhere() {
    let siege = Siege::lay();
    let before = siege.scene.upstream.count();
    let ask = siege.ask("/x");
    let targets_of_note: &[&[u8]] = &[
        b"",
        b"*",
        b"x",
        b"http://evil.example/",
        b"https://api.upstream.example/x",
        b"//evil.example/x y",
        b"/x HTTP/1.1\r\nx: y",
        b"/x\0",
        b"/x\r\n\r\nGET /smuggled HTTP/1.1",
        b"/\x7f",
        b"evil.example:443",
    ];
    for target in targets_of_note {
        let heard = siege.dial().ask(&Ask { target: target.to_vec(), ..ask.clone() });
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{target:?}: {heard:?}");
    }
    let methods: &[&[u8]] = &[b"", b"GET /smuggled HTTP/1.1\r\nx:", b"GE T", b"GET\r\n", b"G\0T", b"\xc3\xa9", b"G(T"];
    for method in methods {
        let heard = siege.dial().ask(&Ask { method: method.to_vec(), ..ask.clone() });
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{method:?}: {heard:?}");
    }
    let fields: &[(&[u8], &[u8])] = &[
        (b"", b"v"),
        (b"a b", b"v"),
        (b"a:", b"v"),
        (b"a\r\nx", b"v"),
        (b":path", b"/smuggled"),
        (b":authority", b"evil.example"),
        (b"\xff", b"v"),
        (b"a", b"v\r\nx: y"),
        (b"a", b"v\r\n folded"),
        (b"a", b"v\n\nGET /smuggled HTTP/1.1"),
        (b"a", b"v\0"),
        (b"a", b"v\r"),
    ];
    for (name, value) in fields {
        let heard = siege.dial().ask(&ask.clone().field(name, value));
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{name:?} {value:?}: {heard:?}");
    }
    for method in ["CONNECT", "TRACE"] {
        let heard = siege.dial().ask(&Ask { method: method.into(), ..ask.clone() });
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{method}: {heard:?}");
    }
    assert_eq!(targets(&siege, before), Vec::<String>::new());
    siege.hold();
}

#[test]
fn fields_that_steer_a_server_or_belong_to_the_channel_are_dropped() {
    let siege = Siege::lay();
    let steering = [
        ("strongroom-refusal", "revoked"),
        ("strongroom-request-id", "forged-request-id"),
        ("Strongroom-Anything", "1"),
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x_http_method_override", "DELETE"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "host=evil.example"),
        ("x-host", "evil.example"),
        ("range", "bytes=0-3"),
        ("accept-encoding", "gzip"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("te", "trailers"),
        ("trailer", "x-late"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "Basic eDp5"),
    ];
    let ask = steering.iter().fold(siege.ask("/steered"), |ask, (name, value)| ask.field(name, value));
    let text = siege.dial().ask(&ask.field("x-kept", "1")).text();
    assert!(text.contains("x-kept: 1"), "{text}");
    assert!(text.contains(&format!("host: {HOST}\n")), "the name of keyd's own policy: {text}");
    for (name, value) in steering {
        assert!(
            !text.to_lowercase().contains(&format!("{name}: {value}").to_lowercase()),
            "{name} got through: {text}"
        );
    }
    let text = siege.dial().ask(&siege.ask("/x").field("connection", "x-named, close").field("x-named", "1")).text();
    assert!(!text.contains("x-named"), "a field that Connection names ends here: {text}");
    for nominated in ["authorization", "host", "content-length", "Content-Type"] {
        let heard = siege.dial().ask(&siege.ask("/x").field("connection", nominated));
        assert_eq!(heard.refusal(), Some(Refusal::BadRequest), "{nominated}");
    }
    siege.hold();
}

#[test]
fn frames_out_of_order_end_the_channel() {
    let siege = Siege::lay();
    let head = siege.ask("/ordered").payload();
    let posted = siege.ask("/ordered").with_body().payload();
    type Frames<'a> = &'a [(u8, &'a [u8])];
    let frames: &[(&str, Frames<'_>)] = &[
        ("data first", &[(DATA, b"x")]),
        ("an end first", &[(END, b"")]),
        ("keyd's own word", &[(GO_ON, b"")]),
        ("no kind of frame", &[(9, b"")]),
        ("a head inside a body", &[(HEAD, &posted), (DATA, b"x"), (HEAD, &posted)]),
        ("an empty head", &[(HEAD, b"")]),
        ("half a head", &[(HEAD, &head[..head.len() / 2])]),
        ("a flag that nobody knows", &[(HEAD, &[&[2], &head[1..]].concat())]),
    ];
    for (what, frames) in frames {
        let mut channel = siege.dial();
        for (kind, payload) in *frames {
            let _ = channel.frame(*kind, payload);
        }
        let heard = channel.hear();
        assert!(matches!(heard, Heard::Nothing | Heard::Refused(_)), "{what}: {heard:?}");
    }
    for (kind, length) in [(HEAD, [4, 0, 1]), (DATA, [0x10, 0, 1]), (END, [4, 0, 1]), (GO_ON, [0, 0, 1])] {
        let mut channel = siege.dial();
        let [a, b, c] = length;
        let _ = channel.raw(&[kind, a, b, c]);
        assert!(matches!(channel.hear(), Heard::Nothing), "a frame of kind {kind} over its limit");
    }
    siege.hold();
}

#[test]
fn a_second_head_before_the_first_answer_ends_the_channel_or_waits() {
    let siege = Siege::lay();
    let mut channel = siege.dial();
    let frame = |target: &str| {
        let payload = siege.ask(target).payload();
        [&[HEAD, 0, 0, u8::try_from(payload.len()).unwrap()], &payload[..]].concat()
    };
    let _ = channel.raw(&[frame("/one"), frame("/two")].concat());
    let first = channel.hear();
    assert!(matches!(first, Heard::Nothing) || first.text().contains("/one"), "{first:?}");
    if matches!(first, Heard::Answer(_)) {
        let second = channel.hear();
        assert!(matches!(second, Heard::Nothing) || second.text().contains("/two"), "{second:?}");
    }
    siege.hold();
}

#[test]
fn an_upstream_can_forge_no_word_of_the_channel() {
    let scene = Scene::with(|exchange| {
        match exchange.head().target() {
        "/forged" => exchange.raw(
            b"HTTP/1.1 200 OK\r\nStrongroom-Refusal: revoked\r\nstrongroom-stale: 1\r\nstrongroom-redial: 1\r\n\
              strongroom-request-id: forged-id\r\ntransfer-encoding: chunked\r\ntrailer: x, strongroom-refusal\r\n\r\n\
              2\r\nok\r\n0\r\nstrongroom-refusal: revoked\r\nx: y\r\n\r\n",
        ),
        "/switched" => {
            exchange.raw(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw bytes")
        }
        "/early" => exchange.raw(
            b"HTTP/1.1 103 Early Hints\r\nstrongroom-refusal: revoked\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        ),
        _ => echo(exchange),
    }
    });
    let siege = Siege::before(scene);
    for target in ["/forged", "/early"] {
        let Heard::Answer(answer) = siege.dial().ask(&siege.ask(target)) else { panic!("{target}: a forged refusal") };
        assert_eq!(answer.body, b"ok");
        let ours = answer.head.fields.keys().filter(|name| name.as_str().starts_with("strongroom-")).count();
        assert_eq!(ours, 0, "{target}: {:?}", answer.head);
        assert!(memchr::memmem::find(&answer.trailers, b"strongroom-").is_none(), "{target}");
    }
    let heard = siege.dial().ask(&siege.ask("/switched"));
    assert_eq!(heard.refusal(), Some(Refusal::UpstreamProtocol), "nobody asked for another protocol: {heard:?}");
    siege.hold();
}
