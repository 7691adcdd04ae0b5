//! What an agent's environment is made of, for admins and for the agent itself.
//!
//! An agent gets its own alone, and only where evidence that keyd checked names it, or a placeholder of its own that it
//! presents. Nothing in it is a key. It refuses to guess between two agents of one user. Called by `gateway.rs` and
//! `admin/`.

use strongroom_protocol::Refusal;
use strongroom_protocol::environment::{Environment, EnvironmentGrant, GRANTS_IN_A_PAGE};

use super::sessions::Sessions;
use crate::policy::identity::Identity;
use crate::policy::live::Live;
use crate::state::{State, now};
use crate::vault::contents::Agent;

/// A page of an agent's environment, with its token or without.
#[must_use]
pub fn page(live: &Live, agent: &Agent, with_token: bool, after: Option<u64>) -> Environment {
    let now = now();
    let mut grants = live.contents().grants.iter().filter(|grant| {
        grant.agent == agent.id
            && live.stands(grant)
            && grant.expires.is_none_or(|at| at > now)
            && after.is_none_or(|after| grant.id > after)
    });
    let items = grants.by_ref().take(GRANTS_IN_A_PAGE).filter_map(|grant| {
        let credential = live.credential(grant.credential)?;
        Some(EnvironmentGrant {
            number: grant.id,
            credential: credential.name.clone(),
            provider: credential.provider.clone(),
            route: credential.route.clone(),
            variables: Live::variables(credential),
            placeholder: grant.placeholder.clone(),
            named: grant.named,
        })
    });
    let items = items.collect();
    Environment {
        agent: agent.name.clone(),
        token: agent.token.clone().filter(|_| with_token),
        ca: live.contents().ca_keys.last().map(|key| key.certificate.clone()).unwrap_or_default(),
        grants: items,
        more: grants.next().is_some(),
    }
}

/// The agent's own question.
///
/// # Errors
/// `vault_locked`; `agent_unknown` where nothing that keyd checked names one agent; what its evidence says.
pub fn of_session(
    state: &State,
    sessions: &Sessions,
    session: u64,
    placeholder: Option<&str>,
    after: Option<u64>,
) -> Result<Environment, Refusal> {
    let live = state.live().ok_or(Refusal::VaultLocked)?;
    let session = sessions.get(session).ok_or(Refusal::AgentUnknown)?;
    let identity = session.identity(&live)?;
    let agent = asker(&live, &identity, placeholder)?;
    if agent.revoked.is_some() {
        return Err(Refusal::Revoked);
    }
    Ok(page(&live, agent, false, after))
}

fn asker<'a>(live: &'a Live, identity: &Identity, placeholder: Option<&str>) -> Result<&'a Agent, Refusal> {
    if let Some(text) = placeholder {
        let grant = live.grant_by_placeholder(text.as_bytes()).ok_or(Refusal::UnknownPlaceholder)?;
        let agent = live.agent(grant.agent).ok_or(Refusal::Revoked)?;
        identity.permits(agent)?;
        return if live.stands(grant) { Ok(agent) } else { Err(Refusal::Revoked) };
    }
    let agents = || identity.proved().iter().filter_map(|id| live.agent(*id));
    let mut living = agents().filter(|agent| agent.revoked.is_none());
    match (living.next(), living.next()) {
        (Some(only), None) => Ok(only),
        (None, _) if agents().next().is_some() => Err(Refusal::Revoked),
        _ => Err(Refusal::AgentUnknown),
    }
}
