//! Reading the audit log and checking its chain, a page at a time. Called by `dispatch`.

use strongroom_protocol::Name;
use strongroom_protocol::admin::{Failure, Reply};

use crate::audit::reader::Filter;
use crate::state::State;

/// A page of lines.
pub fn read(
    state: &State,
    from: u64,
    since: Option<u64>,
    agent: Option<Name>,
    credential: Option<Name>,
) -> Result<Reply, Failure> {
    let page = state.logbook.log().read(from, &Filter { since, agent, credential }).map_err(|_| Failure::Audit)?;
    Ok(Reply::Audit { lines: page.lines, next: page.next, end: page.end })
}

/// A stretch of the chain. The key of the chain is in the vault, so it has to be unlocked.
pub fn verify(state: &State, from: u64) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let verified = state.logbook.log().verify(&live.contents().audit_key, from).map_err(|_| Failure::Audit)?;
    Ok(Reply::AuditVerified(verified))
}
