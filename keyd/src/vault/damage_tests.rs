//! What a vault file survives, and how each damage is told: every bit, every length, forgeries with a right checksum.
//!
//! Tests only. The worked example of VAULT.md is made again here, so that the text cannot drift from the code.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::rc::Rc;

use proptest::prelude::*;
use ring::digest::{SHA256, digest};
use strongroom_protocol::admin::{KeyDerivation, VaultFault, VaultState};

use super::create::tests::{KEY, new_vault};
use super::file_format::{self, Header};
use super::invariants::tests::furnished;
use super::locked::{UnlockError, open_file};
use super::room::Room;
use super::slot::{Slot, SlotKind, every_kind};
use super::{Contents, Keys, LockedVault, create, seal};
use crate::secret::Secret;

fn small_file() -> Vec<u8> {
    create::build(&new_vault(), 1).unwrap()
}

/// Makes the checksum right again, as a forger can.
fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let covered = file.len() - 32;
    let checksum = digest(&SHA256, &file[..covered]);
    file[covered..].copy_from_slice(checksum.as_ref());
    file
}

fn fault(file: &[u8]) -> Option<VaultFault> {
    match open_file(file, &KEY, every_kind) {
        Ok(_) => None,
        Err(UnlockError::Fault(fault)) => Some(fault),
        Err(other) => panic!("{other:?}"),
    }
}

struct OnDisk {
    locked: LockedVault,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl OnDisk {
    fn new(file: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        std::fs::write(&path, file).unwrap();
        Self { locked: LockedVault::open(&path).unwrap(), path, _directory: directory }
    }

    /// The fault that `state` and `unlock` agree on; checks that the file is as it was.
    fn fault(&self, file: &[u8]) -> Option<VaultFault> {
        std::fs::write(&self.path, file).unwrap();
        let by_unlock = match self.locked.unlock(&KEY, every_kind) {
            Ok(_) => None,
            Err(UnlockError::Fault(fault)) => Some(fault),
            Err(other) => panic!("{other:?}"),
        };
        let by_state = match self.locked.state() {
            VaultState::Unusable(fault) => Some(fault),
            VaultState::Locked => None,
            other => panic!("{other:?}"),
        };
        assert!(by_state == by_unlock || (by_state.is_none() && by_unlock == Some(VaultFault::Forged)));
        assert_eq!(std::fs::read(&self.path).unwrap(), file, "the file is untouched");
        assert!(!self.path.with_extension("bak").exists() && !self.path.with_extension("tmp").exists());
        by_unlock
    }
}

#[test]
fn every_flipped_bit_is_refused_as_what_it_is() {
    let file = small_file();
    let disk = OnDisk::new(&file);
    assert_eq!(disk.fault(&file), None);
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let expected = match bit / 8 {
            0..8 => VaultFault::NotAVault,
            // One bit makes one of the older versions of this one.
            8..10 if (1..=3).contains(&u16::from_le_bytes([flipped[8], flipped[9]])) => VaultFault::Damaged,
            8..10 => VaultFault::UnknownVersion,
            10..18 => VaultFault::Truncated,
            _ => VaultFault::Damaged,
        };
        assert_eq!(disk.fault(&flipped), Some(expected), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_under_a_mended_checksum_is_refused_too() {
    let file = small_file();
    for bit in 18 * 8..(file.len() - 32) * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open_file(&with_checksum(flipped), &KEY, every_kind).map(drop).unwrap_err();
        // A changed slot no longer opens; changed parameters may be out of bounds; the rest breaks the seal.
        let known = [
            UnlockError::WrongKey,
            UnlockError::Fault(VaultFault::KdfOutOfBounds),
            UnlockError::Fault(VaultFault::Forged),
        ];
        assert!(known.contains(&error), "bit {bit}: {error:?}");
    }
    assert!(open_file(&with_checksum(file), &KEY, every_kind).is_ok());
}

#[test]
fn every_truncation_and_every_addition_is_refused() {
    let file = small_file();
    let disk = OnDisk::new(&file);
    for length in 0..file.len() {
        assert_eq!(disk.fault(&file[..length]), Some(VaultFault::Truncated), "{length} bytes");
    }
    let mut long = file.clone();
    long.push(0);
    assert_eq!(disk.fault(&long), Some(VaultFault::Truncated));
    assert_eq!(disk.fault(&file), None);
}

#[test]
fn other_files_and_other_versions_are_told_apart() {
    let disk = OnDisk::new(b"");
    assert_eq!(disk.fault(b"-----BEGIN PGP MESSAGE-----"), Some(VaultFault::NotAVault));
    assert_eq!(disk.fault(b"STRONGBOX"), Some(VaultFault::NotAVault));
    let mut newer = small_file();
    newer[8] = 5;
    assert_eq!(disk.fault(&with_checksum(newer)), Some(VaultFault::UnknownVersion));
    let mut large = small_file();
    large.resize(file_format::LARGEST + 1, 0);
    assert_eq!(disk.fault(&large), Some(VaultFault::TooLarge));
    large.pop();
    assert_eq!(disk.fault(&large), Some(VaultFault::Truncated), "of the largest size, the lengths decide");
}

/// A vault with this derivation, sealed rightly by somebody who knows the key.
fn made_with(derivation: KeyDerivation, contents: Contents) -> Vec<u8> {
    let slot = Slot::wrap(1, SlotKind::Passphrase(derivation), [1; 12], &KEY, &[2; 32]).unwrap();
    sealed_unchecked(Header { slots: vec![slot] }, &contents)
}

fn sealed_unchecked(header: Header, contents: &Contents) -> Vec<u8> {
    let mut body = postcard::to_stdvec(contents).unwrap();
    let preamble = file_format::preamble(&header, body.len()).unwrap();
    let tag = seal::encrypt(&[2; 32], &[3; 12], &preamble, &mut body);
    file_format::assemble(preamble, [3; 12], &body, tag)
}

#[test]
fn derivations_out_of_bounds_are_refused_before_anything_is_computed() {
    let good = KeyDerivation::recommended([5; 16]);
    assert_eq!(fault(&made_with(good, furnished())), None);
    let bad = [
        KeyDerivation { memory_kib: 19 * 1024 - 1, ..good },
        KeyDerivation { memory_kib: 1024 * 1024 + 1, ..good },
        KeyDerivation { memory_kib: u32::MAX, ..good },
        KeyDerivation { passes: 1, ..good },
        KeyDerivation { passes: 17, ..good },
        KeyDerivation { lanes: 0, ..good },
        KeyDerivation { lanes: 17, ..good },
    ];
    for derivation in bad {
        let file = made_with(derivation, furnished());
        assert_eq!(fault(&file), Some(VaultFault::KdfOutOfBounds), "{derivation:?}");
        assert_eq!(OnDisk::new(&file).locked.derivation(), None, "no one is asked to compute it");
    }
}

#[test]
fn contents_that_break_their_rules_are_forged() {
    let good = KeyDerivation::recommended([5; 16]);
    let mut contents = furnished();
    contents.grants[0].credential = 77;
    assert_eq!(fault(&made_with(good, contents)), Some(VaultFault::Forged));
}

#[test]
fn headers_that_make_no_sense_are_forged() {
    let slot = |id| {
        Slot::wrap(id, SlotKind::Passphrase(KeyDerivation::recommended([5; 16])), [1; 12], &KEY, &[2; 32]).unwrap()
    };
    let file = |slots| sealed_unchecked(Header { slots }, &furnished());
    assert_eq!(fault(&file(vec![slot(1), slot(2)])), None);
    assert_eq!(fault(&file(vec![slot(1), slot(1)])), Some(VaultFault::Forged));
    assert_eq!(fault(&file(vec![])), Some(VaultFault::Forged));
    assert_eq!(fault(&file((1..18).map(slot).collect())), Some(VaultFault::Forged));
}

#[test]
fn a_wrong_key_is_told_apart_from_damage() {
    let file = small_file();
    assert_eq!(open_file(&file, &[0; 32], every_kind).map(drop), Err(UnlockError::WrongKey));
    assert_eq!(open_file(&file, b"short", every_kind).map(drop), Err(UnlockError::WrongKey));
    assert!(open_file(&file, &KEY, every_kind).is_ok());
}

#[test]
fn parts_of_two_vaults_do_not_make_a_third() {
    // The same slot and data key, so that only the seal's associated data stands in the way.
    let good = KeyDerivation::recommended([5; 16]);
    let one = made_with(good, furnished());
    let other = made_with(KeyDerivation { passes: 4, ..good }, furnished());
    let header = file_format::parse(&one).unwrap().associated.len();
    let mixed = [&one[..header], &other[header..]].concat();
    assert_eq!(fault(&with_checksum(mixed)), Some(VaultFault::Forged));
}

proptest! {
    #[test]
    fn no_bytes_panic(version in 1..3u8, bytes in proptest::collection::vec(any::<u8>(), 0..300), mend: bool) {
        let mut file = b"STRONGRM\x01\x00".to_vec();
        file[8] = version;
        file.extend_from_slice(&bytes);
        if mend && file.len() >= 98 {
            let header = 20u32.to_le_bytes();
            let body = u32::try_from(file.len() - 18 - 20 - 12 - 16 - 32).unwrap_or(0).to_le_bytes();
            file.splice(10..18, header.into_iter().chain(body));
            file = with_checksum(file);
        }
        prop_assert!(open_file(&file, &KEY, every_kind).is_err());
    }

    #[test]
    fn contents_round_trip(
        generation in 1u64..u64::MAX,
        keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..5),
        created: u64,
        removed: Option<u64>,
    ) {
        let mut contents = furnished();
        contents.generation = generation.max(5);
        contents.credentials[0].created = created;
        contents.credentials[1].removed = Some(removed.unwrap_or(7));
        contents.credentials[0].versions.truncate(0);
        for (number, key) in (1..).zip(&keys) {
            let value = Rc::new(Secret::copy_from(key).unwrap());
            contents.credentials[0].versions.push(super::contents::Version { number, added: created, weak: key.len() < 16, value });
        }
        let file = open_file(&small_file(), &KEY, every_kind).unwrap().into_parts().0.seal(&contents, Room::Narrowing).unwrap();
        let (_, back) = open_file(&file, &KEY, every_kind).unwrap().into_parts();
        prop_assert_eq!(postcard::to_stdvec(&back).unwrap(), postcard::to_stdvec(&contents).unwrap());
        for (version, key) in back.credentials[0].versions.iter().zip(&keys) {
            prop_assert!(version.value.matches(key));
        }
    }
}

/// The vault of the worked example in VAULT.md, from fixed inputs.
fn worked_example() -> Vec<u8> {
    let slot_key = [0x11; 32];
    let data_key = [0x22; 32];
    let derivation = KeyDerivation { salt: [0x33; 16], memory_kib: 65536, passes: 3, lanes: 4 };
    let slot = Slot::wrap(1, SlotKind::Passphrase(derivation), [0x44; 12], &slot_key, &data_key).unwrap();
    let contents = Contents {
        generation: 1,
        next_id: 2,
        audit_key: Rc::new(Secret::copy_from(&[0x55; 32]).unwrap()),
        ca_keys: Vec::new(),
        slots: Vec::new(),
        credentials: Vec::new(),
        agents: vec![super::contents::Agent {
            id: 1,
            changed: 1,
            name: "coder".parse().unwrap(),
            created: 1_700_000_000,
            revoked: None,
            removed: None,
            uids: Vec::new(),
            unit: None,
            token: None,
            egress: Vec::new(),
        }],
        grants: Vec::new(),
    };
    let keys = Keys::new(Secret::copy_from(&data_key).unwrap(), Header { slots: vec![slot] });
    keys.seal_with_nonce(&contents, Room::Widening, [0x66; 12]).unwrap()
}

#[test]
fn the_worked_example_in_vault_md_is_true() {
    let file = worked_example();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("VAULT.md")).unwrap();
    let block =
        text.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).expect("VAULT.md has a block of hex");
    // What stands after two spaces and a bar explains the bytes.
    let written: String = block
        .lines()
        .flat_map(|line| line.split('|').next())
        .flat_map(str::chars)
        .filter(char::is_ascii_hexdigit)
        .collect();
    let made: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, made);
    assert_eq!(open_file(&file, &[0x11; 32], every_kind).unwrap().into_parts().1.agents[0].name.as_str(), "coder");
}
