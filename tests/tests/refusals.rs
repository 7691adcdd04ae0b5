//! Every refusal code that exists so far is provoked, looked at in every part, and shown not to come without cause.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::geteuid;
use strongroom_ctl::demo::stage::KEYD_USER;
use strongroom_tests::prelude::*;

fn hello(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.respond("200 OK", &[], b"hello")
}

#[test]
fn what_the_request_itself_gets_wrong_is_refused() {
    let scene = Scene::with(hello);
    let placeholder = &scene.placeholder;
    assert_eq!(scene.get("/openai/v1/a").send().status(), 200);

    let bare = scene.strongroom.request("GET", "/openai/v1/a");
    bare.send().assert_refused(Refusal::NoPlaceholder);
    let mut wrong = placeholder.clone();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    bare.clone().bearer(&wrong).send().assert_refused(Refusal::UnknownPlaceholder);
    bare.clone().bearer("sk-a-real-looking-key-0123456789").send().assert_refused(Refusal::UnknownPlaceholder);
    for (name, value) in [("X-Api-Key", placeholder.clone()), ("Authorization", format!("Token {placeholder}"))] {
        bare.clone().field(name, &value).send().assert_refused(Refusal::SiteNotAllowed);
    }
    scene.get("/openai/v1/a").bearer(placeholder).send().assert_refused(Refusal::SiteNotAllowed);

    scene.get("/no-such-route/v1/a").send().assert_refused(Refusal::HostNotAllowed);
    scene.get("/@sometoken/openai/v1/a").send().assert_refused(Refusal::AgentUnknown);
    scene.get("/openai/v1/%2e%2e/a").send().assert_refused(Refusal::BadRequest);
    scene.get("/openai/v1/..%2fa").send().assert_refused(Refusal::BadRequest);
    scene.request("CONNECT", "api.upstream.example:443").send().assert_refused(Refusal::AuthorityMismatch);
    scene.request("TRACE", "/openai/v1/a").send().assert_refused(Refusal::RequestNotAllowed);
    scene.get("/openai/v1/a").host("evil.example").send().assert_refused(Refusal::AuthorityMismatch);
    scene.get("/openai/v1/a").field("Origin", "https://evil.example").send().assert_refused(Refusal::AuthorityMismatch);
    scene.get("/openai/v1/a").field("X-Long", &"x".repeat(80_000)).send().assert_refused(Refusal::TooLarge);

    assert_eq!(scene.get("/openai/v1/a").send().status(), 200);
    assert_eq!(scene.upstream.count(), 2, "no refused request reached the upstream");
}

/// Heads that no parser takes: whoever sends them learns who refused them, as the first thing on a connection, after an
/// answer, and right behind a request whose answer is still to come.
#[test]
fn what_is_no_request_is_refused_in_words_too() {
    let scene = Scene::with(hello);
    let good = scene.get("/openai/v1/a").bytes();
    let long = |start: &str, count: usize, end: &str| [start, &"x".repeat(count), end].concat().into_bytes();
    let many: String = (0..2_000).map(|number| format!("X-{number}: v\r\n")).collect();
    let heads = [
        (b"garbage\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"GET /openai/ HTTP/1.1\r\nno colon here\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"GET /openai/ HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"GET /openai/ HTTP/1.1\r\nX: a\0b\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"GET /openai/ HTTP/7.3\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"G\x01T /openai/ HTTP/1.1\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"POST /openai/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"POST /openai/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n".to_vec(), Refusal::BadRequest),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20), Refusal::BadRequest),
        (long("GET /openai/ HTTP/1.1\r\nX: ", 400_000, "\r\n\r\n"), Refusal::TooLarge),
        (long("GET /openai/", 100_000, " HTTP/1.1\r\n\r\n"), Refusal::TooLarge),
        (format!("GET /openai/ HTTP/1.1\r\n{many}\r\n").into_bytes(), Refusal::TooLarge),
    ];
    for way in scene.strongroom.ways() {
        for (head, refusal) in &heads {
            let seen = String::from_utf8_lossy(&head[..head.len().min(60)]).into_owned();
            for (before, is_awaited) in [(0, true), (1, true), (3, true), (2, false)] {
                let mut connection = Connection::open(&way).unwrap();
                for _ in 0..before {
                    connection.write(&good).unwrap();
                    if is_awaited {
                        assert_eq!(connection.answer("GET").unwrap().status(), 200, "{seen}");
                    }
                }
                // It may be refused before all of it was written.
                let _ = connection.write(head);
                for _ in 0..if is_awaited { 0 } else { before } {
                    assert_eq!(connection.answer("GET").unwrap().status(), 200, "{seen}");
                }
                let answer = connection.answer("GET").unwrap_or_else(|error| panic!("{error}: {before} {seen}"));
                answer.assert_refused(*refusal);
                assert!(connection.is_closed_by_peer(), "{seen}");
            }
            // The parser answers in the version of the last request.
            let mut connection = Connection::open(&way).unwrap();
            let old = String::from_utf8(good.clone())
                .unwrap()
                .replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n");
            connection.write(old.as_bytes()).unwrap();
            assert_eq!(connection.answer("GET").unwrap().status(), 200, "{seen}");
            let _ = connection.write(head);
            let answer = connection.answer("GET").unwrap_or_else(|error| panic!("{error}: HTTP/1.0 and {seen}"));
            answer.assert_refused(*refusal);
        }
    }
    assert_eq!(scene.get("/openai/v1/a").send().status(), 200);
}

/// The twin: an upstream may say by itself what a parser says, in an answer or inside one.
#[test]
fn an_upstreams_bare_answer_stays_as_it_is() {
    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let scene = Scene::with(|exchange| match exchange.head().target() {
        "/v1/bare" => exchange.raw(BARE.as_bytes()),
        "/v1/chunks" => {
            exchange.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")?;
            exchange.raw(format!("{:x}\r\n{BARE}\r\n0\r\n\r\n", BARE.len()).as_bytes())
        }
        _ => {
            exchange.raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\nhi", BARE.len() + 2).as_bytes())?;
            exchange.raw(BARE.as_bytes())
        }
    });
    for way in scene.strongroom.ways() {
        let mut connection = Connection::open(&way).unwrap();
        for _ in 0..3 {
            for target in ["/openai/v1/chunks", "/openai/v1/whole"] {
                let answer = scene.get(target).send_over(&mut connection).unwrap();
                assert_eq!((answer.status(), answer.text()), (200, format!("hi{BARE}")), "{target}");
            }
            let answer = scene.get("/openai/v1/bare").send_over(&mut connection).unwrap();
            assert_eq!((answer.status(), answer.text(), answer.refusal()), (400, String::new(), None));
        }
    }
}

#[test]
fn limits_of_a_grant_are_kept() {
    let scene = Scene::with(hello);
    let narrow = {
        scene.strongroom.must(&["agent", "add", "narrow"]);
        scene.grant(CREDENTIAL, "narrow", &["--allow", "POST /v1/chat/**", "--allow", "GET /v1/models"])
    };
    let as_narrow = |method: &str, path: &str| scene.strongroom.request(method, path).bearer(&narrow).body(b"").send();
    for (method, path) in
        [("POST", "/openai/v1/chat/completions"), ("GET", "/openai/v1/models"), ("POST", "/openai/v1//chat/./x")]
    {
        assert_eq!(as_narrow(method, path).status(), 200, "{method} {path}");
    }
    for (method, path) in [
        ("GET", "/openai/v1/chat/completions"),
        ("GET", "/openai/v1/models/x"),
        ("POST", "/openai/v1/chat/../files"),
        ("POST", "/openai/V1/chat/x"),
    ] {
        as_narrow(method, path).assert_refused(Refusal::RequestNotAllowed);
    }

    scene.strongroom.must(&["agent", "add", "rare"]);
    let rare = scene.grant(CREDENTIAL, "rare", &["--rate", "2/hour"]);
    let as_rare = || scene.strongroom.request("GET", "/openai/v1/a").bearer(&rare).send();
    assert_eq!((as_rare().status(), as_rare().status()), (200, 200));
    let third = as_rare();
    third.assert_refused(Refusal::RateLimited);
    let wait: u32 = third.head.value("retry-after").expect("checked").parse().unwrap();
    assert!((1_700..=1_800).contains(&wait), "the next of two an hour is half an hour away, not {wait} s");

    scene.strongroom.must(&["agent", "add", "brief"]);
    let brief = scene.grant(CREDENTIAL, "brief", &["--expires", "3s"]);
    let as_brief = || scene.strongroom.request("GET", "/openai/v1/a").bearer(&brief).send();
    assert_eq!(as_brief().status(), 200);
    within(Duration::from_secs(10), "the grant expires", || as_brief().refusal()).parse::<Refusal>().unwrap();
    as_brief().assert_refused(Refusal::Expired);
}

#[test]
fn what_was_taken_away_is_refused_by_name() {
    let scene = Scene::with(hello);
    let strongroom = &scene.strongroom;
    for agent in ["one", "two", "three"] {
        strongroom.must(&["agent", "add", agent]);
    }
    let [one, two, three] = ["one", "two", "three"].map(|agent| scene.grant(CREDENTIAL, agent, &[]));
    let status = |placeholder: &str| strongroom.request("GET", "/openai/v1/a").bearer(placeholder).send();
    for placeholder in [&one, &two, &three] {
        assert_eq!(status(placeholder).status(), 200);
    }
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", "one"]);
    status(&one).assert_refused(Refusal::Revoked);
    assert_eq!(status(&two).status(), 200, "another agent's grant stands");
    strongroom.must(&["agent", "revoke", "two"]);
    status(&two).assert_refused(Refusal::Revoked);
    assert_eq!(status(&three).status(), 200, "another agent stands");
    strongroom.must(&["credential", "remove", CREDENTIAL, "--yes"]);
    status(&three).assert_refused(Refusal::Revoked);
}

#[test]
fn placeholders_of_two_agents_in_one_request_are_a_mismatch() {
    let scene = Scene::with(hello);
    scene.add_credential("second", &["--host", HOST, "--header", "x-api-key: {}"]);
    scene.strongroom.must(&["agent", "add", "other"]);
    let others = scene.grant("second", "other", &[]);
    let own = scene.grant("second", AGENT, &[]);
    scene.get("/openai/v1/a").field("x-api-key", &others).send().assert_refused(Refusal::AgentMismatch);
    assert_eq!(scene.get("/openai/v1/a").field("x-api-key", &own).send().status(), 200);
}

#[test]
fn upstreams_that_cannot_be_used_are_told_apart() {
    // A port that was free a moment ago and that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = Strongroom::new().resolving("closed.example", closed).timeout("first-byte = \"1s\"");
    let scene = Scene::build(builder, |exchange| match exchange.head().target() {
        "/silent" => {
            exchange.peer_closes_within(Duration::from_secs(20));
            Ok(())
        }
        "/encoded" => exchange.respond("200 OK", &[("content-encoding", "x-unknown")], b"\x01\x02\x03"),
        "/garbage" => exchange.raw(b"This is not HTTP at all\r\n\r\n"),
        _ => exchange.respond("200 OK", &[], b"hello"),
    });
    for (name, host) in [("closed", "closed.example"), ("loopback", "127.0.0.1:1"), ("metadata", "169.254.169.254")] {
        scene.add_credential(name, &["--host", host, "--bearer"]);
    }
    let ask = |name: &str| {
        let placeholder = scene.grant(name, AGENT, &[]);
        scene.strongroom.request("GET", &format!("/{name}/x")).bearer(&placeholder).send()
    };
    ask("closed").assert_refused(Refusal::UpstreamUnreachable);
    ask("loopback").assert_refused(Refusal::UpstreamForbiddenAddress);
    ask("metadata").assert_refused(Refusal::UpstreamForbiddenAddress);
    scene.get("/openai/silent").send().assert_refused(Refusal::UpstreamTimeout);
    scene.get("/openai/encoded").send().assert_refused(Refusal::ResponseUnscrubbable);
    scene.get("/openai/garbage").send().assert_refused(Refusal::UpstreamProtocol);
    assert_eq!(scene.get("/openai/fine").send().status(), 200);
}

#[test]
fn a_locked_vault_is_said_so() {
    let scene = Scene::with(hello);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    scene.strongroom.must(&["lock"]);
    scene.get("/openai/x").send().assert_refused(Refusal::VaultLocked);
    scene.get("/no-such-route/x").send().assert_refused(Refusal::VaultLocked);
    scene.strongroom.must(&["unlock"]);
    let again = within(Duration::from_secs(5), "gatewayd hears that the vault is unlocked", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.refusal().is_none())
    });
    assert_eq!(again.status(), 200);
}

#[test]
fn more_connections_than_allowed_are_refused_and_room_comes_back() {
    let scene = Scene::build(Strongroom::new().limit("connections = 4"), hello);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let way = scene.strongroom.ways()[0].clone();
    // Each was answered, so gatewayd counts it; the one before them may take a moment to be seen closed.
    let served = || {
        let mut connection = Connection::open(&way).ok()?;
        let answer = scene.get("/openai/x").send_over(&mut connection).ok()?;
        (answer.status() == 200).then_some(connection)
    };
    let held: Vec<_> = (0..4).map(|_| within(Duration::from_secs(5), "room for four", served)).collect();
    scene.get("/openai/x").send().assert_refused(Refusal::Overloaded);
    drop(held);
    within(Duration::from_secs(5), "room for one more", || {
        scene.get("/openai/x").send().refusal().is_none().then_some(())
    });
}

#[test]
fn a_use_that_cannot_be_recorded_is_not_made() {
    let reached = Arc::new(AtomicBool::new(false));
    let flag = reached.clone();
    let scene = Scene::with(move |exchange| {
        flag.store(true, Ordering::SeqCst);
        exchange.respond("200 OK", &[], b"hello")
    });
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    reached.store(false, Ordering::SeqCst);
    let written = fs_size(&scene.strongroom);
    // keyd may not make its files any longer, so the next record does not fit.
    limit_file_size(scene.strongroom.keyd(), &written.to_string());
    scene.get("/openai/x").send().assert_refused(Refusal::AuditUnavailable);
    assert!(!reached.load(Ordering::SeqCst), "the upstream heard of a use that is not on record");
    limit_file_size(scene.strongroom.keyd(), "unlimited");
    let answer = within(Duration::from_secs(10), "the log can be written again", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.refusal().is_none())
    });
    assert_eq!(answer.status(), 200);
    scene.strongroom.must(&["audit", "verify"]);
}

/// Bytes in the audit log's last file.
fn fs_size(strongroom: &Strongroom) -> u64 {
    let files = strongroom_tests::strongroom::files_below(&strongroom.home().audit());
    std::fs::metadata(files.last().expect("an audit file")).unwrap().len()
}

/// Sets the soft RLIMIT_FSIZE of keyd, as keyd's own user: root may do it to others only with CAP_SYS_RESOURCE, which
/// containers do not give.
fn limit_file_size(keyd: u32, bytes: &str) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &keyd.to_string(), &format!("--fsize={bytes}:")]);
    if geteuid().is_root() {
        prlimit.uid(KEYD_USER).gid(KEYD_USER);
    }
    process::run(&mut prlimit, b"").assert_code(0);
}

#[test]
fn a_refusal_does_not_echo_what_it_refused() {
    let scene = Scene::with(hello);
    let secret = "sk-this-is-a-real-key-somebody-pasted";
    let request = scene.strongroom.request("GET", &format!("/openai/{secret}?k={secret}")).bearer(secret);
    let answer = request.send();
    answer.assert_refused(Refusal::UnknownPlaceholder);
    assert!(!String::from_utf8_lossy(&answer.bytes()).contains(secret));
    let head = scene.strongroom.request("HEAD", "/openai/x").send();
    assert_eq!((head.refusal().as_deref(), head.body.len()), (Some("no_placeholder"), 0));
}
