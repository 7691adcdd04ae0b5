//! The path's beginning.

use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage, percent};

#[test]
fn the_key_is_one_segment_whatever_is_in_it() {
    let stage = Stage::new();
    let placeholder = stage.credential("bot", KEY, &["--path-prefix", "/bot{}", "--path-prefix", "/file/bot{}"]);
    let encoded = percent(KEY, ":@=");
    for (target, expected) in [
        ("/bot{}/getMe", "/bot{}/getMe"),
        ("/bot{}", "/bot{}"),
        ("//bot{}//getMe?a=%2F", "/bot{}/getMe?a=%2F"),
        ("/file/bot{}/documents/file.txt", "/file/bot{}/documents/file.txt"),
    ] {
        let got =
            stage.served(&stage.request("POST", &format!("/bot{}", target.replace("{}", &placeholder))).body(b""));
        assert_eq!(got.head.target(), expected.replace("{}", &encoded));
        assert_eq!(got.head.target().matches('/').count(), expected.matches('/').count());
        got.has_only(1, &encoded);
    }
    let audit = stage.scene.strongroom.audit();
    let paths: Vec<_> = audit.iter().filter_map(|line| line["path"].as_str()).collect();
    for path in ["/bot{}/getMe", "/bot{}", "/file/bot{}/documents/file.txt"] {
        assert!(paths.contains(&path), "{paths:?}");
    }
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn every_other_place_in_the_path_is_refused_and_logged_without_it() {
    let stage = Stage::new();
    let placeholder = stage.credential("bot", KEY, &["--path-prefix", "/bot{}"]);
    let encoded = placeholder.replace('-', "%2d");
    let twice = encoded.replace('%', "%25");
    for target in [
        "/{}/getMe",
        "/bot/{}/getMe",
        "/botx{}/getMe",
        "/bot{}x/getMe",
        "/BOT{}/getMe",
        "/v1/bot{}/getMe",
        "/bot{}/{}",
        "/bot{}/x?a={}",
        "/bot{}/x?a={enc}",
        "/bot{enc}/getMe",
        "/bot{twice}/getMe",
        "/{}/../bot{enc}/getMe",
        "/{enc}/../bot{}/getMe",
        "/bot{};x/getMe",
        "/bot{}%2F/getMe",
        "/x?bot={}",
    ] {
        let target = target.replace("{}", &placeholder).replace("{enc}", &encoded).replace("{twice}", &twice);
        stage.refused(&stage.request("GET", &format!("/bot{target}")), Refusal::SiteNotAllowed);
    }
    stage.refused(
        &stage.request(
            "GET",
            &format!("/bot/bot{KEY}/x").replace(['?', '#', '"', '\\', '|', '^', '`', '{', '}', '<', '>', '%'], "_"),
        ),
        Refusal::UnknownPlaceholder,
    );
    stage.refused(&stage.request("GET", "/bot/other"), Refusal::NoPlaceholder);
    stage.served(&stage.request("GET", &format!("/bot/bot{placeholder}/getMe")));
    let tail = &placeholder[placeholder.len() - 40..];
    stage.logs_hold_nothing(&[KEY], &[&placeholder, tail]);
}

#[test]
fn rules_see_braces_where_the_key_goes() {
    let stage = Stage::new();
    stage.add("bot", KEY, &["--path-prefix", "/bot{}"]);
    let placeholder =
        stage.scene.grant("bot", AGENT, &["--allow", "GET /bot{}/get*", "--allow", "* /bot*/sendMessage"]);
    let sent = |method: &str, path: &str| stage.request(method, &format!("/bot/bot{placeholder}{path}")).body(b"");
    stage.served(&sent("GET", "/getMe"));
    stage.served(&sent("GET", "//getUpdates"));
    stage.served(&sent("POST", "/sendMessage"));
    for (method, path) in [("POST", "/getMe"), ("GET", "/deleteWebhook"), ("GET", "/x/../deleteWebhook"), ("GET", "")] {
        stage.refused(&sent(method, path), Refusal::RequestNotAllowed);
    }
}
