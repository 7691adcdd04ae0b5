//! Every target over its corpus, and over mutations of it: the short run. `make fuzz` is the long one.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use strongroom_fuzz::TARGETS;
use strongroom_fuzz::dice::Dice;

#[test]
fn every_target_holds_on_its_corpus_and_near_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (index, (name, target)) in TARGETS.iter().enumerate() {
        let files = fs::read_dir(directory.join(name)).unwrap_or_else(|error| panic!("corpus/{name}: {error}"));
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no seed");
        seeds.iter().for_each(|seed| target(seed));
        let mut dice = Dice::new(0x5eed + index as u64);
        for _ in 0..3_000 {
            target(&dice.mutate(&seeds));
        }
    }
}

/// A fuzzer takes long to find a variant that no seed shows it; protocol's golden files have them all.
#[test]
fn every_kind_of_message_has_a_seed() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut messages = 0;
    // A request is an operation behind the byte that says there is no proof.
    for (golden, corpus, before) in [
        ("GatewayMessage", "gateway_message", ""),
        ("KeydMessage", "keyd_message", ""),
        ("Operation", "admin_request", "00"),
        ("Reply", "admin_reply", ""),
    ] {
        let files = fs::read_dir(here.join("corpus").join(corpus)).unwrap();
        let seeds: HashSet<String> = files.map(|file| hex(&fs::read(file.unwrap().path()).unwrap())).collect();
        let lines = fs::read_to_string(here.join(format!("../protocol/golden/{golden}.hex"))).unwrap();
        for (name, bytes) in lines.lines().filter_map(|line| line.split_once(' ')) {
            assert!(seeds.contains(&format!("{before}{bytes}")), "{golden}: no seed in corpus/{corpus} is {name}");
            messages += 1;
        }
    }
    assert!(messages >= 70, "{messages} were looked for");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
