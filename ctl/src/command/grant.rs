//! `grant ...`: which agent may use which credential, with limits. `add` prints the placeholder, alone.

use serde_json::{Value, json};
use strongroom_protocol::admin::{Failure, GrantView, NewGrant, Operation, Rate, Reply, Thing};

use super::Context;
use crate::admin_client::{AdminClient, unexpected};
use crate::args::{Grant, GrantAdd, Placeholder};
use crate::error::Outcome;
use crate::output;

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
            grants.retain(|grant| grant.credential == credential && grant.agent == agent);
            // Of several, the newest: the others were revoked or have expired.
            let newest = grants.pop().ok_or(Failure::NoSuch(Thing::Grant))?;
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
    let rows = grants.iter().map(|one| {
        let state = match (one.revoked, one.expires) {
            (Some(at), _) => format!("revoked {}", output::time(at)),
            (None, Some(at)) => format!("until {}", output::time(at)),
            (None, None) => "live".to_owned(),
        };
        let allow: Vec<String> = one.allow.iter().map(ToString::to_string).collect();
        vec![
            one.credential.to_string(),
            one.agent.to_string(),
            state,
            format!("{}/{}s, burst {}", one.rate.count, one.rate.seconds, one.rate.burst),
            if allow.is_empty() { "all requests".to_owned() } else { allow.join(", ") },
            one.placeholder.clone(),
        ]
    });
    output::table(&["credential", "agent", "state", "rate", "allows", "placeholder"], rows.collect())
}

/// As JSON.
pub fn to_json(one: &GrantView) -> Value {
    json!({
        "credential": one.credential,
        "agent": one.agent,
        "placeholder": one.placeholder,
        "named": one.named,
        "rate": { "count": one.rate.count, "seconds": one.rate.seconds, "burst": one.rate.burst },
        "allow": one.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "created": output::time(one.created),
        "expires": one.expires.map(output::time),
        "revoked": one.revoked.map(output::time),
    })
}
