//! Codex, `codex exec`, with an empty home and no account, on OpenAI's API as it comes.
//!
//! It would send its key to a second host, which nothing here names.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::openai::OPENAI;
use strongroom_tests::fake_api::{WORDS, text};
use strongroom_tests::prelude::*;

use crate::stage::{Stage, speaks};
use crate::table::http;

/// An agent with a token: what it is refused is on record by the host's name.
const KNOWN: &str = "known";

fn add_agent(stage: &Stage, limits: &[&str]) {
    stage.strongroom.must(&["agent", "add", KNOWN, "--token"]);
    stage.strongroom.must(&[&["grant", "add", stage.api.provider.name, "--agent", KNOWN], limits].concat());
}

fn codex(stage: &Stage, options: &[&str], over: &[(&str, &str)]) -> Builder {
    let usual = ["exec", "--skip-git-repo-check", "Where are keys kept?"];
    Builder::codex(&[&usual, options].concat()).run_as(&stage.strongroom, KNOWN, over)
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn it_answers_and_its_other_hosts_are_refused_and_on_record() {
    let stage = Stage::of(OPENAI);
    (0..10 * WORDS.len()).for_each(|_| stage.api.go_on());
    add_agent(&stage, &[]);
    let output = codex(&stage, &[], &[]).run();
    output.assert_code(0);
    assert_eq!(output.stdout.trim(), text(), "{output:?}");
    assert_eq!(Needles::of(stage.api.key.as_bytes()).find(format!("{output:?}").as_bytes()), None);
    stage.assert_only_right();
    let lines = stage.strongroom.audit();
    // It asks for chatgpt.com and, with git, for github.com; of the refusals of one second the first is named alone.
    let others = ["chatgpt.com", "github.com"];
    let is_other = |line: &&serde_json::Value| line["host"].as_str().is_some_and(|host| others.contains(&host));
    let refused = lines.iter().find(is_other).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&refused["agent"], &refused["method"]), (&KNOWN.into(), &"CONNECT".into()), "{refused}");
    assert!(lines.iter().filter(is_other).all(|line| line["decision"] == "host_not_allowed"), "{lines:?}");
}

/// The same API as an entry of its configuration, for which it tries no WebSocket first.
const PLAIN: &str = r#"model_providers.plain={name="plain",base_url="https://api.openai.com/v1",env_key="OPENAI_API_KEY",wire_api="responses"}"#;

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn a_refusal_is_shown_to_the_user() {
    let stage = Stage::of(OPENAI);
    let options = ["-c", "model_provider=plain", "-c", PLAIN];
    add_agent(&stage, &["--allow", "GET /v1/models"]);
    let output = speaks(&stage.strongroom, KNOWN, http(module_path!()), |over| codex(&stage, &options, over).run());
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains(Refusal::RequestNotAllowed.code()), "{output:?}");
}
