//! The literals of a block (RFC 8878, 3.1.1.3.1): bytes that are copied and not repeated from before.
//!
//! It refuses sizes beyond a block's. Called by `zstd`.

use super::huffman::Tree;
use super::{BLOCK_LIMIT, Corrupt};

/// Reads the literals into `out`, which is empty, and gives what stands behind them. `tree` is that of the last block
/// that had one, and of this one afterwards.
///
/// # Errors
/// Where they are corrupt.
pub fn read<'a>(block: &'a [u8], tree: &mut Option<Tree>, out: &mut Vec<u8>) -> Result<&'a [u8], Corrupt> {
    let first = *block.first().ok_or(Corrupt)?;
    let (kind, format) = (first & 3, first >> 2 & 3);
    if kind < 2 {
        let (length, shift) = match format {
            1 => (2, 4),
            3 => (3, 4),
            _ => (1, 3),
        };
        let (size, rest) = number(block, length)?;
        let size = checked(size >> shift)?;
        let taken = if kind == 0 { size } else { 1 };
        let (bytes, rest) = rest.split_at_checked(taken).ok_or(Corrupt)?;
        match kind {
            0 => out.extend_from_slice(bytes),
            _ => out.resize(size, bytes[0]),
        }
        return Ok(rest);
    }
    let (length, width) = match format {
        0 | 1 => (3, 10),
        2 => (4, 14),
        _ => (5, 18),
    };
    let (sizes, rest) = number(block, length)?;
    let mask = (1 << width) - 1;
    let size = checked(sizes >> 4 & mask)?;
    let (mut coded, rest) = rest.split_at_checked(checked(sizes >> (4 + width) & mask)?).ok_or(Corrupt)?;
    if kind == 2 {
        let (own, behind) = Tree::read(coded)?;
        (*tree, coded) = (Some(own), behind);
    }
    let tree = tree.as_ref().ok_or(Corrupt)?;
    if format == 0 {
        tree.decode(coded, size, out)?;
        return Ok(rest);
    }
    let (jumps, mut streams) = coded.split_at_checked(6).ok_or(Corrupt)?;
    let each = size.div_ceil(4);
    for jump in jumps.chunks_exact(2) {
        let (stream, behind) =
            streams.split_at_checked(usize::from(u16::from_le_bytes([jump[0], jump[1]]))).ok_or(Corrupt)?;
        tree.decode(stream, each, out)?;
        streams = behind;
    }
    tree.decode(streams, size.checked_sub(3 * each).ok_or(Corrupt)?, out)?;
    Ok(rest)
}

/// A number of so many bytes, the first lowest, and what stands behind it.
fn number(bytes: &[u8], length: usize) -> Result<(u64, &[u8]), Corrupt> {
    let (own, rest) = bytes.split_at_checked(length).ok_or(Corrupt)?;
    Ok((own.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest))
}

fn checked(size: u64) -> Result<usize, Corrupt> {
    usize::try_from(size).ok().filter(|size| *size <= BLOCK_LIMIT).ok_or(Corrupt)
}
