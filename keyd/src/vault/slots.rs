//! Changes of the ways to unlock: each makes a new data key and wraps it anew for every slot that stays.
//!
//! So whoever kept an old copy of the file, and a passphrase or key that was taken off since, opens that copy and
//! nothing that was written later. The slot keys that this takes are in the body, but for that of a single passphrase:
//! the change itself brings it along as its proof. It refuses to leave a vault without a passphrase. Plain functions
//! without I/O; called by `admin/operation/slot.rs`.

use std::rc::Rc;

use strongroom_protocol::admin::{Failure, Field, KeyDerivation, Thing};

use super::contents::{Contents, SlotRecord};
use super::file_format::{Header, MOST_SLOTS};
use super::seal::{NoRandomness, fill_random, fresh_nonce};
use super::slot::{Slot, SlotKind};
use super::{KEY_LENGTH, Keys};
use crate::secret::{ArenaFull, Secret};

/// What is to be different.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// One way more.
    Add(NewSlot<'a>),
    /// One way less.
    Remove {
        /// Its slot.
        id: u32,
    },
    /// Another passphrase in the place of the one that is the proof; of all of them, where the proof is a recovery code.
    Passphrase {
        /// How its key was derived. Where other passphrases stay it must be what it is.
        derivation: KeyDerivation,
        /// The derived key.
        key: &'a [u8],
    },
}

/// A way to be added.
#[derive(Debug, Clone, Copy)]
pub struct NewSlot<'a> {
    /// Where its key comes from.
    pub kind: SlotKind,
    /// 32 bytes.
    pub key: &'a [u8],
}

/// Who changes it, and with what proof.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The admin.
    pub uid: u32,
    /// Seconds of the Unix epoch.
    pub now: u64,
    /// The key of a passphrase slot, or for [`Change::Passphrase`] of a recovery slot.
    pub proof: &'a [u8],
}

/// A slot in the making.
struct Way {
    id: u32,
    kind: SlotKind,
    key: Rc<Secret>,
    added: Option<u64>,
    by: Option<u32>,
}

impl Keys {
    /// Keys with the slots after the change, and its id where a slot was added. `contents` gets the new records.
    ///
    /// # Errors
    /// `WrongPassphrase`, where the proof opens no slot that may prove this; `NoSuch` and `OutOfBounds` for what cannot
    /// be; `LastPassphrase`.
    pub fn with_slots(
        &self,
        contents: &mut Contents,
        change: Change<'_>,
        by: By<'_>,
    ) -> Result<(Self, Option<u32>), Failure> {
        // Judged by whoever asked, and here once more: these are the keys that are changed, whatever they were then.
        let recovered = matches!(change, Change::Passphrase { .. }) && self.recovers(by.proof);
        if !recovered && !self.proves(by.proof) {
            return Err(Failure::WrongPassphrase);
        }
        let mut ways = self.ways(contents, by.proof, recovered)?;
        let added = match change {
            Change::Add(new) => {
                if new.kind.is_passphrase() && new.kind != self.passphrase_kind() {
                    return Err(Failure::OutOfBounds(Field::Derivation));
                }
                Some(push(&mut ways, contents, new, by)?)
            }
            Change::Remove { id } => {
                let at = ways.iter().position(|way| way.id == id).ok_or(Failure::NoSuch(Thing::Slot))?;
                ways.remove(at);
                if !ways.iter().any(|way| way.kind.is_passphrase()) {
                    return Err(Failure::LastPassphrase);
                }
                None
            }
            Change::Passphrase { derivation, key } => {
                let proved = |way: &Way| way.kind.is_passphrase() && (recovered || way.key.matches(by.proof));
                ways.retain(|way| !proved(way));
                let kind = SlotKind::Passphrase(derivation);
                if !derivation.is_within_bounds() || ways.iter().any(|way| way.kind.is_passphrase() && way.kind != kind)
                {
                    return Err(Failure::OutOfBounds(Field::Derivation));
                }
                Some(push(&mut ways, contents, NewSlot { kind, key }, by)?)
            }
        };
        if ways.len() > MOST_SLOTS {
            return Err(Failure::OutOfBounds(Field::Slots));
        }
        let passphrases = ways.iter().filter(|way| way.kind.is_passphrase()).count();
        let record = |way: &Way| {
            let is_brought = way.kind.is_passphrase() && passphrases == 1;
            let key = (!is_brought).then(|| Rc::clone(&way.key));
            SlotRecord { slot: way.id, added: way.added, by: way.by, key }
        };
        contents.slots = ways.iter().map(record).filter(|it| it.added.is_some() || it.key.is_some()).collect();
        Ok((Self::for_ways(&ways)?, added))
    }

    /// Whether this is the key of a recovery slot: the proof for a new passphrase, and for nothing else.
    #[must_use]
    pub fn recovers(&self, key: &[u8]) -> bool {
        self.opens(key, |kind| kind == SlotKind::Recovery)
    }

    /// Of which kind a slot is.
    #[must_use]
    pub fn kind_of(&self, id: u32) -> Option<SlotKind> {
        self.header().slots.iter().find(|slot| slot.id == id).map(|slot| slot.kind)
    }

    /// Every slot with its key.
    fn ways(&self, contents: &Contents, proof: &[u8], recovered: bool) -> Result<Vec<Way>, Failure> {
        let slots = &self.header().slots;
        let mut ways = Vec::with_capacity(slots.len() + 1);
        for slot in slots {
            let record = contents.slots.iter().find(|record| record.slot == slot.id);
            let key = match record.and_then(|record| record.key.as_ref()) {
                Some(key) => Rc::clone(key),
                None if slot.unwrap(proof).is_ok() => Rc::new(secret(proof)?),
                // A passphrase that nobody brought: it is replaced, and its key is not needed.
                None if recovered && slot.kind.is_passphrase() => Rc::new(Secret::zeroed(KEY_LENGTH).map_err(full)?),
                None => return Err(Failure::WrongPassphrase),
            };
            let (added, by) = record.map_or((None, None), |record| (record.added, record.by));
            ways.push(Way { id: slot.id, kind: slot.kind, key, added, by });
        }
        Ok(ways)
    }

    fn passphrase_kind(&self) -> SlotKind {
        self.header().passphrase_slot().expect("a header that was read has one").kind
    }

    /// A fresh data key, wrapped for each.
    fn for_ways(ways: &[Way]) -> Result<Self, Failure> {
        let mut data_key = Secret::zeroed(KEY_LENGTH).map_err(full)?;
        fill_random(&mut data_key).map_err(no_randomness)?;
        let wrap = |way: &Way| {
            let nonce = fresh_nonce().map_err(no_randomness)?;
            Slot::wrap(way.id, way.kind, nonce, &way.key, &data_key).map_err(|_| Failure::BadMessage)
        };
        let slots = ways.iter().map(wrap).collect::<Result<_, _>>()?;
        Ok(Self::new(data_key, Header { slots }))
    }
}

fn push(ways: &mut Vec<Way>, contents: &mut Contents, new: NewSlot<'_>, by: By<'_>) -> Result<u32, Failure> {
    if new.key.len() != KEY_LENGTH {
        return Err(Failure::BadMessage);
    }
    // Ids of everything else are drawn from the same counter, so that no slot's is ever used again.
    let highest = ways.iter().map(|way| u64::from(way.id)).max().unwrap_or(0);
    let next = contents.next_id.max(highest + 1);
    let id = u32::try_from(next).map_err(|_| Failure::OutOfBounds(Field::Slots))?;
    contents.next_id = next + 1;
    let key = Rc::new(secret(new.key)?);
    ways.push(Way { id, kind: new.kind, key, added: Some(by.now), by: Some(by.uid) });
    Ok(id)
}

fn secret(bytes: &[u8]) -> Result<Secret, Failure> {
    Secret::copy_from(bytes).map_err(full)
}

fn full(_: ArenaFull) -> Failure {
    Failure::LockedMemory
}

fn no_randomness(_: NoRandomness) -> Failure {
    Failure::Internal
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
