//! `run --user` in a session whose keyring holds a key: the caller's, and not the program's.

use std::process::Command;

use crate::daemons::Stage;
use crate::{code, for_admins, stderr, stdout};

/// This command as another user's, in a session with a key.
fn in_a_session_with_a_key(stage: &Stage, command: &Command) -> std::process::Output {
    let begin = "keyctl add user strongroom-test:caller caller-payload @s >/dev/null && exec \"$@\"";
    let mut session = Command::new("keyctl");
    session.args(["session", "-", "sh", "-c", begin, "sh"]).arg(command.get_program()).args(command.get_args());
    session.env_clear().envs(stage.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    session.output().unwrap()
}

#[test]
#[ignore = "needs root: runs a program as another user"]
fn the_callers_session_keyring_is_not_the_programs() {
    let stage = for_admins();
    let look = "id -u; keyctl print $(keyctl search @s user strongroom-test:caller); echo has $(keyctl rlist @s)";
    // A change of user alone leaves it.
    let mut changed = Command::new("setpriv");
    changed.args(["--reuid", "61001", "--regid", "61001", "--clear-groups", "sh", "-c", look]);
    let kept = in_a_session_with_a_key(&stage, &changed);
    assert!(stdout(&kept).starts_with("61001\ncaller-payload\nhas "), "{} {}", stdout(&kept), stderr(&kept));

    let run = stage.command(&["run", "--agent", "coder", "--user", "61001", "--", "sh", "-c", look]);
    let left = in_a_session_with_a_key(&stage, &run);
    assert_eq!((code(&left), stdout(&left).as_str()), (0, "61001\nhas\n"), "{}", stderr(&left));
    // It is a session of its own, and keys can be put into it.
    let own = "keyctl add user strongroom-test:own own-payload @s >/dev/null; \
               keyctl print $(keyctl search @s user strongroom-test:own)";
    let run = stage.command(&["run", "--agent", "coder", "--user", "61001", "--", "sh", "-c", own]);
    let used = in_a_session_with_a_key(&stage, &run);
    assert_eq!((code(&used), stdout(&used).as_str()), (0, "own-payload\n"), "{}", stderr(&used));
}
