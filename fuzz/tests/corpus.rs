//! Every target over its corpus, and over mutations of it: the short run. `make fuzz` is the long one.
#![allow(clippy::unwrap_used)]

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
