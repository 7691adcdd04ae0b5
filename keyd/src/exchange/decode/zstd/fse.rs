//! Tables of Finite State Entropy (RFC 8878, 4.1): a state gives a symbol, and bits lead to the next state.
//!
//! It refuses a table whose probabilities do not fill it exactly, or that is larger than its place allows. Called by
//! `huffman` and `sequences`.

use super::Corrupt;
use super::bits::{Backward, Forward};

/// What each state means.
#[derive(Clone)]
pub struct Table {
    states: Vec<State>,
    log: usize,
}

#[derive(Clone, Copy, Default)]
struct State {
    symbol: u8,
    bits: u8,
    base: u16,
}

impl Table {
    /// With one symbol, and nothing to read for it.
    #[must_use]
    pub fn of_one(symbol: u8) -> Self {
        Self { states: vec![State { symbol, ..State::default() }], log: 0 }
    }

    /// From a description: gives the table and what stands behind it.
    ///
    /// # Errors
    /// Where it is none, is larger than 2^`most_log` or has more than `most_symbols`.
    pub fn read(bytes: &[u8], most_log: usize, most_symbols: usize) -> Result<(Self, &[u8]), Corrupt> {
        let mut bits = Forward::new(bytes);
        let log = usize::try_from(bits.peek(4)).map_err(|_| Corrupt)? + 5;
        bits.skip(4)?;
        if log > most_log {
            return Err(Corrupt);
        }
        // Of `1 << log` shares and one; those that are left bound the next number.
        let mut left = (1i32 << log) + 1;
        let mut shares: Vec<i16> = Vec::with_capacity(most_symbols);
        while left > 1 {
            if shares.len() >= most_symbols {
                return Err(Corrupt);
            }
            let width = usize::try_from(32 - left.leading_zeros()).map_err(|_| Corrupt)?;
            let threshold = 1i32 << (width - 1);
            let spared = 2 * threshold - 1 - left;
            let value = i32::try_from(bits.peek(width)).map_err(|_| Corrupt)?;
            let short = value & (threshold - 1);
            let share = if short < spared {
                bits.skip(width - 1)?;
                short
            } else {
                bits.skip(width)?;
                if value >= threshold { value - spared } else { value }
            } - 1;
            left -= share.abs();
            shares.push(i16::try_from(share).map_err(|_| Corrupt)?);
            if share == 0 {
                // Two bits say how many more have none; three means that two more bits follow.
                loop {
                    let more = bits.peek(2);
                    bits.skip(2)?;
                    shares.extend((0..more).map(|_| 0));
                    if more != 3 {
                        break;
                    }
                    if shares.len() > most_symbols {
                        return Err(Corrupt);
                    }
                }
            }
        }
        if left != 1 || shares.len() > most_symbols {
            return Err(Corrupt);
        }
        Ok((Self::of(&shares, log)?, bits.rest()))
    }

    /// Of these shares; -1 is less than one.
    ///
    /// # Errors
    /// Where they are not `1 << log` in all.
    pub fn of(shares: &[i16], log: usize) -> Result<Self, Corrupt> {
        let size = 1usize << log;
        let sum: usize = shares.iter().map(|share| usize::from(share.unsigned_abs())).sum();
        if sum != size {
            return Err(Corrupt);
        }
        let mut states = vec![State::default(); size];
        let symbols = || (0..=u8::MAX).zip(shares);
        // The rarest have the last places.
        let mut last = size;
        for (symbol, _) in symbols().filter(|(_, share)| **share == -1) {
            last -= 1;
            states[last].symbol = symbol;
        }
        // Odd, so every place is met once.
        let step = (size >> 1) + (size >> 3) + 3;
        let mut place = 0;
        for (symbol, share) in symbols() {
            for _ in 0..*share {
                states[place].symbol = symbol;
                place = (place + step) % size;
                while place >= last {
                    place = (place + step) % size;
                }
            }
        }
        let mut next: Vec<u16> = shares.iter().map(|share| share.unsigned_abs()).collect();
        for state in &mut states {
            let number = &mut next[usize::from(state.symbol)];
            let bits = log - usize::try_from(number.ilog2()).map_err(|_| Corrupt)?;
            state.bits = u8::try_from(bits).map_err(|_| Corrupt)?;
            state.base = u16::try_from((usize::from(*number) << bits) - size).map_err(|_| Corrupt)?;
            *number += 1;
        }
        Ok(Self { states, log })
    }

    /// The first state, out of the bits.
    ///
    /// # Errors
    /// Where the bits are at their end.
    pub fn begin(&self, bits: &mut Backward<'_>) -> Result<usize, Corrupt> {
        usize::try_from(bits.take(self.log)?).map_err(|_| Corrupt)
    }

    /// What a state stands for.
    #[must_use]
    pub fn symbol(&self, state: usize) -> u8 {
        self.states[state].symbol
    }

    /// The next state, out of the bits; they may be overdrawn.
    #[must_use]
    pub fn next(&self, state: usize, bits: &mut Backward<'_>) -> usize {
        let State { bits: count, base, .. } = self.states[state];
        let count = usize::from(count);
        let low = bits.peek(count);
        bits.skip(count);
        usize::from(base) + usize::try_from(low).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_to_fill_the_table() {
        assert!(Table::of(&[16, 16], 5).is_ok());
        assert!(Table::of(&[16, 15], 5).is_err());
        assert!(Table::of(&[16, 15, -1], 5).is_ok());
    }

    #[test]
    fn descriptions_that_lie_are_refused() {
        assert!(Table::read(&[], 9, 36).is_err());
        assert!(Table::read(&[0x0f; 8], 9, 36).is_err(), "a table of 2^20 states");
        assert!(Table::read(&[0x00; 64], 9, 12).is_err(), "32 symbols where there are 12");
        assert!(Table::read(&[0xff, 0xff], 20, 36).is_err());
    }

    #[test]
    fn a_state_leads_to_states_of_the_table() {
        let table = Table::of(&[1, 4, 3, 2, -1, -1, 20], 5).unwrap();
        for (at, state) in table.states.iter().enumerate() {
            let last = usize::from(state.base) + (1 << state.bits) - 1;
            assert!(last < table.states.len(), "{at}");
        }
    }
}
