//! The Secret Service: what is kept, what others see of it, and every way in which it can fail.

use std::os::unix::net::UnixListener;
use std::time::Instant;

use strongroom_tests::prelude::*;

use crate::desk::{Desk, all_fail, key, of, vault};

const STORE: &str = "secret-service";

fn lookup(desk: &Desk, vault: &str) -> Output {
    desk.secret_tool(&[&["lookup"], of(vault).as_slice()].concat(), "")
}

fn store_by_hand(desk: &Desk, vault: &str, more: &[&str], value: &str) {
    desk.secret_tool(&[&["store", "--label=by hand"], of(vault).as_slice(), more].concat(), value).assert_code(0);
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn a_key_is_kept_and_another_program_sees_it() {
    let (desk, vault, first, second) = (Desk::new(), vault(), key(), key());
    for key in [&first, &second] {
        desk.ask(&["set", STORE, &vault], key).assert_code(0);
        assert_eq!(desk.ask(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), key);
    }
    let seen = lookup(&desk, &vault);
    assert!(seen.assert_code(0).stdout.starts_with("strongroom-slot-key-1:"), "{seen:?}");
    let found = desk.secret_tool(&["search", "--all", "service", "strongroom"], "");
    assert_eq!(found.stdout.matches("secret = ").count(), 1, "a second key takes the first one's place: {found:?}");
    assert!(found.stdout.contains(&format!("label = Strongroom: the vault {vault}")), "{found:?}");

    assert_eq!(desk.ask(&["delete", STORE, &vault], "").assert_code(0).stdout, "deleted\n");
    assert_eq!(lookup(&desk, &vault).code, Some(1), "it is gone for others too");
    assert_eq!(desk.ask(&["delete", STORE, &vault], "").assert_code(0).stdout, "absent\n");
    let none = desk.ask(&["get", STORE, &vault], "");
    assert!(none.assert_code(1).stderr.contains("has no key of this vault"), "{none:?}");
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn a_key_outlives_the_keyring_that_took_it() {
    let (mut desk, vault, key) = (Desk::new(), vault(), key());
    desk.ask(&["set", STORE, &vault], &key).assert_code(0);
    desk.unlock();
    assert_eq!(desk.ask(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), key);
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn vaults_lie_beside_each_other() {
    let desk = Desk::new();
    let vaults: Vec<_> =
        (0..5).map(|_| (vault(), key())).chain([("ö vault, with = and \"".to_owned(), key())]).collect();
    for (vault, key) in &vaults {
        desk.ask(&["set", STORE, vault], key).assert_code(0);
    }
    assert_eq!(desk.ask(&["delete", STORE, &vaults[0].0], "").stdout, "deleted\n");
    for (vault, key) in &vaults[1..] {
        assert_eq!(desk.ask(&["get", STORE, vault], "").assert_code(0).stdout.trim(), key, "{vault}");
    }
    desk.ask(&["get", STORE, &vaults[0].0], "").assert_code(1);
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn what_is_not_ours_is_refused_and_left_alone() {
    let desk = Desk::new();
    let right = format!("strongroom-slot-key-1:{}", "A".repeat(43));
    let too_long = format!("{right}A");
    let no_base64 = format!("{}*", &right[..right.len() - 1]);
    for (value, why) in [
        ("somebody's password", "does not begin with"),
        ("0123456789abcdef0123456789abcdef", "does not begin with"),
        (too_long.as_str(), "44 characters"),
        (no_base64.as_str(), "not base64"),
    ] {
        let vault = vault();
        store_by_hand(&desk, &vault, &[], value);
        for (command, input) in [("get", String::new()), ("set", key()), ("delete", String::new())] {
            let refused = desk.ask(&[command, STORE, &vault], &input);
            assert!(refused.assert_code(1).stderr.contains(why), "{refused:?}");
            assert!(!refused.stderr.contains(value), "what was found is nobody's business: {refused:?}");
        }
        assert_eq!(lookup(&desk, &vault).stdout, value);
    }
    // The same by the same hand, where it is right.
    let vault = vault();
    store_by_hand(&desk, &vault, &[], &right);
    assert_eq!(desk.ask(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), "00".repeat(32));
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn of_two_items_none_is_used() {
    let (desk, vault, key) = (Desk::new(), vault(), key());
    desk.ask(&["set", STORE, &vault], &key).assert_code(0);
    store_by_hand(&desk, &vault, &["more", "attributes"], "another");
    for (command, input) in [("get", ""), ("set", key.as_str()), ("delete", "")] {
        let refused = desk.ask(&[command, STORE, &vault], input);
        assert!(refused.assert_code(1).stderr.contains("has 2 items"), "{refused:?}");
    }
    desk.secret_tool(&[&["clear"], of(&vault).as_slice(), &["more", "attributes"]].concat(), "").assert_code(0);
    assert_eq!(desk.ask(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), key);
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn a_locked_keyring_is_refused_at_once() {
    let (mut desk, vault, key) = (Desk::new(), vault(), key());
    desk.ask(&["set", STORE, &vault], &key).assert_code(0);
    desk.lock();
    all_fail(&desk, STORE, &vault, 77, "is locked");
    assert_eq!(desk.ask(&["pick"], "").assert_code(0).stdout, "secret-service\n", "locked is no reason for less");
    desk.unlock();
    assert_eq!(desk.ask(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), key);
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn a_keyring_with_the_wrong_password_is_refused_at_once() {
    let (mut desk, vault, key) = (Desk::new(), vault(), key());
    desk.ask(&["set", STORE, &vault], &key).assert_code(0);
    desk.start_keyring("not the password");
    all_fail(&desk, STORE, &vault, 77, "is locked");
    desk.unlock();
    assert_eq!(desk.ask(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), key, "nothing was overwritten");
}

#[test]
#[ignore = "needs the keyring tools: gnome-keyring, libsecret-tools, dbus"]
fn without_a_keyring_on_the_bus_that_is_said() {
    let (desk, vault) = (Desk::without_keyring(), vault());
    all_fail(&desk, STORE, &vault, 69, "no keyring answers on the session bus");
}

#[test]
fn without_a_bus_that_is_said() {
    all_fail(&Desk::without_bus(), STORE, &vault(), 69, "no session bus answers at unix:path=");
    for address in ["", "tcp:host=127.0.0.1,port=1", "autolaunch:", "unix:path=/a;unix:path=/b"] {
        all_fail(&Desk::without_bus().at(address), STORE, &vault(), 78, "is not one Unix socket's");
    }
}

#[test]
fn a_mute_bus_is_given_up() {
    let desk = Desk::without_bus();
    let _mute = UnixListener::bind(desk.path("bus")).expect("our own directory");
    let start = Instant::now();
    let refused = desk.ask(&["get", STORE, &vault()], "");
    assert!(refused.assert_code(69).stderr.contains("did not answer within 10 seconds"), "{refused:?}");
    assert!(refused.stderr.contains("waiting for the keyring"), "it says so before: {refused:?}");
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
}

#[test]
fn a_vault_without_a_name_is_refused() {
    for bad in ["", "/with\na line"] {
        all_fail(&Desk::without_bus(), STORE, bad, 1, "cannot be a name");
    }
}
