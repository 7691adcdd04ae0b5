//! Programs of other users: an agent's, another agent's, the gateway's own; and whoever takes keyd's place.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use strongroom_ctl::demo::stage::GATEWAY_USER;
use strongroom_protocol::admin::{Operation, Reply, Request};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, HEADER};
use strongroom_tests::hostile::with_uid;

use super::*;

const AGENT_USER: u32 = 61_003;
const OTHER_AGENT: u32 = 61_004;

/// What a program of this user can do to the daemons and their files; each is a promise that it cannot.
fn reached(uid: u32, siege: &Siege) -> Vec<String> {
    let home = siege.scene.strongroom.home();
    let [keyd, gatewayd] = siege.daemons;
    let (data, config) = (home.data.clone(), home.config.clone());
    let run: PathBuf = home.admin_socket().parent().unwrap().to_owned();
    let admin = home.admin_socket();
    with_uid(uid, move || {
        let mut reached = Vec::new();
        let mut note = |what: &str, done: bool| {
            if done {
                reached.push(what.to_owned());
            }
        };
        note("is heard on admin.sock", asks(&admin).is_some_and(|reply| !matches!(reply, Reply::Failed(_))));
        note("reads the vault", fs::read(data.join("vault")).is_ok());
        note("lists the data directory", fs::read_dir(&data).is_ok());
        note("reads the audit log", fs::read(data.join("audit/000001.jsonl")).is_ok());
        note("replaces the vault", fs::write(data.join("vault.new"), b"x").is_ok());
        note("edits keyd.toml", fs::OpenOptions::new().append(true).open(config.join("keyd.toml")).is_ok());
        note("edits gatewayd.toml", fs::OpenOptions::new().append(true).open(config.join("gatewayd.toml")).is_ok());
        note("replaces keyd.toml", fs::rename(config.join("keyd.toml"), config.join("old")).is_ok());
        note("unlinks admin.sock", fs::remove_file(&admin).is_ok());
        note("makes a socket beside it", UnixListener::bind(run.join("mine.sock")).is_ok());
        for (name, pid) in [("keyd", keyd), ("gatewayd", gatewayd)] {
            for file in ["mem", "environ", "maps", "auxv", "syscall", "stack", "personality"] {
                // The files open; what counts is whether there is something to read.
                let opened = fs::File::open(format!("/proc/{pid}/{file}"));
                let read = opened.is_ok_and(|mut file| file.read(&mut [0; 16]).is_ok_and(|length| length > 0));
                note(&format!("reads {file} of {name}"), read);
            }
            note(
                &format!("lists the descriptors of {name}"),
                fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|mut all| all.next().is_some_and(|one| one.is_ok())),
            );
            note(&format!("sees the root of {name}"), fs::read_link(format!("/proc/{pid}/root")).is_ok());
            let pid = Pid::from_raw(pid.cast_signed());
            note(&format!("signals {name}"), kill(pid, None).is_ok());
            note(&format!("debugs {name}"), ptrace::seize(pid, ptrace::Options::empty()).is_ok());
        }
        reached
    })
}

#[test]
#[ignore = "needs root: acts under other users"]
fn other_users_reach_nothing_of_keyds() {
    assert!(geteuid().is_root());
    let siege = Siege::lay();
    for uid in [AGENT_USER, OTHER_AGENT] {
        assert_eq!(reached(uid, &siege), Vec::<String>::new(), "uid {uid}");
    }
    // The gateway's user may signal its own process, and read its own configuration's directory: no more.
    let gateways: Vec<_> = reached(GATEWAY_USER, &siege);
    let own = |what: &String| what == "signals gatewayd";
    assert_eq!(gateways.iter().filter(|what| !own(what)).collect::<Vec<_>>(), Vec::<&String>::new());
    // Root can do all of it but what being undumpable forbids to nobody; so the attempts are real.
    let roots = reached(0, &siege);
    for what in [
        "reads the vault",
        "reads the audit log",
        "edits keyd.toml",
        "signals keyd",
        "reads maps of keyd",
        "is heard on admin.sock",
    ] {
        assert!(roots.iter().any(|done| done == what), "{what} is an attempt that can succeed: {roots:?}");
    }
}

/// What keyd says to a question that every admin may ask; nothing where it says nothing.
fn asks(admin: &Path) -> Option<Reply> {
    let question = frame::encode(&Request { proof: None, operation: Operation::Status }, ADMIN_LIMIT).ok()?;
    let mut stream = UnixStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    // Whoever may not ask is told so, perhaps before the question was read.
    let _ = stream.write_all(&question);
    let mut answer = Vec::new();
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).ok()?;
    stream.take(frame::payload_length(&header, ADMIN_LIMIT).ok()? as u64).read_to_end(&mut answer).ok()?;
    frame::decode(&answer).ok()
}

/// What a stranger who took the place of admin.sock was sent.
fn impostor(path: PathBuf, uid: u32) -> Arc<Mutex<Vec<u8>>> {
    let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
    let taken = sent.clone();
    let listener = with_uid(uid, move || {
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        listener
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                taken.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        }
    });
    sent
}

#[test]
#[ignore = "needs root: another user serves the socket"]
fn a_stranger_in_keyds_place_is_given_no_passphrase() {
    assert!(geteuid().is_root());
    let strongroom = Strongroom::new().created();
    let run = strongroom.home().admin_socket().parent().unwrap().to_owned();
    fs::create_dir_all(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    let sent = impostor(strongroom.home().admin_socket(), AGENT_USER);
    let commands: [&[&str]; 4] =
        [&["unlock"], &["status"], &["agent", "add", "x"], &["credential", "add", "x", "--host", HOST, "--bearer"]];
    for command in commands {
        let output = strongroom.ctl_with(command, b"sk-a-key-that-nobody-should-see-0123456789");
        output.assert_code(77);
        assert!(output.stderr.contains("61003"), "{output:?}");
    }
    assert_eq!(*sent.lock().unwrap(), Vec::<u8>::new(), "not a byte was sent");
}

/// An admin without the passphrase, speaking the protocol by hand.
#[test]
fn an_admin_without_the_passphrase_widens_nothing() {
    use strongroom_protocol::SecretBytes;
    let siege = Siege::lay();
    let connect = || AdminClient::connect(siege.scene.strongroom.home()).unwrap();
    let name = |text: &str| text.parse().unwrap();
    let secret = |bytes: &[u8]| SecretBytes::new(bytes.to_vec());
    let widening: Vec<Box<dyn Fn() -> Operation>> = vec![
        Box::new(|| Operation::AgentAdd { name: name("evil"), uids: vec![0], unit: None, token: true }),
        Box::new(|| Operation::CredentialRotate {
            name: name(CREDENTIAL),
            value: secret(b"sk-another-value-0123456789-abcdefgh"),
            allow_weak: false,
        }),
        Box::new(|| Operation::CredentialRemove { name: name(CREDENTIAL), purge: true }),
    ];
    for operation in &widening {
        for proof in [None, Some(vec![0; 32]), Some(Vec::new()), Some(vec![0xff; 31]), Some(b"correct horse".to_vec())]
        {
            let mut admin = connect();
            let said = match &proof {
                None => admin.ask(operation()),
                Some(proof) => admin.ask_with(secret(proof), operation()),
            };
            assert!(said.is_err(), "{proof:?}: {said:?}");
        }
    }
    let shown = connect().ask(Operation::CredentialShow { name: name(CREDENTIAL) }).unwrap();
    assert!(!format!("{shown:?}").contains(&siege.scene.key), "what may be seen holds no key");
    assert!(matches!(connect().ask(Operation::Status), Ok(Reply::Status(_))), "its positive twin");
    siege.hold();
}

/// One ordinary user for everything: what SECURITY.md says of it, row by row. Root becomes such a user for it.
#[test]
fn user_mode_is_what_it_is_said_to_be() {
    if geteuid().is_root() {
        return as_an_ordinary_user("strangers::user_mode_is_what_it_is_said_to_be");
    }
    let siege = Siege::lay();
    let (home, key) = (siege.scene.strongroom.home().clone(), siege.scene.key.clone());
    let [keyd, gatewayd] = siege.daemons;
    // Files, environment, logs: no key there. The vault can be read, and is encrypted.
    let files = strongroom_tests::strongroom::files_below(&siege.scene.strongroom.root());
    let read: Vec<_> = files.iter().filter_map(|file| fs::read(file).ok()).collect();
    assert!(read.len() > 4 && fs::read(home.data.join("vault")).is_ok());
    let needles = Needles::of(key.as_bytes());
    assert!(read.iter().all(|bytes| needles.find(bytes).is_none()));
    // Memory and descriptors of the daemons: refused by the kernel, though the user is the same.
    for pid in [keyd, gatewayd] {
        for file in ["mem", "environ", "maps"] {
            let opened = fs::File::open(format!("/proc/{pid}/{file}"));
            assert!(opened.is_err(), "{file} of {pid}");
        }
        assert!(fs::read_dir(format!("/proc/{pid}/fd")).is_err());
        assert!(ptrace::seize(Pid::from_raw(pid.cast_signed()), ptrace::Options::empty()).is_err());
    }
    let own = fs::File::open("/proc/self/maps");
    assert!(own.is_ok(), "the positive twin");
    // gateway.sock: it can be a gateway, as the siege was. admin.sock: it can look, and widens nothing.
    assert!(matches!(asks(&home.admin_socket()), Some(Reply::Status(_))));
    let mut admin = AdminClient::connect(&home).unwrap();
    assert!(
        admin
            .ask(Operation::AgentAdd { name: "evil".parse().unwrap(), uids: Vec::new(), unit: None, token: false })
            .is_err()
    );
    // It can lock, revoke, and delete the vault.
    siege.scene.strongroom.must(&["agent", "revoke", AGENT]);
    siege.scene.get("/openai/x").send().assert_refused(Refusal::Revoked);
    siege.scene.strongroom.must(&["lock"]);
    fs::remove_file(home.data.join("vault")).unwrap();
    siege.loot.assert_without(&[&key]);
}

/// Runs one test of this program as a user without privileges, with programs that such a user can reach.
fn as_an_ordinary_user(test: &str) {
    use std::os::unix::process::CommandExt;
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap();
    let directory = tempfile::Builder::new().prefix("sr-user-").tempdir().unwrap();
    let deps = directory.path().join("deps");
    fs::create_dir(&deps).unwrap();
    for path in [directory.path(), &deps] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for name in strongroom_ctl::demo::stage::PROGRAMS {
        fs::copy(built.join(name), directory.path().join(name)).unwrap();
    }
    fs::copy(&own, deps.join("attack")).unwrap();
    let scratch = directory.path().join("tmp");
    fs::create_dir(&scratch).unwrap();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = std::process::Command::new(deps.join("attack"));
    command.args([test, "--exact", "--include-ignored"]).env_clear().env("TMPDIR", &scratch).env("HOME", &scratch);
    command.uid(ORDINARY_USER).gid(ORDINARY_USER).current_dir("/");
    let output = process::run(&mut command, b"");
    assert!(output.stdout.contains("1 passed"), "{output:?}");
}

const ORDINARY_USER: u32 = 61_005;

/// Taking access away works though somebody else holds every place on admin.sock.
#[test]
fn idle_connections_keep_no_admin_out() {
    let siege = Siege::lay();
    let held: Vec<_> =
        (0..80).map(|_| UnixStream::connect(siege.scene.strongroom.home().admin_socket()).unwrap()).collect();
    siege.scene.strongroom.must(&["agent", "revoke", AGENT]);
    siege.scene.get("/openai/x").send().assert_refused(Refusal::Revoked);
    siege.scene.strongroom.must(&["lock"]);
    siege.scene.get("/openai/x").send().assert_refused(Refusal::VaultLocked);
    drop(held);
    siege.loot.assert_without(&[&siege.scene.key]);
}

/// Nor do connections whose requests are answered and whose answers nobody takes, of one admin and then of two.
#[test]
#[ignore = "needs root: asks as other users"]
fn answers_that_nobody_takes_keep_no_admin_out() {
    const FIRST: u32 = 61_043;
    const SECOND: u32 = 61_044;
    assert!(geteuid().is_root());
    let scene = Scene::with(echo);
    let strongroom = &scene.strongroom;
    strongroom.must(&["down"]);
    let file = strongroom.home().keyd_config();
    let text = fs::read_to_string(&file).unwrap();
    let kept: String =
        text.lines().filter(|line| !line.starts_with("admin-uids")).map(|line| [line, "\n"].concat()).collect();
    fs::write(&file, format!("admin-uids = [{FIRST}, {SECOND}]\n{kept}")).unwrap();
    strongroom.up();
    strongroom.must(&["unlock"]);
    let siege = Siege::before(scene);
    let home = siege.scene.strongroom.home();
    let flood = |uid| {
        let admin = home.admin_socket();
        with_uid(uid, move || (0..64).map(|_| asks_on(&admin)).collect::<Vec<_>>())
    };
    let done = |uid, operation| {
        let (home, begin) = (home.clone(), Instant::now());
        let is_done = with_uid(uid, move || AdminClient::connect(&home).and_then(|mut one| one.ask(operation)).is_ok());
        assert!(is_done && begin.elapsed() < Duration::from_secs(1), "uid {uid}: {is_done} {:?}", begin.elapsed());
    };
    let first = flood(FIRST);
    done(SECOND, Operation::AgentRevoke { name: AGENT.parse().unwrap() });
    siege.scene.get("/openai/x").send().assert_refused(Refusal::Revoked);
    let second = flood(SECOND);
    done(FIRST, Operation::Status);
    done(0, Operation::Lock);
    siege.scene.get("/openai/x").send().assert_refused(Refusal::VaultLocked);
    drop((first, second));
    siege.loot.assert_without(&[&siege.scene.key]);
}

/// A connection that asks until keyd takes no more, and reads nothing.
fn asks_on(admin: &Path) -> UnixStream {
    let question = frame::encode(&Request { proof: None, operation: Operation::Doctor }, ADMIN_LIMIT).unwrap();
    let stream = UnixStream::connect(admin).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    // It ends where keyd waits for an answer to be taken, or wants the place.
    while (&stream).write_all(&question).is_ok() {}
    stream
}

/// The log says of each change which generation it made, and of each locking which one was left: an older file shows.
#[test]
fn a_vault_that_was_rolled_back_shows_in_the_log() {
    let scene = Scene::with(echo);
    let strongroom = &scene.strongroom;
    let vault = strongroom.home().data.join("vault");
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", AGENT]);
    strongroom.must(&["down"]);
    fs::copy(vault.with_extension("bak"), &vault).unwrap();
    strongroom.up();
    strongroom.must(&["unlock"]);
    let of = |event: &str| -> Vec<u64> {
        let audit = strongroom.audit();
        audit.iter().filter(|one| one["event"] == event).filter_map(|one| one["generation"].as_u64()).collect()
    };
    let (revoked, locked, unlocked) = (of("grant.revoke"), of("vault.lock"), of("vault.unlock"));
    assert_eq!(revoked.last(), locked.last(), "stopping says which generation it leaves");
    assert!(unlocked.last() < locked.last(), "{unlocked:?} after {locked:?}");
    assert_eq!(of("vault.rolled-back"), [*unlocked.last().unwrap()], "and unlocking says so, once");
}

/// Whoever can write to the disk while keyd is down gets an old vault, a damaged one or a foreign one: never a key used
/// under other rules without a word.
#[test]
fn a_vault_that_was_exchanged_does_not_open_or_says_so() {
    let scene = Scene::with(echo);
    let strongroom = &scene.strongroom;
    let vault = strongroom.home().data.join("vault");
    let old = fs::read(&vault).unwrap();
    strongroom.must(&["grant", "revoke", CREDENTIAL, "--agent", AGENT]);
    let new = fs::read(&vault).unwrap();
    assert_ne!(old, new);
    let with = |bytes: &[u8]| {
        strongroom.must(&["down"]);
        fs::write(&vault, bytes).unwrap();
        strongroom.up();
        strongroom.ctl(&["unlock"])
    };
    let mut flipped = new.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert_ne!(with(&flipped).code, Some(0), "one bit");
    assert_ne!(with(&[&new[..100], &old[100..]].concat()).code, Some(0), "the head of one, the body of another");
    let foreign = Scene::with(echo);
    let other = fs::read(foreign.strongroom.home().data.join("vault")).unwrap();
    // The passphrase is the same in every test, so another test's vault opens: then the log's chain does not fit it.
    let opened = with(&other);
    assert!(opened.code != Some(0) || strongroom.ctl(&["audit", "verify"]).code != Some(0), "{opened:?}");
    assert_eq!(with(&new).code, Some(0), "its positive twin");
    scene.get("/openai/x").send().assert_refused(Refusal::Revoked);
}
