//! Claude Code, `claude -p`, with an empty home and no account.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::anthropic::ANTHROPIC;
use strongroom_tests::fake_api::{WORDS, text};
use strongroom_tests::prelude::*;

use crate::stage::{Stage, with};

fn claude(stage: &Stage, variable: &'static str, more: &[&str]) -> Builder {
    let variables = [("ANTHROPIC_BASE_URL", stage.base("")), (variable, stage.placeholder.clone())];
    with(Builder::claude(&[&["-p", "Where are keys kept?"], more].concat()), &variables)
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn it_answers_with_a_key_in_either_variable() {
    let stage = Stage::of(ANTHROPIC);
    for (variable, field) in [("ANTHROPIC_API_KEY", "x-api-key"), ("ANTHROPIC_AUTH_TOKEN", "authorization")] {
        // It makes several requests at once, and each streams.
        (0..10 * WORDS.len()).for_each(|_| stage.api.go_on());
        let before = stage.api.upstream.count();
        let output = claude(&stage, variable, &[]).run();
        output.assert_code(0);
        assert_eq!(output.stdout.trim(), text(), "{output:?}");
        assert_eq!(Needles::of(stage.api.key.as_bytes()).find(format!("{output:?}").as_bytes()), None);
        let came = stage.api.upstream.received();
        assert!(came[before..].iter().any(|request| request.head.value(field).is_some()), "{variable}");
    }
    stage.assert_only_right();
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn every_event_arrives_before_the_next_is_sent() {
    let stage = Stage::of(ANTHROPIC);
    let events = ["--output-format", "stream-json", "--include-partial-messages", "--verbose"];
    let mut client = claude(&stage, "ANTHROPIC_API_KEY", &events).start();
    for word in WORDS {
        let found = std::iter::repeat_with(|| client.json())
            .find(|line| line["event"]["type"] == "content_block_delta" && line["event"]["delta"]["text"] == *word);
        assert!(found.is_some());
        stage.api.go_on();
    }
    let output = client.finish();
    output.assert_code(0);
    let last: serde_json::Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["result"]), (&"result".into(), &text().into()));
    stage.assert_only_right();
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn a_refusal_is_shown_to_the_user() {
    let stage = Stage::of(ANTHROPIC);
    stage.strongroom.must(&["agent", "revoke", AGENT]);
    let output = claude(&stage, "ANTHROPIC_API_KEY", &[]).run();
    assert_eq!(output.code, Some(1), "{output:?}");
    for words in [Refusal::Revoked.message(), Refusal::Revoked.hint(), Refusal::Revoked.code()] {
        assert!(output.stdout.contains(words), "{words}: {output:?}");
    }
    assert_eq!(stage.api.upstream.count(), 0);
}

/// It tries again by itself for about a minute; unlocking within it is in time.
#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn unlocking_lets_it_go_on() {
    let stage = Stage::of(ANTHROPIC);
    stage.strongroom.must(&["lock"]);
    (0..10 * WORDS.len()).for_each(|_| stage.api.go_on());
    let client = claude(&stage, "ANTHROPIC_API_KEY", &[]).start();
    within(Duration::from_secs(30), "it was told that the vault is locked", || {
        stage.strongroom.logs().contains("code=vault_locked").then_some(())
    });
    assert_eq!(stage.api.upstream.count(), 0);
    stage.strongroom.must(&["unlock"]);
    let output = client.finish();
    output.assert_code(0);
    assert_eq!(output.stdout.trim(), text(), "{output:?}");
    stage.assert_only_right();
}
