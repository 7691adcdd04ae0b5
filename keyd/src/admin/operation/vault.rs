//! Status, unlocking and locking.
//!
//! Unlocking takes a derived key; keyd never sees the passphrase. Locking always works. Called by `dispatch`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use strongroom_protocol::admin::{Failure, Reply, Status, VaultState};
use strongroom_protocol::{Check, SecretBytes};

use super::{event, note};
use crate::audit::record::{Event, EventKind};
use crate::peer::Caller;
use crate::secret::Secret;
use crate::state::State;
use crate::vault::{SlotKind, UnlockError, Unlocked};

/// keyd's state.
pub fn status(state: &State) -> Reply {
    let gateway = state.gateways.newest();
    Reply::Status(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state.vault_state(),
        keyd_pid: std::process::id(),
        gatewayd_pid: gateway.map(|(pid, _)| pid),
        exchanges: u32::try_from(state.running.count()).unwrap_or(u32::MAX),
        unlock: state.vault.derivation(),
        generation: state.live().map(|live| live.contents().generation),
        audit_broken: state.logbook.is_broken(),
        mismatches: state.mismatches.list(),
    })
}

/// Both daemons' account of their cages.
pub fn checks(state: &State) -> Reply {
    let gatewayd = state.gateways.newest().and_then(|(_, checks)| checks);
    let mut keyd = state.checks.clone();
    keyd.push(if state.logbook.is_broken() {
        Check::failed(
            "audit log",
            "A line could not be written, so uses are refused.",
            "Make room on its disk, check its owner, or put its file back where it was; keyd's log says which.",
        )
    } else {
        Check::ok("audit log", "It can be written.")
    });
    keyd.push(if state.is_unwritten() {
        let remedy = "Make room on its disk; keyd tries again each second, and must not be stopped before.";
        Check::failed("vault", "What was taken away is in force and not in the file.", remedy)
    } else if matches!(state.vault_state(), VaultState::Unusable(_)) {
        Check::failed("vault", "The file cannot be used.", "Run 'strongroom status', which says why.")
    } else {
        Check::ok("vault", "The file has all that is in force.")
    });
    Reply::Checks { keyd, gatewayd }
}

/// Opens the vault; done already is done.
pub async fn unlock(state: &Rc<State>, caller: &Caller, key: Option<&SecretBytes>) -> Result<(), Failure> {
    if state.live().is_some() {
        return Ok(());
    }
    let key = key.ok_or(Failure::PassphraseNeeded)?;
    let _turn = state.no_change_under_way().await;
    if state.live().is_some() {
        return Ok(());
    }
    let unlocked = open(state, caller, key.expose());
    let unlocked = unlocked.inspect_err(|failure| {
        tracing::warn!(uid = caller.uid, ?failure, "unlock refused");
        if *failure == Failure::WrongPassphrase {
            wrong_passphrase(state, caller);
        }
    })?;
    let generation = put_in_force(state, unlocked)?;
    tracing::info!(uid = caller.uid, generation, "vault unlocked");
    // A log that cannot be written refuses every use, but must not keep an admin out.
    note(state, event(state, EventKind::VaultUnlock, caller));
    Ok(())
}

/// Random keys at once; a passphrase's where this user's count now.
fn open(state: &State, caller: &Caller, key: &[u8]) -> Result<Unlocked, Failure> {
    match state.unlock_vault(key, |kind| !kind.is_passphrase()) {
        Err(UnlockError::WrongKey) => {}
        other => return other.map_err(Failure::from),
    }
    let now = Instant::now();
    state.tries.may(caller.uid, now)?;
    let outcome = state.unlock_vault(key, SlotKind::is_passphrase);
    match outcome {
        Ok(_) => state.tries.right(caller.uid),
        Err(UnlockError::WrongKey) => state.tries.wrong(caller.uid, now),
        Err(_) => {}
    }
    outcome.map_err(Failure::from)
}

/// At the start, with the key that systemd decrypted for keyd. Where it does not open the vault keyd stays locked, and
/// says why: an admin can still unlock it.
pub fn unlock_with_credential(state: &Rc<State>, key: &Secret) {
    let unlocked = state.unlock_vault(key, |kind| kind == SlotKind::Credential);
    let outcome = unlocked.map_err(Failure::from).and_then(|unlocked| put_in_force(state, unlocked));
    match outcome {
        Ok(generation) => {
            tracing::info!(generation, "vault unlocked with the credential");
            note(state, Event::new(EventKind::VaultUnlock).at_generation(generation));
        }
        Err(Failure::WrongPassphrase) => tracing::error!(
            "the credential vault-key opens no slot of this vault; make it anew with 'strongroom slot add credential'"
        ),
        Err(failure) => tracing::error!(?failure, "the vault could not be unlocked with the credential vault-key"),
    }
}

fn put_in_force(state: &Rc<State>, unlocked: Unlocked) -> Result<u64, Failure> {
    let (keys, contents) = unlocked.into_parts();
    let generation = contents.generation;
    state.unlocked(keys, contents)?;
    Ok(generation)
}

/// Wipes the keys and cuts every exchange.
pub fn lock(state: &Rc<State>, caller: &Caller) -> Result<(), Failure> {
    if state.live().is_some() {
        note(state, event(state, EventKind::VaultLock, caller));
        state.lock();
        tracing::info!(uid = caller.uid, "vault locked");
    }
    Ok(())
}

/// A proof did not fit: somebody mistyped, or guesses. While the vault is locked the line waits for the next unlocking.
pub fn wrong_passphrase(state: &State, caller: &Caller) {
    // Once a second is enough to see it, and a guesser cannot fill the disk.
    let last = state.wrong_passphrase.get();
    if last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
        return;
    }
    state.wrong_passphrase.set(Some(Instant::now()));
    tracing::warn!(uid = caller.uid, pid = caller.pid, "wrong passphrase");
    // Nor crowd out other lines that wait.
    if state.logbook.has_room_for_guesses() {
        note(state, event(state, EventKind::WrongPassphrase, caller));
    }
}

/// The reason that helps most.
pub fn why_not_unlocked(state: &State) -> Failure {
    match state.vault_state() {
        VaultState::Uninitialised => Failure::Uninitialised,
        VaultState::Unusable(fault) => Failure::Vault(fault),
        VaultState::Locked | VaultState::Unlocked => Failure::Locked,
    }
}
