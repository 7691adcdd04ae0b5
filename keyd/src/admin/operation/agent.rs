//! Agents: who may use credentials.
//!
//! A removed agent is a tombstone: its placeholders stay known, as revoked, and its name is free again. Called by
//! `dispatch`.

use std::rc::Rc;

use strongroom_protocol::admin::{AgentView, Failure, PAGE, Reply, Thing};
use strongroom_protocol::{Name, Refusal};

use super::{event, record, take_id};
use crate::audit::record::EventKind;
use crate::peer::Caller;
use crate::policy::live::Live;
use crate::state::{Direction, State, now};
use crate::vault::contents::{Agent, Contents};

/// A page of agents, by name.
pub fn list(state: &State, after: Option<&Name>) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let mut agents: Vec<&Agent> = live.contents().agents.iter().filter(|agent| agent.removed.is_none()).collect();
    agents.sort_by(|one, other| one.name.cmp(&other.name));
    let mut rest = agents.into_iter().filter(|agent| after.is_none_or(|after| agent.name > *after));
    let items = rest.by_ref().take(PAGE).map(|agent| view(&live, agent)).collect();
    Ok(Reply::Agents { items, more: rest.next().is_some() })
}

/// One agent.
pub fn show(state: &State, name: &Name) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let agent =
        live.contents().agents.iter().find(|agent| is_called(agent, name)).ok_or(Failure::NoSuch(Thing::Agent))?;
    Ok(Reply::Agents { items: vec![view(&live, agent)], more: false })
}

/// A new agent.
pub async fn add(state: &Rc<State>, caller: &Caller, name: &Name) -> Result<(), Failure> {
    let created = now();
    let live = state.live().ok_or(Failure::Locked)?;
    if live.contents().agents.iter().any(|agent| is_called(agent, name)) {
        return Err(Failure::Exists(Thing::Agent));
    }
    record(state, event(state, EventKind::AgentAdd, caller).named(name.clone()))?;
    state
        .change(Direction::Widening, |contents| {
            if contents.agents.iter().any(|agent| is_called(agent, name)) {
                return Err(Failure::Exists(Thing::Agent));
            }
            let (id, changed) = (take_id(contents), contents.generation);
            contents.agents.push(Agent { id, changed, name: name.clone(), created, revoked: None, removed: None });
            Ok(())
        })
        .await
}

/// What becomes of a revoked agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays in the list.
    Keep,
    /// It becomes a tombstone.
    Remove,
}

/// Takes everything from an agent and cuts its exchanges.
pub async fn revoke(state: &Rc<State>, caller: &Caller, name: &Name, then: Then) -> Result<(), Failure> {
    let at = now();
    let kind = if then == Then::Keep { EventKind::AgentRevoke } else { EventKind::AgentRemove };
    let live = state.live().ok_or(Failure::Locked)?;
    let id =
        live.contents().agents.iter().find(|agent| is_called(agent, name)).ok_or(Failure::NoSuch(Thing::Agent))?.id;
    // The log may be full; taking access away does not wait for it.
    let _ = record(state, event(state, kind, caller).named(name.clone()));
    let written = state.change(Direction::Narrowing, |contents| {
        let changed = contents.generation;
        let agent = find(contents, id)?;
        agent.changed = changed;
        agent.revoked.get_or_insert(at);
        if then == Then::Remove {
            agent.removed = Some(at);
        }
        Ok(())
    });
    // In force from the first poll of `written`; whatever the disk says, running exchanges are cut.
    let (outcome, ()) = tokio::join!(biased; written, async {
        state.running.cut(Refusal::Revoked, |exchange| exchange.is_of_agent(id));
    });
    outcome
}

/// Whether this is the living agent of that name.
pub fn is_called(agent: &Agent, name: &Name) -> bool {
    agent.removed.is_none() && agent.name == *name
}

fn find(contents: &mut Contents, id: u64) -> Result<&mut Agent, Failure> {
    contents.agents.iter_mut().find(|agent| agent.id == id).ok_or(Failure::NoSuch(Thing::Agent))
}

fn view(live: &Live, agent: &Agent) -> AgentView {
    let grants = live.contents().grants.iter().filter(|grant| grant.agent == agent.id && live.stands(grant)).count();
    AgentView {
        name: agent.name.clone(),
        created: agent.created,
        revoked: agent.revoked,
        grants: u32::try_from(grants).unwrap_or(u32::MAX),
    }
}
