//! One request, end to end: the real key reaches the upstream, and comes back to nobody.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::files_below;

/// Gives the key back wherever an HTTP/1.1 answer has room for it.
fn echo_everywhere(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let got = exchange.head().value("authorization").unwrap_or_default();
    let key = got.trim_start_matches("Bearer ").to_owned();
    exchange.body()?;
    let (reason, name) = (format!("200 OK-{key}"), format!("x-{key}"));
    exchange.begin(&reason, &[("x-echo", &got), (&name, "named"), ("trailer", "x-last")])?;
    exchange.chunk(format!("before {key} after\n").as_bytes())?;
    exchange.end(&[("x-last", &key)])
}

#[test]
fn the_key_reaches_the_upstream_and_no_part_of_the_answer() {
    let scene = Scene::with(echo_everywhere);
    for way in scene.strongroom.ways() {
        let request = Request::new(way.clone(), "GET", "/openai/v1/models?limit=2")
            .bearer(&scene.placeholder)
            .field("TE", "trailers");
        let answer = request.send();
        assert_eq!(answer.status(), 200, "{answer:?}");
        let masked = "*".repeat(scene.key.len());
        assert_eq!(answer.head.reason(), format!("OK-{masked}"), "{way:?}");
        assert_eq!(answer.head.value("x-echo"), Some(format!("Bearer {masked}")));
        assert_eq!(answer.head.value(&format!("x-{masked}")).as_deref(), Some("named"), "{answer:?}");
        assert_eq!(answer.text(), format!("before {masked} after\n"));
        assert_eq!(answer.trailers, [("x-last".to_owned(), masked.into_bytes())], "{answer:?}");
        assert_eq!(Needles::of(scene.key.as_bytes()).find(&answer.bytes()), None);
        assert_eq!(Needles::of(scene.key.to_ascii_lowercase().as_bytes()).find(&answer.bytes()), None);
    }
    let received = scene.upstream.received();
    assert_eq!(received.len(), 2);
    for request in received {
        assert_eq!(request.head.values("authorization"), [format!("Bearer {}", scene.key)]);
        assert_eq!(request.head.start_line, "GET /v1/models?limit=2 HTTP/1.1");
        assert_eq!(request.head.values("host"), [HOST]);
        let all = format!("{:?}", request.head);
        assert!(!all.contains(&scene.placeholder) && !all.contains("strongroom"), "{all}");
    }
}

#[test]
fn a_key_that_is_spread_over_chunks_is_scrubbed_wherever_it_is_cut() {
    let scene = Scene::with(|exchange| {
        let key = exchange.head().value("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        let cut: usize = exchange.head().target().trim_start_matches("/cut/").parse().unwrap_or(1);
        exchange.begin("200 OK", &[])?;
        exchange.chunk(format!("[{}", &key[..cut]).as_bytes())?;
        exchange.chunk(&key.as_bytes()[cut..])?;
        exchange.chunk(b"]")?;
        exchange.end(&[])
    });
    for cut in 1..scene.key.len() {
        let answer = scene.get(&format!("/openai/cut/{cut}")).send();
        assert_eq!(answer.text(), format!("[{}]", "*".repeat(scene.key.len())), "cut at {cut}");
    }
}

#[test]
fn each_use_is_on_record_before_the_upstream_hears_of_it() {
    let audit: Arc<OnceLock<PathBuf>> = Arc::default();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (directory, lines) = (audit.clone(), seen.clone());
    let scene = Scene::with(move |exchange| {
        let files = directory.get().map(|directory| files_below(directory)).unwrap_or_default();
        lines.lock().unwrap().extend(files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()));
        exchange.respond("201 Created", &[], b"made it")
    });
    audit.set(scene.strongroom.home().audit()).unwrap();
    let answer = scene.post("/openai/v1/things?secret=query", b"{}").send();
    assert_eq!(answer.status(), 201);
    let id = answer.head.value("strongroom-request-id").expect("an id on every answer");

    let before = seen.lock().unwrap().concat();
    let line = before.lines().find(|line| line.contains(&id)).unwrap_or_else(|| panic!("{id} is not in {before}"));
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    assert_eq!([text("agent"), text("credential"), text("evidence")], [AGENT, CREDENTIAL, "placeholder"]);
    assert_eq!([text("method"), text("host"), text("path"), text("decision")], ["POST", HOST, "/v1/things", "allowed"]);
    assert!(text("time").ends_with('Z') && record["seq"].is_u64(), "{record}");
    assert!(!before.contains("secret=query") && !before.contains(&scene.key), "{before}");

    let of_this = || -> Vec<_> {
        scene.strongroom.audit().into_iter().filter(|record| record["request_id"] == id.as_str()).collect()
    };
    let end = within(Duration::from_secs(5), "the second line of the record", || of_this().into_iter().nth(1));
    assert_eq!(end["status"], 201, "{end}");
    assert!(end["bytes_in"].as_u64() >= Some(2) && end["bytes_out"].as_u64() >= Some(7), "{end}");
    assert!(end["duration_ms"].is_u64(), "{end}");
    assert_eq!(of_this().len(), 2);
    scene.strongroom.must(&["audit", "verify"]);
}

#[test]
fn two_credentials_of_one_host_go_into_one_request() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b"ok"));
    let second = scene.add_credential("second", &["--host", HOST, "--header", "X-Api-Key: v1 {}"]);
    let placeholder = scene.grant("second", AGENT, &[]);
    let answer = scene.get("/openai/both").field("x-api-key", &format!("v1 {placeholder}")).send();
    assert_eq!(answer.status(), 200, "{answer:?}");
    let alone = scene.strongroom.request("GET", "/second/one").field("X-API-KEY", &format!("v1 {placeholder}")).send();
    assert_eq!(alone.status(), 200, "{alone:?}");
    let received = scene.upstream.received();
    assert_eq!(received[0].head.values("authorization"), [format!("Bearer {}", scene.key)]);
    assert_eq!(received[0].head.values("x-api-key"), [format!("v1 {second}")]);
    assert_eq!(received[1].head.values("authorization"), Vec::<String>::new());
    assert_eq!(received[1].head.values("x-api-key"), [format!("v1 {second}")]);
}

#[test]
fn a_placeholder_in_a_body_stays_what_it_is() {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        exchange.respond("200 OK", &[], &body)
    });
    let prompt = format!("{{\"prompt\":\"spell {} backwards\"}}", scene.placeholder);
    let answer = scene.post("/openai/v1/chat", prompt.as_bytes()).send();
    assert_eq!(answer.text(), prompt);
}

#[test]
fn the_length_of_a_body_stays_known_when_the_key_is_taken_out() {
    let scene = Scene::with(|exchange| {
        let got = exchange.head().value("authorization").unwrap_or_default();
        exchange.respond("200 OK", &[("content-type", "application/json")], format!("{{\"got\":\"{got}\"}}").as_bytes())
    });
    let answer = scene.get("/openai/x").send();
    assert_eq!(answer.head.value("content-length"), Some(answer.body.len().to_string()));
    assert_eq!(answer.text(), format!("{{\"got\":\"Bearer {}\"}}", "*".repeat(scene.key.len())));
}
