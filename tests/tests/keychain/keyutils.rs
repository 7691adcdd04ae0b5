//! The kernel's keyrings: inside a session and without one, and what other users see.

use strongroom_tests::prelude::*;

use crate::desk::{Desk, key, vault};

const STORE: &str = "keyutils";

#[test]
#[ignore = "needs the keyring tools: keyutils"]
fn a_key_is_kept_in_the_kernel_and_another_program_sees_it() {
    let (desk, vault, key) = (Desk::without_bus(), vault(), key());
    desk.ask_in_a_session(&["set", STORE, &vault], &key).assert_code(0);
    // In other sessions of the same user: the persistent keyring has it.
    assert_eq!(desk.ask_in_a_session(&["get", STORE, &vault], "").assert_code(0).stdout.trim(), key);
    let look =
        format!("keyctl get_persistent @s >/dev/null; keyctl print $(keyctl search @s user 'strongroom:{vault}')");
    let seen = process::run(desk.command("keyctl").args(["session", "-", "sh", "-c", &look]), b"");
    assert!(seen.assert_code(0).stdout.contains("strongroom-slot-key-1:"), "{seen:?}");

    assert_eq!(desk.ask_in_a_session(&["delete", STORE, &vault], "").assert_code(0).stdout, "deleted\n");
    assert_eq!(desk.ask_in_a_session(&["delete", STORE, &vault], "").assert_code(0).stdout, "absent\n");
    let none = desk.ask_in_a_session(&["get", STORE, &vault], "");
    assert!(none.assert_code(1).stderr.contains("it forgets them at each boot"), "{none:?}");
}

#[test]
#[ignore = "needs the keyring tools: keyutils"]
fn what_is_not_ours_is_refused_and_left_alone() {
    let (desk, vault, key) = (Desk::without_bus(), vault(), key());
    let description = format!("strongroom:{vault}");
    let script = r#"
        serial=$(keyctl add user "$1" "somebody's" @s)
        "$2" get keyutils "$3"; echo "get $?"
        printf "$4" | "$2" set keyutils "$3"; echo "set $?"
        "$2" delete keyutils "$3"; echo "delete $?"
        keyctl print "$serial""#;
    let mut command = desk.command("keyctl");
    command.args(["session", "-", "sh", "-c", script, "sh", &description, crate::desk::DRIVER, &vault, &key]);
    let refused = process::run(&mut command, b"");
    assert_eq!(refused.stdout.lines().collect::<Vec<_>>(), ["get 1", "set 1", "delete 1", "somebody's"], "{refused:?}");
    assert_eq!(refused.stderr.matches("is no key of Strongroom").count(), 3, "{refused:?}");
}

#[test]
#[ignore = "needs the keyring tools: keyutils"]
fn it_is_picked_where_there_is_no_bus_and_the_reason_is_said() {
    let desk = Desk::without_bus();
    let picked = desk.ask_in_a_session(&["pick"], "");
    assert_eq!(picked.assert_code(0).stdout, "keyutils\n");
    assert!(picked.stderr.contains("no session bus answers"), "{picked:?}");
}
