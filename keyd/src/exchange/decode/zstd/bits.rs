//! The two ways in which zstd packs numbers into bytes.
//!
//! [`Forward`] reads from the first byte on, lowest bits first: tables. [`Backward`] reads from the last byte to the
//! first, below the highest set bit of the last: everything that is coded by tables. Both refuse to read beyond what
//! there is; a decoder that has to peek beyond the beginning gets zeros and is refused when it takes them. Called by
//! `fse`, `huffman` and `sequences`.

use super::Corrupt;

/// From the first byte on.
pub struct Forward<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Forward<'a> {
    /// Over these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// So many bits, at most 16, without taking them; zeros beyond the end.
    #[must_use]
    pub fn peek(&self, count: usize) -> u32 {
        low_bits(word(self.bytes, self.taken / 8) >> (self.taken % 8), count)
    }

    /// Takes so many bits.
    ///
    /// # Errors
    /// Where there are not so many.
    pub fn skip(&mut self, count: usize) -> Result<(), Corrupt> {
        self.taken += count;
        if self.taken > 8 * self.bytes.len() { Err(Corrupt) } else { Ok(()) }
    }

    /// The bytes of which nothing was taken.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        &self.bytes[self.taken.div_ceil(8).min(self.bytes.len())..]
    }
}

/// From the last byte to the first.
pub struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits that were not taken; below zero where more were taken than there are.
    left: isize,
}

impl<'a> Backward<'a> {
    /// Over these bytes.
    ///
    /// # Errors
    /// Where the last byte is zero, or there is none.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let last = bytes.last().filter(|last| **last != 0).ok_or(Corrupt)?;
        let left = 8 * bytes.len() - 1 - usize::try_from(last.leading_zeros()).map_err(|_| Corrupt)?;
        Ok(Self { bytes, left: isize::try_from(left).map_err(|_| Corrupt)? })
    }

    /// So many bits, at most 32, without taking them; zeros beyond the beginning.
    #[must_use]
    pub fn peek(&self, count: usize) -> u32 {
        let first = self.left - count.cast_signed();
        match usize::try_from(first) {
            Ok(first) => low_bits(word(self.bytes, first / 8) >> (first % 8), count),
            Err(_) => {
                let there = usize::try_from(self.left).unwrap_or(0);
                low_bits(word(self.bytes, 0), there)
                    .checked_shl(u32::try_from(count - there).unwrap_or(32))
                    .unwrap_or(0)
            }
        }
    }

    /// Takes so many bits.
    pub fn skip(&mut self, count: usize) {
        self.left -= count.cast_signed();
    }

    /// Takes so many bits, at most 32, and gives them.
    ///
    /// # Errors
    /// Where there are not so many.
    pub fn take(&mut self, count: usize) -> Result<u32, Corrupt> {
        let bits = self.peek(count);
        self.skip(count);
        if self.left < 0 { Err(Corrupt) } else { Ok(bits) }
    }

    /// Whether more was taken than there is.
    #[must_use]
    pub fn is_overdrawn(&self) -> bool {
        self.left < 0
    }

    /// Whether exactly what there is was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

/// Eight bytes from here on, the first lowest; zeros beyond the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(eight) = rest.first_chunk() {
        return u64::from_le_bytes(*eight);
    }
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn low_bits(word: u64, count: usize) -> u32 {
    u32::try_from(word & ((1 << count) - 1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_takes_the_lowest_bits_first() {
        let mut bits = Forward::new(&[0b1010_0110, 0b0000_0001, 7]);
        assert_eq!(bits.peek(4), 0b0110);
        bits.skip(4).unwrap();
        assert_eq!(bits.peek(5), 0b1_1010);
        bits.skip(5).unwrap();
        assert_eq!(bits.rest(), [7]);
        assert!(Forward::new(&[1]).skip(9).is_err());
    }

    #[test]
    fn backward_begins_below_the_highest_bit_of_the_last_byte() {
        let mut bits = Backward::new(&[0b1100_0011, 0b0001_0110]).unwrap();
        assert_eq!(bits.take(4), Ok(0b0110));
        assert_eq!(bits.take(3), Ok(0b110));
        assert_eq!(bits.peek(8), 0b0001_1000, "zeros beyond the beginning");
        assert_eq!(bits.take(5), Ok(0b0_0011));
        assert!(bits.is_empty());
        assert_eq!(bits.take(1), Err(Corrupt));
        assert!(bits.is_overdrawn());
        assert!(Backward::new(&[1, 0]).is_err());
        assert!(Backward::new(&[]).is_err());
    }
}
