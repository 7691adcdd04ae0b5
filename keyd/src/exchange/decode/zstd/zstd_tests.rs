//! The decoder over what the reference encoder wrote, over frames written by hand, and over damage to both.
//!
//! `golden/*.zst` were written by zstd 1.5: `-1`, `-19`, `-1 --zstd=wlog=15 --no-check` over a long text in a small
//! window, `-22 --ultra --long=24` with a window that is too large.

use proptest::prelude::*;

use super::super::tests::lines;
use super::*;

/// Everything that comes out, and whether the input may end there.
fn decoded(input: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Undecodable> {
    let mut zstd = Zstd::new(&Memory::default())?;
    let (mut out, mut buffer) = (Vec::new(), vec![0; 1000]);
    for mut piece in input.chunks(piece) {
        loop {
            let (read, written) = zstd.step(piece, &mut buffer)?;
            piece = &piece[read..];
            out.extend_from_slice(&buffer[..written]);
            if written == 0 {
                assert!(piece.is_empty(), "input is left and nothing comes");
                break;
            }
        }
    }
    let is_done = zstd.is_done();
    Ok((out, is_done))
}

fn whole(input: &[u8]) -> Result<Vec<u8>, Undecodable> {
    decoded(input, input.len().max(1)).map(|(out, _)| out)
}

const GOLDEN: [(&[u8], usize); 3] = [
    (include_bytes!("../golden/lines-1.zst"), 200),
    (include_bytes!("../golden/lines-19.zst"), 200),
    (include_bytes!("../golden/long.zst"), 6000),
];

/// A frame by hand: descriptor and window of 1 KiB, then these blocks.
fn frame(blocks: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut frame = [&MAGIC.to_le_bytes()[..], &[0x00, 0x00]].concat();
    for (at, (kind, size, bytes)) in blocks.iter().enumerate() {
        let header = u32::from(at + 1 == blocks.len()) | kind << 1 | size << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(bytes);
    }
    frame
}

#[test]
fn what_the_reference_encoder_wrote_is_read_in_pieces_of_any_size() {
    for (input, count) in GOLDEN {
        let expected = lines(count);
        for piece in [1, 2, 3, 100, input.len()] {
            assert!(decoded(input, piece) == Ok((expected.clone(), true)), "{count} lines in pieces of {piece}");
        }
    }
}

#[test]
fn no_beginning_is_taken_for_the_whole() {
    for (input, _) in &GOLDEN[..2] {
        for length in 1..input.len() {
            let (_, is_done) = decoded(&input[..length], 100).unwrap();
            assert!(!is_done, "{length} bytes");
        }
    }
}

#[test]
fn a_block_comes_out_before_the_next_is_there() {
    let input = frame(&[(0, 5, b"first"), (1, 6, b"s"), (0, 0, b""), (0, 4, b"last")]);
    for (length, expected) in [(9, ""), (13, ""), (14, "first"), (18, "firstssssss"), (28, "firstsssssslast")] {
        let (out, is_done) = decoded(&input[..length], 1).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), expected);
        assert_eq!(is_done, length == input.len());
    }
}

#[test]
fn frames_follow_each_other_and_some_are_skipped() {
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    let input = [frame(&[(0, 3, b"one")]), skipped.clone(), frame(&[(0, 0, b"")]), frame(&[(0, 3, b"two")]), skipped];
    assert_eq!(decoded(&input.concat(), 1), Ok((b"onetwo".to_vec(), true)));
}

#[test]
fn windows_dictionaries_and_lies_are_refused() {
    assert_eq!(whole(include_bytes!("../golden/wide.zst")), Err(Undecodable::Window));
    let magic = MAGIC.to_le_bytes();
    let window = |byte: u8| whole(&[&magic[..], &[0x00, byte, 1, 0, 0]].concat());
    assert_eq!(window(13 << 3), Ok(Vec::new()), "8 MiB, the positive twin");
    assert_eq!(window(13 << 3 | 1), Err(Undecodable::Window));
    assert_eq!(window(0xff), Err(Undecodable::Window));
    // A single segment that announces a gigabyte, a dictionary, a reserved bit.
    assert_eq!(whole(&[&magic[..], &[0xa0, 0, 0, 0, 0x40]].concat()), Err(Undecodable::Window));
    assert_eq!(whole(&[&magic[..], &[0x01, 0, 7, 1, 0, 0]].concat()), Err(Undecodable::Corrupt));
    assert_eq!(whole(&[&magic[..], &[0x08, 0, 1, 0, 0]].concat()), Err(Undecodable::Corrupt));
    // More, and less, than was announced.
    let announced = |size: u8| whole(&[&magic[..], &[0x20, size, 0x19, 0, 0], b"abc"].concat());
    assert_eq!(announced(3), Ok(b"abc".to_vec()));
    assert_eq!(announced(4), Err(Undecodable::Corrupt));
    // A reserved kind of block, and blocks beyond the window.
    assert_eq!(whole(&frame(&[(3, 1, b"a")])), Err(Undecodable::Corrupt));
    assert_eq!(whole(&frame(&[(1, 1025, b"a")])), Err(Undecodable::Corrupt));
    assert_eq!(whole(&frame(&[(1, 1024, b"a")])).map(|out| out.len()), Ok(1024));
    assert_eq!(whole(b"text that is no frame"), Err(Undecodable::Corrupt));
}

#[test]
fn what_was_kept_counts_against_the_memory_and_what_was_announced_does_not() {
    let memory = Memory::of(4 * 1024 * 1024);
    let header = [&MAGIC.to_le_bytes()[..], &[0x00, 13 << 3]].concat();
    // One byte, 128 Ki times.
    let block = [&(1u32 << 1 | (128 * 1024) << 3).to_le_bytes()[..3], b"x"].concat();
    let after = |blocks: usize| {
        let mut zstd = Zstd::new(&memory)?;
        let mut out = vec![0; BLOCK_LIMIT];
        zstd.step(&header, &mut out)?;
        for _ in 0..blocks {
            assert_eq!(zstd.step(&block, &mut out)?, (block.len(), BLOCK_LIMIT));
        }
        Ok::<_, Undecodable>(zstd)
    };
    let small: Vec<_> = (0..4).map(|_| after(1).unwrap()).collect();
    drop(small);
    assert_eq!(after(64).err(), Some(Undecodable::Memory));
    assert!(after(8).is_ok(), "and it was given back");
}

proptest! {
    #[test]
    fn damage_is_an_error_or_other_text_and_never_more(
        which in 0..2usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        piece in 1..500usize,
    ) {
        let (golden, count) = GOLDEN[which];
        let mut input = golden.to_vec();
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        if let Ok((out, _)) = decoded(&input, piece) {
            // Blocks of 128 KiB at most; the golden files have one.
            prop_assert!(out.len() <= lines(count).len() + BLOCK_LIMIT);
        }
    }

    #[test]
    fn anything_may_stand_in_a_block(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        let _ = decoded(&frame(&[(2, u32::try_from(bytes.len()).unwrap(), &bytes)]), 64);
    }
}
