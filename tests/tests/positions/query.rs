//! Query parameters.

use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage, percent};

#[test]
fn the_key_is_the_parameters_value_in_percent_encoding() {
    let stage = Stage::new();
    let placeholder = stage.credential("maps", KEY, &["--query", "key"]);
    for (target, expected) in [
        ("/v1/x?key={}", "/v1/x?key={}"),
        ("/v1/x?a=1&key={}&b=%2F+", "/v1/x?a=1&key={}&b=%2F+"),
        ("//v1/./x?key={}&", "/v1/x?key={}&"),
        ("?key={}", "/?key={}"),
    ] {
        let got = stage.served(&stage.request("GET", &format!("/maps{}", target.replace("{}", &placeholder))));
        let encoded = percent(KEY, "");
        assert_eq!(got.head.target(), expected.replace("{}", &encoded));
        got.has_only(1, &encoded);
        assert!(got.head.value("authorization").is_none());
    }
    let audit = stage.scene.strongroom.audit();
    let paths: Vec<_> = audit.iter().filter_map(|line| line["path"].as_str()).collect();
    assert!(paths.contains(&"/v1/x") && paths.iter().all(|path| !path.contains('?')), "{paths:?}");
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn every_other_spelling_of_it_is_refused() {
    let stage = Stage::new();
    let placeholder = stage.credential("maps", KEY, &["--query", "key"]);
    let encoded = placeholder.replace('-', "%2d");
    let twice = encoded.replace('%', "%25");
    for target in [
        "?other={}",
        "?KEY={}",
        "?k%65y={}",
        "?key=x{}",
        "?key={}x",
        "?key={}+",
        "?key={enc}",
        "?key={twice}",
        "?key={};a=1",
        "?a=1;key={}",
        "?key={}&key={}",
        "?key={}&key=",
        "?key=x&key={}",
        "?key={}&k%65y=x",
        "?key={}&KEY=x",
        "?key={}&+key=x",
        "?a=1;key=x&key={}",
        "?key={}&a={}",
        "?key={}&a={enc}",
        "/{}?key={}",
        "/{enc}?key={}",
        "/{}/..?key={}",
        "?{}",
        "?{}=key",
    ] {
        let target = target.replace("{}", &placeholder).replace("{enc}", &encoded).replace("{twice}", &twice);
        stage.refused(&stage.request("GET", &format!("/maps/v1{target}")), Refusal::SiteNotAllowed);
    }
    for target in ["?key=real", "?key=", "?key", "?k%65y=real"] {
        stage.refused(&stage.request("GET", &format!("/maps/v1{target}")), Refusal::UnknownPlaceholder);
    }
    let upper = format!("/maps/v1?key={}", placeholder.to_uppercase());
    stage.refused(&stage.request("GET", &upper), Refusal::UnknownPlaceholder);
    stage.refused(&stage.request("GET", "/maps/v1?other=1"), Refusal::NoPlaceholder);
    stage.served(&stage.request("GET", &format!("/maps/v1?key={placeholder}")));
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn requests_of_two_agents_never_meet_on_one_upstream_connection() {
    let stage = Stage::new();
    let own = stage.credential("maps", KEY, &["--query", "key", "--path-prefix", "/bot{}"]);
    stage.scene.strongroom.must(&["agent", "add", "other"]);
    let others = stage.scene.grant("maps", "other", &[]);
    let mut connection = Connection::open(&stage.scene.strongroom.ways()[0]).unwrap();
    for target in ["/maps/v1?key={}", "/maps/bot{}/x"] {
        for placeholder in [&own, &others, &own, &others] {
            let request = stage.request("GET", &target.replace("{}", placeholder));
            assert_eq!(request.send_over(&mut connection).unwrap().status(), 200, "{target}");
        }
    }
    let used: Vec<u64> = stage.scene.upstream.received().iter().map(|received| received.connection).collect();
    assert_eq!(used, [1, 2, 1, 2, 1, 2, 1, 2]);
}
