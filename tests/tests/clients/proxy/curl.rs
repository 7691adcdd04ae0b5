//! curl by the provider's name: through CONNECT and by `http://`, whole and streamed, and what is refused.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::openai::OPENAI;
use strongroom_tests::fake_api::{WORDS, text};
use strongroom_tests::prelude::*;

use crate::stage::Stage;

const CHAT: &str = r#"{"model":"gpt-fake","messages":[{"role":"user","content":"Where are keys kept?"}]}"#;
const CHAT_STREAM: &str = r#"{"stream":true,"model":"gpt-fake","messages":[{"role":"user","content":"Where?"}]}"#;

/// As OpenAI's documentation shows it: the key is the shell's variable.
fn curl(stage: &Stage, scheme: &str, more: &[&str], body: &str, over: &[(&str, &str)]) -> Builder {
    let url = format!("{scheme}://api.openai.com/v1/chat/completions");
    let script = r#"exec curl -sS --max-time 30 -H "Authorization: Bearer $OPENAI_API_KEY" "$@""#;
    let usual = ["-c", script, "sh", &url, "-H", "Content-Type: application/json", "-d", body];
    Builder::new("sh", &[&usual, more].concat()).run_as(&stage.strongroom, AGENT, over)
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn it_calls_with_https_and_http_and_streams() {
    let stage = Stage::of(OPENAI);
    for (scheme, version) in [("https", "2"), ("http", "1.1")] {
        let output = curl(&stage, scheme, &["--fail", "-w", "%{stderr}%{http_version}"], CHAT, &[]).run();
        output.assert_code(0);
        assert_eq!(output.json()["choices"][0]["message"]["content"], text());
        assert!(output.stderr.ends_with(version), "{output:?}");
        assert_eq!(Needles::of(stage.api.key.as_bytes()).find(output.stdout.as_bytes()), None);
    }
    for version in ["--http1.1", "--http2"] {
        let mut client = curl(&stage, "https", &["--fail", "--no-buffer", version], CHAT_STREAM, &[]).start();
        for word in WORDS {
            let line = std::iter::repeat_with(|| client.line()).find(|line| line.contains(word)).unwrap();
            assert!(line.starts_with("data: {"), "{line}");
            stage.api.go_on();
        }
        let output = client.finish();
        output.assert_code(0);
        assert!(output.stdout.ends_with("data: [DONE]\n\n"), "{output:?}");
    }
    stage.assert_only_right();
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn refusals_are_failures_and_other_hosts_are_not_reached() {
    let stage = Stage::of(OPENAI);
    let gone = stage.agent("gone", &[]);
    stage.strongroom.must(&["agent", "revoke", "gone"]);
    let output = curl(&stage, "https", &["--fail-with-body"], CHAT, &[("OPENAI_API_KEY", &gone)]).run();
    assert_eq!(output.code, Some(22), "an HTTP error: {output:?}");
    assert_eq!(output.json()["error"]["hint"], Refusal::Revoked.hint());

    let other = ["-sS", "--max-time", "30", "https://elsewhere.example/"];
    let output = Builder::new("curl", &other).run_as(&stage.strongroom, AGENT, &[]).run();
    assert_eq!(output.code, Some(56), "{output:?}");
    assert!(output.stderr.contains("403"), "{output:?}");
    let plain = ["-sS", "--max-time", "30", "http://elsewhere.example/"];
    let output = Builder::new("curl", &plain).run_as(&stage.strongroom, AGENT, &[]).run();
    output.assert_code(0);
    assert_eq!(output.json()["error"]["type"], "strongroom", "{output:?}");
    assert_eq!(stage.api.upstream.count(), 0);
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn a_client_that_goes_past_the_proxy_reaches_nothing() {
    let stage = Stage::of(OPENAI);
    let output = curl(&stage, "https", &["--noproxy", "*"], CHAT, &[]).run();
    output.assert_code(6);
    assert_eq!(stage.api.upstream.connections(), 0);
}
