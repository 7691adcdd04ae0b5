//! Every target over its corpus, and over mutations of it: the short run. `make fuzz` is the long one.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use strongroom_fuzz::TARGETS;

/// The same in each run, so that what it finds can be found again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64* (Vigna, 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % sides.max(1)
    }

    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut out = seeds[self.roll(seeds.len())].clone();
        for _ in 0..=self.roll(5) {
            let at = self.roll(out.len() + 1);
            let byte = u8::try_from(self.roll(256)).unwrap();
            match self.roll(6) {
                0 => out.truncate(at),
                1 => out.insert(at, byte),
                2 if at < out.len() => drop(out.remove(at)),
                3 if at < out.len() => out[at] ^= 1 << self.roll(8),
                4 => {
                    let other = &seeds[self.roll(seeds.len())];
                    let from = self.roll(other.len() + 1);
                    let part = other[from..].to_vec();
                    out.splice(at..at, part).for_each(drop);
                }
                _ if at < out.len() => out[at] = byte,
                _ => {}
            }
        }
        out
    }
}

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
        let mut dice = Dice(0x5eed + index as u64);
        for _ in 0..3_000 {
            target(&dice.mutate(&seeds));
        }
    }
}
