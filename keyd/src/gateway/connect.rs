//! An agent's CONNECT: intercept, tunnel or refuse; and the tunnels that are open.
//!
//! A host that a grant of the agent's names is intercepted: gatewayd gets a leaf and reads the requests, each of which
//! is judged as it comes. Any other host needs an entry in the agent's list of hosts, and is then a blind tunnel, on
//! record. It refuses everything else. A request for a proxy that is no CONNECT asks the same; where all is lost that once
//! allowed it, it goes on as far as its own judgement. Tunnels are judged again whenever the vault changes, and cut where
//! nothing allows them any more. Called by `gateway.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use http::Method;
use strongroom_protocol::exchange::KeydMessage;
use strongroom_protocol::{Authority, Name, Refusal};

use super::sessions::{Session, Sessions};
use crate::audit::record::{Decision, Ended, Failure, Record, Request};
use crate::policy::identity::Identity;
use crate::policy::live::Live;
use crate::state::{State, now};
use crate::vault::ca;
use crate::vault::contents::{Agent, Grant};

/// A CONNECT.
pub struct Question {
    /// gatewayd's number for it.
    pub number: u64,
    /// Whose it is.
    pub session: u64,
    /// Where it wants to go.
    pub authority: Authority,
    /// A key of gatewayd's that wants a leaf.
    pub point: Option<Vec<u8>>,
    /// gatewayd's id for the request.
    pub request_id: String,
    /// What is not intercepted may be a tunnel.
    pub may_be_tunnel: bool,
}

/// The tunnels of one gateway connection.
#[derive(Default)]
pub struct Tunnels(RefCell<HashMap<u64, Tunnel>>);

struct Tunnel {
    session: Rc<Session>,
    authority: Authority,
    request_id: String,
    agent: Name,
    began: Instant,
    is_cut: bool,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Intercept,
    /// As far as the refusal of the request itself, which says whose placeholder it carries.
    Judge,
    /// As this agent.
    Tunnel(u64),
}

/// Answers the question. A tunnel is a use: its line is as safe as that of a request before it begins.
pub async fn answer(state: &Rc<State>, sessions: &Sessions, tunnels: &Tunnels, question: Question) -> KeydMessage {
    let number = question.number;
    let mut answer = judge(state, sessions, tunnels, question);
    if matches!(answer, Ok(KeydMessage::Tunnel { .. })) {
        let settled = state.logbook.settle().await.map_err(|_| Refusal::AuditUnavailable);
        // It may have been cut in that time, and then gatewayd was told so of a tunnel that it did not know.
        if let Err(refusal) = settled.and_then(|()| tunnels.stands(number)) {
            tunnels.end(state, number, (0, 0), Some(refusal));
            answer = Err(refusal);
        }
    }
    answer.unwrap_or_else(|refusal| KeydMessage::NotConnected { question: number, refusal })
}

fn judge(
    state: &Rc<State>,
    sessions: &Sessions,
    tunnels: &Tunnels,
    question: Question,
) -> Result<KeydMessage, Refusal> {
    let live = state.live().ok_or(Refusal::VaultLocked)?;
    let session = sessions.get(question.session).ok_or(Refusal::AgentUnknown)?;
    let about = |identity: &Identity, decision| record(&live, identity, &question, decision);
    let identity = session.identity(&live).inspect_err(|refusal| {
        state.logbook.refusal(about(&Identity::UNKNOWN, Decision::Refused(*refusal)), *refusal);
    })?;
    let way = way(&live, &identity, &question.authority);
    let way = if question.may_be_tunnel { way } else { without_tunnel(&live, &identity, &question.authority, way) };
    let way = way.inspect_err(|refusal| {
        state.logbook.refusal(about(&identity, Decision::Refused(*refusal)), *refusal);
    })?;
    let Way::Tunnel(agent) = way else {
        // The requests inside are on record each for itself. Where none can be, the agent hears it before it begins TLS.
        if way == Way::Intercept && state.logbook.refuses_uses() {
            return Err(Refusal::AuditUnavailable);
        }
        let point = question.point.as_deref().filter(|_| way == Way::Intercept);
        let leaf = point.map(|point| {
            let key = live.contents().ca_keys.last().ok_or(Refusal::KeydUnavailable)?;
            ca::leaf(key, &question.authority, point, now()).map_err(|_| Refusal::BadRequest)
        });
        let (fields, bodies) = live.positions(&question.authority);
        return Ok(KeydMessage::Intercept { question: question.number, leaf: leaf.transpose()?, fields, bodies });
    };
    if tunnels.0.borrow().len() >= MOST_TUNNELS || tunnels.0.borrow().contains_key(&question.number) {
        return Err(Refusal::Overloaded);
    }
    let began = Instant::now();
    // Nothing is seen inside, and each is two lines in the log.
    if !state.tunnel_bucket(agent, began).wait(began).is_zero() {
        state.logbook.refusal(about(&identity, Decision::Refused(Refusal::RateLimited)), Refusal::RateLimited);
        return Err(Refusal::RateLimited);
    }
    state.tunnel_bucket(agent, began).take(began);
    let agent = live.agent(agent).ok_or(Refusal::AgentUnknown)?.name.clone();
    let record = Request {
        agent: Some(agent.clone()),
        evidence: Some(identity.evidence()),
        ..about(&identity, Decision::Allowed)
    };
    if state.logbook.write(&Record::Request(record)).is_err() {
        return Err(Refusal::AuditUnavailable);
    }
    let Question { number, authority, request_id, .. } = question;
    let tunnel = Tunnel { session, authority, request_id, agent, began, is_cut: false };
    tunnels.0.borrow_mut().insert(number, tunnel);
    Ok(KeydMessage::Tunnel { question: number })
}

fn way(live: &Live, identity: &Identity, authority: &Authority) -> Result<Way, Refusal> {
    let living = || {
        let agents = identity.agents().unwrap_or_default().iter().filter_map(|id| live.agent(*id));
        agents.filter(|agent| agent.revoked.is_none())
    };
    let mut grants = live.grants_naming(authority, now());
    if identity.agents().is_none() {
        let holders: Vec<u64> = grants.map(|grant| grant.agent).collect();
        if holders.iter().any(|id| !is_bound(live, *id)) {
            return Ok(Way::Intercept);
        }
        // Who proves to be somebody could go there.
        let somebody_may =
            !holders.is_empty() || live.contents().agents.iter().any(|agent| may_reach(agent, authority));
        return Err(if somebody_may { Refusal::AgentUnknown } else { why_not(live, identity, authority) });
    }
    if living().next().is_none() {
        return Err(Refusal::Revoked);
    }
    if grants.any(|grant| living().any(|agent| agent.id == grant.agent)) {
        return Ok(Way::Intercept);
    }
    // One user may be several agents, and a tunnel is somebody's.
    let mut reaching = living().filter(|agent| may_reach(agent, authority));
    match (reaching.next(), living().nth(1)) {
        (None, _) => Err(why_not(live, identity, authority)),
        (Some(_), Some(_)) => Err(Refusal::AgentUnknown),
        (Some(only), None) => Ok(Way::Tunnel(only.id)),
    }
}

/// A request that is no CONNECT is judged by itself also where all is lost that once allowed it.
fn without_tunnel(
    live: &Live,
    identity: &Identity,
    authority: &Authority,
    way: Result<Way, Refusal>,
) -> Result<Way, Refusal> {
    match way {
        Ok(Way::Intercept) | Err(Refusal::AgentUnknown) => way,
        _ if why_not(live, identity, authority) != Refusal::HostNotAllowed => Ok(Way::Judge),
        Ok(_) => Err(Refusal::HostNotAllowed),
        Err(refusal) => Err(refusal),
    }
}

/// Why there is no way: what allowed it last was taken away or has run out, or nothing ever did.
fn why_not(live: &Live, identity: &Identity, authority: &Authority) -> Refusal {
    let is_theirs = |grant: &&Grant| match identity.agents() {
        Some(agents) => agents.contains(&grant.agent),
        None => !is_bound(live, grant.agent),
    };
    match live.grants_ever_naming(authority).filter(is_theirs).max_by_key(|grant| grant.id) {
        None => Refusal::HostNotAllowed,
        Some(grant) if live.stands(grant) => Refusal::Expired,
        Some(_) => Refusal::Revoked,
    }
}

fn is_bound(live: &Live, agent: u64) -> bool {
    live.agent(agent).is_some_and(Agent::is_bound)
}

fn may_reach(agent: &Agent, authority: &Authority) -> bool {
    agent.revoked.is_none() && agent.removed.is_none() && agent.egress.iter().any(|host| host.matches(authority))
}

fn record(live: &Live, identity: &Identity, question: &Question, decision: Decision) -> Request {
    let agent = identity.only().and_then(|id| live.agent(id));
    Request {
        request_id: Some(question.request_id.clone()),
        agent: agent.map(|agent| agent.name.clone()),
        evidence: identity.agents().map(|_| identity.evidence()),
        credential: None,
        more_credentials: Vec::new(),
        // What other request it is was not said.
        method: question.may_be_tunnel.then(|| Method::CONNECT.to_string()),
        host: Some(question.authority.to_host_field()),
        path: None,
        decision,
        count: None,
    }
}

impl Tunnels {
    /// gatewayd says that it has ended, and how much went through: its word, for keyd sees none of it.
    pub fn end(&self, state: &State, number: u64, (bytes_in, bytes_out): (u64, u64), failure: Option<Refusal>) {
        let Some(tunnel) = self.0.borrow_mut().remove(&number) else { return };
        let failure = failure.or(tunnel.is_cut.then_some(Refusal::Revoked));
        state.logbook.keep(Record::Ended(Ended {
            request_id: tunnel.request_id,
            agent: Some(tunnel.agent),
            credential: None,
            more_credentials: Vec::new(),
            status: None,
            failure: failure.map(Failure::Refused),
            bytes_in,
            bytes_out,
            duration_ms: u64::try_from(tunnel.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            scrubbed: 0,
            usage: None,
        }));
    }

    fn stands(&self, number: u64) -> Result<(), Refusal> {
        let tunnels = self.0.borrow();
        if tunnels.get(&number).is_some_and(|tunnel| !tunnel.is_cut) { Ok(()) } else { Err(Refusal::Revoked) }
    }

    /// Numbers of the tunnels that nothing allows any more.
    pub fn to_cut(&self, live: Option<&Rc<Live>>) -> Vec<u64> {
        let stands = |tunnel: &Tunnel| {
            live.is_some_and(|live| {
                let identity = tunnel.session.identity(live);
                identity.is_ok_and(|identity| matches!(way(live, &identity, &tunnel.authority), Ok(Way::Tunnel(_))))
            })
        };
        let mut tunnels = self.0.borrow_mut();
        let fallen = tunnels.iter_mut().filter(|(_, tunnel)| !tunnel.is_cut && !stands(tunnel));
        fallen
            .map(|(number, tunnel)| {
                tunnel.is_cut = true;
                *number
            })
            .collect()
    }

    /// All that are left: gatewayd has gone, and how much went through is not known.
    pub fn end_all(&self, state: &State) {
        let numbers: Vec<u64> = self.0.borrow().keys().copied().collect();
        numbers.into_iter().for_each(|number| self.end(state, number, (0, 0), Some(Refusal::KeydUnavailable)));
    }
}

/// As many as gatewayd takes connections by default, and more.
const MOST_TUNNELS: usize = 4096;

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
