//! A vault that an older release made: it opens, nothing is lost, and it is written anew with the old one kept.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use strongroom_tests::prelude::*;

/// Made with the tests' passphrase by the programs that wrote version 1; a unit test of keyd has its contents.
const FILE: &[u8] = include_bytes!("../../keyd/src/vault/fixtures/version-1.vault");

fn place(strongroom: &Strongroom, bytes: &[u8]) {
    let vault = strongroom.root().join("data/vault");
    fs::write(&vault, bytes).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&vault, Some(61_001), Some(61_001)).unwrap();
    }
}

fn version(path: &Path) -> u8 {
    fs::read(path).unwrap()[8]
}

#[test]
fn a_vault_of_version_1_opens_and_is_kept_as_the_backup_of_the_next_write() {
    let strongroom = Strongroom::new().created();
    place(&strongroom, FILE);
    strongroom.up();
    strongroom.must(&["unlock"]);
    let vault = strongroom.root().join("data/vault");
    assert_eq!(fs::read(&vault).unwrap(), FILE, "opening writes nothing");
    let shown = strongroom.ctl(&["credential", "show", "openai", "--json"]).json();
    assert_eq!((shown["version"].as_u64(), shown["http2"].as_bool()), (Some(2), Some(false)));
    assert_eq!(shown["pins"].as_array().map(Vec::len), Some(0));

    strongroom.must(&["agent", "add", "newcomer"]);
    let backup = strongroom.root().join("data/vault.bak");
    assert_eq!((version(&vault), version(&backup)), (4, 1));
    assert_eq!(fs::read(&backup).unwrap(), FILE);
    strongroom.must(&["lock"]);
    strongroom.must(&["unlock"]);
    let agents = strongroom.must(&["agent", "list"]);
    assert!(["coder", "tester", "newcomer"].iter().all(|name| agents.contains(name)), "{agents}");
    let placeholders = strongroom.must(&["grant", "list"]);
    assert!(placeholders.contains("sk-strongroom-6wbh3sMxXdFiKzPaZs67wOw36hMuOilMO1h4L0wB"), "{placeholders}");
}

#[test]
fn a_vault_of_a_newer_version_is_left_alone_and_said_to_be_newer() {
    let strongroom = Strongroom::new().created();
    let vault = strongroom.root().join("data/vault");
    let mut newer = fs::read(&vault).unwrap();
    newer[8] = 5;
    place(&strongroom, &newer);
    strongroom.up();
    let refused = strongroom.ctl(&["unlock"]);
    refused.assert_code(1);
    assert!(refused.stderr.contains("newer version"), "{refused:?}");
    assert_eq!(fs::read(&vault).unwrap(), newer);
    newer[8] = 4;
    place(&strongroom, &newer);
    strongroom.must(&["unlock"]);
}
