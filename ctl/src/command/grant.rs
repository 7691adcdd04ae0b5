//! `grant ...`: which agent may use which credential, with limits. `add` prints the placeholder, alone.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use strongroom_protocol::admin::{Failure, GrantView, NewGrant, Operation, Rate, Reply, Thing};

use super::Context;
use crate::admin_client::{AdminClient, unexpected};
use crate::args::{Grant, GrantAdd, Placeholder};
use crate::error::Outcome;
use crate::{failure, output, quantity};

pub fn run(context: &Context, command: Grant) -> Outcome<()> {
    let mut client = context.connect()?;
    match command {
        Grant::Add(add) => {
            let new = described(add);
            let Reply::Placeholder(text) = context.widen(&mut client, Operation::GrantAdd(new))? else {
                return Err(unexpected());
            };
            output::line(&text)
        }
        Grant::Revoke { credential, agent } => client.ask(Operation::GrantRevoke { credential, agent }).map(drop),
        Grant::Show { credential, agent, json } => {
            let mut grants = all(&mut client)?;
            // Not those of a removed agent or credential that had the name before.
            grants.retain(|grant| grant.credential == credential && grant.agent == agent && !grant.removed);
            // Of several, the newest: the others were revoked or have expired.
            let newest = grants.pop().ok_or_else(|| {
                let missing = Failure::NoSuch(Thing::Grant);
                failure::about(missing, &Operation::GrantRevoke { credential, agent })
            })?;
            if json.json { output::json(&to_json(&newest)) } else { print(&[newest]) }
        }
        Grant::List(json) => {
            let grants = all(&mut client)?;
            if json.json { output::json(&grants.iter().map(to_json).collect()) } else { print(&grants) }
        }
    }
}

fn described(add: GrantAdd) -> NewGrant {
    let rate = match (add.rate, add.burst) {
        (rate, None) => rate,
        (rate, Some(burst)) => Some(Rate { burst, ..rate.unwrap_or(Rate::DEFAULT) }),
    };
    let expires_in = add.expires.map(|duration| duration.as_secs());
    let named = add.placeholder == Placeholder::Named;
    NewGrant { credential: add.credential, agent: add.agent, rate, allow: add.allow, expires_in, named }
}

/// Every grant, page by page.
pub fn all(client: &mut AdminClient) -> Outcome<Vec<GrantView>> {
    let mut all: Vec<GrantView> = Vec::new();
    loop {
        let after = all.last().map(|last| last.number);
        let Reply::Grants { items, more } = client.ask(Operation::GrantList { after })? else {
            return Err(unexpected());
        };
        let progress = !items.is_empty();
        all.extend(items);
        if !more || !progress {
            return Ok(all);
        }
    }
}

/// As a table.
pub fn print(grants: &[GrantView]) -> Outcome<()> {
    output::table(&["credential", "agent", "state", "rate", "allows", "placeholder"], rows(grants, now()))
}

fn rows(grants: &[GrantView], now: u64) -> Vec<Vec<String>> {
    let rows = grants.iter().map(|one| {
        let state = match state(one, now) {
            ("live", Some(at)) => format!("until {}", output::time(at)),
            (word, Some(at)) => format!("{word} {}", output::time(at)),
            (word, None) => word.to_owned(),
        };
        let allow: Vec<String> = one.allow.iter().map(ToString::to_string).collect();
        vec![
            one.credential.to_string(),
            one.agent.to_string(),
            state,
            format!("{}, burst {}", quantity::per(one.rate), one.rate.burst),
            if allow.is_empty() { "all requests".to_owned() } else { allow.join(", ") },
            one.placeholder.clone(),
        ]
    });
    rows.collect()
}

/// The word for how it stands, and when it ended or will end.
fn state(one: &GrantView, now: u64) -> (&'static str, Option<u64>) {
    match (one.revoked, one.expires) {
        (Some(at), _) => ("revoked", Some(at)),
        (None, Some(at)) if at <= now => ("expired", Some(at)),
        (None, at) => ("live", at),
    }
}

/// Seconds of the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// As JSON.
pub fn to_json(one: &GrantView) -> Value {
    json!({
        "credential": one.credential,
        "agent": one.agent,
        "placeholder": one.placeholder,
        "named": one.named,
        "state": state(one, now()).0,
        "rate": { "count": one.rate.count, "seconds": one.rate.seconds, "burst": one.rate.burst },
        "allow": one.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created": output::time(one.created),
        "expires": one.expires.map(output::time),
        "revoked": one.revoked.map(output::time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_has_ended_does_not_look_live() {
        let live = GrantView {
            number: 1,
            credential: "c".parse().unwrap(),
            agent: "a".parse().unwrap(),
            placeholder: "p".to_owned(),
            rate: Rate::DEFAULT,
            allow: vec![],
            created: 0,
            expires: None,
            revoked: None,
            named: false,
            removed: false,
        };
        let far = GrantView { expires: Some(u64::from(u32::MAX)), ..live.clone() };
        let ended = GrantView { expires: Some(1_700_000_000), ..live.clone() };
        let revoked = GrantView { revoked: Some(0), ..ended.clone() };
        let shown = |one: &GrantView| rows(std::slice::from_ref(one), 1_700_000_000).remove(0).remove(2);
        assert_eq!([shown(&live), shown(&far)], ["live", "until 2106-02-07T06:28:15Z"]);
        assert_eq!([shown(&ended), shown(&revoked)], ["expired 2023-11-14T22:13:20Z", "revoked 1970-01-01T00:00:00Z"]);
        let words = [&live, &far, &ended, &revoked].map(|one| to_json(one)["state"].clone());
        assert_eq!(words, ["live", "live", "expired", "revoked"]);
    }
}
