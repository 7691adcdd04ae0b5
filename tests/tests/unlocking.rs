//! The ways to unlock, against the real programs: they come and go, old files open with old passphrases alone, guesses
//! have to wait, backups come back, and time or sleep locks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strongroom_tests::clock::Clock;
use strongroom_tests::hostile::with_uid;
use strongroom_tests::prelude::*;

const KEY: &str = "sk-unlocking-0123456789abcdefghijklmnopqrst";

/// Unlocked, with a credential, an agent and a grant.
fn furnished() -> Strongroom {
    let strongroom = Strongroom::new().start();
    strongroom.must_with(&["credential", "add", "openai", "--provider", "openai"], KEY.as_bytes());
    strongroom.must(&["agent", "add", "coder"]);
    strongroom.must(&["grant", "add", "openai", "--agent", "coder"]);
    strongroom
}

fn file(strongroom: &Strongroom, name: &str) -> PathBuf {
    strongroom.root().join("data").join(name)
}

/// Another passphrase, in a file.
fn passphrase(strongroom: &Strongroom, text: &str) -> String {
    strongroom.write(&format!("passphrase-{}", text.len()), text).to_str().unwrap().to_owned()
}

fn slots(strongroom: &Strongroom) -> Vec<(u64, String)> {
    let listed = strongroom.ctl(&["slot", "list", "--json"]).json();
    let one = |slot: &serde_json::Value| (slot["id"].as_u64().unwrap(), slot["kind"].as_str().unwrap().to_owned());
    listed.as_array().unwrap().iter().map(one).collect()
}

/// Who may rename a directory above the home can put another there, with a vault's directory and a socket that are all
/// its own.
#[test]
#[ignore = "needs root: another user's directory"]
fn root_gives_nothing_to_whoever_could_put_another_home_in_its_place() {
    use std::io::Read;
    const STRANGER: u32 = 61_003;
    let strongroom = Strongroom::new().locked();
    let (root, above) = (strongroom.root(), strongroom.root().parent().unwrap().to_owned());
    let kept = above.join("kept");
    chown(&above, Some(STRANGER), None).unwrap();
    let (planted, aside) = (root.clone(), kept.clone());
    let listener = with_uid(STRANGER, move || {
        fs::rename(&planted, aside).unwrap();
        ["", "data", "run", "config"].iter().for_each(|name| fs::create_dir(planted.join(name)).unwrap());
        UnixListener::bind(planted.join("run/admin.sock")).unwrap()
    });
    listener.set_nonblocking(true).unwrap();
    let commands: [&[&str]; 4] = [&["unlock"], &["agent", "add", "x"], &["passphrase"], &["credential", "rotate", "x"]];
    for command in commands {
        let refused = strongroom.ctl_with(command, KEY.as_bytes());
        refused.assert_code(78);
        assert!(refused.stderr.contains("belongs to uid 61003"), "{refused:?}");
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut sent = Vec::new();
        stream.read_to_end(&mut sent).unwrap();
        assert_eq!(sent, b"", "{command:?}: not a byte was sent");
    }
    drop(listener);
    fs::remove_dir_all(&root).unwrap();
    fs::rename(&kept, &root).unwrap();
    strongroom.ctl(&["unlock"]).assert_code(78);
    // To look and to take away needs no secret.
    assert_eq!(strongroom.status()["state"], "locked");
    strongroom.must(&["lock"]);
    chown(&above, Some(0), None).unwrap();
    strongroom.must(&["unlock"]);
    strongroom.must(&["down"]);
}

/// Puts bytes in the vault's place, as whoever owned it.
fn place(strongroom: &Strongroom, bytes: &[u8]) {
    let vault = file(strongroom, "vault");
    let owner = fs::metadata(&vault).unwrap();
    fs::write(&vault, bytes).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&vault, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
}

#[test]
fn a_changed_passphrase_opens_yesterdays_file_and_not_todays_nor_its_backup() {
    let strongroom = furnished();
    let yesterday = fs::read(file(&strongroom, "vault")).unwrap();
    let new = passphrase(&strongroom, "a new one");
    strongroom.must(&["passphrase", "--new-passphrase-file", &new]);
    let [today, backup] = ["vault", "vault.bak"].map(|name| fs::read(file(&strongroom, name)).unwrap());
    assert_eq!(today, backup, "the backup is replaced too");

    for (bytes, old_opens) in [(&yesterday, true), (&today, false)] {
        strongroom.must(&["lock"]);
        place(&strongroom, bytes);
        strongroom.ctl(&["unlock", "--passphrase-file", &new]).assert_code(if old_opens { 77 } else { 0 });
        strongroom.must(&["lock"]);
        strongroom.ctl(&["unlock"]).assert_code(if old_opens { 0 } else { 77 });
    }
    strongroom.must(&["unlock", "--passphrase-file", &new]);
    strongroom.ctl(&["agent", "add", "x"]).assert_code(77);
    strongroom.must(&["agent", "add", "x", "--passphrase-file", &new]);
    let audit = strongroom.audit();
    let change = audit.iter().find(|line| line["event"] == "passphrase.change").expect("it is on record");
    assert_eq!(change["proof"], "passphrase", "{change}");
}

/// Without a terminal a passphrase may be piped in; one input is one secret.
#[test]
fn a_passphrase_may_come_on_standard_input() {
    let strongroom = Strongroom::new().locked();
    let pass = std::fs::read(strongroom.passphrase_file()).unwrap();
    let piped = |arguments: &[&str], stdin: &[u8]| {
        let mut command = strongroom.command(arguments);
        command.env_remove("STRONGROOM_PASSPHRASE_FILE");
        // No terminal: a session of its own.
        strongroom_tests::process::run(in_a_session_of_its_own(&mut command), stdin)
    };
    assert_eq!(piped(&["unlock"], b"wrong\n").code, Some(77));
    assert_eq!(piped(&["unlock"], b"").code, Some(64));
    assert_eq!(piped(&["unlock"], &pass).code, Some(0));
    assert_eq!(piped(&["agent", "add", "one"], &pass).code, Some(0));
    let two = piped(&["credential", "add", "x", "--host", "x.example", "--bearer"], b"sk-0123456789abcdef-0123456789");
    assert!(two.code == Some(64) && two.stderr.contains("passphrase"), "standard input is the key's: {two:?}");
    assert_eq!(piped(&["slot", "add", "passphrase"], &pass).code, Some(64), "it cannot be two passphrases");
}

fn in_a_session_of_its_own(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) }
}

#[test]
fn a_recovery_code_that_cannot_be_shown_opens_nothing() {
    let strongroom = furnished();
    let ids = slots(&strongroom);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    // As in `strongroom slot add recovery | true`.
    let unread = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        std::process::Stdio::from(writer)
    };
    for nowhere in [full(), unread()] {
        let unseen = strongroom.command(&["slot", "add", "recovery"]).stdout(nowhere).output().unwrap();
        assert_eq!(unseen.status.code(), Some(70), "{unseen:?}");
        assert!(String::from_utf8_lossy(&unseen.stderr).contains("was removed again"), "{unseen:?}");
        assert_eq!(slots(&strongroom), ids, "a code that nobody could read opens nothing");
    }
    // What can be shown again is no loss.
    for words in [&["agent", "add", "reader", "--token"][..], &["grant", "add", "openai", "--agent", "reader"]] {
        let told = strongroom.command(words).stdout(unread()).output().unwrap();
        assert_eq!(told.status.code(), Some(0), "{told:?}");
    }
    let shown = strongroom.must(&["env", "--agent", "reader", "--format", "json"]);
    assert!(shown.contains("reader:strongroom-agent-") && shown.contains("OPENAI_API_KEY"), "{shown}");
}

#[test]
fn passphrases_and_recovery_codes_come_and_go() {
    let strongroom = furnished();
    let second = passphrase(&strongroom, "the second one");
    strongroom.must(&["slot", "add", "passphrase", "--new-passphrase-file", &second]);
    let code = strongroom.must(&["slot", "add", "recovery"]);
    let ids = slots(&strongroom);
    assert_eq!(ids.iter().map(|(_, kind)| kind.as_str()).collect::<Vec<_>>(), ["passphrase", "passphrase", "recovery"]);

    strongroom.must(&["lock"]);
    assert_eq!(slots(&strongroom), ids, "the list is no secret");
    strongroom.must(&["unlock", "--passphrase-file", &second]);
    strongroom.must(&["agent", "add", "by-the-second", "--passphrase-file", &second]);
    strongroom.must(&["lock"]);
    strongroom.must_with(&["unlock", "--recovery"], code.to_lowercase().as_bytes());
    let mut wrong: Vec<char> = code.trim().chars().collect();
    wrong[0] = if wrong[0] == 'Z' { 'Y' } else { 'Z' };
    let typed = wrong.iter().collect::<String>();
    let refused =
        strongroom.ctl_with(&["passphrase", "--recovery", "--new-passphrase-file", &second], typed.as_bytes());
    refused.assert_code(1);
    assert!(refused.stderr.contains("typing error") && !refused.stderr.contains(&typed), "{refused:?}");

    // Lost both: the code gives a third, and the two are gone.
    let third = passphrase(&strongroom, "a third passphrase");
    strongroom.must_with(&["passphrase", "--recovery", "--new-passphrase-file", &third], code.as_bytes());
    strongroom.must(&["lock"]);
    for (arguments, code) in [(vec!["unlock"], 77), (vec!["unlock", "--passphrase-file", &second], 77)] {
        strongroom.ctl(&arguments).assert_code(code);
    }
    strongroom.must(&["unlock", "--passphrase-file", &third]);

    let recovery = slots(&strongroom).into_iter().find(|(_, kind)| kind == "recovery").unwrap().0.to_string();
    strongroom.ctl(&["slot", "remove", &recovery, "--yes"]).assert_code(77);
    strongroom.must(&["slot", "remove", &recovery, "--yes", "--passphrase-file", &third]);
    strongroom.must(&["lock"]);
    strongroom.ctl_with(&["unlock", "--recovery"], code.as_bytes()).assert_code(77);
    strongroom.must(&["unlock", "--passphrase-file", &third]);
    let last = slots(&strongroom)[0].0.to_string();
    let refused = strongroom.ctl(&["slot", "remove", &last, "--yes", "--passphrase-file", &third]);
    refused.assert_code(1);
    assert!(refused.stderr.contains("only passphrase"), "{refused:?}");
    strongroom.ctl(&["slot", "remove", "4711", "--yes", "--passphrase-file", &third]).assert_code(1);
    // On record is what was done, and with what.
    let audit = strongroom.audit();
    let removed: Vec<_> = audit.iter().filter(|line| line["event"] == "slot.remove").collect();
    assert_eq!(removed.len(), 1, "{removed:?}");
    assert_eq!((removed[0]["slot"].to_string(), &removed[0]["slot_kind"]), (recovery, &"recovery".into()));
    assert!(audit.iter().any(|line| line["event"] == "passphrase.change" && line["proof"] == "recovery"), "{audit:?}");
}

/// A recovery code opens the vault and changes a lost passphrase. It gives nothing else.
#[test]
fn a_recovery_code_is_no_passphrase() {
    let strongroom = furnished();
    let code = strongroom.must(&["slot", "add", "recovery"]);
    let as_passphrase = passphrase(&strongroom, code.trim());
    strongroom.ctl(&["agent", "add", "x", "--passphrase-file", &as_passphrase]).assert_code(77);
    let logs = strongroom.logs() + &strongroom.must(&["audit", "--json"]);
    assert!(!logs.contains(code.trim()) && logs.contains("slot.add"), "{logs}");
}

#[test]
fn wrong_passphrases_have_to_wait_and_random_keys_have_not() {
    let strongroom = furnished();
    let code = strongroom.must(&["slot", "add", "recovery"]);
    strongroom.must(&["lock"]);
    let wrong = passphrase(&strongroom, "no passphrase at all");
    let try_it = || {
        let began = Instant::now();
        strongroom.ctl(&["unlock", "--passphrase-file", &wrong]).assert_code(77);
        began.elapsed()
    };
    for _ in 0..3 {
        try_it();
    }
    // The fourth waits a second, the fifth two.
    assert!(try_it() >= Duration::from_millis(900));
    assert!(try_it() >= Duration::from_millis(1900));
    let random = strongroom.ctl_with(&["unlock", "--recovery"], code.as_bytes());
    assert!(!random.assert_code(0).stderr.contains(WAITS), "random keys are not made to wait: {random:?}");
    strongroom.must(&["lock"]);
    let began = Instant::now();
    strongroom.must(&["unlock"]);
    assert!(began.elapsed() >= Duration::from_millis(900), "the right one waits as well: {:?}", began.elapsed());
    strongroom.must(&["lock"]);
    let after = strongroom.ctl(&["unlock"]);
    assert!(!after.assert_code(0).stderr.contains(WAITS), "and then all is forgotten: {after:?}");
    // What was tried at the locked vault is on record, in front of the unlocking that ended it.
    let events: Vec<_> =
        strongroom.audit().iter().map(|line| line["event"].as_str().unwrap_or("").to_owned()).collect();
    let locks: Vec<_> = (0..events.len()).filter(|&at| events[at] == "vault.lock").collect();
    let tried = |from: usize, to: usize| events[from..to].iter().filter(|one| *one == "vault.wrong-passphrase").count();
    assert!((3..=5).contains(&tried(locks[0], locks[1])), "{events:?}");
    assert_eq!(tried(locks[1], events.len()), 0, "the right one is not counted: {events:?}");
}

/// What ctl says where it waits.
const WAITS: &str = "counts in";

#[test]
fn a_backup_comes_back_with_what_it_had_and_says_before_what_that_is() {
    let strongroom = furnished();
    let backup = strongroom.root().join("away.backup").to_str().unwrap().to_owned();
    strongroom.must(&["backup", &backup]);
    let bytes = fs::read(&backup).unwrap();
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!bytes.windows(8).any(|window| KEY.as_bytes().windows(8).any(|part| part == window)));
    strongroom.ctl(&["backup", &backup]).assert_code(1);
    assert_eq!(fs::read(&backup).unwrap(), bytes, "no file is replaced");

    strongroom.must(&["agent", "revoke", "coder"]);
    strongroom.must(&["agent", "add", "newcomer"]);
    let placeholder = strongroom.must(&["grant", "list", "--json"]);
    let ca = strongroom.must(&["ca", "show"]);
    strongroom.must(&["ca", "rotate", "--yes"]);
    let rotated = strongroom.must(&["ca", "show"]);

    let looked = strongroom.ctl(&["restore", &backup, "--dry-run", "--json"]).json();
    let changes: Vec<(String, Option<String>, Option<String>)> = looked["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let text = |name: &str| change[name].as_str().map(str::to_owned);
            (text("change").unwrap(), text("credential"), text("agent"))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert!(changes.contains(&("returns".to_owned(), None, some("coder"))), "{changes:?}");
    assert!(changes.contains(&("returns".to_owned(), some("openai"), some("coder"))), "{changes:?}");
    assert!(changes.contains(&("goes".to_owned(), None, some("newcomer"))), "{changes:?}");
    assert_eq!(changes.len(), 3);
    assert!(strongroom.must(&["agent", "list"]).contains("newcomer"), "a look changes nothing");

    let wrong = passphrase(&strongroom, "not this one");
    strongroom.ctl(&["restore", &backup, "--yes", "--passphrase-file", &wrong]).assert_code(77);
    strongroom.ctl(&["restore", &backup, "--yes", "--backup-passphrase-file", &wrong]).assert_code(77);
    strongroom.must(&["restore", &backup, "--yes"]);
    assert_eq!(strongroom.status()["state"], "locked");
    strongroom.ctl(&["restore", &backup, "--yes"]).assert_code(75);
    strongroom.must(&["unlock"]);
    let agents = strongroom.must(&["agent", "list"]);
    assert!(agents.contains("coder") && !agents.contains("newcomer"), "{agents}");
    let after = strongroom.must(&["grant", "list", "--json"]);
    let text = |list: &str| serde_json::from_str::<serde_json::Value>(list).unwrap()[0]["placeholder"].to_string();
    assert_eq!(text(&after), text(&placeholder), "agents need nothing new");
    assert_eq!(strongroom.must(&["ca", "show"]), rotated, "an authority that was given up does not come back");
    assert_ne!(ca, rotated);
    assert!(file(&strongroom, "vault.before-restore").exists());
    // A second one, after the wrong one: the first vault is still there, until something is to be gone for good.
    strongroom.must(&["restore", &backup, "--yes"]);
    strongroom.must(&["unlock"]);
    assert!(file(&strongroom, "vault.before-restore").exists() && file(&strongroom, "vault.before-restore-2").exists());
    strongroom.must(&["credential", "remove", "openai", "--purge", "--yes"]);
    let asides = || fs::read_dir(strongroom.root().join("data")).unwrap().map(|entry| entry.unwrap().file_name());
    let of_before = |name: &std::ffi::OsString| name.to_str().unwrap().contains("before-restore");
    assert_eq!(asides().filter(of_before).count(), 0);
    let lines = strongroom.audit();
    assert!(lines.iter().any(|line| line["event"] == "vault.restore"));
    assert!(!lines.iter().any(|line| line["event"] == "vault.rolled-back"), "it was done in the open");
    strongroom.must(&["audit", "verify"]);
}

/// Slots decide who opens the vault from then on, so they are among what is shown.
#[test]
fn a_look_at_a_backup_shows_the_ways_in_that_come_back_with_it() {
    let strongroom = furnished();
    strongroom.must(&["slot", "add", "recovery"]);
    let backup = strongroom.root().join("with-a-code.backup").to_str().unwrap().to_owned();
    strongroom.must(&["backup", &backup]);
    let same = strongroom.ctl(&["restore", &backup, "--dry-run"]);
    assert!(same.assert_code(0).stderr.contains("Slots, credentials, agents and grants are the same"), "{same:?}");
    let (code, _) = slots(&strongroom).into_iter().find(|(_, kind)| kind == "recovery").unwrap();
    strongroom.must(&["slot", "remove", &code.to_string(), "--yes"]);
    strongroom.must(&["slot", "add", "passphrase", "--new-passphrase-file", &passphrase(&strongroom, "a second one")]);
    let looked = strongroom.ctl(&["restore", &backup, "--dry-run", "--json"]).json();
    let changes: Vec<_> = looked["changes"].as_array().unwrap().iter().collect();
    let of = |kind: &str| {
        changes.iter().find(|change| change["slot"]["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {looked}"))
    };
    assert_eq!(
        (of("recovery")["change"].as_str(), of("recovery")["slot"]["id"].as_u64()),
        (Some("returns"), Some(code))
    );
    assert_eq!(of("passphrase")["change"], "goes");
    assert_eq!(changes.len(), 2);
    assert!(strongroom.must(&["restore", &backup, "--dry-run"]).contains(&format!("slot\trecovery code {code}")));
}

#[test]
fn a_backup_makes_a_new_machine_the_old_one() {
    let old = furnished();
    let code = old.must(&["slot", "add", "recovery"]);
    let backup = old.root().join("away.backup");
    old.must(&["backup", backup.to_str().unwrap()]);
    old.must(&["passphrase", "--new-passphrase-file", &passphrase(&old, "changed since")]);
    for with_code in [false, true] {
        let new = Strongroom::new().locked();
        let copy = new.write("copy.backup", fs::read(&backup).unwrap());
        fs::remove_file(file(&new, "vault")).unwrap();
        assert_eq!(new.status()["state"], "uninitialised");
        let arguments = ["restore", copy.to_str().unwrap(), "--yes", "--recovery"];
        if with_code {
            new.must_with(&arguments, code.as_bytes());
        } else {
            new.must(&arguments[..3]);
        }
        new.must(&["unlock"]);
        assert!(new.must(&["grant", "list"]).contains("openai"));
        new.must(&["audit", "verify"]);
    }
}

#[test]
fn what_is_no_backup_is_refused_and_changes_nothing() {
    let strongroom = furnished();
    let path = strongroom.root().join("a.backup");
    strongroom.must(&["backup", path.to_str().unwrap()]);
    let good = fs::read(&path).unwrap();
    let before = fs::read(file(&strongroom, "vault")).unwrap();
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    for bytes in [&good[..good.len() - 1], &flipped[..], b"", b"STRONGRM", &[0; 2_000_000]] {
        let bad = strongroom.write("bad.backup", bytes);
        let refused = strongroom.ctl(&["restore", bad.to_str().unwrap(), "--yes"]);
        refused.assert_code(1);
        assert!(refused.stderr.contains("whole vault file"), "{refused:?}");
    }
    strongroom.ctl(&["restore", "/no/such/file", "--yes"]).assert_code(1);
    assert_eq!(fs::read(file(&strongroom, "vault")).unwrap(), before);
    assert_eq!(strongroom.status()["state"], "unlocked");
}

fn with_config(lines: &str) -> Strongroom {
    configured(Strongroom::new(), lines)
}

fn configured(builder: Builder, lines: &str) -> Strongroom {
    let strongroom = builder.created();
    let path = strongroom.home().keyd_config();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{lines}\n{text}")).unwrap();
    strongroom.up();
    strongroom.must(&["unlock"]);
    strongroom
}

fn locks_itself(strongroom: &Strongroom) {
    within(Duration::from_secs(30), "it locks", || (strongroom.status()["state"] == "locked").then_some(()));
}

#[test]
fn the_vault_locks_after_its_time_and_never_without_one() {
    let strongroom = with_config("auto-lock = \"5s\"");
    locks_itself(&strongroom);
    assert!(strongroom.logs().contains("its time is over"));
    // The time counts from each unlocking.
    strongroom.must(&["unlock"]);
    assert_eq!(strongroom.status()["state"], "unlocked");
    locks_itself(&strongroom);
}

#[test]
fn a_vault_locks_when_the_machine_has_slept_where_that_is_wanted() {
    let clock = Clock::right();
    let wants = configured(Strongroom::new().programs(clock.programs()), "lock-on-suspend = true");
    let does_not = configured(Strongroom::new().programs(clock.programs()), "auto-lock = \"10h\"");
    assert_eq!(wants.status()["state"], "unlocked");
    clock.slept(3600);
    locks_itself(&wants);
    assert!(wants.logs().contains("the machine slept"));
    assert_eq!(does_not.status()["state"], "unlocked");
    // Hours that were slept through count.
    clock.slept(11 * 3600);
    locks_itself(&does_not);
    wants.must(&["unlock"]);
    assert_eq!(wants.status()["state"], "unlocked", "a sleep of before is none of now");
}

/// Of those who change a passphrase at once one does, and the others have the wrong one from then on.
#[test]
fn two_who_change_the_passphrase_at_once_do_not_both() {
    let strongroom = furnished();
    // With a second one every slot's key is in the vault, and none has to be brought.
    strongroom.must(&["slot", "add", "passphrase", "--new-passphrase-file", &passphrase(&strongroom, "a second one")]);
    let new: Vec<_> = (0..4).map(|number| passphrase(&strongroom, &"another ".repeat(number + 2))).collect();
    let codes: Vec<_> = std::thread::scope(|scope| {
        let changes =
            new.iter().map(|new| scope.spawn(|| strongroom.ctl(&["passphrase", "--new-passphrase-file", new]).code));
        changes.collect::<Vec<_>>().into_iter().map(|change| change.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| [Some(0), Some(77), Some(75)].contains(code)), "{codes:?}");
    strongroom.must(&["lock"]);
    let opens = |new: &String| strongroom.ctl(&["unlock", "--passphrase-file", new]).code == Some(0);
    let at = codes.iter().position(|code| *code == Some(0)).unwrap();
    assert!(opens(&new[at]), "the one that was told so");
    assert_eq!(slots(&strongroom).len(), 2);
}

#[test]
fn a_change_of_slots_and_taking_access_away_at_one_time_both_stand() {
    let strongroom = furnished();
    let agents: Vec<String> = (0..8).map(|number| format!("agent-{number}")).collect();
    for agent in &agents {
        strongroom.must(&["agent", "add", agent]);
    }
    std::thread::scope(|scope| {
        let adds: Vec<_> = (0..4).map(|_| scope.spawn(|| strongroom.must(&["slot", "add", "recovery"]))).collect();
        // Within what the four take; each of these is one write.
        for agent in &agents {
            strongroom.must(&["agent", "revoke", agent]);
        }
        for add in adds {
            add.join().unwrap();
        }
    });
    strongroom.must(&["lock"]);
    strongroom.must(&["unlock"]);
    assert_eq!(slots(&strongroom).len(), 5);
    let listed = strongroom.ctl(&["agent", "list", "--json"]).json();
    let revoked = listed.as_array().unwrap().iter().filter(|agent| !agent["revoked"].is_null()).count();
    assert_eq!(revoked, agents.len(), "{listed}");
    strongroom.must(&["audit", "verify"]);
}

/// The vault was moved away, as `init` says, and keyd still has it open.
#[test]
fn a_new_vault_in_the_place_of_one_that_is_open_is_not_written_over() {
    let strongroom = furnished();
    let init = || strongroom.ctl(&[&["init"], strongroom.users()].concat());
    let away = |name: &str| fs::rename(file(&strongroom, name), strongroom.root().join("away").join(name)).unwrap();
    fs::create_dir_all(strongroom.root().join("away/audit")).unwrap();
    away("vault");
    away("vault.bak");
    let refused = init();
    assert!(refused.code == Some(1) && refused.stderr.contains("audit log"), "{refused:?}");
    assert!(!file(&strongroom, "vault").exists());
    away("audit/000001.jsonl");
    init().assert_code(0);
    let new = fs::read(file(&strongroom, "vault")).unwrap();
    within(Duration::from_secs(30), "keyd lets go of the old one", || {
        (strongroom.status()["state"] == "locked").then_some(())
    });
    assert_eq!(fs::read(file(&strongroom, "vault")).unwrap(), new);
    strongroom.must(&["unlock"]);
    assert!(!strongroom.must(&["credential", "list"]).contains("openai"));
    strongroom.must(&["agent", "add", "coder"]);
    strongroom.must(&["audit", "verify"]);
}

#[test]
fn a_vault_that_does_not_fit_into_locked_memory_says_which_limit_to_raise() {
    let strongroom = Strongroom::new().start();
    // Sixteen certificates of nearly the largest size, twice: more than the smallest limit holds.
    let name = |number: usize| format!("{number}.{0}.{0}.{0}.example", "x".repeat(63));
    let mut params = rcgen::CertificateParams::new((0..70).map(name).collect::<Vec<_>>()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    let roots = strongroom.write("roots.pem", strongroom_ctl::certificates::to_pem(&der).repeat(16));
    for name in ["one", "two"] {
        let words = ["credential", "add", name, "--host", "a.example", "--bearer", "--ca", roots.to_str().unwrap()];
        strongroom.must_with(&words, KEY.as_bytes());
    }
    strongroom.must(&["down"]);
    let up = strongroom.command(&[&["up"], strongroom.users()].concat());
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--memlock=262144:").arg(up.get_program()).args(up.get_args()).env_clear();
    limited.envs(up.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strongroom_tests::process::run(&mut limited, b"").assert_code(0);
    let refused = strongroom.ctl(&["unlock"]);
    assert!(refused.assert_code(1).stderr.contains("LimitMEMLOCK="), "{refused:?}");
    strongroom.must(&["down"]);
    strongroom.up();
    strongroom.must(&["unlock"]);
}

#[test]
fn rotating_to_the_value_in_use_changes_nothing_and_says_so() {
    let strongroom = furnished();
    let rotate = |key: &str| strongroom.ctl_with(&["credential", "rotate", "openai"], key.as_bytes());
    let before = fs::read(file(&strongroom, "vault")).unwrap();
    let same = rotate(KEY);
    assert!(same.code == Some(0) && same.stderr.contains("has this value already"), "{same:?}");
    assert_eq!(fs::read(file(&strongroom, "vault")).unwrap(), before);
    let other = rotate(&format!("{KEY}-other"));
    assert!(other.code == Some(0) && other.stderr.is_empty(), "{other:?}");
    assert_ne!(fs::read(file(&strongroom, "vault")).unwrap(), before);
}
