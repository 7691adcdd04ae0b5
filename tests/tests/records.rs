//! What the audit log says of a use when it has ended: whole answers are whole, broken ones are not, masks are counted.

use strongroom_tests::prelude::*;

/// Answers in the way that the path names.
fn by_path(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let got = exchange.head().value("authorization").unwrap_or_default();
    let key = got.trim_start_matches("Bearer ").to_owned();
    let path = exchange.head().target().to_owned();
    exchange.body()?;
    match path.trim_start_matches('/') {
        "json" => exchange.respond("200 OK", &[], format!("{{\"k\":\"{key}\",\"l\":\"{key}\"}}").as_bytes()),
        "word" => exchange.respond("200 OK", &[], b"ends in a word"),
        "empty" => exchange.respond("200 OK", &[], b""),
        "none" => exchange.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "chunked" => {
            exchange.begin("200 OK", &[])?;
            exchange.chunk(b"one ")?;
            exchange.chunk(b"two")?;
            exchange.end(&[])
        }
        "trailers" => {
            exchange.begin("200 OK", &[("trailer", "x-last")])?;
            exchange.chunk(b"one\n")?;
            exchange.end(&[("x-last", &key)])
        }
        "old" => {
            exchange.raw(b"HTTP/1.0 200 OK\r\n\r\nall of it")?;
            exchange.close();
            Ok(())
        }
        "old-and-broken" => {
            exchange.raw(b"HTTP/1.0 200 OK\r\n\r\n{\"partial\":\n")?;
            exchange.abort();
            Ok(())
        }
        _ => {
            exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot a hundred\n")?;
            exchange.abort();
            Ok(())
        }
    }
}

/// The end record of a request, once it is there.
fn end_of(scene: &Scene, id: &str) -> serde_json::Value {
    within(Duration::from_secs(10), "an end on record", || {
        let mut records = scene.strongroom.audit().into_iter();
        records.find(|record| record["request_id"] == id && record.get("bytes_out").is_some())
    })
}

#[test]
fn a_whole_answer_ends_without_a_failure_and_with_its_masks_counted() {
    let scene = Scene::with(by_path);
    for (path, status, masks) in [
        ("json", 200, 2),
        ("word", 200, 0),
        ("empty", 200, 0),
        ("none", 204, 0),
        ("chunked", 200, 0),
        ("trailers", 200, 1),
        ("old", 200, 0),
    ] {
        let answer = scene.get(&format!("/openai/{path}")).send();
        assert_eq!(answer.status(), status, "{path}");
        let end = end_of(&scene, &answer.head.value("strongroom-request-id").unwrap());
        assert_eq!(end.get("failure"), None, "{path}: {end}");
        assert_eq!((&end["status"], &end["scrubbed"]), (&status.into(), &masks.into()), "{path}: {end}");
        assert_eq!(end["bytes_out"], answer.body.len(), "{path}: {end}");
    }
}

#[test]
fn a_broken_answer_is_broken_for_the_agent_and_on_record() {
    let scene = Scene::with(by_path);
    for path in ["short", "old-and-broken"] {
        let mut streaming = scene.get(&format!("/openai/{path}")).stream();
        let id = streaming.head.value("strongroom-request-id").unwrap();
        assert!(streaming.rest().is_err(), "{path}: a cut-off answer was taken for a whole one");
        let end = end_of(&scene, &id);
        assert_eq!(end["failure"], "upstream_protocol", "{path}: {end}");
    }
}

#[test]
fn an_agent_that_hangs_up_is_not_taken_for_a_broken_upstream() {
    let scene = Scene::with(|exchange| {
        exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
        exchange.chunk(b"data: one\n\n")?;
        exchange.peer_closes_within(Duration::from_secs(20));
        Ok(())
    });
    for way in scene.strongroom.ways() {
        let mut streaming = Request::new(way, "GET", "/openai/stream").bearer(&scene.placeholder).stream();
        streaming.read_text("data: one");
        let id = streaming.head.value("strongroom-request-id").unwrap();
        drop(streaming);
        let end = end_of(&scene, &id);
        assert_eq!((&end["status"], &end["failure"]), (&200.into(), &"hung_up".into()), "{end}");
    }
}

#[test]
fn an_agent_that_hangs_up_in_its_upload_is_not_taken_for_a_broken_upstream() {
    let scene = Scene::with(|exchange| exchange.body().map(drop));
    for (number, way) in (0..).zip(scene.strongroom.ways()) {
        let request = Request::new(way.clone(), "POST", "/openai/upload").bearer(&scene.placeholder);
        let mut connection = Connection::open(&way).unwrap();
        connection.write(&request.field("content-length", "10").bytes()).unwrap();
        connection.write(b"abc").unwrap();
        within(Duration::from_secs(20), "the upstream has its head", || {
            (scene.upstream.connections() > number).then_some(())
        });
        let allowed = |line: &&serde_json::Value| line["path"] == "/upload" && line["request_id"].is_string();
        let id = within(Duration::from_secs(20), "the use is on record", || {
            scene.strongroom.audit().iter().rfind(allowed).map(|line| line["request_id"].as_str().unwrap().to_owned())
        });
        drop(connection);
        let end = end_of(&scene, &id);
        assert_eq!(end["failure"], "hung_up", "{end}");
    }
}
