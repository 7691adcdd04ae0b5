//! `slot add passphrase` and `passphrase`: what they say of the new passphrase.

use std::fs;
use std::process::{Command, Output, Stdio};

use strongroom_protocol::admin::{Failure, KeyDerivation, Operation, Reply, Status, VaultState};

use crate::daemons::Stage;
use crate::{code, stderr};

/// Both commands that take a new passphrase.
const COMMANDS: [&[&str]; 2] = [&["slot", "add", "passphrase"], &["passphrase"]];

/// A stage with an open vault, and a file with its passphrase.
fn open() -> Stage {
    let stage = Stage::new();
    stage.admin(|operation| match operation {
        Operation::Status => Reply::Status(status()),
        Operation::SlotList => Reply::Slots(Vec::new()),
        Operation::SlotAdd { .. } => Reply::SlotAdded(2),
        Operation::PassphraseChange { .. } => Reply::Done,
        _ => Reply::Failed(Failure::NotPermitted),
    });
    fs::write(stage.user().join("old"), "correct horse battery staple\n").unwrap();
    stage
}

pub fn status() -> Status {
    Status {
        version: "0".to_owned(),
        state: VaultState::Unlocked,
        keyd_pid: 1,
        gatewayd_pid: None,
        exchanges: 0,
        unlock: Some(KeyDerivation { salt: [1; 16], memory_kib: 19 * 1024, passes: 2, lanes: 1 }),
        generation: Some(1),
        audit_broken: false,
        mismatches: Vec::new(),
    }
}

/// With the current passphrase from its file, and without a terminal.
fn said(stage: &Stage, words: &[&str], more: &[&str]) -> Output {
    let built = stage.command(&[]);
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(built.get_program()).args(words).args(more).env_clear().stdin(Stdio::null());
    command.envs(built.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("STRONGROOM_PASSPHRASE_FILE", stage.user().join("old")).output().unwrap()
}

#[test]
fn the_option_for_the_passphrase_that_is_missing_is_named() {
    let stage = open();
    for words in COMMANDS {
        let output = said(&stage, words, &[]);
        let told = stderr(&output);
        assert!(code(&output) == 64 && told.contains("Give it with --new-passphrase-file FILE,"), "{words:?}: {told}");
    }
}

#[test]
fn a_new_passphrase_that_is_short_gets_a_word_of_warning() {
    let stage = open();
    let new = stage.user().join("new");
    for words in COMMANDS {
        for (passphrase, warned) in [("hunter2hunt", true), ("several random words", false)] {
            fs::write(&new, passphrase).unwrap();
            let output = said(&stage, words, &["--new-passphrase-file", new.to_str().unwrap()]);
            let told = stderr(&output);
            assert!(code(&output) == 0 && told.contains("The passphrase is short.") == warned, "{words:?}: {told}");
        }
    }
}
