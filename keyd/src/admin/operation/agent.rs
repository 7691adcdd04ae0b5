//! Agents: who may use credentials.
//!
//! A removed agent is a tombstone: its placeholders stay known, as revoked, and its name is free again. Called by
//! `dispatch`.

use std::rc::Rc;

use ring::rand::SystemRandom;
use strongroom_protocol::admin::{AgentView, Failure, Field, MOST_EGRESS, MOST_UIDS, PAGE, Reply, Thing};
use strongroom_protocol::session::TOKEN_PREFIX;
use strongroom_protocol::{HostPattern, Name, Refusal};

use super::{again, event, note, record, take_id};
use crate::audit::record::EventKind;
use crate::gateway::environment;
use crate::peer::{Caller, NO_UID, OVERFLOW_UID};
use crate::policy::live::Live;
use crate::policy::placeholder;
use crate::state::{Direction, State, now};
use crate::vault::contents::{Agent, Contents, Grant};

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

/// What a new agent is known by.
pub struct Evidence {
    /// Users.
    pub uids: Vec<u32>,
    /// A systemd unit.
    pub unit: Option<String>,
    /// It is to have a token.
    pub token: bool,
}

/// A new agent; the answer is its token, where it is to have one.
pub async fn add(state: &Rc<State>, caller: &Caller, name: &Name, evidence: Evidence) -> Result<Reply, Failure> {
    let created = now();
    let Evidence { mut uids, unit, token } = evidence;
    uids.sort_unstable();
    uids.dedup();
    if uids.len() > MOST_UIDS || uids.iter().any(|uid| [OVERFLOW_UID, NO_UID].contains(uid)) {
        return Err(Failure::OutOfBounds(Field::Uids));
    }
    if unit.as_deref().is_some_and(|unit| !is_unit(unit)) {
        return Err(Failure::OutOfBounds(Field::Unit));
    }
    let token = token.then(|| placeholder::random(TOKEN_PREFIX, &SystemRandom::new())).transpose();
    let token = token.map_err(|_| Failure::Internal)?;
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
            contents.agents.push(Agent {
                id,
                changed,
                name: name.clone(),
                created,
                revoked: None,
                removed: None,
                uids: uids.clone(),
                unit: unit.clone(),
                token: token.clone(),
                egress: Vec::new(),
            });
            Ok(())
        })
        .await?;
    Ok(token.map_or(Reply::Done, Reply::Token))
}

/// Hosts that an agent may reach without a key.
pub async fn allow(state: &Rc<State>, caller: &Caller, name: &Name, hosts: &[HostPattern]) -> Result<(), Failure> {
    let add = |agent: &mut Agent| {
        for host in hosts {
            if !agent.egress.contains(host) {
                agent.egress.push(host.clone());
            }
        }
        if agent.egress.len() > MOST_EGRESS { Err(Failure::OutOfBounds(Field::Egress)) } else { Ok(()) }
    };
    let id = standing(state, name)?;
    record(state, event(state, EventKind::AgentAllow, caller).named(name.clone()))?;
    state
        .change(Direction::Widening, |contents| {
            let changed = contents.generation;
            let agent = find(contents, id)?;
            agent.changed = changed;
            add(agent)
        })
        .await
}

/// Takes such hosts away; tunnels to them are cut.
pub async fn disallow(state: &Rc<State>, caller: &Caller, name: &Name, hosts: &[HostPattern]) -> Result<(), Failure> {
    let id = standing(state, name)?;
    let live = state.live().ok_or(Failure::Locked)?;
    let has_any = |agent: &Agent| agent.egress.iter().any(|host| hosts.contains(host));
    if !live.agent(id).is_some_and(has_any) {
        return again(state).await;
    }
    note(state, event(state, EventKind::AgentDisallow, caller).named(name.clone()));
    state
        .change(Direction::Narrowing, |contents| {
            let changed = contents.generation;
            let agent = find(contents, id)?;
            agent.changed = changed;
            agent.egress.retain(|host| !hosts.contains(host));
            Ok(())
        })
        .await
}

/// What its environment is made of.
pub fn environment(state: &State, name: &Name, after: Option<u64>) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let agent =
        live.contents().agents.iter().find(|agent| is_called(agent, name)).ok_or(Failure::NoSuch(Thing::Agent))?;
    if agent.revoked.is_some() {
        return Err(Failure::Revoked(Thing::Agent));
    }
    Ok(Reply::Environment(environment::page(&live, agent, true, after)))
}

/// The id of a living agent that was not revoked.
fn standing(state: &State, name: &Name) -> Result<u64, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let agent =
        live.contents().agents.iter().find(|agent| is_called(agent, name)).ok_or(Failure::NoSuch(Thing::Agent))?;
    if agent.revoked.is_some() { Err(Failure::Revoked(Thing::Agent)) } else { Ok(agent.id) }
}

/// A service's name, or the path of its control group.
fn is_unit(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:\\/".contains(&byte);
    text.len() <= 256
        && text.ends_with(".service")
        && text.bytes().all(is_plain)
        && !text.split('/').any(|part| matches!(part, "." | ".."))
        && (text.starts_with('/') || !text.contains('/'))
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
    let agent =
        live.contents().agents.iter().find(|agent| is_called(agent, name)).ok_or(Failure::NoSuch(Thing::Agent))?;
    let id = agent.id;
    if then == Then::Keep && agent.revoked.is_some() {
        state.running.cut(Refusal::Revoked, |exchange| exchange.is_of_agent(id));
        return again(state).await;
    }
    // The log may be full; taking access away does not wait for it.
    note(state, event(state, kind, caller).named(name.clone()));
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
    let is_live = |grant: &&Grant| grant.agent == agent.id && live.counts(grant, now());
    let grants = live.contents().grants.iter().filter(is_live).count();
    AgentView {
        name: agent.name.clone(),
        created: agent.created,
        revoked: agent.revoked,
        grants: u32::try_from(grants).unwrap_or(u32::MAX),
        uids: agent.uids.clone(),
        unit: agent.unit.clone(),
        token: agent.token.is_some(),
        egress: agent.egress.clone(),
    }
}
