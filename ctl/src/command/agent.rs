//! `agent ...`: who may use credentials.

use serde_json::{Value, json};
use strongroom_protocol::Name;
use strongroom_protocol::admin::{AgentView, Operation, Reply};

use super::{Context, grant, only};
use crate::admin_client::unexpected;
use crate::args::Agent;
use crate::error::Outcome;
use crate::output;

pub fn run(context: &Context, command: Agent) -> Outcome<()> {
    let mut client = context.connect()?;
    match command {
        Agent::Add { name } => context.widen(&mut client, Operation::AgentAdd { name }).map(drop),
        Agent::Revoke { name } => client.ask(Operation::AgentRevoke { name }).map(drop),
        Agent::Remove { name } => {
            context.confirm(&format!("Revoke the agent {name} and take it off the list?"))?;
            client.ask(Operation::AgentRemove { name }).map(drop)
        }
        Agent::List(json) => list(context, json.json),
        Agent::Show { name, json } => show(context, name, json.json),
    }
}

fn list(context: &Context, as_json: bool) -> Outcome<()> {
    let mut client = context.connect()?;
    let mut agents: Vec<AgentView> = Vec::new();
    loop {
        let after = agents.last().map(|last| last.name.clone());
        let Reply::Agents { items, more } = client.ask(Operation::AgentList { after })? else {
            return Err(unexpected());
        };
        let progress = !items.is_empty();
        agents.extend(items);
        if !more || !progress {
            break;
        }
    }
    if as_json {
        return output::json(&agents.iter().map(to_json).collect());
    }
    let rows = agents.iter().map(|one| {
        let state = one.revoked.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", output::time(at)));
        vec![one.name.to_string(), state, one.grants.to_string(), output::time(one.created)]
    });
    output::table(&["name", "state", "grants", "created"], rows.collect())
}

fn show(context: &Context, name: Name, as_json: bool) -> Outcome<()> {
    let mut client = context.connect()?;
    let Reply::Agents { items, .. } = client.ask(Operation::AgentShow { name })? else { return Err(unexpected()) };
    let agent = only(items)?;
    let grants: Vec<_> = grant::all(&mut client)?.into_iter().filter(|grant| grant.agent == agent.name).collect();
    if as_json {
        let mut value = to_json(&agent);
        value["grants"] = grants.iter().map(grant::to_json).collect();
        return output::json(&value);
    }
    let state = agent.revoked.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", output::time(at)));
    output::line(&format!("{}\t{state}\tcreated {}", agent.name, output::time(agent.created)))?;
    grant::print(&grants)
}

fn to_json(one: &AgentView) -> Value {
    json!({
        "name": one.name,
        "created": output::time(one.created),
        "revoked": one.revoked.map(output::time),
        "live_grants": one.grants,
    })
}
