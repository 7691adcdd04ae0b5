//! The whole permission table of admin.sock on one screen.
//!
//! What widens access needs the passphrase's proof, each time; what narrows it or only shows does not. The caller's uid
//! was checked when it connected. Every request gets exactly one reply. Called by `serve`.

use std::rc::Rc;
use std::time::Instant;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{Failure, Operation, Reply, Request};

use super::operation::{agent, audit, ca, credential, grant, restore, slot, vault};
use crate::peer::Caller;
use crate::state::State;

/// What must hold before an operation is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// The vault is unlocked.
    Unlocked,
    /// The vault is unlocked, and the caller knows the passphrase.
    Proof,
    /// The vault is unlocked, and the caller knows the passphrase or has the recovery code.
    ProofOrRecovery,
    /// As [`Self::Proof`], where there is a vault; where there is none the operation asks for its own.
    ProofIfThereIsAVault,
}

fn needs(operation: &Operation) -> Needs {
    match operation {
        // Shows only, or locks. A backup is ciphertext.
        Operation::Status
        | Operation::Doctor
        | Operation::Lock
        | Operation::AuditRead { .. }
        | Operation::SlotList
        | Operation::Backup
        | Operation::BackupDerivation { .. } => Needs::Nothing,
        // Opening the vault is its own proof.
        Operation::Unlock => Needs::Nothing,
        // Shows only, of what is in the vault.
        Operation::CredentialList { .. }
        | Operation::CredentialShow { .. }
        | Operation::AgentList { .. }
        | Operation::AgentShow { .. }
        | Operation::GrantList { .. }
        | Operation::Environment { .. }
        | Operation::CaShow
        | Operation::AuditVerify { .. } => Needs::Unlocked,
        // Narrows.
        Operation::AgentRevoke { .. }
        | Operation::AgentRemove { .. }
        | Operation::AgentDisallow { .. }
        | Operation::GrantRevoke { .. }
        | Operation::CredentialRemove { purge: false, .. } => Needs::Unlocked,
        // Widens, or cannot be undone.
        Operation::CredentialAdd(_)
        | Operation::CredentialRotate { .. }
        | Operation::CredentialRemove { purge: true, .. }
        | Operation::AgentAdd { .. }
        | Operation::AgentAllow { .. }
        | Operation::CaRotate
        | Operation::GrantAdd(_)
        | Operation::SlotAdd { .. }
        // Takes a way in away, and cannot be undone: whoever could do it unasked could shut everybody out.
        | Operation::SlotRemove { .. } => Needs::Proof,
        Operation::PassphraseChange { .. } => Needs::ProofOrRecovery,
        Operation::RestoreLook { .. } | Operation::Restore { .. } => Needs::ProofIfThereIsAVault,
    }
}

/// Does what is asked, where the table allows it.
pub async fn dispatch(state: &Rc<State>, caller: &Caller, request: Request) -> Reply {
    let Request { proof, operation } = request;
    let needs = needs(&operation);
    let _turn = match needs {
        Needs::Nothing | Needs::Unlocked => None,
        Needs::Proof | Needs::ProofOrRecovery | Needs::ProofIfThereIsAVault => Some(state.one_proof_at_a_time().await),
    };
    if let Err(failure) = permitted(state, caller, needs, proof.as_ref()) {
        if failure == Failure::WrongPassphrase {
            vault::wrong_passphrase(state, caller);
        }
        return Reply::Failed(failure);
    }
    let done = |outcome: Result<(), Failure>| outcome.map(|()| Reply::Done);
    let outcome = match operation {
        Operation::Status => Ok(vault::status(state)),
        Operation::Doctor => Ok(vault::checks(state)),
        Operation::Lock => done(vault::lock(state, caller)),
        Operation::Unlock => done(vault::unlock(state, caller, proof.as_ref()).await),
        Operation::CredentialList { after } => credential::list(state, after.as_ref()),
        Operation::CredentialShow { name } => credential::show(state, &name),
        Operation::CredentialAdd(new) => done(credential::add(state, caller, new).await),
        Operation::CredentialRotate { name, value, allow_weak } => {
            credential::rotate(state, caller, &name, &value, allow_weak).await
        }
        Operation::CredentialRemove { name, purge } => done(credential::remove(state, caller, &name, purge).await),
        Operation::AgentList { after } => agent::list(state, after.as_ref()),
        Operation::AgentShow { name } => agent::show(state, &name),
        Operation::AgentAdd { name, uids, unit, token } => {
            agent::add(state, caller, &name, agent::Evidence { uids, unit, token }).await
        }
        Operation::AgentAllow { name, hosts } => done(agent::allow(state, caller, &name, &hosts).await),
        Operation::AgentDisallow { name, hosts } => done(agent::disallow(state, caller, &name, &hosts).await),
        Operation::Environment { agent, after } => agent::environment(state, &agent, after),
        Operation::CaShow => ca::show(state),
        Operation::CaRotate => done(ca::rotate(state, caller).await),
        Operation::AgentRevoke { name } => done(agent::revoke(state, caller, &name, agent::Then::Keep).await),
        Operation::AgentRemove { name } => done(agent::revoke(state, caller, &name, agent::Then::Remove).await),
        Operation::GrantList { after } => grant::list(state, after),
        Operation::GrantAdd(new) => grant::add(state, caller, new).await,
        Operation::GrantRevoke { credential, agent } => done(grant::revoke(state, caller, &credential, &agent).await),
        Operation::AuditRead { from, since, agent, credential } => audit::read(state, from, since, agent, credential),
        Operation::AuditVerify { from } => audit::verify(state, from),
        Operation::SlotList => slot::list(state),
        Operation::SlotAdd { kind, key } => slot::add(state, caller, proof.as_ref(), kind, &key).await,
        Operation::SlotRemove { id } => done(slot::remove(state, caller, proof.as_ref(), id).await),
        Operation::PassphraseChange { derivation, key } => {
            done(slot::change_passphrase(state, caller, proof.as_ref(), derivation, &key).await)
        }
        Operation::Backup => restore::backup(state),
        Operation::BackupDerivation { file } => restore::derivation(&file),
        Operation::RestoreLook { file, key } => restore::look(state, &file, &key),
        Operation::Restore { file, key } => done(restore::restore(state, caller, &file, &key).await),
    };
    outcome.unwrap_or_else(Reply::Failed)
}

fn permitted(state: &State, caller: &Caller, needs: Needs, proof: Option<&SecretBytes>) -> Result<(), Failure> {
    if needs == Needs::Nothing {
        return Ok(());
    }
    let Some(keys) = state.keys() else {
        return match vault::why_not_unlocked(state) {
            Failure::Uninitialised if needs == Needs::ProofIfThereIsAVault => Ok(()),
            failure => Err(failure),
        };
    };
    if needs == Needs::Unlocked {
        return Ok(());
    }
    let proof = proof.ok_or(Failure::PassphraseNeeded)?.expose();
    // Random, so that no number of tries would find it.
    if needs == Needs::ProofOrRecovery && keys.recovers(proof) {
        return Ok(());
    }
    state.tries.judge(caller.uid, Instant::now(), || keys.proves(proof))
}
