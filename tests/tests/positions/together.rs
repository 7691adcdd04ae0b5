//! Several positions of one credential, and several credentials in one request.

use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage, basic, percent};

const SITES: &[&str] = &[
    "--bearer",
    "--header",
    "x-api-key: key {} end",
    "--basic",
    "user",
    "--query",
    "key",
    "--path-prefix",
    "/bot{}",
    "--body-json",
    "POST /json#/secret",
    "--body-form",
    "POST /form#secret",
];

/// The same key in each position, one after another: the request, and what of the upstream's copy says that it came.
fn in_each(stage: &Stage, route: &str, placeholder: &str) -> Vec<(Request, String)> {
    let at = |method: &str, target: &str| stage.request(method, &format!("/{route}{target}"));
    let json = at("POST", "/json").field("Content-Type", "application/json");
    let form = at("POST", "/form").field("Content-Type", "application/x-www-form-urlencoded");
    vec![
        (at("GET", "/x").bearer(placeholder), format!("Bearer {KEY}\n")),
        (at("GET", "/x").field("X-Api-Key", &format!("key {placeholder} end")), format!("key {KEY} end\n")),
        (at("GET", "/x").field("Authorization", &basic("", placeholder)), basic("user", KEY)),
        (at("GET", &format!("/x?key={placeholder}")), format!("/x?key={} ", percent(KEY, ""))),
        (at("GET", &format!("/bot{placeholder}/x")), format!("/bot{}/x ", percent(KEY, ":@="))),
        (
            json.body(format!("{{\"secret\":\"{placeholder}\"}}").as_bytes()),
            serde_json::json!({"secret": KEY}).to_string(),
        ),
        (form.body(format!("secret={placeholder}").as_bytes()), format!("secret={}", percent(KEY, ""))),
    ]
}

#[test]
fn one_credential_is_taken_in_each_of_its_positions_and_in_one_at_a_time() {
    let stage = Stage::new();
    let placeholder = stage.credential("all", KEY, SITES);
    for (request, expected) in in_each(&stage, "all", &placeholder) {
        stage.served(&request).has_only(1, &expected);
    }
    let shown = stage.scene.strongroom.ctl(&["credential", "show", "all", "--json"]).json();
    assert_eq!(
        shown["sites"],
        serde_json::json!([
            "authorization: Bearer {}",
            "x-api-key: key {} end",
            "basic user",
            "query key",
            "path-prefix /bot{}",
            "body-json POST /json#/secret",
            "body-form POST /form#secret",
        ])
    );
    // Any other place makes it two.
    for (request, _) in in_each(&stage, "all", &placeholder).into_iter().skip(1) {
        if !String::from_utf8(request.bytes()).unwrap().contains("Authorization") {
            stage.refused(&request.bearer(&placeholder), Refusal::SiteNotAllowed);
        }
    }
    // A rotated key goes to the same places.
    let newer = KEY.replace("9k", "7q");
    stage.scene.strongroom.must_with(&["credential", "rotate", "all"], newer.as_bytes());
    for (request, expected) in in_each(&stage, "all", &placeholder) {
        let expected = if expected.starts_with("Basic") { basic("user", &newer) } else { expected.replace("9k", "7q") };
        stage.served(&request).has_only(1, &expected);
    }
    stage.logs_hold_nothing(&[KEY, &newer], &[&placeholder]);
}

#[test]
fn two_credentials_go_into_one_request_each_into_its_own_position() {
    let stage = Stage::new();
    let first = stage.scene.placeholder.clone();
    let second = stage.credential("second", KEY, SITES);
    for (request, expected) in in_each(&stage, "second", &second).into_iter().skip(1) {
        if String::from_utf8(request.bytes()).unwrap().contains("Authorization") {
            continue;
        }
        let got = stage.served(&request.bearer(&first));
        got.has_only(1, &expected);
        assert_eq!(got.head.values("authorization"), [format!("Bearer {}", stage.scene.key)]);
    }
    let target = format!("/second/x?key={second}&other=1");
    let third = stage.credential("third", "third-key-0123456789-0123456789", &["--query", "other"]);
    let got = stage.served(&stage.request("GET", &target.replace("other=1", &format!("other={third}"))).bearer(&first));
    assert_eq!(got.head.target(), format!("/x?key={}&other=third-key-0123456789-0123456789", percent(KEY, "")));
    stage.refused(&stage.request("GET", &target).bearer(&first), Refusal::UnknownPlaceholder);

    let audit = stage.scene.strongroom.audit();
    let last = audit.iter().rev().find(|line| line["decision"] == "allowed" && line["path"] == "/x").unwrap();
    let names = format!("{last}");
    assert!(names.contains("second") && names.contains("third") && names.contains(CREDENTIAL), "{last}");
    // Its end names them too.
    for credential in ["second", "third", CREDENTIAL] {
        let lines = stage.scene.strongroom.must(&["audit", "--json", "--credential", credential]);
        assert_eq!(lines.matches(last["request_id"].as_str().unwrap()).count(), 2, "{credential}: {lines}");
    }

    // Of two agents they do not mix, wherever they stand.
    stage.scene.strongroom.must(&["agent", "add", "other"]);
    let others = stage.scene.grant("second", "other", &[]);
    for (request, _) in in_each(&stage, "second", &others).into_iter().skip(1) {
        if !String::from_utf8(request.bytes()).unwrap().contains("Authorization") {
            stage.refused(&request.bearer(&first), Refusal::AgentMismatch);
        }
    }
}
