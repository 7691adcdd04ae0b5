//! gh, GitHub's own program, which stands for everything written in Go.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::github::GITHUB;
use strongroom_tests::prelude::*;

use crate::stage::{Stage, speaks};
use crate::table::http;

fn gh(stage: &Stage, arguments: &[&str], over: &[(&str, &str)]) -> Output {
    Builder::new("gh", arguments).run_as(&stage.strongroom, AGENT, over).run()
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn it_calls_and_follows_pages() {
    let stage = Stage::of(GITHUB);
    let output = gh(&stage, &["api", "user", "--jq", ".login"], &[]);
    output.assert_code(0);
    assert_eq!(output.stdout.trim(), "bot");
    let output = gh(&stage, &["api", "--paginate", "repos/agent/lib/issues", "--jq", ".[].title"], &[]);
    output.assert_code(0);
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), ["first", "second"]);
    stage.assert_only_right();
}

#[test]
#[ignore = "needs the real clients: tests/clients/install"]
fn a_refusal_is_shown_to_the_user() {
    let stage = Stage::of(GITHUB);
    let gone = stage.agent("gone", &[]);
    stage.strongroom.must(&["agent", "revoke", "gone"]);
    let output = speaks(&stage.strongroom, AGENT, http(module_path!()), |over| {
        gh(&stage, &["api", "user"], &[over, &[("GH_TOKEN", &gone)]].concat())
    });
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("403"), "{output:?}");
    assert!(output.stdout.contains(Refusal::Revoked.hint()), "{output:?}");
    assert_eq!(stage.api.upstream.count(), 0);
}
