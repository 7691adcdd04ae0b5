//! `env`, `run`, `status` and what asks for new passphrases as built, against stand-ins for the daemons.
#![allow(clippy::unwrap_used)]

mod daemons;
mod keyring;
mod odd_paths;
mod passphrases;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use daemons::{Stage, grant, openai};
use serde_json::Value;
use strongroom_protocol::admin::{Failure, Reply, Status, Thing};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A stage where an agent alone may ask.
fn for_agents() -> Stage {
    let stage = Stage::new();
    let (first, second) =
        (stage.document("coder", &[openai()], true), stage.document("coder", &[grant(7, "tickets", None, &[])], false));
    stage.gatewayd(move |path| match path {
        "/.strongroom/environment?agent=coder" => Ok(first.clone()),
        "/.strongroom/environment?agent=coder&after=1" => Ok(second.clone()),
        "/.strongroom/environment?agent=other" => Ok(first.clone()),
        "/.strongroom/environment?agent=late" => Err("vault_locked"),
        "/.strongroom/environment?agent=alone" => Err("keyd_unavailable"),
        "/.strongroom/environment?agent=stranger" => Err("agent_unknown"),
        _ => Err("agent_mismatch"),
    });
    stage
}

/// A stage where an admin asks, and the agent has a token.
fn for_admins() -> Stage {
    let stage = Stage::new();
    let pages = [stage.page(vec![openai()], true), stage.page(vec![grant(7, "tickets", None, &[])], false)];
    stage.keyd(move |agent, after| match (agent, after) {
        ("coder", None) => Ok(pages[0].clone()),
        ("coder", Some(1)) => Ok(pages[1].clone()),
        ("late", _) => Err(Failure::Locked),
        _ => Err(Failure::NoSuch(Thing::Agent)),
    });
    stage.gatewayd(|_| Err("agent_unknown"));
    stage
}

#[test]
fn an_agent_gets_its_own_environment_page_by_page() {
    let stage = for_agents();
    let variables = json(&stage.strongroom(&["env", "--agent", "coder", "--format", "json"]));
    assert_eq!(variables["OPENAI_API_KEY"], "strongroom-mine");
    assert_eq!(variables["TICKETS"], "strongroom-tickets");
    assert_eq!(variables["https_proxy"], format!("http://{}", stage.listen()));
    let bundle = stage.home().join("run/ca-bundle.pem");
    assert_eq!(variables["SSL_CERT_FILE"], bundle.to_str().unwrap());
    assert_eq!(strongroom_ctl::certificates::read(&bundle).unwrap()[0], stage.ca);
}

#[test]
fn another_agent_and_every_refusal_are_told_apart() {
    let stage = for_agents();
    for (agent, exit, words) in [
        ("other", 77, "the agent coder and not other"),
        ("late", 75, "strongroom: It is so. Do it. (vault_locked)\n"),
        ("alone", 69, "strongroom: It is so. Do it. (keyd_unavailable)\n"),
        ("stranger", 77, "strongroom: It is so. Do it. (agent_unknown) Where several agents are bound to this user"),
        ("mismatch", 77, "strongroom: It is so. Do it. (agent_mismatch)\n"),
    ] {
        for command in [&["env", "--agent", agent][..], &["run", "--agent", agent, "--", "true"]] {
            let output = stage.strongroom(command);
            assert_eq!(code(&output), exit, "{command:?}");
            assert!(stderr(&output).contains(words) && output.stdout.is_empty(), "{command:?}: {}", stderr(&output));
        }
    }
}

#[test]
fn an_admin_gets_the_token_as_well() {
    let stage = for_admins();
    let shell = stdout(&stage.strongroom(&["env", "--agent", "coder"]));
    let proxy = format!("export HTTPS_PROXY='http://coder:strongroom-agent-t@{}'\n", stage.listen());
    assert!(shell.contains(&proxy) && shell.contains("export TICKETS='strongroom-tickets'\n"), "{shell}");
    let base = stage.strongroom(&["env", "--agent", "coder", "--mode", "base-url", "--format", "dotenv"]);
    let url = format!("OPENAI_BASE_URL=http://{}/@strongroom-agent-t/openai/v1\n", stage.listen());
    assert!(stdout(&base).contains(&url) && !stdout(&base).contains("PROXY"), "{}", stdout(&base));
    assert!(stderr(&base).contains("/@TOKEN/tickets"), "{}", stderr(&base));
    assert_eq!(code(&stage.strongroom(&["env", "--agent", "late"])), 75);
    assert_eq!(code(&stage.strongroom(&["env", "--agent", "nobody"])), 1);
}

#[test]
fn who_is_no_admin_is_sent_to_agent_sock() {
    let stage = for_agents();
    stage.keyd(|_, _| Err(Failure::NotPermitted));
    let variables = json(&stage.strongroom(&["env", "--agent", "coder", "--format", "json"]));
    assert_eq!(variables["TICKETS"], "strongroom-tickets");
}

#[test]
fn a_gateway_without_an_open_port_is_unreachable() {
    let stage = Stage::new();
    let page = stage.page(vec![openai()], false);
    stage.keyd(move |_, _| Ok(page.clone()));
    let no_gatewayd = stage.strongroom(&["env", "--agent", "coder"]);
    assert!(code(&no_gatewayd) == 69 && stderr(&no_gatewayd).contains("agent.sock"), "{}", stderr(&no_gatewayd));
    let mut document = stage.document("coder", &[openai()], false);
    document["listen"] = serde_json::json!(["127.0.0.1:1"]);
    let other = Stage::new();
    other.gatewayd(move |_| Ok(document.clone()));
    let closed = other.strongroom(&["env", "--agent", "coder"]);
    assert!(code(&closed) == 69 && stderr(&closed).contains("127.0.0.1:1"), "{}", stderr(&closed));
}

#[test]
fn status_shows_the_port_that_the_kernel_chose() {
    let stage = Stage::new();
    fs::create_dir(stage.home().join("config")).unwrap();
    fs::write(stage.home().join("config/gatewayd.toml"), "listen = [\"127.0.0.1:0\"]\n").unwrap();
    let gatewayd_pid = Some(1);
    stage.admin(move |_| Reply::Status(Status { gatewayd_pid, ..passphrases::status() }));
    let shown = || json(&stage.strongroom(&["status", "--json"]))["listen"].clone();
    assert_eq!(shown(), serde_json::json!(["127.0.0.1:0"]), "gatewayd does not answer: its configuration");
    stage.gatewayd(|_| Err("agent_unknown"));
    assert_eq!(shown(), serde_json::json!([stage.listen()]));
    let table = stdout(&stage.strongroom(&["status"]));
    assert!(table.contains(&format!("listens at\t{}\n", stage.listen())), "{table}");
}

#[test]
fn a_run_program_has_placeholders_and_none_of_the_callers_keys() {
    let stage = for_admins();
    let output = stage
        .command(&["run", "--agent", "coder", "--", "env"])
        .env("OPENAI_API_KEY", "sk-real")
        .env("ANTHROPIC_API_KEY", "sk-real")
        .env("STRONGROOM_PASSPHRASE_FILE", "/real")
        .env("HTTPS_PROXY", "http://real.example")
        .env("EDITOR", "ed")
        .output()
        .unwrap();
    let variables = stdout(&output);
    assert!(!variables.contains("real") && !variables.contains("STRONGROOM_"), "{variables}");
    for line in ["OPENAI_API_KEY=strongroom-mine", "TICKETS=strongroom-tickets", "EDITOR=ed", "NODE_USE_ENV_PROXY=1"] {
        assert!(variables.lines().any(|one| one == line), "{line}: {variables}");
    }
    assert!(stderr(&output).contains("Warning: the agent coder runs as a user who administers"), "{}", stderr(&output));
}

#[test]
fn the_programs_exit_code_and_signals_are_its_own() {
    let stage = for_agents();
    let run = |words: &[&str]| stage.strongroom(&[&["run", "--agent", "coder", "--"], words].concat());
    assert_eq!(code(&run(&["sh", "-c", "exit 42"])), 42);
    let killed = run(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.status), Some(15));
    // A program that ignores SIGPIPE for its parent's sake would not notice that its reader is gone.
    assert_eq!(stdout(&run(&["sh", "-c", "(while :; do echo y; done; echo no >&2) | head -n 1"])), "y\n");
    let missing = run(&["no-such-program"]);
    assert!(code(&missing) == 127 && stderr(&missing).contains("no-such-program"), "{}", stderr(&missing));
    let file = stage.user().join("text");
    fs::write(&file, "no program").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code(&run(&[file.to_str().unwrap()])), 126);
}

#[test]
fn a_run_program_may_leave_core_files_as_its_caller_may() {
    let stage = for_agents();
    let limits = "ulimit -Sc; ulimit -Hc";
    let run = stage.command(&["run", "--agent", "coder", "--", "sh", "-c", limits]);
    // As large ones as may be.
    let widest = format!("ulimit -Hc unlimited 2>/dev/null; ulimit -Sc $(ulimit -Hc); {limits}; exec \"$@\"");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &widest, "sh"]).arg(run.get_program()).args(run.get_args()).env_clear();
    let output = shell.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?)))).output().unwrap();
    let said = stdout(&output);
    let lines: Vec<_> = said.lines().collect();
    assert!(code(&output) == 0 && lines.len() == 4 && lines[..2] == lines[2..], "{said} {}", stderr(&output));
}

#[test]
fn what_cannot_be_an_environment_starts_nothing() {
    let stage = Stage::new();
    let twice = [openai(), grant(2, "theirs", Some("openai"), &["OPENAI_API_KEY"])];
    let document = stage.document("coder", &twice, false);
    stage.gatewayd(move |_| Ok(document.clone()));
    let output = stage.strongroom(&["run", "--agent", "coder", "--", "echo", "started"]);
    let words = stderr(&output);
    assert!(code(&output) == 1 && output.stdout.is_empty(), "{words}");
    assert!(["mine", "theirs", "OPENAI_API_KEY"].iter().all(|part| words.contains(part)), "{words}");
}

#[test]
#[ignore = "needs root: runs a program as another user"]
fn with_user_the_program_is_that_user_and_nothing_of_root_is_left() {
    let stage = for_admins();
    fs::set_permissions(stage.user(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = "id -u; id -G; grep -E '^(Uid|Gid|CapEff|CapPrm)' /proc/self/status; head -c 5 \"$SSL_CERT_FILE\"; echo; echo $HOME";
    let run = ["run", "--agent", "coder", "--user", "61001", "--", "sh", "-c", script];
    let output = stage.command(&run).current_dir("/").env("XDG_RUNTIME_DIR", "/run/user/0").output().unwrap();
    let zero = "0000000000000000";
    let ids = "61001\t61001\t61001\t61001";
    assert_eq!(
        stdout(&output),
        format!("61001\n61001\nUid:\t{ids}\nGid:\t{ids}\nCapPrm:\t{zero}\nCapEff:\t{zero}\n# Mad\n/\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(code(&stage.strongroom(&["run", "--agent", "coder", "--user", "no-such-user", "--", "true"])), 1);
}
