//! No secret in any log, at any level: the product is used in every way, with every line on that there is, and all that it
//! wrote and printed is searched.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request as HttpRequest;
use strongroom_tests::h2_upstream::{END_HEADERS, END_STREAM, GO_AWAY, by_hand};
use strongroom_tests::h2c;
use strongroom_tests::prelude::*;
use strongroom_tests::secrets::Secrets;
use strongroom_tests::strongroom::PASSPHRASE;
use strongroom_tests::tunnel::Connect;

const WRONG_PASSPHRASE: &str = "incorrect horse battery staple";

/// A scene whose commands' outputs are kept.
struct Run {
    scene: Scene,
    printed: Mutex<Vec<(String, Output)>>,
}

impl Run {
    #[track_caller]
    fn says(&self, arguments: &[&str], stdin: &[u8], code: i32) -> String {
        let output = self.scene.strongroom.ctl_with(arguments, stdin);
        assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
        let stdout = output.stdout.clone();
        self.printed.lock().unwrap().push((arguments.join(" "), output));
        stdout
    }
}

/// Says the key back in every way that there is, or does what the path says.
fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let got = exchange.head().value("authorization").unwrap_or_default();
    let body = exchange.body()?;
    match exchange.head().target().split('?').next().unwrap_or_default() {
        "/stream" => {
            exchange
                .begin("200 OK", &[("content-type", "text/event-stream"), ("x-echo", &got), ("trailer", "x-end")])?;
            for _ in 0..5 {
                exchange.chunk(format!("data: {got}\n\n").as_bytes())?;
            }
            exchange.end(&[("x-end", &got)])
        }
        "/broken" => {
            exchange.raw(format!("HTTP/1.1 200 {got}\r\ncontent-length: 99999\r\n\r\n{got}").as_bytes()).map(|()| {
                exchange.abort();
            })
        }
        "/nonsense" => exchange.raw(format!("{got}\r\n\r\n").as_bytes()).map(|()| exchange.abort()),
        "/encoded" => exchange.respond("200 OK", &[("content-encoding", &got)], got.as_bytes()),
        _ => exchange.respond(
            &format!("200 {got}"),
            &[("x-echo", &got), ("set-cookie", &got)],
            &[got.as_bytes(), &body].concat(),
        ),
    }
}

fn use_it_in_every_way(run: &Run, token: &str) -> Answer {
    let (scene, strongroom) = (&run.scene, &run.scene.strongroom);
    let bearer = format!("Bearer {}", scene.placeholder);
    // What works, by each way in.
    for target in ["/openai/v1/models?key=1", "/openai/stream", &format!("/@{token}/openai/v1")] {
        let whose = if target.starts_with("/@") {
            run.says(&["grant", "add", CREDENTIAL, "--agent", "walker"], b"", 0)
        } else {
            scene.placeholder.clone()
        };
        assert_eq!(strongroom.request("GET", target).bearer(whose.trim()).send().status(), 200);
    }
    assert_eq!(scene.post("/openai/v1", b"{}").send().status(), 200);
    assert_eq!(scene.get(&format!("http://{HOST}/v1")).host(HOST).send().status(), 200);
    let connect = Connect::to(strongroom, &format!("{HOST}:443"));
    assert_eq!(connect.tls().ask("GET", "/v1", &[("Host", HOST), ("Authorization", &bearer)]).status(), 200);
    let request =
        HttpRequest::get(format!("http://{}/openai/v1", strongroom.address())).header("authorization", &bearer);
    let answers = h2c::send(strongroom.address(), vec![request.body(Full::<Bytes>::default()).unwrap()]);
    assert_eq!(answers[0].as_ref().unwrap().0.status(), 200);
    // A placeholder that is its variable's name.
    run.says(&["agent", "add", "named", "--token"], b"", 0);
    run.says(&["grant", "add", CREDENTIAL, "--agent", "named", "--placeholder", "named"], b"", 0);
    // What the upstream breaks.
    for target in ["/openai/broken", "/openai/nonsense", "/openai/encoded"] {
        let _ = scene.get(target).try_send();
    }
    for name in ["gone", "untrusted"] {
        let placeholder = run.says(&["grant", "add", name, "--agent", AGENT], b"", 0);
        let answer = strongroom.request("GET", &format!("/{name}/v1")).field("x-other", placeholder.trim()).send();
        assert_eq!(answer.status(), 502, "{}", answer.text());
    }
    // The first of its kind, for those that follow within a second are but counted.
    let mut unknown = scene.placeholder.clone();
    let last = if unknown.pop() == Some('a') { 'b' } else { 'a' };
    unknown.push(last);
    let refused = strongroom.request("GET", "/openai/v1").bearer(&unknown).send();
    refused.assert_refused(Refusal::UnknownPlaceholder);
    // What is refused: keys and placeholders where they do not belong, and heads that nobody can read.
    let misplaced = [
        scene.get(&format!("/openai/v1?key={}", scene.key)),
        scene.get(&format!("/openai/v1/{}", scene.placeholder)),
        scene.get(&format!("/openai/v1/{}/x", scene.key)),
        scene.request(&scene.key, "/openai/v1"),
        scene.get("/openai/v1").field("x-other", &scene.placeholder),
        scene.get("/openai/v1").field("x-other", &scene.key),
        scene.get(&format!("/{}/v1", scene.key)),
        scene.get("/openai/v1").host(&scene.key),
        scene.get("/openai/v1/../%2e%2e/x"),
        scene.get(&format!("/openai/v1?{}", "x".repeat(90_000))),
        strongroom.request("GET", "/openai/v1").bearer(&scene.key),
        strongroom.request("GET", "/openai/v1").bearer(&format!("{}x", scene.placeholder)),
        strongroom.request("GET", &format!("/@{token}x/openai/v1")).bearer(&scene.placeholder),
        strongroom.request("GET", &format!("/@{token}/openai/v1")).bearer(&scene.placeholder),
    ];
    for request in &misplaced {
        // Some pass on as worthless words; none may end in a log.
        let _ = request.try_send();
    }
    for target in
        ["elsewhere.example:443", &format!("{}:443", scene.key), &format!("{}.example:443", scene.placeholder)]
    {
        let _ = Connect::to(strongroom, target).token("walker", token).refused();
        let _ = Connect::to(strongroom, target).token("walker", &format!("{token}x")).refused();
    }
    let rare = run.says(&["agent", "add", "rare"], b"", 0)
        + &run.says(&["grant", "add", CREDENTIAL, "--agent", "rare", "--rate", "1/hour"], b"", 0);
    let rare = strongroom.request("GET", "/openai/v1").bearer(rare.trim().lines().last().unwrap());
    assert_eq!([rare.send().status(), rare.send().status()], [200, 429]);
    refused
}

#[test]
fn no_secret_is_in_a_log_at_any_level_nor_printed_unasked() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let builder = Strongroom::new().log_level("trace").resolving("gone.example", closed);
    let other = Root::new("Another root").unwrap();
    let untrusted = Upstream::start(other.server("untrusted.example").unwrap(), echo).unwrap();
    let scene = Scene::build(builder.resolving("untrusted.example", untrusted.address()), echo);
    let gone = scene.add_credential("gone", &["--host", "gone.example", "--header", "x-other: {}"]);
    let unsent = scene.add_credential("untrusted", &["--host", "untrusted.example", "--header", "x-other: {}"]);
    let run = Run { scene, printed: Mutex::default() };
    let strongroom = &run.scene.strongroom;

    let token = run.says(&["agent", "add", "walker", "--token"], b"", 0).trim().to_owned();
    run.says(&["agent", "allow", "walker", "files.example"], b"", 0);
    let refused = use_it_in_every_way(&run, &token);

    // Admins, right ones and wrong ones.
    let wrong = strongroom.write("wrong", WRONG_PASSPHRASE);
    let wrong = wrong.to_str().unwrap();
    let next = strongroom_tests::strongroom::random_key("sk-");
    let rotate = ["credential", "rotate", CREDENTIAL];
    run.says(&[&["--passphrase-file", wrong][..], &rotate].concat(), next.as_bytes(), 77);
    run.says(&rotate, next.as_bytes(), 0);
    assert_eq!(run.scene.get("/openai/v1/rotated").send().status(), 200);
    run.says(&["credential", "add", "x", "--bearer", "--host"], b"", 64);
    run.says(&["credential", "add", "x", "--bearer", "--host", "x.example"], b"", 1);
    for shown in [
        &["credential", "list", "--json"][..],
        &["credential", "show", CREDENTIAL],
        &["agent", "list"],
        &["agent", "show", "walker"],
        &["audit"],
        &["audit", "--json"],
        &["audit", "verify"],
        &["status", "--json"],
        &["config", "check"],
    ] {
        run.says(shown, b"", 0);
    }
    let doctor = strongroom.ctl(&["doctor"]);
    run.printed.lock().unwrap().push(("doctor".to_owned(), doctor));
    run.says(&["agent", "revoke", AGENT], b"", 0);
    run.scene.get("/openai/v1").send().assert_refused(Refusal::Revoked);
    run.says(&["credential", "remove", "gone", "--purge", "--yes"], b"", 0);
    run.says(&["lock"], b"", 0);
    assert_eq!(run.scene.get("/openai/v1").send().status(), 503);
    run.says(&["--passphrase-file", wrong, "unlock"], b"", 77);
    run.says(&["unlock"], b"", 0);
    run.says(&["lock"], b"", 0);
    run.says(&["down"], b"", 0);

    let mut never = Secrets::default();
    for (what, secret) in [("a key", &run.scene.key), ("a key", &next), ("a key", &gone), ("a key", &unsent)] {
        never.know(what, secret.as_bytes());
    }
    never.know("the passphrase", PASSPHRASE.as_bytes());
    never.know("the wrong passphrase", WRONG_PASSPHRASE.as_bytes());
    let mut tokens = Secrets::default();
    tokens.know("a token", token.as_bytes());
    for (command, output) in run.printed.lock().unwrap().iter() {
        assert_eq!(never.find(format!("{output:?}").as_bytes()), None, "printed by {command}");
        let all = strongroom.secrets();
        assert_eq!(all.find(output.stderr.as_bytes()), None, "on standard error, by {command}");
        if !command.starts_with("agent add") {
            assert_eq!(tokens.find(output.stdout.as_bytes()), None, "printed by {command}");
        }
        // Which placeholder a grant has may be looked up.
        if !["agent add", "agent show", "grant add"].iter().any(|shows| command.starts_with(shows)) {
            assert_eq!(all.find(output.stdout.as_bytes()), None, "printed by {command}");
        }
    }
    strongroom.secrets().know("the wrong passphrase", WRONG_PASSPHRASE.as_bytes());
    assert_eq!(strongroom.secrets().found_below(&strongroom.root()), Vec::<String>::new());

    // Every level was on, these very requests are in the logs and on record, and what is there is found.
    let id = refused.head.value("strongroom-request-id").unwrap();
    let logs = strongroom.logs();
    let has = |level: &str| logs.lines().any(|line| line.contains(level) && line.contains(&id));
    assert!(has("DEBUG") && has("INFO"), "{logs}");
    let audit = strongroom.root().join("data/audit");
    let lines: String =
        fs::read_dir(audit).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    for said in ["\"path\":\"/v1/{}\"", "\"path\":\"/v1/{}/x\"", "\"method\":\"{}\"", &id] {
        assert!(lines.contains(said), "{said}: {lines}");
    }
    let mut present = Secrets::default();
    present.know("an id", id.as_bytes());
    let found = present.found_below(&strongroom.root());
    for file in ["log/keyd.log", "log/gatewayd.log", "data/audit/"] {
        assert!(found.iter().any(|found| found.contains(file)), "{file} was not searched: {found:?}");
    }
}

/// Whatever its HTTP library would write of it.
#[test]
fn what_an_upstream_says_between_answers_is_in_no_log() {
    let root = Root::new("The tests' root").unwrap();
    let key = Arc::new(Mutex::new(String::new()));
    let (said, asked) = (Arc::clone(&key), Arc::new(AtomicUsize::new(0)));
    let asking = Arc::clone(&asked);
    let upstream = by_hand(&root, move |wire| {
        let key = said.lock().unwrap().clone();
        let (stream, _) = wire.request()?;
        asking.fetch_add(1, Ordering::Relaxed);
        // A field that HTTP/2 does not have, and words beside a goodbye.
        wire.head(stream, &[("te", &key), ("connection", &key), ("x-echo", &key)], END_HEADERS | END_STREAM)?;
        wire.send(GO_AWAY, 0, 0, &[&stream.to_be_bytes()[..], &[0, 0, 0, 1], key.as_bytes()].concat())?;
        wire.until_closed()
    });
    let scene = Scene::before(Strongroom::new().log_level("trace"), upstream, root);
    scene.key.clone_into(&mut key.lock().unwrap());
    for _ in 0..2 {
        let answer = scene.get("/openai/v1").send();
        assert_eq!(answer.status(), 502, "{}", answer.text());
    }
    assert!(asked.load(Ordering::Relaxed) > 0, "it was never asked");
    let logs = scene.strongroom.logs();
    assert!(logs.contains("DEBUG"), "{logs}");
    // What is left is looked at when the scene ends.
}

#[test]
fn a_secret_in_any_file_of_a_home_fails_its_test() {
    for (secret, file) in
        [("key", "log/keyd.log"), ("placeholder", "log/gatewayd.log"), ("passphrase", "config/keyd.toml")]
    {
        let scene = Scene::with(echo);
        assert_eq!(scene.get("/openai/v1").send().status(), 200);
        let planted = match secret {
            "key" => scene.key.clone(),
            "placeholder" => scene.placeholder.replace('-', "%2D"),
            _ => PASSPHRASE.to_owned(),
        };
        let mut log = OpenOptions::new().append(true).open(scene.strongroom.root().join(file)).unwrap();
        writeln!(log, "# {planted}").unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| drop(scene))).expect_err("it is found");
        let words = panic.downcast_ref::<String>().unwrap();
        assert!(words.contains(secret) && words.contains(file) && !words.contains(&planted), "{words}");
    }
    // The positive twin: what uses it as it is meant to be used ends well.
    drop(Scene::with(echo));
}
