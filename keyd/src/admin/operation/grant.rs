//! Grants: agent × credential, with limits, and the placeholder that stands for it.
//!
//! keyd makes the placeholder; it names the grant and not the value, so rotating changes nothing for the agent. One
//! live grant for each pair. Called by `dispatch`.

use std::rc::Rc;

use ring::rand::SystemRandom;
use strongroom_protocol::admin::{Failure, Field, GrantView, MOST_RULES, NewGrant, PAGE, Rate, Reply, Thing};
use strongroom_protocol::{Name, Refusal};

use super::{again, agent, credential, event, note, record, take_id};
use crate::audit::record::EventKind;
use crate::peer::Caller;
use crate::policy::live::Live;
use crate::policy::placeholder;
use crate::state::{Direction, State, now};
use crate::vault::contents::{Contents, Grant};

/// A page of grants, in the order in which they were made.
pub fn list(state: &State, after: Option<u64>) -> Result<Reply, Failure> {
    let live = state.live().ok_or(Failure::Locked)?;
    let mut rest = live.contents().grants.iter().filter(|grant| after.is_none_or(|after| grant.id > after));
    let items = rest.by_ref().take(PAGE).filter_map(|grant| view(&live, grant)).collect();
    Ok(Reply::Grants { items, more: rest.next().is_some() })
}

/// A new grant; the answer is its placeholder.
pub async fn add(state: &Rc<State>, caller: &Caller, new: NewGrant) -> Result<Reply, Failure> {
    let created = now();
    let rate = new.rate.unwrap_or(Rate::DEFAULT);
    if !rate.is_valid() {
        return Err(Failure::OutOfBounds(Field::Rate));
    }
    if new.allow.len() > MOST_RULES {
        return Err(Failure::OutOfBounds(Field::Rules));
    }
    if new.expires_in.is_some_and(|seconds| !(1..=LONGEST_EXPIRY).contains(&seconds)) {
        return Err(Failure::OutOfBounds(Field::Expiry));
    }
    parties(state.live().ok_or(Failure::Locked)?.contents(), &new)?;
    record(state, event(state, EventKind::GrantAdd, caller).of_grant(new.credential.clone(), new.agent.clone()))?;
    let placeholder = state
        .change(Direction::Widening, |contents| {
            let Parties { agent, prefix, credential, variable } = parties(contents, &new)?;
            let text = match &variable {
                Some(variable) if new.named => variable.clone(),
                _ => placeholder::make(&prefix, &SystemRandom::new()).map_err(|_| Failure::Internal)?,
            };
            let (id, changed) = (take_id(contents), contents.generation);
            contents.grants.push(Grant {
                id,
                changed,
                credential,
                agent,
                placeholder: text.clone(),
                rate,
                allow: new.allow.clone(),
                created,
                expires: new.expires_in.map(|seconds| created + seconds),
                revoked: None,
                named: new.named,
            });
            Ok(text)
        })
        .await?;
    Ok(Reply::Placeholder(placeholder))
}

/// Takes every grant of the pair away and cuts their exchanges.
pub async fn revoke(state: &Rc<State>, caller: &Caller, credential: &Name, agent: &Name) -> Result<(), Failure> {
    let at = now();
    let live = state.live().ok_or(Failure::Locked)?;
    let contents = live.contents();
    let agent_id =
        contents.agents.iter().find(|one| agent::is_called(one, agent)).ok_or(Failure::NoSuch(Thing::Agent))?.id;
    let credential_id = contents
        .credentials
        .iter()
        .find(|one| credential::is_called(one, credential))
        .ok_or(Failure::NoSuch(Thing::Credential))?
        .id;
    let of_both = |grant: &&Grant| grant.agent == agent_id && grant.credential == credential_id;
    // Not the newest alone: an expired one beside it would live again where the clock is set back.
    let grants: Vec<&Grant> = contents.grants.iter().filter(of_both).collect();
    if grants.is_empty() {
        return Err(Failure::NoSuch(Thing::Grant));
    }
    let ids: Vec<u64> = grants.iter().map(|grant| grant.id).collect();
    let cut = || state.running.cut(Refusal::Revoked, |exchange| ids.iter().any(|id| exchange.uses_grant(*id)));
    if grants.iter().all(|grant| grant.revoked.is_some()) {
        cut();
        return again(state).await;
    }
    note(state, event(state, EventKind::GrantRevoke, caller).of_grant(credential.clone(), agent.clone()));
    let written = state.change(Direction::Narrowing, |contents| {
        let changed = contents.generation;
        let is_of_them = |grant: &&mut Grant| ids.contains(&grant.id) && grant.revoked.is_none();
        for grant in contents.grants.iter_mut().filter(is_of_them) {
            grant.changed = changed;
            grant.revoked = Some(at);
        }
        Ok(())
    });
    let (outcome, ()) = tokio::join!(biased; written, async { cut() });
    outcome
}

/// Whose and of what a new grant is.
struct Parties {
    agent: u64,
    credential: u64,
    /// How the placeholder begins.
    prefix: String,
    /// Where programs expect the key.
    variable: Option<String>,
}

fn parties(contents: &Contents, new: &NewGrant) -> Result<Parties, Failure> {
    let credential = contents.credentials.iter().find(|one| credential::is_called(one, &new.credential));
    let credential = credential.ok_or(Failure::NoSuch(Thing::Credential))?;
    let agent =
        contents.agents.iter().find(|one| agent::is_called(one, &new.agent)).ok_or(Failure::NoSuch(Thing::Agent))?;
    if agent.revoked.is_some() {
        return Err(Failure::Revoked(Thing::Agent));
    }
    let standing = |grant: &Grant| {
        grant.agent == agent.id
            && grant.credential == credential.id
            && grant.revoked.is_none()
            && grant.expires.is_none_or(|at| at > now())
    };
    if contents.grants.iter().any(standing) {
        return Err(Failure::Exists(Thing::Grant));
    }
    let (prefix, variable) = (credential.key_prefix.clone(), Live::variables(credential).into_iter().next());
    Ok(Parties { agent: agent.id, credential: credential.id, prefix, variable })
}

fn view(live: &Live, grant: &Grant) -> Option<GrantView> {
    let (agent, credential) = (live.agent(grant.agent)?, live.credential(grant.credential)?);
    Some(GrantView {
        number: grant.id,
        credential: credential.name.clone(),
        agent: agent.name.clone(),
        placeholder: grant.placeholder.clone(),
        rate: grant.rate,
        allow: grant.allow.clone(),
        created: grant.created,
        expires: grant.expires,
        named: grant.named,
        revoked: [grant.revoked, agent.revoked, agent.removed, credential.removed].into_iter().flatten().min(),
        removed: agent.removed.is_some() || credential.removed.is_some(),
    })
}

/// A hundred years, in seconds.
const LONGEST_EXPIRY: u64 = 100 * 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::state::fixture::{ADMIN, Fixture, new_grant};

    #[tokio::test(flavor = "current_thread")]
    async fn an_expired_grant_goes_with_the_newer_one_of_its_pair() {
        let fixture = Fixture::unlocked();
        let (state, credential, agent) = (&fixture.state, "openai".parse().unwrap(), "coder".parse().unwrap());
        let of_the_agent = |state: &State| {
            let live = state.live().unwrap();
            let of_it = live.contents().grants.iter().filter(|grant| grant.agent == 3);
            of_it.map(|grant| (grant.id, grant.revoked.is_some())).collect::<Vec<_>>()
        };
        fixture
            .run(async {
                add(state, &ADMIN, new_grant("coder")).await.unwrap();
                assert_eq!(of_the_agent(state), [(5, false), (7, false)]);
                revoke(state, &ADMIN, &credential, &agent).await.unwrap();
                assert_eq!(of_the_agent(state), [(5, true), (7, true)]);
                let generation = state.live().unwrap().contents().generation;
                revoke(state, &ADMIN, &credential, &agent).await.unwrap();
                assert_eq!(state.live().unwrap().contents().generation, generation, "done is done");
                assert!(state.live().unwrap().contents().grants.iter().any(|grant| grant.revoked.is_none()));
            })
            .await;
    }
}
