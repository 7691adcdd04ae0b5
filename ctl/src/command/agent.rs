//! `agent ...`: who may use credentials.

use serde_json::{Value, json};
use strongroom_protocol::admin::{AgentView, GrantView, Operation, Reply};
use strongroom_protocol::{HostPattern, Name};

use super::{Context, grant, only};
use crate::admin_client::{AdminClient, unexpected};
use crate::args::{Agent, AgentAdd, Egress};
use crate::error::{CtlError, Outcome};
use crate::{output, profiles, public_suffix, users};

pub fn run(context: &Context, command: Agent) -> Outcome<()> {
    match command {
        Agent::Add(add) => self::add(context, add),
        Agent::Allow(egress) => allow(context, egress),
        Agent::Disallow(egress) => {
            let hosts = hosts(&egress)?;
            if hosts.is_empty() {
                return Ok(());
            }
            disallow(context, egress.name, hosts)
        }
        Agent::Revoke { name } => context.connect()?.ask(Operation::AgentRevoke { name }).map(drop),
        Agent::Remove { name } => {
            let mut client = context.connect()?;
            let question = format!("Revoke the agent {name} and take it off the list?");
            context.confirm_taking(&mut client, Operation::AgentShow { name: name.clone() }, &question)?;
            client.ask(Operation::AgentRemove { name }).map(drop)
        }
        Agent::List(json) => list(context, json.json),
        Agent::Show { name, json } => show(context, name, json.json),
    }
}

/// All that are there are taken away; for a host that is not, the command has failed: it may be a typing error, and the
/// one that was meant is still allowed.
fn disallow(context: &Context, name: Name, hosts: Vec<HostPattern>) -> Outcome<()> {
    let mut client = context.connect()?;
    let shown = client.ask(Operation::AgentShow { name: name.clone() })?;
    let Reply::Agents { items, .. } = shown else { return Err(unexpected()) };
    let is_allowed = |host: &HostPattern| items.iter().any(|agent| agent.egress.contains(host));
    let (hosts, missing): (Vec<_>, Vec<_>) = hosts.into_iter().partition(is_allowed);
    if !hosts.is_empty() {
        client.ask(Operation::AgentDisallow { name: name.clone(), hosts })?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(CtlError::failed(format!(
        "{name} was not allowed {}, so nothing of it was taken away. 'strongroom agent show {name}' lists its hosts.",
        missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )))
}

fn add(context: &Context, add: AgentAdd) -> Outcome<()> {
    // What is wrong in the command line is said before anything is asked for.
    let uids: Vec<u32> = add.uids.iter().map(|user| users::uid_of(user)).collect::<Outcome<_>>()?;
    let mut client = context.connect()?;
    let operation =
        Operation::AgentAdd { name: add.name.clone(), uids: uids.clone(), unit: add.unit, token: add.token };
    let reply = context.widen(&mut client, operation)?;
    match reply {
        Reply::Token(token) if add.token => output::line(&token)?,
        Reply::Done if !add.token => {}
        _ => return Err(unexpected()),
    }
    // The agent is there, whatever becomes of this look.
    let agents = if uids.is_empty() { Vec::new() } else { all(&mut client).unwrap_or_default() };
    shared_uids(&add.name, &uids, &agents).iter().for_each(|words| output::note(words));
    Ok(())
}

/// A warning for each of the new agent's users that other agents have too. One that was revoked is itself still.
fn shared_uids(name: &Name, uids: &[u32], agents: &[AgentView]) -> Vec<String> {
    let others = |uid: &u32| {
        let others = agents.iter().filter(|one| one.name != *name && one.uids.contains(uid));
        others.map(|one| one.name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let shared = uids.iter().map(|uid| (uid, others(uid))).filter(|(_, others)| !others.is_empty());
    shared
        .map(|(uid, others)| {
            format!(
                "Warning: uid {uid} is bound to other agents too ({others}). Agents with this uid are told apart by their placeholders, tokens or units alone."
            )
        })
        .collect()
}

fn allow(context: &Context, egress: Egress) -> Outcome<()> {
    let hosts = hosts(&egress)?;
    hosts.iter().try_for_each(public_suffix::check)?;
    if hosts.is_empty() {
        output::note("There is nothing to allow: with its provider's host alone the tool works.");
        return Ok(());
    }
    let operation = Operation::AgentAllow { name: egress.name, hosts };
    context.widen(&mut context.connect()?, operation).map(drop)
}

/// Those that are named and those of the profiles, each once: two tools may need the same.
fn hosts(egress: &Egress) -> Outcome<Vec<HostPattern>> {
    let mut hosts: Vec<HostPattern> = Vec::new();
    let mut add = |host: &HostPattern| {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    };
    egress.hosts.iter().for_each(&mut add);
    for profile in &egress.profiles {
        profiles::find(profile)?.hosts.iter().for_each(&mut add);
    }
    Ok(hosts)
}

/// Every agent, page by page.
fn all(client: &mut AdminClient) -> Outcome<Vec<AgentView>> {
    let mut all: Vec<AgentView> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.clone());
        let Reply::Agents { items, more } = client.ask(Operation::AgentList { after })? else {
            return Err(unexpected());
        };
        let progress = !items.is_empty();
        all.extend(items);
        if !more || !progress {
            return Ok(all);
        }
    }
}

fn list(context: &Context, as_json: bool) -> Outcome<()> {
    let agents = all(&mut context.connect()?)?;
    if as_json {
        return output::json(&agents.iter().map(to_json).collect());
    }
    let rows = agents.iter().map(|one| {
        let state = one.revoked.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", output::time(at)));
        let allowed = words(one.egress.iter().map(ToString::to_string));
        vec![one.name.to_string(), state, one.grants.to_string(), evidence(one), allowed, output::time(one.created)]
    });
    output::table(&["name", "state", "grants", "known by", "may reach", "created"], rows.collect())
}

fn show(context: &Context, name: Name, as_json: bool) -> Outcome<()> {
    let mut client = context.connect()?;
    let Reply::Agents { items, .. } = client.ask(Operation::AgentShow { name })? else { return Err(unexpected()) };
    let agent = only(items)?;
    // Not those of a removed one that had the name before.
    let is_its = |grant: &GrantView| grant.agent == agent.name && !grant.removed;
    let grants: Vec<_> = grant::all(&mut client)?.into_iter().filter(is_its).collect();
    if as_json {
        let mut value = to_json(&agent);
        value["grants"] = grants.iter().map(grant::to_json).collect();
        return output::json(&value);
    }
    let state = agent.revoked.map_or_else(|| "live".to_owned(), |at| format!("revoked {}", output::time(at)));
    output::line(&format!("{}\t{state}\tcreated {}", agent.name, output::time(agent.created)))?;
    output::line(&format!("known by\t{}", evidence(&agent)))?;
    output::line(&format!("may reach\t{}", words(agent.egress.iter().map(ToString::to_string))))?;
    grant::print(&grants)
}

fn to_json(one: &AgentView) -> Value {
    json!({
        "name": one.name,
        "created": output::time(one.created),
        "revoked": one.revoked.map(output::time),
        "live_grants": one.grants,
        "uids": one.uids,
        "unit": one.unit,
        "token": one.token,
        "allowed_hosts": one.egress.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// What proves that a program is this agent; its placeholders do where nothing else is bound.
fn evidence(one: &AgentView) -> String {
    let uids = one.uids.iter().map(|uid| format!("uid {uid}"));
    let unit = one.unit.iter().map(|unit| format!("unit {unit}"));
    let token = one.token.then(|| "token".to_owned());
    let all: Vec<String> = uids.chain(unit).chain(token).collect();
    if all.is_empty() { "its placeholders".to_owned() } else { all.join(", ") }
}

fn words(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn egress(line: &[&str]) -> Outcome<Vec<String>> {
        let line = ["strongroom", "agent", "allow", "a"].iter().chain(line);
        let Command::Agent(Agent::Allow(egress)) = Args::try_parse_from(line).unwrap().command else {
            panic!("another command")
        };
        Ok(hosts(&egress)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn hosts_and_profiles_are_joined_and_each_is_named_once() {
        let both = egress(&["pypi.org", "a.example:8443", "pypi.org", "--profile", "pip", "--profile", "pip"]).unwrap();
        assert_eq!(both, ["pypi.org", "a.example:8443", "files.pythonhosted.org"]);
        assert_eq!(egress(&["--profile", "no-such-tool"]).unwrap_err().code(), 1);
    }

    #[test]
    fn evidence_is_said_in_words_and_in_json() {
        let bare = AgentView {
            name: "a".parse().unwrap(),
            created: 0,
            revoked: None,
            grants: 0,
            uids: vec![],
            unit: None,
            token: false,
            egress: vec![],
        };
        assert_eq!(evidence(&bare), "its placeholders");
        assert_eq!(to_json(&bare)["unit"], Value::Null);
        let bound = AgentView {
            uids: vec![1000, 1001],
            unit: Some("a.service".to_owned()),
            token: true,
            egress: vec!["*.b.example".parse().unwrap()],
            ..bare
        };
        assert_eq!(evidence(&bound), "uid 1000, uid 1001, unit a.service, token");
        let value = to_json(&bound);
        assert_eq!(
            (&value["uids"], &value["token"], &value["allowed_hosts"]),
            (&json!([1000, 1001]), &json!(true), &json!(["*.b.example"]))
        );
    }
}
