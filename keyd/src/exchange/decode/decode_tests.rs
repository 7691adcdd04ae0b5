//! Codings over what other encoders wrote; events, bombs, garbage and cuts.
//!
//! `golden/lines.gz` was written by gzip 1.12 with the file's name, `*.br` by Node's brotli: `events.br` holds what came
//! out after each event was flushed, each behind its length; `zeros.br` is 8 MiB of them.

use miniz_oxide::MZFlush;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

use super::*;

/// The text of the golden files.
pub fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(line).collect()
}

fn line(number: usize) -> Vec<u8> {
    let words = ["alpha", "bravo charlie", "delta", "echo foxtrot golf", "hotel"];
    let (square, text) = (number * number, words[number * 7 % 5]);
    format!("event: tick\ndata: {{\"number\":{number},\"square\":{square},\"text\":\"{text}\"}}\n\n").into_bytes()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let checksum = text.iter().fold(!0u32, |checksum, byte| {
        (0..8).fold(checksum ^ u32::from(*byte), |value, _| value >> 1 ^ if value & 1 != 0 { 0xedb8_8320 } else { 0 })
    });
    let length = u32::try_from(text.len()).unwrap();
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&header[..], &compress_to_vec(text, 6), &(!checksum).to_le_bytes(), &length.to_le_bytes()].concat()
}

/// A frame of one raw block.
fn zstd(text: &[u8]) -> Vec<u8> {
    let header = u32::try_from(text.len() << 3 | 1).unwrap().to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3][..], &header[..3], text].concat()
}

fn decoded(codings: &[Coding], input: &[u8], piece: usize) -> Result<Vec<u8>, Undecodable> {
    let mut decoding = Decoding::new(codings, &Memory::default())?.unwrap();
    let mut out = Vec::new();
    for piece in input.chunks(piece) {
        decoding.push(Bytes::copy_from_slice(piece));
        while let Some(some) = next(&mut decoding)? {
            out.extend_from_slice(&some);
        }
    }
    if decoding.is_done() { Ok(out) } else { Err(Undecodable::CutOff) }
}

/// The next piece, whatever pauses it takes.
fn next(decoding: &mut Decoding) -> Result<Option<Bytes>, Undecodable> {
    loop {
        match decoding.pull()? {
            Pulled::Piece(piece) => return Ok(Some(piece)),
            Pulled::Nothing => return Ok(None),
            Pulled::Paused => {}
        }
    }
}

fn encoded() -> Vec<(Coding, Vec<u8>)> {
    let text = lines(200);
    vec![
        (Coding::Gzip, gzip(&text)),
        (Coding::Gzip, include_bytes!("golden/lines.gz").to_vec()),
        (Coding::Gzip, [gzip(&text[..1000]), gzip(b""), gzip(&text[1000..])].concat()),
        (Coding::Deflate, compress_to_vec(&text, 6)),
        (Coding::Deflate, compress_to_vec_zlib(&text, 6)),
        (Coding::Brotli, include_bytes!("golden/lines.br").to_vec()),
        (Coding::Zstd, include_bytes!("golden/lines-19.zst").to_vec()),
        (Coding::Zstd, zstd(&text)),
    ]
}

#[test]
fn every_coding_is_read_in_pieces_of_any_size() {
    let text = lines(200);
    for (coding, input) in encoded() {
        for piece in [1, 2, 7, 1000, input.len()] {
            assert!(decoded(&[coding], &input, piece) == Ok(text.clone()), "{coding:?} in pieces of {piece}");
        }
    }
}

#[test]
fn two_codings_are_undone_from_the_last_to_the_first() {
    let text = lines(50);
    let input = gzip(&compress_to_vec_zlib(&text, 6));
    for piece in [1, 100, input.len()] {
        assert!(decoded(&[Coding::Deflate, Coding::Gzip], &input, piece) == Ok(text.clone()));
    }
    assert_eq!(decoded(&[Coding::Gzip, Coding::Deflate], &input, 100), Err(Undecodable::Corrupt), "the positive twin");
    let input = zstd(&gzip(&text));
    assert!(decoded(&[Coding::Gzip, Coding::Zstd], &input, 3) == Ok(text));
}

#[test]
fn no_beginning_is_taken_for_the_whole() {
    for (coding, input) in encoded() {
        // Several members: between two of them nothing tells that more was meant.
        let step = if input.len() > 2000 { 7 } else { 1 };
        for length in (1..input.len()).step_by(step) {
            let outcome = decoded(&[coding], &input[..length], 1000);
            let members = coding == Coding::Gzip && outcome.as_ref().is_ok_and(|out| lines(200).starts_with(out));
            assert!(outcome == Err(Undecodable::CutOff) || members && length > 100, "{coding:?} {length} bytes");
        }
        assert_eq!(decoded(&[coding], b"", 1), Ok(Vec::new()), "no content at all");
    }
}

#[test]
fn nothing_may_stand_behind_the_end() {
    for (coding, input) in encoded() {
        for garbage in [&b"\0"[..], b"garbage", b"\x1f\x8c"] {
            for piece in [1, 10_000_000] {
                let outcome = decoded(&[coding], &[&input, garbage].concat(), piece);
                let expected = if coding == Coding::Zstd && garbage.len() < 4 {
                    Undecodable::CutOff
                } else {
                    Undecodable::Corrupt
                };
                assert_eq!(outcome, Err(expected), "{coding:?} {garbage:?}");
            }
        }
    }
}

#[test]
fn damage_is_noticed_where_there_is_a_checksum() {
    for input in [gzip(&lines(20)), compress_to_vec_zlib(&lines(20), 6)] {
        let coding = if input[0] == 0x1f { Coding::Gzip } else { Coding::Deflate };
        for at in input.len() - 4..input.len() {
            let mut input = input.clone();
            input[at] ^= 1;
            assert_eq!(decoded(&[coding], &input, 100), Err(Undecodable::Corrupt));
        }
    }
}

#[test]
fn a_flushed_event_comes_out_before_the_next_is_there() {
    let mut decoding = Decoding::new(&[Coding::Brotli], &Memory::default()).unwrap().unwrap();
    let mut rest = &include_bytes!("golden/events.br")[..];
    for number in 0..6 {
        let (length, behind) = rest.split_first_chunk().unwrap();
        let (event, behind) = behind.split_at(usize::from(u16::from_be_bytes(*length)));
        decoding.push(Bytes::copy_from_slice(event));
        assert_eq!(next(&mut decoding), Ok(Some(line(number).into())));
        assert_eq!(decoding.pull(), Ok(Pulled::Nothing));
        rest = behind;
    }
    let mut decoding = Decoding::new(&[Coding::Deflate], &Memory::default()).unwrap().unwrap();
    let mut encoder = CompressorOxide::new(create_comp_flags_from_zip_params(6, 15, 0));
    for number in 0..6 {
        let mut event = vec![0; 1000];
        let result = deflate(&mut encoder, &line(number), &mut event, MZFlush::Sync);
        event.truncate(result.bytes_written);
        decoding.push(event.into());
        assert_eq!(next(&mut decoding), Ok(Some(line(number).into())));
    }
    let mut decoding = Decoding::new(&[Coding::Zstd], &Memory::default()).unwrap().unwrap();
    for number in 0..6 {
        decoding.push(zstd(&line(number)).into());
        assert_eq!(next(&mut decoding), Ok(Some(line(number).into())));
    }
}

#[test]
fn bombs_are_broken_off_early() {
    let zeros = vec![0; 8 * 1024 * 1024];
    // Blocks of one repeated byte, 32 in four bytes each: the window is as large as a block.
    let blocks: Vec<u8> =
        (0..64).flat_map(|_| [&(1u32 << 1 | (128 * 1024) << 3).to_le_bytes()[..3], &[0]].concat()).collect();
    let repeated = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3][..], &blocks].concat();
    let bombs = [
        (Coding::Gzip, gzip(&zeros)),
        (Coding::Deflate, compress_to_vec_zlib(&zeros, 9)),
        (Coding::Brotli, include_bytes!("golden/zeros.br").to_vec()),
        (Coding::Zstd, repeated),
    ];
    for (coding, input) in bombs {
        let mut decoding = Decoding::new(&[coding], &Memory::default()).unwrap().unwrap();
        let mut length = 0;
        decoding.push(input.into());
        let end = loop {
            match next(&mut decoding) {
                Ok(Some(some)) => length += some.len(),
                other => break other,
            }
        };
        assert_eq!(end, Err(Undecodable::Ratio), "{coding:?}");
        assert!(length < 4 * 1024 * 1024, "{coding:?}: {length} bytes came out");
    }
    assert_eq!(decoded(&[Coding::Gzip], &gzip(&zeros[..1024 * 1024]), 1000).map(|out| out.len()), Ok(1024 * 1024));
    // A bomb inside a bomb.
    let input = gzip(&gzip(&zeros));
    assert_eq!(decoded(&[Coding::Gzip, Coding::Gzip], &input, 1000), Err(Undecodable::Ratio));
}

/// The work of each turn over this body, the turns that nothing came out of, and the outcome.
fn turns(codings: &[Coding], input: &[u8]) -> (Vec<u64>, usize, Result<usize, Undecodable>) {
    let mut decoding = Decoding::new(codings, &Memory::default()).unwrap().unwrap();
    decoding.push(Bytes::copy_from_slice(input));
    let (mut turns, mut pauses, mut length) = (Vec::new(), 0, 0);
    loop {
        let before = decoding.account.cost;
        let pulled = decoding.pull();
        turns.push(decoding.account.cost - before);
        match pulled {
            Ok(Pulled::Piece(piece)) => length += piece.len(),
            Ok(Pulled::Paused) => pauses += 1,
            Ok(Pulled::Nothing) => return (turns, pauses, Ok(length)),
            Err(undecodable) => return (turns, pauses, Err(undecodable)),
        }
    }
}

/// More than the last step of a turn adds to its work.
const LAST_STEP: u64 = 128 * 1024;

#[test]
fn work_that_nothing_comes_out_of_is_broken_off_or_done_in_turns() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0];
    let magic = &frame[..4];
    let raw_blocks = [magic, &[0, 0], &[0; 3 * 40_000]].concat();
    // Blocks without a byte, four in five bytes: a last bit, a kind, and the end's seven bits.
    let fixed_blocks = [0b0000_0010, 0b0000_1000, 0b0010_0000, 0b1000_0000, 0].repeat(40_000);
    let stored_blocks = [0, 0, 0, 0xff, 0xff].repeat(40_000);
    // A window of 64 KiB and blocks that hold metadata, but none.
    let metadata = [&[0b0000_1100][..], &[0b0000_0110; 1_000_000]].concat();
    let members = gzip(b"").repeat(20_000);
    let cases = [
        (vec![Coding::Gzip], members.clone(), true),
        (vec![Coding::Gzip, Coding::Gzip], gzip(&members), true),
        (vec![Coding::Zstd], frame.repeat(20_000), true),
        (vec![Coding::Zstd], skippable.repeat(20_000), true),
        (vec![Coding::Zstd], raw_blocks.clone(), false),
        (vec![Coding::Zstd, Coding::Gzip], gzip(&raw_blocks), true),
        (vec![Coding::Deflate], fixed_blocks.clone(), true),
        (vec![Coding::Deflate], stored_blocks.clone(), false),
        (vec![Coding::Deflate, Coding::Gzip], gzip(&stored_blocks), true),
        (vec![Coding::Brotli], metadata.clone(), false),
        (vec![Coding::Brotli, Coding::Gzip], gzip(&metadata), true),
    ];
    for (codings, input, is_bomb) in cases {
        let (turns, pauses, outcome) = turns(&codings, &input);
        assert_eq!(outcome, if is_bomb { Err(Undecodable::Ratio) } else { Ok(0) }, "{codings:?}");
        let all: u64 = turns.iter().sum();
        assert!(all < ALWAYS_ALLOWED + MOST_RATIO * input.len() as u64 + LAST_STEP, "{codings:?}: {all}");
        assert!(turns.iter().all(|work| *work < MOST_AT_ONCE + LAST_STEP), "{codings:?}: {turns:?}");
        assert!(pauses > 2, "{codings:?}");
    }
}

#[test]
fn many_members_frames_and_flushes_are_no_bomb() {
    // Members as of tools that compress in parallel, and such as hold a line of a log each.
    let text = lines(4000);
    for size in [100, 10 * 1024, 64 * 1024] {
        let members: Vec<u8> = text.chunks(size).flat_map(gzip).collect();
        let input = [members, gzip(b"").repeat(3)].concat();
        assert!(decoded(&[Coding::Gzip], &input, 1000) == Ok(text.clone()), "members of {size}");
        assert!(decoded(&[Coding::Gzip, Coding::Gzip], &gzip(&input), 1000) == Ok(text.clone()), "of {size}, twice");
    }
    let frames: Vec<u8> = text.chunks(100).flat_map(zstd).collect();
    assert!(decoded(&[Coding::Zstd], &frames, 1000) == Ok(text));
    // Every byte flushed.
    let mut encoder = CompressorOxide::new(create_comp_flags_from_zip_params(6, 15, 0));
    let mut flushed = Vec::new();
    for byte in lines(400) {
        let mut event = [0; 100];
        let result = deflate(&mut encoder, &[byte], &mut event, MZFlush::Sync);
        flushed.extend_from_slice(&event[..result.bytes_written]);
    }
    assert!(turns(&[Coding::Deflate], &flushed).2 == Ok(lines(400).len()));
}

#[test]
fn decoders_share_the_memory() {
    let memory = Memory::default();
    let many: Vec<_> = (0..4000).map_while(|_| Decoding::new(&[Coding::Gzip], &memory).ok()).collect();
    assert!((100..4000).contains(&many.len()), "{} streams at once", many.len());
    assert_eq!(Decoding::new(&[Coding::Deflate], &memory).err(), Some(Undecodable::Memory));
    assert_eq!(Decoding::new(&[Coding::Brotli], &memory).err(), Some(Undecodable::Memory));
    assert_eq!(Decoding::new(&[Coding::Zstd], &memory).err(), Some(Undecodable::Memory));
    drop(many);
    assert!(Decoding::new(&[Coding::Deflate], &memory).is_ok());
}

#[test]
fn headers_of_gzip_may_have_all_their_parts() {
    let plain = gzip(b"text");
    let parts = [&[0x1f, 0x8b, 8, 0x1f, 0, 0, 0, 0, 0, 255][..], &[3, 0], b"xyz", b"name\0", b"comment\0", &[0, 0]];
    let full = [&parts.concat()[..], &plain[10..]].concat();
    for piece in [1, 5, full.len()] {
        assert_eq!(decoded(&[Coding::Gzip], &full, piece), Ok(b"text".to_vec()));
    }
    for (at, byte) in [(0, 0), (1, 0), (2, 7), (3, 0x20)] {
        let mut broken = full.clone();
        broken[at] = byte;
        assert_eq!(decoded(&[Coding::Gzip], &broken, 5), Err(Undecodable::Corrupt));
    }
}
