//! Ways to unlock come and go; what an older file opens with says nothing of a newer one.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::vault::create::tests::{KEY, new_vault};
use crate::vault::invariants::tests::furnished;
use crate::vault::room::Room;
use crate::vault::{UnlockError, create, every_kind, open_file};

const OTHER: [u8; 32] = [0x42; 32];
const RANDOM: [u8; 32] = [0x77; 32];

/// A vault at one moment.
struct Now {
    keys: Keys,
    contents: Contents,
}

impl Now {
    fn new() -> Self {
        let (keys, mut contents) =
            open_file(&create::build(&new_vault(), 1).unwrap(), &KEY, every_kind).unwrap().into_parts();
        let more = furnished();
        (contents.credentials, contents.agents, contents.grants) = (more.credentials, more.agents, more.grants);
        (contents.generation, contents.next_id) = (more.generation, more.next_id);
        Self { keys, contents }
    }

    fn change(&mut self, proof: &[u8], change: Change<'_>) -> Result<Option<u32>, Failure> {
        let mut contents = self.contents.clone();
        let by = By { uid: 1000, now: 99, proof };
        let (keys, id) = self.keys.with_slots(&mut contents, change, by)?;
        *self = Self { keys, contents };
        Ok(id)
    }

    fn add(&mut self, kind: SlotKind, key: &[u8]) -> u32 {
        self.change(&KEY, Change::Add(NewSlot { kind, key })).unwrap().unwrap()
    }

    fn file(&self) -> Vec<u8> {
        self.keys.seal(&self.contents, Room::Narrowing).unwrap()
    }

    fn opens_with(&self, key: &[u8]) -> bool {
        opens(&self.file(), key)
    }
}

fn opens(file: &[u8], key: &[u8]) -> bool {
    match open_file(file, key, every_kind) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error, UnlockError::WrongKey);
            false
        }
    }
}

fn passphrase() -> SlotKind {
    SlotKind::Passphrase(new_vault().derivation)
}

#[test]
fn each_way_opens_the_same_vault_and_only_a_passphrase_proves() {
    let mut now = Now::new();
    let ids = [(SlotKind::Keychain, 2), (SlotKind::Credential, 3), (SlotKind::Recovery, 4)]
        .map(|(kind, byte)| now.add(kind, &[byte; 32]));
    let second = now.add(passphrase(), &OTHER);
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && second > ids[2], "{ids:?}, {second}");
    for key in [KEY, [2; 32], [3; 32], [4; 32], OTHER] {
        let (keys, contents) = open_file(&now.file(), &key, every_kind).unwrap().into_parts();
        assert_eq!(contents.credentials.len(), now.contents.credentials.len());
        assert_eq!(keys.proves(&key), key == KEY || key == OTHER);
        assert_eq!(keys.recovers(&key), key == [4; 32]);
    }
    assert!(!now.opens_with(&[5; 32]));
    assert!(open_file(&now.file(), &KEY, |kind| kind == SlotKind::Credential).is_err(), "of this kind alone");
    let record = now.contents.slots.iter().find(|record| record.slot == ids[1]).unwrap();
    assert_eq!((record.added, record.by), (Some(99), Some(1000)));
}

#[test]
fn what_was_removed_opens_yesterdays_file_and_not_todays() {
    let mut now = Now::new();
    let keychain = now.add(SlotKind::Keychain, &RANDOM);
    now.add(SlotKind::Recovery, &[4; 32]);
    let yesterday = now.file();
    assert_eq!(now.change(&KEY, Change::Remove { id: keychain }), Ok(None));
    let today = now.file();
    assert!(opens(&yesterday, &RANDOM) && !opens(&today, &RANDOM));
    assert!([KEY, [4; 32]].iter().all(|key| opens(&today, key)), "the others stay");
    assert!(now.contents.slots.iter().all(|record| record.slot != keychain), "its key is forgotten");

    // Not even with the data key that yesterday's file gave away.
    let (old, _) = open_file(&yesterday, &RANDOM, every_kind).unwrap().into_parts();
    let forged = old.seal(&now.contents, Room::Narrowing).unwrap();
    let header = file_header(&today);
    assert!(open_file(&[&today[..header], &forged[header..]].concat(), &KEY, every_kind).is_err());
    assert_ne!(now.add(SlotKind::Keychain, &RANDOM), keychain, "no number is given twice");
}

fn file_header(file: &[u8]) -> usize {
    super::super::file_format::parse(file).unwrap().associated.len()
}

#[test]
fn a_changed_passphrase_opens_yesterdays_file_and_not_todays() {
    let mut now = Now::new();
    now.add(SlotKind::Credential, &RANDOM);
    let yesterday = now.file();
    let derivation = KeyDerivation { passes: 4, ..KeyDerivation::recommended([9; 16]) };
    now.change(&KEY, Change::Passphrase { derivation, key: &OTHER }).unwrap();
    assert!(opens(&yesterday, &KEY) && !now.opens_with(&KEY));
    assert!(!opens(&yesterday, &OTHER) && now.opens_with(&OTHER));
    assert!(now.opens_with(&RANDOM));
    assert!(!now.keys.proves(&KEY) && now.keys.proves(&OTHER));
    let of_a_passphrase = |record: &&SlotRecord| {
        now.keys.header().slots.iter().any(|slot| slot.id == record.slot && slot.kind.is_passphrase())
    };
    assert!(now.contents.slots.iter().find(of_a_passphrase).unwrap().key.is_none(), "it comes with each change");
}

#[test]
fn with_two_passphrases_each_changes_its_own_and_a_recovery_code_replaces_both() {
    let mut now = Now::new();
    now.add(SlotKind::Recovery, &[4; 32]);
    let second = now.add(passphrase(), &OTHER);
    let same = new_vault().derivation;
    now.change(&OTHER, Change::Passphrase { derivation: same, key: &[0x43; 32] }).unwrap();
    assert!(now.opens_with(&KEY) && now.opens_with(&[0x43; 32]) && !now.opens_with(&OTHER));
    assert_eq!(now.change(&KEY, Change::Remove { id: second }), Err(Failure::NoSuch(Thing::Slot)), "it is another now");
    let other = KeyDerivation { passes: 5, ..same };
    let refused = now.change(&KEY, Change::Passphrase { derivation: other, key: &RANDOM });
    assert_eq!(refused, Err(Failure::OutOfBounds(Field::Derivation)), "one derivation for all");

    now.change(&[4; 32], Change::Passphrase { derivation: other, key: &RANDOM }).unwrap();
    assert!(now.opens_with(&RANDOM) && now.opens_with(&[4; 32]));
    assert!(!now.opens_with(&KEY) && !now.opens_with(&[0x43; 32]));
    assert!(now.keys.proves(&RANDOM));
}

/// Two who changed a passphrase at once brought the same proof; where every slot's key was on record nobody asked for it
/// again, and 16 slots became 17, which no keyd opens.
#[test]
fn a_proof_is_judged_by_the_keys_that_are_changed_however_many_are_on_record() {
    let mut now = Now::new();
    now.add(passphrase(), &OTHER);
    let change = |key| Change::Passphrase { derivation: new_vault().derivation, key };
    now.change(&OTHER, change(&[0x43; 32])).unwrap();
    assert_eq!(now.change(&OTHER, change(&[0x44; 32])), Err(Failure::WrongPassphrase));
    let more = Change::Add(NewSlot { kind: SlotKind::Keychain, key: &RANDOM });
    assert_eq!(now.change(&OTHER, more), Err(Failure::WrongPassphrase));
    assert_eq!(now.change(&OTHER, Change::Remove { id: 1 }), Err(Failure::WrongPassphrase));
    now.add(SlotKind::Recovery, &[4; 32]);
    assert_eq!(now.change(&[4; 32], more), Err(Failure::WrongPassphrase), "a code adds no way");
    while now.keys.header().slots.len() < MOST_SLOTS {
        now.add(SlotKind::Keychain, &RANDOM);
    }
    now.change(&KEY, change(&[0x45; 32])).unwrap();
    assert_eq!(now.keys.header().slots.len(), MOST_SLOTS);
    assert!(now.opens_with(&[0x45; 32]) && now.opens_with(&[0x43; 32]) && !now.opens_with(&KEY));
}

#[test]
fn slots_that_could_not_be_read_again_are_not_sealed() {
    let now = Now::new();
    let slot = now.keys.header().slots[0].clone();
    let data_key = || Secret::copy_from(&[9; 32]).unwrap();
    let sealed = |slots: Vec<Slot>| Keys::new(data_key(), Header { slots }).seal(&now.contents, Room::Narrowing);
    assert!(sealed(vec![slot.clone()]).is_ok());
    let numbered = |id| {
        let mut slot = slot.clone();
        slot.id = id;
        slot
    };
    let many = (0..17).map(numbered);
    for slots in [many.collect(), vec![slot.clone(), slot.clone()], vec![]] {
        assert!(sealed(slots).is_err());
    }
}

#[test]
fn the_last_passphrase_stays_and_nonsense_is_refused() {
    let mut now = Now::new();
    now.add(SlotKind::Keychain, &RANDOM);
    assert_eq!(now.change(&KEY, Change::Remove { id: 1 }), Err(Failure::LastPassphrase));
    assert_eq!(now.change(&KEY, Change::Remove { id: 999 }), Err(Failure::NoSuch(Thing::Slot)));
    for proof in [RANDOM, [0; 32]] {
        let change = Change::Passphrase { derivation: new_vault().derivation, key: &OTHER };
        assert_eq!(now.change(&proof, change), Err(Failure::WrongPassphrase), "no proof of a passphrase");
    }
    let short = NewSlot { kind: SlotKind::Recovery, key: &[1; 31] };
    assert_eq!(now.change(&KEY, Change::Add(short)), Err(Failure::BadMessage));
    let weak = KeyDerivation { memory_kib: 8, ..new_vault().derivation };
    let refused = now.change(&KEY, Change::Passphrase { derivation: weak, key: &OTHER });
    assert_eq!(refused, Err(Failure::OutOfBounds(Field::Derivation)));
    for number in now.keys.header().slots.len()..MOST_SLOTS {
        now.add(SlotKind::Keychain, &[u8::try_from(number).unwrap(); 32]);
    }
    let one_more = Change::Add(NewSlot { kind: SlotKind::Keychain, key: &OTHER });
    assert_eq!(now.change(&KEY, one_more), Err(Failure::OutOfBounds(Field::Slots)));
    assert!(now.opens_with(&KEY), "nothing of it did any harm");
}

#[test]
fn taking_a_second_passphrase_away_leaves_no_key_of_the_first_behind() {
    let mut now = Now::new();
    let second = now.add(passphrase(), &OTHER);
    let kept = |now: &Now| now.contents.slots.iter().filter(|record| record.key.is_some()).count();
    assert_eq!(kept(&now), 2, "either may be the proof of the next change");
    // Changed with the second's proof, the first's key has to be known.
    let refused = now.change(&OTHER, Change::Add(NewSlot { kind: SlotKind::Recovery, key: &RANDOM }));
    assert_eq!(refused.map(drop), Ok(()));
    now.change(&KEY, Change::Remove { id: second }).unwrap();
    assert_eq!(kept(&now), 1, "the recovery slot's");
    assert!(now.opens_with(&KEY) && now.opens_with(&RANDOM));
}
