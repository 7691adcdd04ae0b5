//! The commands on a real keyring: a slot is added, opens the vault, gives no access, and goes with its key.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use strongroom_tests::prelude::*;

use crate::desk::{Desk, of};
use strongroom_tests::programs;

/// A strongroom's command on this desk.
#[track_caller]
fn ctl(desk: &Desk, strongroom: &Strongroom, arguments: &[&str]) -> Output {
    process::run(&mut command(desk, strongroom, arguments), b"")
}

fn command(desk: &Desk, strongroom: &Strongroom, arguments: &[&str]) -> Command {
    let mut command = desk.command(programs::path("strongroom"));
    command.args(arguments).env("STRONGROOM_HOME", strongroom.root());
    command.env("STRONGROOM_PASSPHRASE_FILE", strongroom.passphrase_file());
    command
}

fn keychain_slots(strongroom: &Strongroom) -> Vec<String> {
    let listed = strongroom.must(&["slot", "list"]);
    let rows = listed.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[1] == "keychain").map(|row| row[0].to_owned()).collect()
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn the_keychain_opens_the_vault_and_is_no_passphrase() {
    let (desk, strongroom) = (Desk::new(), Strongroom::new().start());
    let vault = strongroom.home().vault().to_str().unwrap().to_owned();
    ctl(&desk, &strongroom, &["unlock", "--keychain"]).assert_code(0);
    strongroom.must(&["lock"]);
    let none = ctl(&desk, &strongroom, &["unlock", "--keychain"]);
    assert!(none.assert_code(1).stderr.contains("no key of this vault"), "{none:?}");
    strongroom.must(&["unlock"]);

    let added = ctl(&desk, &strongroom, &["slot", "add", "keychain"]);
    assert!(added.assert_code(0).stderr.contains("the Secret Service"), "{added:?}");
    let item = desk.secret_tool(&[&["lookup"], of(&vault).as_slice()].concat(), "");
    let key = item.assert_code(0).stdout.trim().to_owned();
    assert!(!format!("{}{added:?}", strongroom.logs()).contains(&key), "nobody else says it");

    strongroom.must(&["lock"]);
    let mut command = desk.command(programs::path("strongroom"));
    // Without a passphrase anywhere.
    command.args(["unlock", "--keychain"]).env("STRONGROOM_HOME", strongroom.root());
    process::run(&mut command, b"").assert_code(0);
    assert_eq!(strongroom.status()["state"], "unlocked");
    let as_passphrase = strongroom.write("as-passphrase", &key);
    let refused = ["agent", "add", "x", "--passphrase-file", as_passphrase.to_str().unwrap()];
    ctl(&desk, &strongroom, &refused).assert_code(77);

    // What keyd refuses leaves the key that opens the vault where it is.
    ctl(
        &desk,
        &strongroom,
        &["slot", "add", "keychain", "--yes", "--passphrase-file", as_passphrase.to_str().unwrap()],
    )
    .assert_code(77);
    strongroom.must(&["lock"]);
    ctl(&desk, &strongroom, &["unlock", "--keychain"]).assert_code(0);

    // A changed passphrase leaves it alone.
    let new = strongroom.write("new-passphrase", "quite another passphrase");
    let new = new.to_str().unwrap();
    strongroom.must(&["passphrase", "--new-passphrase-file", new]);
    strongroom.must(&["lock"]);
    ctl(&desk, &strongroom, &["unlock", "--keychain"]).assert_code(0);

    // A second one is asked about, and takes the key's place.
    ctl(&desk, &strongroom, &["slot", "add", "keychain", "--passphrase-file", new]).assert_code(64);
    ctl(&desk, &strongroom, &["slot", "add", "keychain", "--passphrase-file", new, "--yes"]).assert_code(0);
    let slots = keychain_slots(&strongroom);
    assert_eq!(slots.len(), 2);
    for (slot, opens) in slots.iter().zip([0, 1]) {
        ctl(&desk, &strongroom, &["slot", "remove", slot, "--yes", "--passphrase-file", new]).assert_code(0);
        strongroom.must(&["lock"]);
        ctl(&desk, &strongroom, &["unlock", "--keychain"]).assert_code(opens);
        strongroom.ctl(&["unlock", "--passphrase-file", new]).assert_code(0);
    }
    assert_eq!(desk.secret_tool(&[&["lookup"], of(&vault).as_slice()].concat(), "").code, Some(1), "the key is gone");
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn a_unit_waits_until_the_keychain_is_unlocked() {
    let (mut desk, strongroom) = (Desk::new(), Strongroom::new().start());
    let unlock = |desk: &Desk, seconds: &str| ctl(desk, &strongroom, &["unlock", "--keychain", "--wait", seconds]);
    strongroom.must(&["lock"]);
    // Nothing will come of this one, so it does not wait.
    let none = unlock(&desk, "600");
    assert!(none.assert_code(1).stderr.contains("no key of this vault"), "{none:?}");
    strongroom.must(&["unlock"]);
    ctl(&desk, &strongroom, &["slot", "add", "keychain"]).assert_code(0);
    strongroom.must(&["lock"]);

    desk.lock();
    let locked = unlock(&desk, "2");
    assert!(locked.assert_code(77).stderr.contains("nobody has unlocked it"), "{locked:?}");
    unlock(&Desk::without_bus(), "2").assert_code(69);
    let mut waiting = command(&desk, &strongroom, &["unlock", "--keychain", "--wait", "60"]);
    let mut waiting = waiting.stderr(Stdio::piped()).spawn().expect("it was built");
    let mut words = String::new();
    BufReader::new(waiting.stderr.take().expect("a pipe")).read_line(&mut words).expect("it says that it waits");
    assert!(words.contains("waiting for the keychain"), "{words}");
    assert_eq!(strongroom.status()["state"], "locked");
    desk.unlock();
    assert_eq!(waiting.wait().expect("a child of ours").code(), Some(0));
    assert_eq!(strongroom.status()["state"], "unlocked");
    // And one that is unlocked is not waited for.
    strongroom.must(&["lock"]);
    desk.unlock();
    assert_eq!(unlock(&desk, "60").assert_code(0).stderr, "");
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn a_keychain_that_is_locked_wrong_or_absent_says_so_and_the_passphrase_still_opens() {
    let (mut desk, strongroom) = (Desk::new(), Strongroom::new().start());
    let vault = strongroom.home().vault().to_str().unwrap().to_owned();
    ctl(&desk, &strongroom, &["slot", "add", "keychain"]).assert_code(0);
    strongroom.must(&["lock"]);

    desk.lock();
    let locked = ctl(&desk, &strongroom, &["unlock", "--keychain"]);
    assert!(locked.assert_code(77).stderr.contains("locked"), "{locked:?}");
    desk.unlock();
    // Somebody's own words in our item's place, and a key of another vault.
    let store = |value: &str| {
        desk.secret_tool(&[&["store", "--label=x"], of(&vault).as_slice()].concat(), value).assert_code(0);
    };
    store("no key of ours");
    ctl(&desk, &strongroom, &["unlock", "--keychain"]).assert_code(1);
    store(&format!("strongroom-slot-key-1:{}", "A".repeat(43)));
    let wrong = ctl(&desk, &strongroom, &["unlock", "--keychain"]);
    assert!(wrong.assert_code(77).stderr.contains("opens no slot"), "{wrong:?}");
    let absent = ctl(&Desk::without_bus(), &strongroom, &["unlock", "--keychain"]);
    absent.assert_code(69);
    // No slot is made whose key is nowhere.
    strongroom.must(&["unlock"]);
    ctl(&Desk::without_bus(), &strongroom, &["slot", "add", "keychain"]).assert_code(69);
    assert_eq!(keychain_slots(&strongroom).len(), 1);
}
