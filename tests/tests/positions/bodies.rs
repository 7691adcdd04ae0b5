//! JSON and form bodies.

use serde_json::{Value, json};
use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage, percent};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn post(stage: &Stage, target: &str, kind: &str, body: &str) -> Request {
    stage.request("POST", target).field("Content-Type", kind).body(body.as_bytes())
}

fn chunked(request: &Request, body: &str) -> Vec<u8> {
    let mut bytes = request.clone().without("content-length").field("Transfer-Encoding", "chunked").bytes();
    for piece in body.as_bytes().chunks(7) {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

#[test]
fn the_key_is_the_string_at_the_pointer_and_the_rest_stays_as_it_was() {
    let stage = Stage::new();
    let placeholder = stage.credential("login", KEY, &["--body-json", "POST /token#/auth/secret"]);
    let body = format!(
        "{{\"prompt\" : \"spell {placeholder} for me\",\n \"auth\": {{\"id\":1.50, \"secret\":\t\"{placeholder}\"}}, \"x\": [1e2]}}"
    );
    let request = post(&stage, "/login/token", JSON, &body).field("Content-Digest", "sha-256=:AAAA:");
    let got = stage.served(&request);
    let spliced = format!("\"secret\":\t{}", json!(KEY));
    assert_eq!(got.body, body.replace(&format!("\"secret\":\t\"{placeholder}\""), &spliced), "byte for byte");
    let read: Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!(read["auth"]["secret"], KEY);
    assert_eq!(read["prompt"], format!("spell {placeholder} for me"), "text is text");
    assert_eq!(got.head.values("content-length"), [got.body.len().to_string()]);
    assert!(got.head.value("content-digest").is_none() && got.head.value("transfer-encoding").is_none());

    let escaped = body.replace("strongroom-", "\\u0073trongroom-");
    assert_ne!(escaped, body);
    let got = stage.served(&post(&stage, "/login/./token?a=1", "application/vnd.x+json; charset=utf-8", &escaped));
    assert_eq!(serde_json::from_str::<Value>(&got.body).unwrap()["auth"]["secret"], KEY);

    let mut connection = Connection::open(&stage.scene.strongroom.ways()[0]).unwrap();
    connection.write(&chunked(&request.without("content-digest").body(b""), &body)).unwrap();
    assert_eq!(connection.answer("POST").unwrap().status(), 200, "in chunks it is the same");
    let got = stage.scene.upstream.received().pop().unwrap().head;
    assert!(got.value("transfer-encoding").is_none() && got.value("content-length").is_some());
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn the_key_is_the_field_of_the_form() {
    let stage = Stage::new();
    let placeholder = stage.credential("login", KEY, &["--body-form", "POST /token#client_secret"]);
    let encoded = percent(KEY, "");
    for (body, expected) in [
        ("grant_type=x&client_secret={}&note=say+{}", "grant_type=x&client_secret={key}&note=say+{}"),
        ("client%5Fsecret={}", "client%5Fsecret={key}"),
        ("client_secret={enc}&a=%2F", "client_secret={key}&a=%2F"),
    ] {
        let body = body.replace("{}", &placeholder).replace("{enc}", &placeholder.replace('-', "%2d"));
        let got = stage.served(&post(&stage, "/login/token", FORM, &body));
        assert_eq!(got.body, expected.replace("{}", &placeholder).replace("{key}", &encoded));
        assert_eq!(got.head.values("content-length"), [got.body.len().to_string()]);
    }
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn a_body_is_looked_at_for_the_declared_method_and_path_alone() {
    let stage = Stage::new();
    let placeholder =
        stage.credential("login", KEY, &["--body-json", "POST /token#/secret", "--header", "x-api-key: {}"]);
    let body = format!("{{\"secret\": \"{placeholder}\"}}");
    let with_head = |method: &str, target: &str| {
        let request = stage.request(method, target).field("Content-Type", JSON).body(body.as_bytes());
        request.field("x-api-key", &placeholder)
    };
    for (method, target) in
        [("PUT", "/login/token"), ("POST", "/login/token/"), ("POST", "/login/Token"), ("POST", "/login/x")]
    {
        let got = stage.served(&with_head(method, target));
        assert_eq!(got.body, body, "passed on untouched as the worthless string it is");
        assert_eq!(got.head.values("x-api-key"), [KEY]);
        stage.refused(&with_head(method, target).without("x-api-key"), Refusal::NoPlaceholder);
    }
    // There it is looked at, and one key does not go into two positions.
    stage.refused(&with_head("POST", "/login/token"), Refusal::SiteNotAllowed);
    stage.served(&with_head("POST", "/login/token").without("x-api-key"));
    // A prompt anywhere else is nobody's business.
    let prompt = format!("{{\"prompt\": \"{placeholder} {placeholder}\", \"a\": \"{placeholder}\"}}");
    let got = stage.served(&stage.scene.post("/openai/v1/chat", prompt.as_bytes()));
    assert_eq!(got.body, prompt);
}

#[test]
fn bodies_with_two_readings_are_refused() {
    let stage = Stage::new();
    let json = stage.credential("json", KEY, &["--body-json", "POST /json#/auth/secret"]);
    let form = stage.credential("form", KEY, &["--body-form", "POST /form#secret"]);
    let as_json = |body: &str| post(&stage, "/json/json", JSON, &body.replace("{}", &json));
    let as_form = |body: &str| post(&stage, "/form/form", FORM, &body.replace("{}", &form));
    for body in [
        r#"{"auth": {"secret": "{}", "secret": "x"}}"#,
        r#"{"auth": {"secret": "x", "\u0073ecret": "{}"}}"#,
        r#"{"auth": {"secret": "{}"}, "auth": 1}"#,
        r#"{"auth": {"secret": "{}", "Secret": "x"}}"#,
        r#"{"auth": {"secret": "x{}"}}"#,
        r#"{"auth": {"secret": "{}\n"}}"#,
    ] {
        stage.refused(&as_json(body), Refusal::SiteNotAllowed);
    }
    for body in
        ["secret={}&secret={}", "secret=&secret={}", "s%65cret=x&secret={}", "a=1;secret=x&secret={}", "secret=x{}"]
    {
        stage.refused(&as_form(body), Refusal::SiteNotAllowed);
    }
    for body in ["{", r#"{"auth": {"secret": "{}"}} {}"#, r#"{'auth': {'secret': '{}'}}"#, "secret={}", "\u{feff}{ }"] {
        stage.refused(&as_json(body), Refusal::BadRequest);
    }
    for body in ["secret={}&a=%", "secret={}\n", r#"{"secret": "{}"}"#] {
        stage.refused(&as_form(body), Refusal::BadRequest);
    }
    let good = r#"{"auth": {"secret": "{}"}}"#;
    for kind in ["text/plain", FORM, "application/json; charset=utf-16", "multipart/form-data; boundary=x"] {
        stage.refused(&as_json(good).without("content-type").field("Content-Type", kind), Refusal::BadRequest);
    }
    stage.refused(&as_json(good).without("content-type"), Refusal::BadRequest);
    stage.refused(&as_json(good).field("Content-Type", JSON), Refusal::BadRequest);
    stage.refused(&as_json(good).field("Content-Encoding", "gzip"), Refusal::BadRequest);
    for body in ["{ }", r#"{"auth": {"secret": 1}}"#, r#"{"auth": ["{}"]}"#] {
        stage.refused(&as_json(body), Refusal::NoPlaceholder);
    }
    stage.refused(&as_json(""), Refusal::NoPlaceholder);
    stage.refused(&as_json(r#"{"auth": {"secret": "real"}}"#), Refusal::UnknownPlaceholder);
    stage.refused(&as_json(&good.replace("{}", &json.to_uppercase())), Refusal::UnknownPlaceholder);
    stage.refused(&as_form("secret=real"), Refusal::UnknownPlaceholder);
    stage.served(&as_json(good));
    stage.served(&as_form("secret={}"));
    stage.logs_hold_nothing(&[KEY], &[&json, &form]);
}

#[test]
fn each_such_request_has_an_upstream_connection_of_its_own() {
    let stage = Stage::new();
    let own = stage.credential("login", KEY, &["--body-form", "POST /token#secret"]);
    stage.scene.strongroom.must(&["agent", "add", "other"]);
    let others = stage.scene.grant("login", "other", &[]);
    let mut connection = Connection::open(&stage.scene.strongroom.ways()[0]).unwrap();
    for placeholder in [&own, &others, &own, &others] {
        let request = post(&stage, "/login/token", FORM, &format!("secret={placeholder}"));
        assert_eq!(request.send_over(&mut connection).unwrap().status(), 200);
    }
    let mut used: Vec<u64> = stage.scene.upstream.received().iter().map(|received| received.connection).collect();
    used.dedup();
    assert_eq!(used.len(), 4, "{used:?}");
}
