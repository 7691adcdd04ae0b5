//! What one user keeps, another does not get, and a bus of another's is not believed.

use std::io::Read;
use std::os::unix::net::UnixListener;

use strongroom_tests::hostile::with_uid;

use crate::desk::{Desk, STRANGER, all_fail, key, of, vault};

#[test]
#[ignore = "needs root: another user serves the bus"]
fn a_bus_of_another_user_is_handed_nothing() {
    let (desk, vault) = (Desk::without_bus(), vault());
    desk.open_to_all();
    let theirs = desk.path("run/theirs");
    let listener = with_uid(STRANGER, {
        let theirs = theirs.clone();
        move || UnixListener::bind(theirs).expect("everybody may write there")
    });
    let desk = desk.at(&format!("unix:path={}", theirs.display()));
    all_fail(&desk, "secret-service", &vault, 77, &format!("is served by uid {STRANGER}"));
    desk.ask(&["pick"], "").assert_code(77);
    listener.set_nonblocking(true).expect("our own socket");
    let mut looks = 0;
    while let Ok((mut connection, _)) = listener.accept() {
        let mut sent = Vec::new();
        connection.read_to_end(&mut sent).expect("the program has ended");
        assert!(sent.is_empty(), "{}", String::from_utf8_lossy(&sent));
        looks += 1;
    }
    assert_eq!(looks, 4, "it was the bus that was asked");
}

#[test]
#[ignore = "needs root: another user looks into the keyring"]
fn another_user_does_not_read_the_keyring() {
    let (desk, vault, key) = (Desk::new(), vault(), key());
    desk.ask(&["set", "secret-service", &vault], &key).assert_code(0);
    desk.open_to_all();
    let driver = desk.driver_for_all();
    let refused = desk.ask_as(STRANGER, &[&driver, "get", "secret-service", &vault]);
    refused.assert_code(69);
    let refused = desk.ask_as(STRANGER, &[&["secret-tool", "lookup"], of(&vault).as_slice()].concat());
    assert!(refused.code != Some(0) && refused.stdout.is_empty(), "{refused:?}");
    let lookup = desk.secret_tool(&[&["lookup"], of(&vault).as_slice()].concat(), "");
    assert!(lookup.assert_code(0).stdout.starts_with("strongroom-slot-key-1:"), "its own user does");
}

#[test]
#[ignore = "needs root: becomes users of its own"]
fn another_user_does_not_read_the_kernel_s_key() {
    let (desk, vault) = (Desk::without_bus(), vault());
    desk.open_to_all();
    let driver = desk.driver_for_all();
    let (owner, stranger) = (STRANGER + 1, STRANGER);
    let as_user =
        |uid, script: &str| desk.ask_as(uid, &["keyctl", "session", "-", "sh", "-c", script, "sh", &driver, &vault]);
    let kept = as_user(
        owner,
        r#"printf %064d 7 | "$1" set keyutils "$2" >/dev/null && keyctl search @s user "strongroom:$2""#,
    );
    let serial = kept.assert_code(0).stdout.trim().to_owned();
    let get = r#""$1" get keyutils "$2""#;
    as_user(stranger, get).assert_code(1);
    // Whoever knows its number is kept out by its permissions.
    let read = format!("keyctl get_persistent @s >/dev/null; keyctl print {serial}");
    let refused = as_user(stranger, &read);
    assert!(refused.code != Some(0) && !refused.stdout.contains("strongroom"), "{refused:?}");

    assert!(as_user(owner, &read).assert_code(0).stdout.contains("strongroom-slot-key-1:"));
    assert_eq!(as_user(owner, get).assert_code(0).stdout.trim(), format!("{:064}", 7));
    as_user(owner, r#""$1" delete keyutils "$2""#).assert_code(0);
}

#[test]
#[ignore = "needs root: becomes a user without a session"]
fn without_a_session_keyring_that_is_said() {
    let (desk, vault) = (Desk::without_bus(), vault());
    desk.open_to_all();
    let driver = desk.driver_for_all();
    let user = STRANGER + 2;
    for command in ["get", "delete"] {
        let refused = desk.ask_as(user, &[&driver, command, "keyutils", &vault]);
        assert!(refused.assert_code(69).stderr.contains("no session keyring"), "{refused:?}");
    }
    let set = r#"printf %064d 7 | "$1" set keyutils "$2""#;
    let refused = desk.ask_as(user, &["sh", "-c", set, "sh", &driver, &vault]);
    assert!(refused.assert_code(69).stderr.contains("no session keyring"), "{refused:?}");
    let left = desk.ask_as(user, &["keyctl", "show", "@us"]);
    assert!(left.assert_code(0).stdout.contains("_uid_ses") && !left.stdout.contains("strongroom"), "{left:?}");
    desk.ask_as(user, &["keyctl", "session", "-", "sh", "-c", set, "sh", &driver, &vault]).assert_code(0);
    desk.ask_as(user, &["keyctl", "session", "-", &driver, "delete", "keyutils", &vault]).assert_code(0);
    let refused = desk.ask_as(user, &[&driver, "pick"]);
    let words = &refused.assert_code(69).stderr;
    assert!(words.contains("no session bus") && words.contains("no session keyring"), "{refused:?}");
}
