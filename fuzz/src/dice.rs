//! Numbers that look random and are the same in each run of a test, and mutations drawn with them: what they found can be
//! found again. It refuses to be random: nothing secret may come from here.

/// xorshift64* (Vigna, 2016).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Of a seed other than 0.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % sides.max(1)
    }

    /// One of some good inputs with a few bytes changed, put in, taken out, doubled, or spliced from another.
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut out = seeds[self.roll(seeds.len())].clone();
        for _ in 0..=self.roll(5) {
            let at = self.roll(out.len() + 1);
            let byte = u8::try_from(self.roll(256)).unwrap_or(0);
            match self.roll(8) {
                0 => out.truncate(at),
                1 => out.insert(at, byte),
                2 if at < out.len() => drop(out.remove(at)),
                3 if at < out.len() => out[at] ^= 1 << self.roll(8),
                4 => {
                    let other = &seeds[self.roll(seeds.len())];
                    let part = other[self.roll(other.len() + 1)..].to_vec();
                    out.splice(at..at, part).for_each(drop);
                }
                // What lengths and counts break at.
                5 if at < out.len() => out[at] = [0, 1, 0x7f, 0x80, 0xff][self.roll(5)],
                6 if at < out.len() => out[at] = out[at].wrapping_add(1),
                _ if at < out.len() => out[at] = byte,
                _ => {}
            }
            out.truncate(LONGEST);
        }
        out
    }
}

/// Bytes of a mutant.
const LONGEST: usize = 60_000;
