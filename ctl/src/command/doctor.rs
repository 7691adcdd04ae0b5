//! `doctor`: what protects the daemons, what is missing, and what to do about it.
//!
//! Both daemons say what they tried from inside; this command adds what can be seen from outside, for a daemon's word
//! about itself is only its word. Exit code 1 where something failed; user mode, no systemd and an older kernel are
//! warnings.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use strongroom_protocol::admin::{Operation, Reply, Status};
use strongroom_protocol::home::Kind;
use strongroom_protocol::{Check, CheckState};

use super::Context;
use crate::admin_client::unexpected;
use crate::error::{FAILED, Outcome};
use crate::output;

pub fn run(context: &Context, as_json: bool) -> Outcome<u8> {
    let mut client = context.connect()?;
    let status = client.status()?;
    let Reply::Checks { keyd, gatewayd } = client.ask(Operation::Doctor)? else { return Err(unexpected()) };
    let mut all: Vec<(&str, Check)> = outside(context, &status).into_iter().map(|check| ("set-up", check)).collect();
    all.extend(keyd.into_iter().map(|check| ("keyd", check)));
    match gatewayd {
        Some(checks) => all.extend(checks.into_iter().map(|check| ("gatewayd", check))),
        None => all.push((
            "gatewayd",
            Check::failed(
                "connection",
                "gatewayd is not connected.",
                "Run 'strongroom down' and 'strongroom up', or start strongroom-gatewayd.service.",
            ),
        )),
    }
    let failed = all.iter().any(|(_, check)| check.state == CheckState::Failed);
    if as_json {
        let checks = all.iter().map(|(who, check)| json!({ "of": who, "name": check.name, "state": check.state, "detail": check.detail, "remedy": check.remedy }));
        output::json(&checks.collect())?;
    } else {
        let rows = all.iter().map(|(who, check)| {
            let says = if check.remedy.is_empty() {
                check.detail.clone()
            } else {
                format!("{} {}", check.detail, check.remedy)
            };
            vec![word(check.state).to_owned(), (*who).to_owned(), check.name.clone(), says]
        });
        output::table(&["state", "of", "what", "says"], rows.collect())?;
    }
    Ok(if failed { FAILED } else { 0 })
}

fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Ok => "ok",
        CheckState::Warning => "warning",
        CheckState::Failed => "failed",
    }
}

fn outside(context: &Context, status: &Status) -> Vec<Check> {
    let home = &context.home;
    let mut checks = vec![private("data-directory", &home.data, 0o700), private("vault-file", &home.vault(), 0o600)];
    checks.extend(seen("keyd-from-outside", status.keyd_pid));
    checks.extend(status.gatewayd_pid.and_then(|pid| seen("gatewayd-from-outside", pid)));
    checks.push(mode(status));
    if home.kind != Kind::System || !Path::new("/run/systemd/system").exists() {
        checks.push(Check::warning(
            "systemd",
            "the daemons run without systemd's outer layer.",
            "Install the units for a system installation where keys of value are kept.",
        ));
    }
    checks
}

/// A path that nobody else may open.
fn private(name: &str, path: &Path, mode: u32) -> Check {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.mode() & 0o777 & !mode == 0 => {
            Check::ok(name, format!("{} has mode {:o}.", path.display(), metadata.mode() & 0o777))
        }
        Ok(metadata) => Check::failed(
            name,
            format!("{} has mode {:o}.", path.display(), metadata.mode() & 0o777),
            format!("Run 'chmod {mode:o}' on it."),
        ),
        // An admin who is not keyd's user cannot look into its directory, which is as it should be.
        Err(error) => {
            Check::warning(name, format!("{} could not be looked at: {error}.", path.display()), "Run doctor as root.")
        }
    }
}

/// What the kernel says of a process, where it says anything.
fn seen(name: &str, pid: u32) -> Option<Check> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field =
        |wanted: &str| text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':')).map(str::trim);
    let found =
        format!("NoNewPrivs {}, Seccomp {}, CapEff {}.", field("NoNewPrivs")?, field("Seccomp")?, field("CapEff")?);
    let holds = field("NoNewPrivs") == Some("1")
        && field("Seccomp") == Some("2")
        && field("CapEff").is_some_and(|set| set.bytes().all(|byte| byte == b'0'));
    Some(if holds {
        Check::ok(name, found)
    } else {
        Check::failed(name, found, "Restart the daemons, and report it where it stays.")
    })
}

fn mode(status: &Status) -> Check {
    let owner = |pid: u32| fs::metadata(format!("/proc/{pid}")).ok().and_then(|_| real_uid(pid));
    match (owner(status.keyd_pid), status.gatewayd_pid.and_then(owner)) {
        (Some(keyd), Some(gatewayd)) if keyd != gatewayd => {
            Check::ok("users", format!("keyd runs as uid {keyd}, gatewayd as uid {gatewayd}."))
        }
        (Some(keyd), Some(_)) => Check::warning(
            "users",
            format!(
                "user mode: both daemons run as uid {keyd}, which protects from mistakes and leaks, not from a hostile program of that user."
            ),
            "Install the package, or name two users to 'strongroom up' as root.",
        ),
        _ => Check::warning("users", "the daemons' users could not be seen.", "Run doctor as root."),
    }
}

fn real_uid(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}
