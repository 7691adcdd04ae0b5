//! `strongroom` as scripts use it: exit codes, JSON, secrets from files and pipes, and many at once.

use std::fs;
use std::time::Instant;

use strongroom_ctl::admin_client::AdminClient;
use strongroom_protocol::admin::{Operation, Reply};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::random_key;

const NOT_REACHABLE: i32 = 69;
const LOCKED: i32 = 75;
const NOT_PERMITTED: i32 = 77;

#[test]
fn before_init_and_before_up_the_exit_codes_say_so() {
    let empty = Strongroom::new().empty();
    empty.ctl(&["up"]).assert_code(78);
    empty.ctl(&["lock"]).assert_code(NOT_REACHABLE);
    let created = Strongroom::new().created();
    let status = created.ctl(&["status", "--json"]);
    assert_eq!((status.code, status.json()["state"].as_str()), (Some(NOT_REACHABLE), Some("unreachable")));
    for command in [&["unlock"][..], &["lock"], &["credential", "list"], &["audit"]] {
        created.ctl(command).assert_code(NOT_REACHABLE);
    }
    created.ctl(&["down"]).assert_code(0);
}

#[test]
fn init_does_not_touch_a_vault_that_is_there() {
    let strongroom = Strongroom::new().created();
    let before = fs::read(strongroom.home().vault()).unwrap();
    strongroom.ctl(&[&["init"], strongroom.users()].concat()).assert_code(1);
    assert_eq!(fs::read(strongroom.home().vault()).unwrap(), before);
    strongroom.up();
    assert_eq!(strongroom.status()["state"], "locked");
}

#[test]
fn a_locked_vault_is_75_and_unlocking_twice_is_fine() {
    let strongroom = Strongroom::new().locked();
    assert_eq!(strongroom.status()["state"], "locked");
    for command in [&["credential", "list"][..], &["agent", "add", "a"], &["grant", "list"]] {
        strongroom.ctl(command).assert_code(LOCKED);
    }
    strongroom.must(&["unlock"]);
    strongroom.must(&["unlock"]);
    assert_eq!(strongroom.status()["state"], "unlocked");
    strongroom.must(&["agent", "add", "a"]);
    strongroom.must(&["lock"]);
    strongroom.must(&["lock"]);
    assert_eq!(strongroom.status()["state"], "locked");
}

#[test]
fn a_wrong_passphrase_is_77_and_changes_nothing() {
    let strongroom = Strongroom::new().locked();
    let wrong = strongroom.write("wrong", "not the passphrase\n");
    let wrong = wrong.to_str().unwrap();
    strongroom.ctl(&["unlock", "--passphrase-file", wrong]).assert_code(NOT_PERMITTED);
    assert_eq!(strongroom.status()["state"], "locked");
    strongroom.must(&["unlock"]);
    strongroom.ctl(&["agent", "add", "a", "--passphrase-file", wrong]).assert_code(NOT_PERMITTED);
    strongroom.ctl(&["agent", "show", "a"]).assert_code(1);
    strongroom.must(&["agent", "add", "a"]);
    strongroom.must(&["agent", "show", "a"]);
    strongroom.ctl(&["unlock", "--passphrase-file", "/no/such/file"]).assert_code(0);
    strongroom.must(&["lock"]);
    let missing = strongroom.ctl(&["unlock", "--passphrase-file", "/no/such/file"]);
    assert!(missing.code != Some(0) && missing.stderr.contains("/no/such/file"), "{missing:?}");
}

#[test]
fn what_narrows_needs_no_passphrase_and_what_widens_does() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    let without = |arguments: &[&str], stdin: &[u8]| {
        let mut command = strongroom.command(arguments);
        command.env_remove("STRONGROOM_PASSPHRASE_FILE");
        process::run(setsid(&mut command), stdin)
    };
    for command in [&["credential", "list"][..], &["agent", "list"], &["grant", "list"], &["audit"], &["status"]] {
        without(command, b"").assert_code(0);
    }
    let key = random_key("sk-");
    let widening: [(&[&str], &[u8]); 4] = [
        (&["credential", "add", "x", "--host", "x.example", "--bearer"], key.as_bytes()),
        (&["credential", "rotate", CREDENTIAL], key.as_bytes()),
        (&["agent", "add", "b"], b""),
        (&["grant", "add", CREDENTIAL, "--agent", AGENT], b""),
    ];
    for (command, stdin) in widening {
        let output = without(command, stdin);
        assert!(matches!(output.code, Some(64 | NOT_PERMITTED)), "{command:?}: {output:?}");
    }
    without(&["grant", "revoke", CREDENTIAL, "--agent", AGENT], b"").assert_code(0);
    without(&["agent", "revoke", AGENT], b"").assert_code(0);
    without(&["lock"], b"").assert_code(0);
}

/// Without a controlling terminal there is nobody to ask.
fn setsid(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: setsid is async-signal-safe and touches nothing of this process's memory.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) }
}

#[test]
fn lists_and_shows_are_json_with_what_was_given() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    let text = |arguments: &[&str]| {
        let output = strongroom.ctl(arguments);
        output.assert_code(0);
        output.json().to_string()
    };
    let credential = text(&["credential", "show", CREDENTIAL, "--json"]);
    for part in [CREDENTIAL, HOST] {
        assert!(credential.contains(part), "{credential}");
    }
    let through = |name: &str| {
        let shown = strongroom.ctl(&["credential", "show", name, "--json"]).json();
        (shown["keep_cookies"].clone(), shown["allow_range"].clone())
    };
    let add = ["credential", "add", "open", "--host", "open.example", "--bearer", "--keep-cookies", "--allow-range"];
    strongroom.must_with(&add, random_key("sk-").as_bytes());
    assert_eq!((through(CREDENTIAL), through("open")), ((false.into(), false.into()), (true.into(), true.into())));
    for list in [text(&["credential", "list", "--json"]), text(&["grant", "list", "--json"])] {
        assert!(list.contains(CREDENTIAL), "{list}");
    }
    for list in [
        text(&["agent", "list", "--json"]),
        text(&["agent", "show", AGENT, "--json"]),
        text(&["grant", "list", "--json"]),
    ] {
        assert!(list.contains(AGENT), "{list}");
    }
    let status = strongroom.status();
    assert_eq!(status["state"], "unlocked");
    assert!(process::is_ours(strongroom.keyd()) && process::is_ours(strongroom.gatewayd()), "{status}");
    let placeholder = strongroom.must(&["grant", "list", "--json"]);
    assert!(placeholder.contains(&scene.placeholder));
}

#[test]
fn names_that_exist_or_do_not_are_1() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    let key = random_key("sk-");
    strongroom.ctl_with(&["credential", "add", CREDENTIAL, "--host", HOST, "--bearer"], key.as_bytes()).assert_code(1);
    strongroom.ctl(&["agent", "add", AGENT]).assert_code(1);
    for command in [
        &["credential", "show", "nobody"][..],
        &["agent", "show", "nobody"],
        &["agent", "revoke", "nobody"],
        &["grant", "add", "nobody", "--agent", AGENT],
        &["grant", "add", CREDENTIAL, "--agent", "nobody"],
        &["grant", "revoke", "nobody", "--agent", AGENT],
        &["credential", "remove", "nobody", "--yes"],
    ] {
        strongroom.ctl(command).assert_code(1);
    }
    strongroom.ctl_with(&["credential", "rotate", "nobody"], key.as_bytes()).assert_code(1);
}

#[test]
fn exactly_one_newline_of_a_secret_is_stripped() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let ends = [("none", ""), ("lf", "\n"), ("crlf", "\r\n")];
    for (name, end) in ends {
        let key = random_key("sk-");
        let ca = scene.strongroom.write("root.pem", scene.root.pem());
        let arguments = ["credential", "add", name, "--host", HOST, "--bearer", "--ca", ca.to_str().unwrap()];
        scene.strongroom.must_with(&arguments, format!("{key}{end}").as_bytes());
        let placeholder = scene.grant(name, AGENT, &[]);
        assert_eq!(scene.strongroom.request("GET", &format!("/{name}/x")).bearer(&placeholder).send().status(), 200);
        let last = scene.upstream.received().pop().expect("it was just sent");
        assert_eq!(last.head.values("authorization"), [format!("Bearer {key}")], "{name}");
    }
    let arguments = ["credential", "add", "two", "--host", HOST, "--bearer"];
    scene.strongroom.ctl_with(&arguments, format!("{}\n\n", random_key("sk-")).as_bytes()).assert_code(1);
}

#[test]
fn weak_keys_are_taken_only_when_asked_for() {
    let strongroom = Strongroom::new().start();
    let add = |name: &str, key: &[u8], more: &[&str]| {
        let usual = ["credential", "add", name, "--host", "x.example", "--bearer"];
        strongroom.ctl_with(&[&usual, more].concat(), key)
    };
    add("short", b"hunter2", &[]).assert_code(1);
    add("guessable", b"aaaaaaaaaaaaaaaaaaaaaaaa", &[]).assert_code(1);
    add("empty", b"", &[]).assert_code(1);
    let taken = add("short", b"hunter2", &["--allow-weak"]);
    taken.assert_code(0);
    assert!(!taken.stderr.is_empty(), "it says that such a key is not scrubbed");
    add("good", random_key("sk-").as_bytes(), &[]).assert_code(0);
    let rotate =
        |key: &[u8], more: &[&str]| strongroom.ctl_with(&[&["credential", "rotate", "good"], more].concat(), key);
    rotate(b"hunter3", &[]).assert_code(1);
    let usual = rotate(random_key("sk-").as_bytes(), &[]);
    assert_eq!((usual.code, usual.stderr.as_str()), (Some(0), ""));
    let taken = rotate(b"hunter3", &["--allow-weak"]);
    assert!(taken.code == Some(0) && taken.stderr.contains("not masked"), "{taken:?}");
}

#[test]
fn many_writers_lose_nothing() {
    let strongroom = Strongroom::new().start();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let strongroom = &strongroom;
            scope.spawn(move || {
                let (credential, agent) = (format!("credential-{number}"), format!("agent-{number}"));
                let host = format!("h{number}.example");
                strongroom.must_with(
                    &["credential", "add", &credential, "--host", &host, "--bearer"],
                    random_key("sk-").as_bytes(),
                );
                strongroom.must(&["agent", "add", &agent]);
                strongroom.must(&["grant", "add", &credential, "--agent", &agent]);
            });
        }
    });
    let all_are_there = || {
        let (credentials, grants) =
            (strongroom.must(&["credential", "list", "--json"]), strongroom.must(&["grant", "list", "--json"]));
        for number in 0..8 {
            assert!(credentials.contains(&format!("credential-{number}\"")), "{credentials}");
            assert!(grants.contains(&format!("agent-{number}\"")), "{grants}");
        }
    };
    all_are_there();
    // And in the file, not only in memory.
    strongroom.must(&["down"]);
    strongroom.up();
    strongroom.must(&["unlock"]);
    all_are_there();
}

#[test]
fn up_and_down_can_be_repeated_and_hold_no_pipe() {
    let strongroom = Strongroom::new().created();
    // `run` reads both pipes to their ends: a daemon that kept one would hang it.
    let begin = Instant::now();
    strongroom.up();
    assert!(begin.elapsed() < Duration::from_secs(30));
    let first = (strongroom.keyd(), strongroom.gatewayd());
    strongroom.up();
    assert_eq!((strongroom.keyd(), strongroom.gatewayd()), first, "up while up changes nothing");
    strongroom.must(&["down"]);
    process::wait_until_gone(first.0, Duration::from_secs(5));
    process::wait_until_gone(first.1, Duration::from_secs(5));
    strongroom.must(&["down"]);
    strongroom.up();
    assert_ne!(strongroom.keyd(), first.0);
}

#[test]
fn a_second_keyd_on_the_same_vault_refuses_to_start() {
    let strongroom = Strongroom::new().locked();
    let mut second = std::process::Command::new(strongroom_tests::programs::path("strongroom-keyd"));
    second.env_clear().env("STRONGROOM_HOME", strongroom.root());
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        second.uid(strongroom_ctl::demo::stage::KEYD_USER).gid(strongroom_ctl::demo::stage::KEYD_USER);
    }
    let output = process::run(&mut second, b"");
    assert!(output.code.is_some_and(|code| code != 0), "{output:?}");
    assert!(!output.stderr.trim().is_empty() && !output.stderr.contains("panicked"), "{output:?}");
    strongroom.must(&["unlock"]);
}

/// Whoever `admin-uids` names is let in, and nobody else: also where both daemons run as one user.
#[test]
#[ignore = "needs root: asks as other users"]
fn admins_are_whom_the_configuration_names() {
    use std::os::unix::process::CommandExt;
    const NAMED: u32 = 61_041;
    const OTHER: u32 = 61_042;
    const NOBODY: u32 = 65_534;
    for is_separate in [false, true] {
        let strongroom = Strongroom::new().empty();
        let users = if is_separate { strongroom.users() } else { &[] };
        strongroom.must(&[&["init"], users].concat());
        let as_user = |uid: u32, arguments: &[&str]| {
            process::run(strongroom.command(arguments).uid(uid).gid(uid).current_dir("/"), b"")
        };
        strongroom.must(&[&["up"], users].concat());
        for uid in [NAMED, OTHER] {
            assert_eq!(as_user(uid, &["status"]).code, Some(77), "{users:?}: nobody is named yet");
        }
        strongroom.must(&["down"]);
        let file = strongroom.home().keyd_config();
        let text = std::fs::read_to_string(&file).unwrap();
        let kept: String =
            text.lines().filter(|line| !line.starts_with("admin-uids")).map(|line| [line, "\n"].concat()).collect();
        std::fs::write(&file, format!("admin-uids = [{NAMED}]\n{kept}")).unwrap();
        strongroom.must(&[&["up"], users].concat());
        let status = as_user(NAMED, &["status", "--json"]);
        assert_eq!(status.code, Some(0), "{users:?}: {status:?}");
        assert_eq!(as_user(OTHER, &["status"]).code, Some(77), "{users:?}");
        // Not only to look.
        std::os::unix::fs::chown(strongroom.passphrase_file(), Some(NAMED), None).unwrap();
        assert_eq!(as_user(NAMED, &["unlock"]).code, Some(0), "{users:?}");
        assert_eq!(as_user(OTHER, &["lock"]).code, Some(77), "{users:?}");
        assert_eq!(strongroom.status()["state"], "unlocked", "{users:?}");
        assert_eq!(as_user(NAMED, &["lock"]).code, Some(0), "{users:?}");
        assert_eq!(as_user(NOBODY, &["lock"]).code, Some(77), "{users:?}: told as any other stranger is");
    }
}

/// Whoever has no passphrase can neither fill the log by it nor wear out the backup.
#[test]
fn what_is_taken_away_again_leaves_the_vault_its_backup_and_the_log_alone() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let strongroom = &scene.strongroom;
    strongroom.must(&["agent", "allow", AGENT, "files.example"]);
    let vault = strongroom.home().data.join("vault");
    let now = || (fs::read(&vault).unwrap(), fs::read(vault.with_extension("bak")).unwrap(), strongroom.audit());
    // By hand: ctl looks first and sends no second disallowing.
    let ask = |operation| {
        let said = AdminClient::connect(strongroom.home()).and_then(|mut admin| admin.ask(operation));
        assert!(matches!(said, Ok(Reply::Done)), "{said:?}");
    };
    let (agent, credential) = (|| AGENT.parse().unwrap(), || CREDENTIAL.parse().unwrap());
    let hosts = || vec!["files.example".parse().unwrap()];
    let operations: [&dyn Fn() -> Operation; 3] = [
        &|| Operation::AgentDisallow { name: agent(), hosts: hosts() },
        &|| Operation::GrantRevoke { credential: credential(), agent: agent() },
        &|| Operation::AgentRevoke { name: agent() },
    ];
    for operation in operations {
        let before = now();
        ask(operation());
        let once = now();
        assert!(once.0 != before.0 && once.1 == before.0 && once.2.len() > before.2.len(), "{:?}", operation());
        ask(operation());
        assert!(now() == once, "{:?}", operation());
    }
    scene.get("/openai/x").send().assert_refused(Refusal::Revoked);
}

/// The breaker closes the same cages, from the same files, and tells their tables; what is in these is pinned by its tests.
#[test]
fn doctor_shows_each_rule_of_both_live_daemons() {
    let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b""));
    let output = scene.strongroom.ctl(&["doctor", "--json"]);
    output.assert_code(0);
    assert!(!output.stdout.contains("\"failed\""), "{}", output.stdout);
    let lines = scene.strongroom.must(&["doctor"]);
    let shown = |state: &str, of: &str, name: &str| {
        let is_row = |row: &serde_json::Value| row["of"] == of && row["name"] == name && row["state"] == state;
        let row = format!("{state}\t{of}\t{name}\t");
        assert!(output.json().as_array().unwrap().iter().any(is_row), "{row} in {}", output.stdout);
        assert!(lines.lines().any(|line| line.starts_with(&row)), "{row} in {lines}");
    };
    for (of, at_least) in [("keyd", 16), ("gatewayd", 11)] {
        shown("ok", "set-up", &format!("{of}-from-outside"));
        let data = tempfile::tempdir().unwrap();
        let mut breaker = std::process::Command::new(env!("CARGO_BIN_EXE_breaker"));
        let account = process::run(breaker.arg(of).arg(data.path()).arg("checks"), b"").stdout;
        let rules: Vec<_> = account.lines().filter_map(|line| line.split_once(": ")?.0.split_once(' ')).collect();
        assert!(rules.len() >= at_least, "{account}");
        for (state, name) in rules {
            shown(&state.to_lowercase(), of, name);
        }
    }
}

#[test]
fn a_grant_that_has_expired_is_not_counted_as_live() {
    let strongroom = Strongroom::new().start();
    strongroom.must_with(&["credential", "add", "openai", "--provider", "openai"], random_key("sk-").as_bytes());
    strongroom.must(&["agent", "add", "coder"]);
    let counted = || {
        let of = |words: &[&str], name: &str| strongroom.ctl(words).json()[name].as_u64().unwrap();
        [
            of(&["agent", "show", "coder", "--json"], "live_grants"),
            of(&["credential", "show", "openai", "--json"], "grants"),
        ]
    };
    strongroom.must(&["grant", "add", "openai", "--agent", "coder", "--expires", "1s"]);
    within(Duration::from_secs(20), "it expires", || {
        let shown = strongroom.ctl(&["grant", "show", "openai", "--agent", "coder", "--json"]).json();
        (shown["state"] == "expired").then_some(())
    });
    assert_eq!(counted(), [0, 0]);
    strongroom.must(&["grant", "add", "openai", "--agent", "coder", "--expires", "1h"]);
    assert_eq!(counted(), [1, 1]);
}

#[test]
fn a_new_agent_has_nothing_of_a_removed_one_of_its_name() {
    let strongroom = Strongroom::new().start();
    strongroom.must_with(&["credential", "add", "openai", "--provider", "openai"], random_key("sk-").as_bytes());
    let grant = || strongroom.must(&["grant", "add", "openai", "--agent", "coder"]).trim().to_owned();
    let placeholders = |words: &[&str]| {
        let shown = strongroom.ctl(words).json();
        let grants = shown["grants"].as_array().or(shown.as_array()).unwrap().clone();
        grants.iter().map(|one| format!("{} {}", one["placeholder"], one["state"])).collect::<Vec<_>>()
    };
    let of_agent = || placeholders(&["agent", "show", "coder", "--json"]);
    let show = ["grant", "show", "openai", "--agent", "coder", "--json"];
    strongroom.must(&["agent", "add", "coder"]);
    let first = grant();
    assert_eq!(of_agent(), [format!("\"{first}\" \"live\"")]);
    strongroom.must(&["agent", "remove", "coder", "--yes"]);
    let all = || placeholders(&["grant", "list", "--json"]);
    assert_eq!(all(), [format!("\"{first}\" \"revoked\"")], "its placeholder is still to be seen");

    strongroom.must(&["agent", "add", "coder"]);
    assert_eq!(of_agent(), Vec::<String>::new());
    strongroom.ctl(&show).assert_code(1);
    let second = grant();
    assert_eq!(of_agent(), [format!("\"{second}\" \"live\"")]);
    assert_eq!(strongroom.ctl(&show).json()["placeholder"], second.as_str());
    // The same of a credential.
    strongroom.must(&["credential", "remove", "openai", "--yes"]);
    strongroom.must_with(&["credential", "add", "openai", "--provider", "openai"], random_key("sk-").as_bytes());
    strongroom.ctl(&show).assert_code(1);
    assert_eq!((of_agent().len(), all().len()), (0, 2));
}
