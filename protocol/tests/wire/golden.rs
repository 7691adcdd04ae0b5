//! Golden files: `golden/ENUM.hex` has a line for each variant, its name and its bytes in hex.
//!
//! A change here is a change of the protocol. Variants and fields are appended, never moved; anything else counts
//! `frame::VERSION` up. PROTOCOL.md has to name every variant with its number.

use std::collections::BTreeMap;
use std::path::Path;

use strongroom_protocol::frame::{self, FrameError};

use crate::samples::{self, Case};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"))
}

fn by_enum() -> BTreeMap<&'static str, Vec<Case>> {
    let mut cases: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for case in samples::all() {
        cases.entry(case.of).or_default().push(case);
    }
    cases
}

#[test]
fn every_variant_has_exactly_its_golden_bytes() {
    for (of, cases) in by_enum() {
        let made: String = cases.iter().map(|case| format!("{} {}\n", case.variant, hex(&case.bytes))).collect();
        let path = folder().join(format!("{of}.hex"));
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, made, "{} does not pin what is sent", path.display());
    }
}

#[test]
fn golden_bytes_are_read_and_written_alike() {
    for (of, cases) in by_enum() {
        let golden = std::fs::read_to_string(folder().join(format!("{of}.hex"))).unwrap();
        let mut lines = 0;
        for (case, line) in cases.iter().zip(golden.lines()) {
            let bytes = unhex(line.split_once(' ').unwrap().1);
            assert_eq!((case.again)(&bytes), Some(bytes), "{of} {}", case.variant);
            lines += 1;
        }
        assert_eq!(lines, cases.len());
    }
}

#[test]
fn there_is_no_golden_file_without_an_enum() {
    let cases = by_enum();
    let mut files = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let of = name.strip_suffix(".hex").unwrap();
        assert!(cases.contains_key(of) || of == "frame", "{name}");
        files += 1;
    }
    assert_eq!(files, cases.len() + 1);
}

#[test]
fn variants_are_numbered_by_position() {
    for (of, cases) in by_enum() {
        if ["Request", "NewVault", "Check"].contains(&of) {
            continue;
        }
        for (number, case) in cases.iter().enumerate() {
            assert_eq!(usize::from(case.bytes[0]), number, "{of} {}", case.variant);
        }
    }
}

/// In PROTOCOL.md each enum has a heading with its name, and a row with number and name for each variant.
#[test]
fn protocol_md_names_every_variant_with_its_number() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    for (of, cases) in by_enum() {
        let section =
            text.split(&format!("\n### {of}\n")).nth(1).unwrap_or_else(|| panic!("PROTOCOL.md has no section {of}"));
        let section = section.split("\n#").next().unwrap();
        if ["Request", "NewVault", "Check"].contains(&of) {
            continue;
        }
        let rows: Vec<_> =
            section.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit()).collect();
        let expected = cases.iter().enumerate().map(|(number, case)| format!("| {number} | `{}` |", case.variant));
        for (row, expected) in rows.iter().zip(expected) {
            assert!(row.starts_with(&expected), "{of}: {row}, expected {expected}");
        }
        assert_eq!(rows.len(), cases.len(), "{of}");
    }
}

#[test]
fn a_frame_is_pinned_too() {
    let golden = std::fs::read_to_string(folder().join("frame.hex")).unwrap();
    let message = (7u32, "seven");
    assert_eq!(golden, format!("{}\n", hex(&frame::encode(&message, 64).unwrap())));
    let bytes = unhex(golden.trim_end());
    assert_eq!(frame::decode_packet(&bytes, 64), Ok((7u32, "seven".to_owned())));
    assert_eq!(frame::decode_packet::<(u32, String)>(&bytes, 6), Err(FrameError::TooLarge(7)));
}
