//! The sequences of a block (RFC 8878, 3.1.1.3.2): so many literals, then so many bytes from so far back.
//!
//! Three tables, each predefined, of one symbol, described in the block, or that of the block before. It refuses
//! distances beyond what there is, and blocks that grow beyond their size. Called by `zstd`.

use super::bits::Backward;
use super::fse::Table;
use super::{BLOCK_LIMIT, Corrupt};

/// What is carried from block to block: the tables, and the last three distances.
pub struct Carried {
    literal_lengths: Option<Table>,
    distances: Option<Table>,
    match_lengths: Option<Table>,
    last: [usize; 3],
}

impl Default for Carried {
    fn default() -> Self {
        Self { literal_lengths: None, distances: None, match_lengths: None, last: [1, 4, 8] }
    }
}

/// Appends what the sequences and the literals make to `history`, of which the last `window` bytes may be repeated.
///
/// # Errors
/// Where they are corrupt.
pub fn run(
    section: &[u8],
    literals: &[u8],
    carried: &mut Carried,
    history: &mut Vec<u8>,
    window: usize,
) -> Result<(), Corrupt> {
    let limit = history.len() + BLOCK_LIMIT;
    let (count, rest) = count(section)?;
    if count == 0 {
        history.extend_from_slice(literals);
        return if rest.is_empty() { Ok(()) } else { Err(Corrupt) };
    }
    let (&modes, rest) = rest.split_first().ok_or(Corrupt)?;
    let rest = LITERAL_LENGTHS.table(modes >> 6, rest, &mut carried.literal_lengths)?;
    let rest = DISTANCES.table(modes >> 4 & 3, rest, &mut carried.distances)?;
    let rest = MATCH_LENGTHS.table(modes >> 2 & 3, rest, &mut carried.match_lengths)?;
    let tables = (&carried.literal_lengths, &carried.distances, &carried.match_lengths);
    let (Some(literal_lengths), Some(distances), Some(match_lengths)) = tables else { return Err(Corrupt) };
    if modes & 3 != 0 {
        return Err(Corrupt);
    }
    let mut bits = Backward::new(rest)?;
    let mut literal = literal_lengths.begin(&mut bits)?;
    let mut distance = distances.begin(&mut bits)?;
    let mut matched = match_lengths.begin(&mut bits)?;
    let mut literals_left = literals;
    for left in (0..count).rev() {
        let code = usize::from(distances.symbol(distance));
        if code > MOST_DISTANCE_BITS {
            return Err(Corrupt);
        }
        let value = (1 << code) + usize::try_from(bits.take(code)?).map_err(|_| Corrupt)?;
        let length = length(MATCH_CODES, match_lengths.symbol(matched), &mut bits)?;
        let copied = length_of_literals(literal_lengths.symbol(literal), &mut bits)?;
        let back = far_back(value, copied, &mut carried.last)?;

        let (own, behind) = literals_left.split_at_checked(copied).ok_or(Corrupt)?;
        literals_left = behind;
        history.extend_from_slice(own);
        repeat(history, back, length, window, limit)?;
        if left > 0 {
            literal = literal_lengths.next(literal, &mut bits);
            matched = match_lengths.next(matched, &mut bits);
            distance = distances.next(distance, &mut bits);
            if bits.is_overdrawn() {
                return Err(Corrupt);
            }
        }
    }
    history.extend_from_slice(literals_left);
    if bits.is_empty() && history.len() <= limit { Ok(()) } else { Err(Corrupt) }
}

/// How many sequences there are, and what stands behind that.
fn count(section: &[u8]) -> Result<(usize, &[u8]), Corrupt> {
    match *section {
        [first @ 0..=127, ref rest @ ..] => Ok((usize::from(first), rest)),
        [255, low, high, ref rest @ ..] => Ok((usize::from(u16::from_le_bytes([low, high])) + 0x7f00, rest)),
        [first, second, ref rest @ ..] if first != 255 => {
            Ok((usize::from(u16::from_be_bytes([first - 128, second])), rest))
        }
        _ => Err(Corrupt),
    }
}

/// The distance that a value means, beside the last three.
fn far_back(value: usize, copied: usize, last: &mut [usize; 3]) -> Result<usize, Corrupt> {
    let which = match value {
        4.. => {
            *last = [value - 3, last[0], last[1]];
            return Ok(value - 3);
        }
        _ => value - usize::from(copied != 0),
    };
    let back = match which {
        0..=2 => last[which],
        _ => last[0].checked_sub(1).filter(|back| *back > 0).ok_or(Corrupt)?,
    };
    match which {
        0 => {}
        1 => *last = [back, last[0], last[2]],
        _ => *last = [back, last[0], last[1]],
    }
    Ok(back)
}

/// Appends `length` bytes from `back` bytes ago; what they are made of may be among them.
fn repeat(history: &mut Vec<u8>, back: usize, length: usize, window: usize, limit: usize) -> Result<(), Corrupt> {
    let from = history.len().checked_sub(back).filter(|_| back > 0 && back <= window).ok_or(Corrupt)?;
    if history.len() + length > limit {
        return Err(Corrupt);
    }
    let mut left = length;
    while left > 0 {
        // All that is there is a whole number of repetitions, so it doubles.
        let some = left.min(history.len() - from);
        history.extend_from_within(from..from + some);
        left -= some;
    }
    Ok(())
}

fn length(codes: &[(u32, u8)], code: u8, bits: &mut Backward<'_>) -> Result<usize, Corrupt> {
    let (base, extra) = *codes.get(usize::from(code)).ok_or(Corrupt)?;
    usize::try_from(base + bits.take(usize::from(extra))?).map_err(|_| Corrupt)
}

fn length_of_literals(code: u8, bits: &mut Backward<'_>) -> Result<usize, Corrupt> {
    if code < 16 { Ok(usize::from(code)) } else { length(LITERAL_CODES, code - 16, bits) }
}

/// How one of the three tables is made.
struct Kind {
    most_log: usize,
    symbols: usize,
    shares: &'static [i16],
    log: usize,
}

impl Kind {
    /// Sets the table that a mode asks for, and gives what stands behind it.
    fn table<'a>(&self, mode: u8, rest: &'a [u8], table: &mut Option<Table>) -> Result<&'a [u8], Corrupt> {
        match mode {
            0 => *table = Some(Table::of(self.shares, self.log)?),
            1 => {
                let (&symbol, rest) = rest.split_first().ok_or(Corrupt)?;
                if usize::from(symbol) >= self.symbols {
                    return Err(Corrupt);
                }
                *table = Some(Table::of_one(symbol));
                return Ok(rest);
            }
            2 => {
                let (own, rest) = Table::read(rest, self.most_log, self.symbols)?;
                *table = Some(own);
                return Ok(rest);
            }
            _ if table.is_none() => return Err(Corrupt),
            _ => {}
        }
        Ok(rest)
    }
}

const LITERAL_LENGTHS: Kind = Kind {
    most_log: 9,
    symbols: 36,
    shares: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ],
    log: 6,
};

const MATCH_LENGTHS: Kind = Kind {
    most_log: 9,
    symbols: 53,
    shares: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    log: 6,
};

const DISTANCES: Kind = Kind {
    most_log: 8,
    symbols: MOST_DISTANCE_BITS + 1,
    shares: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
    log: 5,
};

/// Base and extra bits of the codes from 16 on; those below are the length.
const LITERAL_CODES: &[(u32, u8)] = &[
    (16, 1),
    (18, 1),
    (20, 1),
    (22, 1),
    (24, 2),
    (28, 2),
    (32, 3),
    (40, 3),
    (48, 4),
    (64, 6),
    (128, 7),
    (256, 8),
    (512, 9),
    (1024, 10),
    (2048, 11),
    (4096, 12),
    (8192, 13),
    (16384, 14),
    (32768, 15),
    (65536, 16),
];

/// Base and extra bits.
const MATCH_CODES: &[(u32, u8)] = &[
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 0),
    (12, 0),
    (13, 0),
    (14, 0),
    (15, 0),
    (16, 0),
    (17, 0),
    (18, 0),
    (19, 0),
    (20, 0),
    (21, 0),
    (22, 0),
    (23, 0),
    (24, 0),
    (25, 0),
    (26, 0),
    (27, 0),
    (28, 0),
    (29, 0),
    (30, 0),
    (31, 0),
    (32, 0),
    (33, 0),
    (34, 0),
    (35, 1),
    (37, 1),
    (39, 1),
    (41, 1),
    (43, 2),
    (47, 2),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 5),
    (131, 7),
    (259, 8),
    (515, 9),
    (1027, 10),
    (2051, 11),
    (4099, 12),
    (8195, 13),
    (16387, 14),
    (32771, 15),
    (65539, 16),
];

/// No window that is allowed needs more.
const MOST_DISTANCE_BITS: usize = 30;
