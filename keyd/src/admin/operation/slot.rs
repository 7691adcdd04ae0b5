//! The ways to unlock: listed, added, removed; and another passphrase.
//!
//! Each change brings a new data key and replaces the backup: `vault/slots.rs`. It refuses to make a key: ctl does, and
//! brings it where it is to be kept. Called by `dispatch`, which has looked at the proof.

use std::rc::Rc;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{self, Failure, KeyDerivation, Reply, SlotView, VaultState};

use super::vault::why_not_unlocked;
use super::{event, record};
use crate::audit::record::{Event, EventKind};
use crate::peer::Caller;
use crate::state::{State, now};
use crate::vault::contents::Contents;
use crate::vault::slots::{By, Change, NewSlot};
use crate::vault::{Keys, SlotKind};

/// All there are; when and by whom they were added is known while the vault is unlocked.
///
/// # Errors
/// Where there is no vault, or none that can be read.
pub fn list(state: &State) -> Result<Reply, Failure> {
    if matches!(state.vault_state(), VaultState::Uninitialised | VaultState::Unusable(_)) {
        return Err(why_not_unlocked(state));
    }
    let live = state.live();
    Ok(Reply::Slots(views(&state.vault.slots(), live.as_ref().map(|live| live.contents()))))
}

/// Slots as they are shown.
pub fn views(slots: &[(u32, SlotKind)], contents: Option<&Contents>) -> Vec<SlotView> {
    let view = |&(id, kind): &(u32, SlotKind)| {
        let record = contents.and_then(|contents| contents.slots.iter().find(|record| record.slot == id));
        SlotView {
            id,
            kind: shown(kind),
            added: record.and_then(|record| record.added),
            by: record.and_then(|record| record.by),
        }
    };
    slots.iter().map(view).collect()
}

fn shown(kind: SlotKind) -> admin::SlotKind {
    match kind {
        SlotKind::Passphrase(_) => admin::SlotKind::Passphrase,
        SlotKind::Keychain => admin::SlotKind::Keychain,
        SlotKind::Credential => admin::SlotKind::Credential,
        SlotKind::Recovery => admin::SlotKind::Recovery,
    }
}

/// One more.
pub async fn add(
    state: &Rc<State>,
    caller: &Caller,
    proof: Option<&SecretBytes>,
    kind: admin::SlotKind,
    key: &SecretBytes,
) -> Result<Reply, Failure> {
    let kind = match kind {
        admin::SlotKind::Passphrase => {
            SlotKind::Passphrase(state.vault.derivation().ok_or_else(|| super::vault::why_not_unlocked(state))?)
        }
        admin::SlotKind::Keychain => SlotKind::Keychain,
        admin::SlotKind::Credential => SlotKind::Credential,
        admin::SlotKind::Recovery => SlotKind::Recovery,
    };
    let change = Change::Add(NewSlot { kind, key: key.expose() });
    changed(state, caller, proof, change).await?.map(Reply::SlotAdded).ok_or(Failure::Internal)
}

/// One less.
pub async fn remove(state: &Rc<State>, caller: &Caller, proof: Option<&SecretBytes>, id: u32) -> Result<(), Failure> {
    changed(state, caller, proof, Change::Remove { id }).await.map(drop)
}

/// Another passphrase.
pub async fn change_passphrase(
    state: &Rc<State>,
    caller: &Caller,
    proof: Option<&SecretBytes>,
    derivation: KeyDerivation,
    key: &SecretBytes,
) -> Result<(), Failure> {
    changed(state, caller, proof, Change::Passphrase { derivation, key: key.expose() }).await.map(drop)
}

async fn changed(
    state: &State,
    caller: &Caller,
    proof: Option<&SecretBytes>,
    change: Change<'_>,
) -> Result<Option<u32>, Failure> {
    let by = By { uid: caller.uid, now: now(), proof: proof.ok_or(Failure::PassphraseNeeded)?.expose() };
    let change = |keys: &Keys, contents: &mut Contents| {
        let made = keys.with_slots(contents, change, by)?;
        // Only what can be done is announced.
        record(state, announced(state, caller, keys, change, made.1, by.proof))?;
        Ok(made)
    };
    state.change_slots(change).await
}

fn announced(
    state: &State,
    caller: &Caller,
    keys: &Keys,
    change: Change<'_>,
    added: Option<u32>,
    proof: &[u8],
) -> Event {
    let (kind, slot, slot_kind) = match change {
        Change::Add(new) => (EventKind::SlotAdd, added, Some(new.kind)),
        Change::Remove { id } => (EventKind::SlotRemove, Some(id), keys.kind_of(id)),
        Change::Passphrase { .. } => (EventKind::PassphraseChange, added, None),
    };
    let proof = (kind == EventKind::PassphraseChange)
        .then(|| if keys.recovers(proof) { admin::SlotKind::Recovery } else { admin::SlotKind::Passphrase });
    Event { slot, slot_kind: slot_kind.map(shown), proof, ..event(state, kind, caller) }
}
