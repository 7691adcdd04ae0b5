//! Literals that are coded by Huffman's way (RFC 8878, 4.2), in one stream or in four.
//!
//! It refuses weights that make no whole tree, trees deeper than eleven bits, and streams that end early or late.
//! Called by `literals`.

use super::Corrupt;
use super::bits::Backward;
use super::fse::Table;

/// What the next bits mean: a symbol, and how many of them it takes.
#[derive(Clone)]
pub struct Tree {
    entries: Vec<(u8, u8)>,
    depth: usize,
}

impl Tree {
    /// From a description: gives the tree and what stands behind it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Corrupt> {
        let (&first, rest) = bytes.split_first().ok_or(Corrupt)?;
        let length = usize::from(first);
        if length < 128 {
            let (coded, rest) = rest.split_at_checked(length).ok_or(Corrupt)?;
            return Ok((Self::of(coded_weights(coded)?)?, rest));
        }
        let count = length - 127;
        let (packed, rest) = rest.split_at_checked(count.div_ceil(2)).ok_or(Corrupt)?;
        let weights = packed.iter().flat_map(|two| [two >> 4, two & 0xf]).take(count).collect();
        Ok((Self::of(weights)?, rest))
    }

    /// Of these weights and one more, which is what is missing from a whole tree.
    fn of(mut weights: Vec<u8>) -> Result<Self, Corrupt> {
        if weights.iter().any(|weight| usize::from(*weight) > DEEPEST) {
            return Err(Corrupt);
        }
        let share = |weight: &u8| if *weight == 0 { 0 } else { 1usize << (weight - 1) };
        let sum: usize = weights.iter().map(share).sum();
        let depth = usize::try_from(sum.checked_ilog2().ok_or(Corrupt)?).map_err(|_| Corrupt)? + 1;
        let missing = (1 << depth) - sum;
        if depth > DEEPEST || !missing.is_power_of_two() || weights.len() > 255 {
            return Err(Corrupt);
        }
        weights.push(u8::try_from(missing.ilog2()).map_err(|_| Corrupt)? + 1);
        let mut entries = Vec::with_capacity(1 << depth);
        for weight in 1..=u8::try_from(depth).map_err(|_| Corrupt)? {
            let bits = u8::try_from(depth).map_err(|_| Corrupt)? + 1 - weight;
            for (symbol, _) in (0..=u8::MAX).zip(&weights).filter(|(_, own)| **own == weight) {
                entries.extend((0..share(&weight)).map(|_| (symbol, bits)));
            }
        }
        if entries.len() == 1 << depth { Ok(Self { entries, depth }) } else { Err(Corrupt) }
    }

    /// Appends exactly so many symbols out of one stream.
    ///
    /// # Errors
    /// Where the stream has more or fewer.
    pub fn decode(&self, stream: &[u8], count: usize, out: &mut Vec<u8>) -> Result<(), Corrupt> {
        let mut bits = Backward::new(stream)?;
        for _ in 0..count {
            let (symbol, length) = self.entries[usize::try_from(bits.peek(self.depth)).unwrap_or(0)];
            bits.skip(usize::from(length));
            if bits.is_overdrawn() {
                return Err(Corrupt);
            }
            out.push(symbol);
        }
        if bits.is_empty() { Ok(()) } else { Err(Corrupt) }
    }
}

/// Weights that are coded themselves, by two states in turn, until the bits are at their end.
fn coded_weights(bytes: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let (table, stream) = Table::read(bytes, 6, DEEPEST + 1)?;
    let mut bits = Backward::new(stream)?;
    let mut states = [table.begin(&mut bits)?, table.begin(&mut bits)?];
    let mut weights = Vec::with_capacity(64);
    loop {
        for turn in 0..2 {
            weights.push(table.symbol(states[turn]));
            states[turn] = table.next(states[turn], &mut bits);
            if bits.is_overdrawn() {
                weights.push(table.symbol(states[1 - turn]));
                return Ok(weights);
            }
            if weights.len() > 255 {
                return Err(Corrupt);
            }
        }
    }
}

/// Bits of the longest code.
const DEEPEST: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_from_plain_weights() {
        // Weights 2 and 1 for the symbols 0 and 1; what is missing is 1 for the symbol 2.
        let (tree, rest) = Tree::read(&[127 + 2, 0x21, 9]).unwrap();
        assert_eq!(rest, [9]);
        assert_eq!(tree.entries, [(1, 2), (2, 2), (0, 1), (0, 1)]);
        // 1 | 1, 00, 01, 1: behind the mark 0, 1, 2, 0.
        let mut out = Vec::new();
        tree.decode(&[0b0110_0011], 4, &mut out).unwrap();
        assert_eq!(out, [0, 1, 2, 0]);
        assert!(tree.decode(&[0b0110_0011], 3, &mut Vec::new()).is_err(), "bits are left");
        assert!(tree.decode(&[0b0110_0011], 5, &mut Vec::new()).is_err(), "bits are missing");
    }

    #[test]
    fn weights_that_make_no_tree_are_refused() {
        for description in [&[][..], &[127 + 1], &[127 + 1, 0x00], &[127 + 2, 0xcc], &[127 + 2, 0x31], &[5, 1, 2]] {
            assert!(Tree::read(description).is_err(), "{description:?}");
        }
    }
}
