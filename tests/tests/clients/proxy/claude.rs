//! Claude Code, `claude -p`, with an empty home and no account.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::anthropic::ANTHROPIC;
use strongroom_tests::fake_api::{WORDS, text};
use strongroom_tests::prelude::*;

use crate::stage::{Stage, speaks};
use crate::table::http;

fn claude(stage: &Stage, more: &[&str], over: &[(&str, &str)]) -> Builder {
    Builder::claude(&[&["-p", "Where are keys kept?"], more].concat()).run_as(&stage.strongroom, AGENT, over)
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn it_answers_and_every_event_arrives_before_the_next_is_sent() {
    let stage = Stage::of(ANTHROPIC);
    let events = ["--output-format", "stream-json", "--include-partial-messages", "--verbose"];
    let mut client = claude(&stage, &events, &[]).start();
    for word in WORDS {
        let found = std::iter::repeat_with(|| client.json())
            .find(|line| line["event"]["type"] == "content_block_delta" && line["event"]["delta"]["text"] == *word);
        assert!(found.is_some());
        if *word == WORDS[0] {
            client.assert_never_held(&stage.api.key, &stage.placeholder);
        }
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
    let gone = stage.agent("gone", &[]);
    stage.strongroom.must(&["agent", "revoke", "gone"]);
    let output = speaks(&stage.strongroom, AGENT, http(module_path!()), |over| {
        claude(&stage, &[], &[over, &[("ANTHROPIC_API_KEY", &gone)]].concat()).run()
    });
    assert_eq!(output.code, Some(1), "{output:?}");
    for words in [Refusal::Revoked.message(), Refusal::Revoked.hint(), Refusal::Revoked.code()] {
        assert!(output.stdout.contains(words), "{words}: {output:?}");
    }
    assert_eq!(stage.api.upstream.count(), 0);
}
