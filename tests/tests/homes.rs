//! `init`, `up` and `down` as root where others have a hand in it: a caller's session, links that are put in the way, a disk
//! that is full, a home whose owner names somebody else's daemons.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitStatus};
use std::thread;

use nix::pty::openpty;
use nix::unistd::geteuid;
use strongroom_protocol::admin::{Reply, Status, VaultState};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, HEADER};
use strongroom_protocol::home::Home;
use strongroom_tests::hostile::with_uid;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::PASSPHRASE;
use strongroom_tests::{disk, programs};

const CONFIGURATION: i32 = 78;
const NOT_PERMITTED: i32 = 77;
const STRANGER: u32 = 61_003;

/// What root's session holds, a daemon could else use, which runs as another user.
#[test]
#[ignore = "needs root: separate users"]
fn daemons_of_other_users_have_nothing_of_the_callers_session_keyring() {
    assert!(geteuid().is_root());
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::copy(programs::path("strongroom"), folder.path().join("strongroom")).unwrap();
    // In keyd's place, it says what it has.
    let keyd = folder.path().join("strongroom-keyd");
    let look = "#!/bin/sh\nPATH=/usr/bin:/bin\nid -u >&2\nkeyctl search @s user strongroom-test:up >&2 || echo has none >&2\nexit 1\n";
    fs::write(&keyd, look).unwrap();
    fs::set_permissions(&keyd, Permissions::from_mode(0o755)).unwrap();
    let begin = "keyctl add user strongroom-test:up payload @s >/dev/null && exec \"$@\"";
    let in_a_session = |command: &Command| {
        let mut session = Command::new("keyctl");
        session.args(["session", "-", "sh", "-c", begin, "sh"]).arg(command.get_program()).args(command.get_args());
        session.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        process::run(session.env("PATH", "/usr/bin:/bin"), b"")
    };
    let strongroom = Strongroom::new().programs(folder.path()).empty();
    let init = in_a_session(&strongroom.command(&[&["init"], strongroom.users()].concat()));
    assert!(init.assert_code(1).stderr.contains("61001\n") && init.stderr.contains("has none"), "{init:?}");
    // A change of user alone leaves it.
    let mut changed = Command::new("setpriv");
    changed.args(["--reuid", "61001", "--regid", "61001", "--clear-groups"]).arg(&keyd);
    let twin = in_a_session(&changed);
    assert!(twin.stderr.contains("61001\n") && !twin.stderr.contains("has none"), "{twin:?}");
}

/// `init` at a terminal, where this is done while it asks for the passphrase.
fn init_while(strongroom: &Strongroom, meanwhile: impl FnOnce()) -> (ExitStatus, String) {
    let ends = openpty(None, None).unwrap();
    let (mut desk, terminal) = (File::from(ends.master), File::from(ends.slave));
    let init = strongroom.command(&[&["init"], strongroom.users()].concat());
    let mut command = Command::new("setsid");
    command.arg("--ctty").arg(init.get_program()).args(init.get_args()).env_clear();
    command.env("STRONGROOM_HOME", strongroom.root());
    let end = || terminal.try_clone().unwrap();
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(command);
    drop(terminal);
    let (mut said, mut meanwhile) = (String::new(), Some(meanwhile));
    let mut asked = 0;
    let mut bytes = [0; 4096];
    // It ends with the last who has the terminal.
    while let Ok(length @ 1..) = desk.read(&mut bytes) {
        said += &String::from_utf8_lossy(&bytes[..length]);
        for (number, question) in ["New passphrase: ", "The same again: "].into_iter().enumerate() {
            if asked == number && said.contains(question) {
                asked += 1;
                meanwhile.take().into_iter().for_each(|act| act());
                desk.write_all(format!("{PASSPHRASE}\n").as_bytes()).unwrap();
            }
        }
    }
    (child.wait().unwrap(), said)
}

#[test]
#[ignore = "needs root: links of somebody else"]
fn what_is_exchanged_while_init_asks_for_the_passphrase_is_seen() {
    assert!(geteuid().is_root());
    let strongroom = Strongroom::new().empty();
    let root = strongroom.root();
    let victim = root.with_file_name("victim");
    fs::create_dir(&victim).unwrap();
    let before = victim.metadata().unwrap();
    let (ended, said) = init_while(&strongroom, || {
        fs::remove_dir(&root).unwrap();
        symlink(&victim, &root).unwrap();
        lchown(&root, Some(STRANGER), Some(STRANGER)).unwrap();
    });
    assert!(ended.code() == Some(CONFIGURATION) && said.contains("61003"), "{ended} {said}");
    let after = victim.metadata().unwrap();
    assert_eq!((after.uid(), after.mode(), fs::read_dir(&victim).unwrap().count()), (0, before.mode(), 0));
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
    let (ended, said) = init_while(&strongroom, || {});
    assert!(ended.success() && strongroom.home().vault().exists(), "{ended} {said}");
}

#[test]
#[ignore = "needs root: mounts a disk of its own"]
fn an_init_that_cannot_write_its_configuration_makes_no_vault_and_can_be_repeated() {
    assert!(geteuid().is_root());
    let strongroom = Strongroom::new().empty();
    let home = strongroom.home();
    fs::create_dir(&home.config).unwrap();
    disk::mount(&home.config, "64k");
    let filling = disk::fill(&home.config);
    let init = [&["init"], strongroom.users()].concat();
    let failed = strongroom.ctl(&init);
    assert!(failed.assert_code(1).stderr.contains("keyd.toml cannot be written"), "{failed:?}");
    assert!(!home.vault().exists(), "the next 'init' would refuse");
    assert!(!home.keyd_config().exists() && !home.gatewayd_config().exists(), "half a file is none");
    drop(filling);
    strongroom.must(&init);
    assert!(home.vault().exists() && fs::read_to_string(home.keyd_config()).unwrap().contains("61002"));
}

/// A keyd that serves this home's admin.sock, as this user, and says that these are the daemons.
fn false_keyd(home: &Home, uid: u32, keyd_pid: u32, gatewayd_pid: u32) {
    let path = home.admin_socket();
    let listener = with_uid(uid, move || UnixListener::bind(path).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut header = [0; HEADER];
            while stream.read_exact(&mut header).is_ok() {
                let mut request = vec![0; frame::payload_length(&header, ADMIN_LIMIT).unwrap()];
                stream.read_exact(&mut request).unwrap();
                let reply = Reply::Status(Status {
                    version: "0".to_owned(),
                    state: VaultState::Locked,
                    keyd_pid,
                    gatewayd_pid: Some(gatewayd_pid),
                    exchanges: 0,
                    unlock: None,
                    generation: None,
                    audit_broken: false,
                    mismatches: Vec::new(),
                });
                let _ = stream.write_all(&frame::encode(&reply, ADMIN_LIMIT).unwrap());
            }
        }
    });
}

#[test]
#[ignore = "needs root: a home of somebody else"]
fn down_by_root_at_a_strangers_home_ends_nobody_elses_daemons() {
    assert!(geteuid().is_root());
    let victims = Strongroom::new().locked();
    let daemons = [victims.keyd(), victims.gatewayd()];
    let strangers = Strongroom::new().empty();
    let home = strangers.home();
    for path in [&home.config, &home.data, &home.run] {
        fs::create_dir(path).unwrap();
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    // It says whatever makes the others its own.
    fs::write(home.keyd_config(), "gateway-uid = 61002\n").unwrap();
    chown(home.keyd_config(), Some(STRANGER), Some(STRANGER)).unwrap();
    false_keyd(home, STRANGER, daemons[0], daemons[1]);
    let down = strangers.ctl(&["down"]);
    assert!(down.assert_code(NOT_PERMITTED).stderr.contains("runs as uid 61002"), "{down:?}");
    assert!(daemons.into_iter().all(process::is_ours), "they are another home's");
    fs::remove_file(home.admin_socket()).unwrap();
    victims.must(&["down"]);
    assert!(!daemons.into_iter().any(process::is_alive), "the positive twin");
}
