//! `status`: how things are, for people and as JSON. Answers too when nothing runs; the exit code is 69 then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_protocol::admin::{Failure, Mismatch, Status, VaultFault, VaultState};
use strongroom_protocol::home::{Home, Kind};

use super::{Context, backup_is_left, down};
use crate::config_values;
use crate::environment::gateway_client::GatewayClient;
use crate::error::{CtlError, Outcome, UNREACHABLE};
use crate::{directories, output, systemd};

pub fn run(context: &Context, as_json: bool) -> Outcome<u8> {
    let status = match context.connect().and_then(|mut client| client.status()) {
        Ok(status) => Some(status),
        Err(error) if error.code() == UNREACHABLE => None,
        Err(error) => return Err(error),
    };
    if as_json {
        output::json(&to_json(context, status.as_ref()))?;
    } else {
        output::table(&["what", "how"], rows(context, status.as_ref()))?;
    }
    if status.is_some() {
        return Ok(0);
    }
    let home = &context.home;
    if let Some(words) = backup_is_left(home) {
        output::note(&format!("keyd does not answer, and {words}"));
    } else if home.vault().exists() || home.kind == Kind::System {
        output::note(&format!("keyd does not answer. {}", systemd::how_to_start(home)));
    } else {
        output::note("There is no vault yet, and keyd does not answer. Run 'strongroom init'.");
    }
    Ok(UNREACHABLE)
}

fn to_json(context: &Context, status: Option<&Status>) -> Value {
    let home = &context.home;
    let pid = |pid: Option<u32>| pid.map(|pid| json!({ "pid": pid }));
    json!({
        "state": word(status),
        "keyd": pid(status.map(|status| status.keyd_pid)),
        "gatewayd": pid(gatewayd(context, status)),
        "version": status.map(|status| &status.version),
        "generation": status.and_then(|status| status.generation),
        "exchanges": status.map(|status| status.exchanges),
        "audit_broken": status.map(|status| status.audit_broken),
        "vault_fault": fault(status),
        "mismatches": status.map(|status| status.mismatches.iter().map(mismatch_to_json).collect::<Vec<_>>()),
        "listen": listen(context, status),
        "home": {
            "config": output::path(&home.config),
            "data": output::path(&home.data),
            "run": output::path(&home.run),
            "log": log_files(home, status).as_deref().map(output::path),
        },
    })
}

/// Why the file cannot be used; it is as good as locked then.
fn fault(status: Option<&Status>) -> Option<VaultFault> {
    status.and_then(|status| match status.state {
        VaultState::Unusable(fault) => Some(fault),
        _ => None,
    })
}

fn rows(context: &Context, status: Option<&Status>) -> Vec<Vec<String>> {
    let home = &context.home;
    let pid = |pid: Option<u32>| pid.map_or_else(|| "not connected".to_owned(), |pid| format!("running, pid {pid}"));
    let fault = fault(status).map(|fault| format!(": {}", CtlError::from(Failure::Vault(fault))));
    let mut rows = vec![("vault", word(status).to_owned() + &fault.unwrap_or_default())];
    if let Some(status) = status {
        rows.push(("keyd", pid(Some(status.keyd_pid))));
        rows.push(("gatewayd", pid(gatewayd(context, Some(status)))));
        rows.push(("exchanges", status.exchanges.to_string()));
        rows.push((
            "audit log",
            if status.audit_broken {
                "CANNOT BE WRITTEN: uses are refused".to_owned()
            } else {
                "is written".to_owned()
            },
        ));
        rows.extend(status.mismatches.iter().map(|one| ("MISMATCH", mismatch(one))));
    }
    rows.push(("listens at", listen(context, status).join(", ")));
    rows.push(("configuration", home.config.display().to_string()));
    rows.push(("data", home.data.display().to_string()));
    rows.push(("sockets", home.run.display().to_string()));
    let journal = || {
        let whose = if home.kind == Kind::System { "" } else { " --user" };
        format!("the journal: journalctl{whose} -u strongroom-keyd -u strongroom-gatewayd")
    };
    rows.push(("logs", log_files(home, status).map_or_else(journal, |path| path.display().to_string())));
    rows.into_iter().map(|(what, how)| vec![what.to_owned(), how]).collect()
}

fn mismatch_to_json(one: &Mismatch) -> Value {
    json!({ "agent": one.agent, "by": one.by, "count": one.count, "last": output::time(one.last) })
}

/// A placeholder in the wrong hands: stolen, or given to the wrong program.
fn mismatch(one: &Mismatch) -> String {
    let by = one.by.as_ref().map_or_else(|| "somebody else".to_owned(), |by| format!("the agent {by}"));
    let times = if one.count == 1 { "once".to_owned() } else { format!("{} times", one.count) };
    format!("a placeholder of {} came from {by}, {times}, last {}", one.agent, output::time(one.last))
}

/// gatewayd's process: by keyd's word; where keyd does not answer, by `up`'s note.
fn gatewayd(context: &Context, status: Option<&Status>) -> Option<u32> {
    match status {
        Some(status) => status.gatewayd_pid,
        None => down::noted(&context.home, "strongroom-gatewayd"),
    }
}

/// Where gatewayd listens: by its own word, for a port may have been left to the kernel; else by its configuration.
fn listen(context: &Context, status: Option<&Status>) -> Vec<String> {
    let running = gatewayd(context, status).is_some();
    let told = running.then(|| GatewayClient::new(&context.home).within(PATIENCE).listen().ok()).flatten();
    told.unwrap_or_else(|| config_values::listen(&context.home))
}

/// The directory of the logs, where they do not go to the journal: what counts is who started keyd, not where it lies.
fn log_files(home: &Home, status: Option<&Status>) -> Option<PathBuf> {
    let by_systemd = match status {
        Some(status) => systemd::is_keyd(status.keyd_pid),
        None => home.kind == Kind::System && Path::new("/run/systemd/system").exists(),
    };
    (!by_systemd).then(|| directories::logs(home))
}

/// The state's name, by contract.
fn word(status: Option<&Status>) -> &'static str {
    match status.map(|status| status.state) {
        None => "unreachable",
        Some(VaultState::Locked) => "locked",
        Some(VaultState::Unlocked) => "unlocked",
        Some(VaultState::Uninitialised) => "uninitialised",
        // There is a file, and it stays shut; `vault_fault` says why.
        Some(VaultState::Unusable(_)) => "locked",
    }
}

/// A gatewayd that hangs must not hide how things are.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_says_whose_it_was_and_who_had_it() {
        let one = Mismatch {
            agent: "coder".parse().unwrap(),
            by: Some("other".parse().unwrap()),
            count: 3,
            last: 1_700_000_000,
        };
        assert_eq!(
            mismatch(&one),
            "a placeholder of coder came from the agent other, 3 times, last 2023-11-14T22:13:20Z"
        );
        assert_eq!(
            mismatch_to_json(&one),
            json!({ "agent": "coder", "by": "other", "count": 3, "last": "2023-11-14T22:13:20Z" })
        );
        let nobody = mismatch(&Mismatch { by: None, count: 1, ..one });
        assert!(nobody.contains("from somebody else, once,"), "{nobody}");
    }
}
