//! `strongroom up` where the world around it is not tidy: descriptors of a caller, a runtime directory that is gone, users
//! that are not named, and several at once.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::pty::openpty;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use strongroom_tests::prelude::*;

const CONFIGURATION: i32 = 78;

#[test]
fn a_pipe_that_the_caller_left_open_ends_when_up_does() {
    let strongroom = Strongroom::new().created();
    let up = strongroom.command(&[&["up"], strongroom.users()].concat());
    let mut shell = Command::new("/bin/sh");
    // Descriptor 7 is the pipe on which `output` below waits for the end.
    shell.args(["-c", "exec 7>&1 1>/dev/null 2>&1; echo open >&7; exec \"$@\"", "sh"]);
    shell.arg(up.get_program()).args(up.get_args());
    shell.env_clear().envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(shell.output()));
    let output = receiver.recv_timeout(Duration::from_secs(60)).expect("nobody holds the pipe").unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"open\n"[..]));
    assert!(process::is_ours(strongroom.keyd()) && process::is_ours(strongroom.gatewayd()));
    strongroom.must(&["down"]);
}

#[test]
fn a_runtime_directory_that_did_not_outlive_a_reboot_is_made_again() {
    let strongroom = Strongroom::new().locked();
    strongroom.must(&["down"]);
    fs::remove_dir_all(&strongroom.home().run).unwrap();
    strongroom.up();
    strongroom.must(&["unlock"]);
    assert_eq!(strongroom.request("GET", "/.strongroom/health").send().status(), 200);
    strongroom.must(&["down"]);
}

/// `down` in another terminal is no fault of ours.
#[test]
fn up_in_the_foreground_ends_well_with_down() {
    let strongroom = Strongroom::new().created();
    let mut up = strongroom.command(&[&["up", "--foreground"], strongroom.users()].concat()).spawn().unwrap();
    let begin = std::time::Instant::now();
    while strongroom.ctl(&["status", "--json"]).json()["gatewayd"].is_null() {
        assert!(begin.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(20));
    }
    strongroom.must(&["down"]);
    assert_eq!(up.wait().unwrap().code(), Some(0));
}

/// What a daemon holds of the terminal, whoever has taken it over could type into.
#[test]
fn in_the_foreground_the_daemons_have_nothing_of_the_terminal_and_ctrl_c_ends_them_all_the_same() {
    let strongroom = Strongroom::new().created();
    let up = strongroom.command(&[&["up", "--foreground"], strongroom.users()].concat());
    let ends = openpty(None, None).unwrap();
    let (mut desk, terminal) = (File::from(ends.master), File::from(ends.slave));
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(up.get_program()).args(up.get_args()).env_clear();
    command.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let end = || terminal.try_clone().unwrap();
    let mut up = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    let daemons = within(Duration::from_secs(30), "both daemons are up", || {
        let status = strongroom.ctl(&["status", "--json"]).json();
        let pid = |name: &str| status[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Some([pid("keyd")?, pid("gatewayd")?])
    });
    for pid in daemons {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        assert_eq!((fields[3], fields[4]), (pid.to_string().as_str(), "0"), "session and terminal: {stat}");
        for number in 0..3 {
            // An ordinary user may not look at what is undumpable.
            let Ok(leads) = fs::read_link(format!("/proc/{pid}/fd/{number}")) else { continue };
            assert!(!leads.starts_with("/dev/pts"), "{number} of {stat}: {}", leads.display());
        }
    }
    let mut log = BufReader::new(desk.try_clone().unwrap());
    let mut line = String::new();
    while !line.contains("keyd is ready") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0);
    }
    desk.write_all(b"\x03").unwrap();
    let status = within(Duration::from_secs(20), "'up' ends with both", || up.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!daemons.into_iter().any(process::is_alive));
}

/// A stranger's home, with a link where `init` gives a directory to keyd's user.
#[test]
#[ignore = "needs root: a home of somebody else"]
fn init_as_root_gives_away_nothing_that_a_strangers_link_leads_to() {
    assert!(geteuid().is_root());
    let strongroom = Strongroom::new().empty();
    let (root, data) = (strongroom.root(), strongroom.home().data.clone());
    let victim = root.with_file_name("victim");
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o711)).unwrap();
    symlink(&victim, &data).unwrap();
    let init = [&["init"], strongroom.users()].concat();
    // The second time it is root's own home.
    for owner in [61_003, 0] {
        chown(&root, Some(owner), Some(owner)).unwrap();
        strongroom.ctl(&init).assert_code(CONFIGURATION);
        let seen = victim.metadata().unwrap();
        assert_eq!((seen.uid(), seen.mode() & 0o777, fs::read_dir(&victim).unwrap().count()), (0, 0o711, 0));
        assert_eq!(owner == 61_003, !strongroom.home().config.exists(), "nothing is made at a stranger's");
    }
    fs::remove_file(&data).unwrap();
    strongroom.must(&init);
    assert_eq!(data.metadata().unwrap().uid(), 61_001);
}

/// A gateway that hangs must not leave the keys in memory.
#[test]
fn down_ends_keyd_though_gatewayd_does_not_end() {
    let strongroom = Strongroom::new().locked();
    strongroom.must(&["unlock"]);
    let (keyd, gatewayd) = (strongroom.keyd(), strongroom.gatewayd());
    process::signal(gatewayd, process::Signal::SIGSTOP);
    let down = strongroom.ctl(&["down"]);
    assert!(down.code == Some(1) && down.stderr.contains("kill -9"), "{down:?}");
    assert!(down.stderr.contains("until running requests end"), "it says what it waits for: {down:?}");
    assert!(!process::is_ours(keyd) && process::is_ours(gatewayd));
    process::signal(gatewayd, process::Signal::SIGKILL);
    process::wait_until_gone(gatewayd, Duration::from_secs(10));
}

/// Nor must a file's mode.
#[test]
fn down_ends_the_daemons_of_a_home_that_others_could_change_and_says_so() {
    let strongroom = Strongroom::new().created();
    let home = strongroom.home();
    for path in [home.keyd_config(), home.gatewayd_config(), home.config.clone(), home.run.clone()] {
        strongroom.up();
        let daemons = [strongroom.keyd(), strongroom.gatewayd()];
        let good = path.metadata().unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(good.mode() | 0o002)).unwrap();
        let down = strongroom.ctl(&["down"]);
        assert!(down.code == Some(0) && down.stderr.contains("gives others too much"), "{down:?}");
        assert!(!daemons.into_iter().any(process::is_ours), "{}", path.display());
        fs::set_permissions(&path, good).unwrap();
    }
    // Nobody says who runs, and the notes may be anybody's.
    let good = home.run.metadata().unwrap().permissions();
    fs::set_permissions(&home.run, Permissions::from_mode(0o777)).unwrap();
    strongroom.ctl(&["down"]).assert_code(CONFIGURATION);
    fs::set_permissions(&home.run, good).unwrap();
    let down = strongroom.ctl(&["down"]);
    assert!(down.code == Some(0) && down.stderr.contains("Nothing was running"), "{down:?}");
}

#[test]
#[ignore = "needs root: separate users"]
fn a_home_is_run_by_the_users_it_was_made_for() {
    assert!(geteuid().is_root());
    let strongroom = Strongroom::new().created();
    for users in [["61004", "61002"], ["61001", "61004"]] {
        let up = ["up", "--keyd-user", users[0], "--gateway-user", users[1]];
        strongroom.ctl(&up).assert_code(CONFIGURATION);
        assert!(!strongroom.home().data.join("lock").exists(), "nothing was started as {users:?}");
    }
    // Root itself is not one of them: without names the home's own are taken.
    strongroom.must(&["up"]);
    let uid = |pid| process::status_field(pid, "Uid").and_then(|uids| Some(uids.split_whitespace().next()?.to_owned()));
    assert_eq!([uid(strongroom.keyd()), uid(strongroom.gatewayd())], [Some("61001".into()), Some("61002".into())]);
    // Daemons of other users are not those that are asked for.
    let others = strongroom.ctl(&["up", "--keyd-user", "61301", "--gateway-user", "61302"]);
    others.assert_code(CONFIGURATION);
    assert!(
        others.stderr.contains("run as uid 61001 and 61002, not as 61301 and 61302. Run 'strongroom down'"),
        "{others:?}"
    );
    strongroom.up();
    strongroom.must(&["down"]);
    strongroom.up();
    strongroom.must(&["down"]);
}

#[test]
#[ignore = "needs root: both daemons as root"]
fn daemons_that_are_roots_are_warned_of_and_are_not_taken_for_others() {
    assert!(geteuid().is_root());
    let strongroom = Strongroom::new().empty();
    let warns = |output: &Output| output.stderr.contains("Warning: both daemons run as root. Name --keyd-user");
    assert!(warns(strongroom.ctl(&["init"]).assert_code(0)));
    fs::write(strongroom.home().gatewayd_config(), format!("listen = [\"{}\"]\n", strongroom.address())).unwrap();
    assert!(warns(strongroom.ctl(&["up"]).assert_code(0)));
    assert!(!warns(strongroom.ctl(&["up"]).assert_code(0)), "once is enough");
    let others = strongroom.ctl(&["up", "--keyd-user", "61301", "--gateway-user", "61302"]);
    others.assert_code(CONFIGURATION);
    assert!(others.stderr.contains("the daemons run as uid 0 and 0, not as 61301 and 61302."), "{others:?}");
    strongroom.must(&["down"]);
}

#[test]
fn of_several_at_once_one_starts_the_daemons_and_all_succeed() {
    let strongroom = Strongroom::new().created();
    let up = [&["up"], strongroom.users()].concat();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| strongroom.must(&up));
        }
    });
    let both = [strongroom.keyd(), strongroom.gatewayd()];
    let started = fs::read_to_string(strongroom.home().log.as_ref().unwrap().join("keyd.log")).unwrap();
    assert_eq!(started.matches("keyd is ready").count(), 1, "{started}");
    strongroom.up();
    assert_eq!([strongroom.keyd(), strongroom.gatewayd()], both);
    strongroom.must(&["down"]);
    assert!(both.into_iter().all(|pid| !process::is_ours(pid)));
}

#[test]
fn of_a_dead_gatewayd_doctor_names_the_unit() {
    let strongroom = Strongroom::new().locked();
    let gatewayd = strongroom.gatewayd();
    process::signal(gatewayd, process::Signal::SIGKILL);
    process::wait_until_gone(gatewayd, Duration::from_secs(10));
    let shown = within(Duration::from_secs(10), "keyd misses it", || {
        let shown = strongroom.ctl(&["doctor", "--json"]).json();
        let remedy = shown.as_array().unwrap().iter().find(|check| check["name"] == "connection")?["remedy"].clone();
        Some(remedy.as_str().unwrap().to_owned())
    });
    assert!(shown.contains("strongroom-gatewayd.service") && !shown.contains("keyd"), "{shown}");
    strongroom.must(&["down"]);
}

#[test]
fn a_dead_keyd_does_not_hide_gatewayd_and_up_brings_it_back() {
    let strongroom = Strongroom::new().locked();
    let (keyd, gatewayd) = (strongroom.keyd(), strongroom.gatewayd());
    process::signal(keyd, process::Signal::SIGKILL);
    process::wait_until_gone(keyd, Duration::from_secs(10));
    let status = strongroom.status();
    assert_eq!((status["state"].as_str(), status["keyd"].as_object()), (Some("unreachable"), None), "{status}");
    assert_eq!(status["gatewayd"]["pid"], gatewayd);
    strongroom.up();
    assert_eq!(strongroom.gatewayd(), gatewayd);
    strongroom.must(&["down"]);
    assert_eq!(strongroom.status()["gatewayd"], serde_json::Value::Null);
}

/// Root writes into a home too: who could plant a link there would have it write where that leads.
#[test]
fn what_others_could_have_changed_is_refused_by_up_and_shown_by_doctor() {
    let strongroom = Strongroom::new().created();
    let home = strongroom.home();
    for path in [home.run.clone(), home.config.clone(), home.keyd_config(), home.gatewayd_config()] {
        let good = path.metadata().unwrap().permissions();
        fs::set_permissions(&path, Permissions::from_mode(good.mode() | 0o002)).unwrap();
        let refused = strongroom.ctl(&[&["up"], strongroom.users()].concat());
        refused.assert_code(CONFIGURATION);
        let shown = strongroom.ctl(&["doctor", "--json"]).json();
        let failed = |check: &serde_json::Value| {
            check["state"] == "failed" && check["detail"].to_string().contains(&*path.to_string_lossy())
        };
        assert!(shown.as_array().unwrap().iter().any(failed), "{shown}");
        fs::set_permissions(&path, good).unwrap();
    }
    strongroom.up();
    for note in ["keyd.pid", "gatewayd.pid"] {
        assert_eq!(home.run.join(note).metadata().unwrap().mode() & 0o777, 0o644);
    }
    strongroom.must(&["down"]);
}

#[test]
fn what_up_refuses_of_a_file_config_check_calls_wrong() {
    let strongroom = Strongroom::new().created();
    let home = strongroom.home();
    let wrong = || {
        let checked = strongroom.ctl(&["config", "check", "--json"]);
        let shown = checked.json();
        let wrong = shown.as_array().unwrap().iter().filter(|file| file["good"] == false);
        (checked.code, wrong.map(|file| file["file"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let up = [&["up"], strongroom.users()].concat();
    assert_eq!(wrong(), (Some(0), vec![]));
    let shown = |path: &Path| (Some(CONFIGURATION), vec![path.to_str().unwrap().to_owned()]);
    fs::set_permissions(home.keyd_config(), Permissions::from_mode(0o666)).unwrap();
    assert_eq!(wrong(), shown(&home.keyd_config()));
    strongroom.ctl(&up).assert_code(CONFIGURATION);
    fs::set_permissions(home.keyd_config(), Permissions::from_mode(0o644)).unwrap();
    let text = fs::read_to_string(home.gatewayd_config()).unwrap();
    let address = format!("\"{}\"", strongroom.address());
    fs::write(home.gatewayd_config(), text.replace(&address, &format!("{address}, {address}"))).unwrap();
    assert_eq!(wrong(), shown(&home.gatewayd_config()));
    strongroom.ctl(&up).assert_code(CONFIGURATION);
}

/// What a `down` of the same moment ends, no `up` still waits for.
#[test]
fn down_beside_up_takes_its_turn() {
    let strongroom = Strongroom::new().created();
    for _ in 0..3 {
        let mut up = strongroom.command(&[&["up"], strongroom.users()].concat()).spawn().unwrap();
        thread::sleep(Duration::from_millis(60));
        strongroom.must(&["down"]);
        assert_eq!(up.wait().unwrap().code(), Some(0));
        strongroom.must(&["down"]);
    }
}

#[test]
fn what_steers_a_terminal_is_not_repeated_in_errors() {
    let strongroom = Strongroom::new().created();
    for (arguments, code) in [(&["restore", "/no/\u{1b}[31mx"][..], 1), (&["agent", "show", "\u{1b}[31mx"], 64)] {
        let output = strongroom.ctl(arguments);
        output.assert_code(code);
        assert!(!output.stderr.contains('\u{1b}') && output.stderr.contains('x'), "{}", output.stderr);
    }
}

#[test]
fn a_pipe_in_place_of_the_configuration_is_refused_at_once() {
    let strongroom = Strongroom::new().created();
    let config = strongroom.home().keyd_config();
    fs::remove_file(&config).unwrap();
    nix::unistd::mkfifo(&config, Mode::from_bits_truncate(0o644)).unwrap();
    strongroom.ctl(&["config", "check"]).assert_code(CONFIGURATION);
    strongroom.ctl(&[&["up"], strongroom.users()].concat()).assert_code(CONFIGURATION);
}

/// As with `audit --follow | head`: the log may stay quiet for hours after.
#[test]
fn following_the_audit_log_ends_when_its_reader_goes_away_and_not_before() {
    let strongroom = Strongroom::new().start();
    let mut follow = strongroom.command(&["audit", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(follow.stdout.take().unwrap());
    assert!(reader.read_line(&mut String::new()).unwrap() > 0);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(follow.try_wait().unwrap(), None);
    drop(reader);
    let begin = std::time::Instant::now();
    while follow.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(30), "nobody reads it");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(follow.wait().unwrap().code(), Some(0));
    strongroom.must(&["down"]);
}

/// As with a keyd that does not start behind systemd's socket.
#[test]
fn doctor_shows_what_it_sees_though_keyd_does_not_answer_and_says_what_is_wrong_with_its_file() {
    let strongroom = Strongroom::new().created();
    let home = strongroom.home();
    let good = fs::read_to_string(home.keyd_config()).unwrap();
    let socket = UnixListener::bind(home.admin_socket()).unwrap();
    thread::spawn(move || socket.incoming().for_each(drop));
    for (text, is_wrong) in [(good.clone(), false), (format!("auto-lok = \"8h\"\n{good}"), true)] {
        fs::write(home.keyd_config(), text).unwrap();
        let doctor = strongroom.ctl(&["doctor", "--json"]);
        assert_eq!(doctor.code, Some(69), "{doctor:?}");
        let shown = doctor.json();
        let state = |of: &str, name: &str| {
            let mut checks = shown.as_array().unwrap().iter();
            let check = checks.find(|check| check["of"] == of && check["name"] == name);
            check.map(|check| check["state"].as_str().unwrap().to_owned())
        };
        assert_eq!(state("set-up", "vault-file").as_deref(), Some("ok"), "{shown}");
        assert_eq!(state("keyd", "connection").as_deref(), Some("failed"), "{shown}");
        assert_eq!(state("keyd", "configuration").is_some(), is_wrong, "{shown}");
    }
    fs::remove_file(home.admin_socket()).unwrap();
}

#[test]
fn an_up_that_fails_shows_nothing_of_earlier_runs() {
    let strongroom = Strongroom::new().locked();
    strongroom.must(&["down"]);
    let log = strongroom.home().log.as_ref().unwrap().join("gatewayd.log");
    assert!(fs::read_to_string(&log).unwrap().contains("stopping"));
    // Somebody else is where it listens.
    let _taken = TcpListener::bind(strongroom.address()).unwrap();
    let failed = strongroom.ctl(&[&["up"], strongroom.users()].concat());
    assert!(failed.code != Some(0) && failed.stderr.contains("gatewayd.log ends with"), "{failed:?}");
    assert!(!failed.stderr.contains("stopping"), "{failed:?}");
}
