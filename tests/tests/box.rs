//! What takes a machine of its own: a real systemd's units, an installation that it runs, and network namespaces as
//! containers have them.
//!
//! The scripts in `tests/box/` run inside `tests/systemd-box` and say what came of each case; here is what should.

use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use strongroom_tests::programs;

/// Runs a script in a box of its own and gives its lines.
fn run(script: &str) -> Vec<String> {
    run_with(script, &[], &[])
}

/// The same with arguments, and with variables of the box's own systemd.
fn run_with(script: &str, arguments: &[&str], variables: &[&str]) -> Vec<String> {
    assert!(geteuid().is_root());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(folder.join("systemd-box"));
    for variable in variables {
        command.args(["--env", variable]);
    }
    command.args(["--timeout", "500", "bash"]).arg(folder.join("box").join(script)).args(arguments);
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

#[test]
#[ignore = "needs root: boots a systemd of its own"]
fn a_system_installation_serves_is_caged_reloads_restarts_and_stops() {
    let expected = [
        "users: strongroom-keyd strongroom-gateway",
        "directories: /run/strongroom root 755 /etc/strongroom root 755 ",
        "before init: uninitialised, There is no vault yet; 'strongroom init' makes one.",
        "Next: 'strongroom unlock'.",
        "vault: strongroom-keyd 700 strongroom-keyd 600 ",
        "types: notify notify",
        "locked: The vault is locked; 'strongroom unlock' opens it.",
        "unlocked: The vault is unlocked.",
        "a request: the key came",
        "over agent.sock: the key came",
        "serving: Serving: the vault is unlocked.",
        "gatewayd binds nothing itself: 127.0.0.1:7777 (Stream),  1 \"strongroom-gate\" 1 \"systemd\" ",
        "logs\tthe journal: journalctl -u strongroom-keyd -u strongroom-gatewayd",
        "doctor: nothing failed",
        "keyd: CapEff:0000000000000000 CapBnd:0000000000000000 NoNewPrivs:1 Seccomp:2 ",
        "a shell beside keyd: Permission denied",
        "keyd writes: /var/lib/strongroom",
        "gatewayd: CapEff:0000000000000000 CapBnd:0000000000000000 NoNewPrivs:1 Seccomp:2 ",
        "a shell beside gatewayd: Permission denied",
        "gatewayd writes: nothing",
        "keyd's network: lo ",
        "keyd's network is its own",
        "gatewayd's is the machine's",
        "keyd's ready lines at info: 3",
        "a wrong passphrase, at warning: 1",
        "times or colours: 0",
        "reload: done",
        "after it: upstream_unreachable, the same process: yes",
        "a bad file: refused",
        "its line is in the journal: 1",
        "and the gateway runs: active, upstream_unreachable",
        "keyd has no reload",
        "gatewayd restarted: the key came",
        "keyd restarted: locked",
        "gatewayd stopped: inactive",
        "and then: active",
        "it waits",
        "and is served: the key came",
        "down: 1, the same processes",
        "stopped: success success, sockets left: 0",
        "connections are refused: 7",
    ];
    assert_eq!(run("system.sh"), expected);
}

#[test]
#[ignore = "needs root: boots a systemd of its own"]
fn daemons_that_are_killed_or_hang_come_back_and_their_sockets_stay() {
    let expected = [
        "gatewayd killed: the key came, the vault is unlocked",
        "its requests ended: 8",
        "keyd killed: vault_locked, the vault is locked",
        "its requests ended: 8",
        "gatewayd lived on: yes",
        "unlocked again: the key came",
        "gatewayd killed ten times: success, active",
        "keyd killed ten times: success, active",
        "the sockets: 4 running",
        "they are the same: yes",
        "and then: the key came",
        "gatewayd after a loop at start: active",
        "keyd after a loop at start: active",
        "who waited was served: the key came",
        "the sockets: 4 running",
        "keyd hung: 1, it is active",
        "gatewayd hung: 1, it is active",
        "idle under the watchdog: the same processes",
    ];
    assert_eq!(run("crash.sh"), expected);
}

#[test]
#[ignore = "needs root: boots a systemd of its own"]
fn an_agents_unit_runs_its_program_as_its_user_with_the_gateway_as_its_only_way_out() {
    let expected = [
        "elsewhere, from no unit: 200",
        "locked: auto-restart",
        "user: scribe in /var/lib/strongroom-agent/scribe, home /var/lib/strongroom-agent/scribe",
        "a placeholder in its environment",
        "through the proxy: the key came",
        "elsewhere: 000",
        "may write to /var/lib/strongroom-agent/scribe",
        "CapEff:0000000000000000 NoNewPrivs:1 Seccomp:2",
        "end",
        "a user that is no agent: 0 runs",
        "no program: not started",
    ];
    assert_eq!(run("agents.sh"), expected);
}

#[test]
#[ignore = "needs root: boots a systemd of its own, and in it a user's"]
fn one_users_units_serve_that_user() {
    let expected = [
        "manager: active",
        "a request: the key came",
        "keyd: notify active, The vault is unlocked.",
        "keyd: person CapEff:0000000000000000 NoNewPrivs:1 Seccomp:2 ",
        "gatewayd: person CapEff:0000000000000000 NoNewPrivs:1 Seccomp:2 ",
        "logs\tthe journal: journalctl --user -u strongroom-keyd -u strongroom-gatewayd",
        "doctor: nothing failed",
        "reload: done",
        "keyd killed: vault_locked",
    ];
    assert_eq!(run("user.sh"), expected);
}

#[test]
#[ignore = "needs root: boots a systemd of its own, logs a user in, and starts that user's keyring"]
fn a_login_unlocks_the_vault_once_its_keyring_is_unlocked() {
    let expected = [
        "the Secret Service",
        "logged out: keyd runs 0 times",
        "logged in: active, locked, default.target active",
        "the keyring is unlocked: unlocked, the unit success",
        "and that gives no access: 77",
    ];
    assert_eq!(run("login.sh"), expected);
}

const CREDENTIAL: [&str; 9] = [
    "added: root 600, passphrase credential ",
    "the file is no key",
    "it is there already",
    "locked by an admin: locked, vault_locked",
    "started again: unlocked, the key came",
    "after a crash: unlocked",
    "on record: each time",
    "and gives no access: 77",
    "the journal has a canary and no key",
];

#[test]
#[ignore = "needs root: boots a systemd of its own"]
fn a_server_comes_up_unlocked_with_a_credential_of_its_host() {
    let more = [
        "removed: locked, opens no slot of this vault",
        "another credential: locked, is not one of ours",
        "none: locked",
        "awake: unlocked, the key came",
        "before it sleeps: locked",
        "a keyd that was stopped stays so: inactive",
    ];
    assert_eq!(run_with("credential.sh", &["host"], &[]), [&CREDENTIAL[..], &more].concat());
}

#[test]
#[ignore = "needs root: boots a systemd of its own, with a TPM in software"]
fn a_server_comes_up_unlocked_with_its_tpm_and_no_other_one() {
    let lines = run_with("credential.sh", &["tpm2"], &["SYSTEMD_TPM2_DEVICE=swtpm:path=/run/swtpm"]);
    let more = ["with its TPM: 32 bytes", "with another TPM: does not open"];
    assert_eq!(lines, [&CREDENTIAL[..], &more].concat());
}
