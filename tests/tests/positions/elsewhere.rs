//! Placeholders where no credential takes them.

use strongroom_tests::prelude::*;

use crate::stage::{KEY, Stage, basic};

#[test]
fn every_undeclared_place_in_the_head_is_refused() {
    let stage = Stage::new();
    let placeholder = &stage.scene.placeholder;
    let encoded = placeholder.replace('-', "%2d");
    let twice = encoded.replace('%', "%25");
    let bare = || stage.request("GET", "/openai/v1/x");
    for value in
        [placeholder.clone(), format!("a={placeholder}; b=c"), format!("x{placeholder}x"), encoded.clone(), twice]
    {
        for name in ["Cookie", "User-Agent", "Referer", "X-Api-Key", "X-Anything", "Accept"] {
            stage.refused(&bare().field(name, &value), Refusal::SiteNotAllowed);
            stage.refused(&bare().bearer(placeholder).field(name, &value), Refusal::SiteNotAllowed);
        }
    }
    for name in ["Authorization", "X-Auth"] {
        stage.refused(&bare().field(name, &basic("u", placeholder)), Refusal::SiteNotAllowed);
        stage.refused(&bare().field(name, &basic(placeholder, "")), Refusal::SiteNotAllowed);
    }
    for value in [
        format!("Bearer {placeholder} "),
        format!("Bearer  {placeholder}"),
        format!("Bearer {placeholder}x"),
        format!("Bearer x{placeholder}"),
        format!("Bearer {encoded}"),
        format!("Token {placeholder}"),
        placeholder.clone(),
    ] {
        let sent = bare().field("Authorization", &value);
        match value.strip_suffix(' ') {
            // White space around a field's value is not part of it (RFC 9110, 5.5).
            Some(_) => drop(stage.served(&sent)),
            None => stage.refused(&sent, Refusal::SiteNotAllowed),
        }
    }
    stage.refused(&bare().bearer(&placeholder.to_uppercase()), Refusal::UnknownPlaceholder);
    stage.refused(&bare().bearer(placeholder).bearer(placeholder), Refusal::SiteNotAllowed);
    stage.refused(&bare().bearer(placeholder).bearer("x"), Refusal::SiteNotAllowed);
    for target in ["/{}", "/x?k={}", "/x?{}", "/x/{enc}", "/x?k={enc}", "/{}/../x"] {
        let target = format!("/openai{}", target.replace("{}", placeholder).replace("{enc}", &encoded));
        stage.refused(&stage.request("GET", &target), Refusal::SiteNotAllowed);
        stage.refused(&stage.request("GET", &target).bearer(placeholder), Refusal::SiteNotAllowed);
    }
    let got = stage.served(&bare().bearer(placeholder).field("User-Agent", "strongroom-test/1.0 (100%25)"));
    assert_eq!(got.head.values("user-agent"), ["strongroom-test/1.0 (100%25)"]);
    stage.logs_hold_nothing(&[&stage.scene.key], &[placeholder]);
}

#[test]
fn positions_of_another_credential_or_host_are_not_its_own() {
    let stage = Stage::new();
    let bearer = stage.scene.placeholder.clone();
    let own = stage.credential("maps", KEY, &["--query", "key"]);
    stage.refused(&stage.request("GET", &format!("/maps/v1?key={bearer}")), Refusal::SiteNotAllowed);
    stage.refused(&stage.request("GET", "/maps/v1").bearer(&own), Refusal::SiteNotAllowed);
    stage.scene.add_credential("away", &["--host", "away.example", "--query", "key", "--path-prefix", "/bot{}"]);
    for target in ["/away/v1?key={}", "/away/bot{}/x", "/away/v1?other={}"] {
        stage.refused(&stage.request("GET", &target.replace("{}", &own)), Refusal::HostNotAllowed);
    }
    stage.scene.strongroom.must(&["grant", "revoke", "maps", "--agent", AGENT]);
    for target in ["/maps/v1?key={}", "/maps/v1?other={}", "/maps/bot{}/x"] {
        stage.refused(&stage.request("GET", &target.replace("{}", &own)), Refusal::Revoked);
    }
    stage.served(&stage.request("GET", "/openai/v1").bearer(&bearer));
}
