//! What takes a machine of its own: a real systemd's units, and network namespaces as containers have them.
//!
//! The scripts in `tests/box/` run inside `tests/systemd-box` and say what came of each case; here is what should.

use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use strongroom_tests::programs;

/// Runs a script in a box of its own and gives its lines.
fn run(script: &str) -> Vec<String> {
    assert!(geteuid().is_root());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(folder.join("systemd-box"));
    command.args(["--timeout", "120", "bash"]).arg(folder.join("box").join(script));
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("PROGRAMS", programs::directory());
    let output = command.output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root: boots a systemd of its own"]
fn a_unit_is_an_agent_and_nobody_else_is_it() {
    let expected = [
        "in its unit: request_not_allowed",
        "an instance of a template: request_not_allowed",
        "in another agent's unit: agent_mismatch",
        "in a unit of nobody's: agent_unknown",
        "in no unit: agent_unknown",
        "over TCP: agent_unknown",
    ];
    let lines = run("units.sh");
    assert_eq!(lines[..expected.len()], expected, "request_not_allowed is what a good request gets here");
    assert!(
        lines[expected.len()..].iter().any(|line| line.ends_with("\"agent\":\"coder\",\"evidence\":\"socket\"")),
        "{lines:?}"
    );
}

#[test]
#[ignore = "needs root: makes network namespaces in a box of its own"]
fn an_agent_in_a_container_is_known_by_its_token_or_by_agent_sock() {
    let expected = [
        "with its token: request_not_allowed",
        "without it: agent_unknown",
        "root there is nobody here: agent_unknown",
        "root here is root: request_not_allowed",
        "a placeholder that needs no proof: request_not_allowed",
        "another name for the gateway: authority_mismatch",
        "agent.sock, bind-mounted: request_not_allowed",
        "CONNECT with credentials: 200",
        "CONNECT without: 403",
    ];
    assert_eq!(run("namespaces.sh"), expected, "request_not_allowed is what a good request gets here");
}
