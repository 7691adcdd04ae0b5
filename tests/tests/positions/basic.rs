//! `Authorization: Basic`, and git's way of asking for it.

use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage, basic};

#[test]
fn the_key_is_the_password_of_the_credentials_user() {
    let stage = Stage::new();
    let placeholder = stage.credential("git", KEY, &["--basic", "x-access-token"]);
    for user in ["x-access-token", "me", ""] {
        let got = stage.served(&stage.request("GET", "/git/info").field("Authorization", &basic(user, &placeholder)));
        let expected = basic("x-access-token", KEY);
        assert_eq!(got.head.values("authorization"), [expected.as_str()]);
        got.has_only(1, &expected);
        got.has_only(0, KEY);
    }
    let lower = basic("me", &placeholder).replacen("Basic", "basic", 1);
    stage.served(&stage.request("GET", "/git/info").field("authorization", &lower));
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn what_is_not_the_whole_password_is_refused() {
    let stage = Stage::new();
    let placeholder = stage.credential("git", KEY, &["--basic", "u"]);
    let sent = |value: &str| stage.request("GET", "/git/info").field("Authorization", value);
    for value in [
        basic(&placeholder, ""),
        basic(&placeholder, "x"),
        basic(&placeholder, &placeholder),
        basic("u", &format!("{placeholder}x")),
        basic("u", &format!(" {placeholder}")),
        basic("u", &format!("{placeholder}:")),
        basic("u", &placeholder.replace('-', "%2D")),
        format!("Bearer {placeholder}x"),
        format!("Basic {placeholder}"),
        format!("Basic  {}", &basic("u", &placeholder)[6..]),
        format!("Digest username=\"{placeholder}\""),
    ] {
        stage.refused(&sent(&value), Refusal::SiteNotAllowed);
    }
    stage.refused(&sent(&basic("u", &placeholder.to_uppercase())), Refusal::UnknownPlaceholder);
    stage.refused(&sent(&basic("u", &placeholder[..placeholder.len() - 1])), Refusal::UnknownPlaceholder);
    stage.refused(&sent(&basic("u", KEY)), Refusal::UnknownPlaceholder);
    let twice = sent(&basic("u", &placeholder)).field("Authorization", &basic("u", &placeholder));
    stage.refused(&twice, Refusal::SiteNotAllowed);
    let elsewhere = sent(&basic("u", &placeholder)).field("X-Authorization", &basic("u", &placeholder));
    stage.refused(&elsewhere, Refusal::SiteNotAllowed);
    stage.served(&sent(&basic("u", &placeholder)));
    stage.logs_hold_nothing(&[KEY], &[&placeholder]);
}

#[test]
fn git_is_asked_for_credentials_and_then_served() {
    let stage = Stage::new();
    // Every credential here is at one host: this one takes Basic, the scene's takes Bearer.
    let bare = || stage.request("GET", "/openai/repo/info/refs?service=git-upload-pack");
    stage.refused(&bare(), Refusal::NoPlaceholder);
    assert_eq!(bare().send().head.value("www-authenticate"), None, "Bearer is not asked for");

    let placeholder = stage.credential("git", KEY, &["--basic", "x-access-token"]);
    let bare = || stage.request("GET", "/git/repo/info/refs?service=git-upload-pack");
    stage.refused_with(&bare(), Refusal::NoPlaceholder, 401);
    let asked = bare().send();
    assert_eq!(asked.head.values("www-authenticate"), ["Basic realm=\"strongroom\""]);
    let head = stage.request("HEAD", "/git/repo").send();
    assert_eq!((head.status(), head.body.len()), (401, 0));

    let got = stage.served(&bare().field("Authorization", &basic("anybody", &placeholder)));
    assert_eq!(got.head.target(), "/repo/info/refs?service=git-upload-pack");
    // Wrong credentials are no reason to ask again: git would ask its user for ever.
    stage.refused(&bare().field("Authorization", &basic("u", "wrong")), Refusal::UnknownPlaceholder);
    stage.refused(&bare().field("Cookie", &placeholder), Refusal::SiteNotAllowed);
}
