//! curl, whole and streamed, with what it shows of a refusal.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::openai::OPENAI;
use strongroom_tests::fake_api::{Mood, WORDS, text};
use strongroom_tests::prelude::*;

use crate::stage::Stage;

const CHAT: &str = r#"{"model":"gpt-fake","messages":[{"role":"user","content":"Where are keys kept?"}]}"#;
const CHAT_STREAM: &str = r#"{"stream":true,"model":"gpt-fake","messages":[{"role":"user","content":"Where?"}]}"#;

/// As OpenAI's documentation shows it.
fn curl(stage: &Stage, placeholder: &str, more: &[&str], body: &str) -> Builder {
    let url = stage.base("/v1/chat/completions");
    let key = format!("Authorization: Bearer {placeholder}");
    let json = "Content-Type: application/json";
    let usual = ["--silent", "--show-error", "--max-time", "30", &url, "-H", &key, "-H", json, "-d", body];
    Builder::new("curl", &[&usual, more].concat())
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn it_calls_and_streams() {
    let stage = Stage::of(OPENAI);
    let output = curl(&stage, &stage.placeholder, &["--fail"], CHAT).run();
    output.assert_code(0);
    assert_eq!(output.json()["choices"][0]["message"]["content"], text());
    assert_eq!(Needles::of(stage.api.key.as_bytes()).find(output.stdout.as_bytes()), None);

    let mut client = curl(&stage, &stage.placeholder, &["--fail", "--no-buffer"], CHAT_STREAM).start();
    for word in WORDS {
        let line = std::iter::repeat_with(|| client.line()).find(|line| line.contains(word)).unwrap();
        assert!(line.starts_with("data: {"), "{line}");
        stage.api.go_on();
    }
    let output = client.finish();
    output.assert_code(0);
    assert!(output.stdout.ends_with("data: [DONE]\n\n"), "{output:?}");
    stage.assert_only_right();
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn refusals_and_broken_streams_are_failures() {
    let stage = Stage::of(OPENAI);
    stage.api.is(Mood::BreaksOff);
    let client = curl(&stage, &stage.placeholder, &["--fail"], CHAT_STREAM).start();
    WORDS.iter().for_each(|_| stage.api.go_on());
    let output = client.finish();
    assert_eq!(output.code, Some(18), "a partial file: {output:?}");
    stage.api.is(Mood::Well);
    stage.strongroom.must(&["agent", "revoke", AGENT]);
    let output = curl(&stage, &stage.placeholder, &["--fail-with-body"], CHAT).run();
    assert_eq!(output.code, Some(22), "an HTTP error: {output:?}");
    let error = &output.json()["error"];
    assert_eq!(error["code"], "revoked");
    assert_eq!(error["hint"], Refusal::Revoked.hint());
}
