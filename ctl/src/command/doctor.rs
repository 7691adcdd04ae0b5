//! `doctor`: what protects the daemons, what is missing, and what to do about it.
//!
//! Both daemons say what they tried from inside; this command adds what can be seen from outside, for a daemon's word
//! about itself is only its word. Exit code 1 where something failed, 69 where keyd does not answer; user mode, no
//! systemd and an older kernel are warnings. It refuses to change anything. Called by `main`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use strongroom_protocol::admin::{Operation, Reply, Status};
use strongroom_protocol::home::Kind;
use strongroom_protocol::{Check, CheckState};

use super::{Context, backup_is_left, config};
use crate::admin_client::{AdminClient, unexpected};
use crate::error::{FAILED, Outcome, UNREACHABLE};
use crate::ownership::{self, Fault};
use crate::{output, systemd, users};

pub fn run(context: &Context, as_json: bool) -> Outcome<u8> {
    let mut all: Vec<(&str, Check)> = set_up(context).into_iter().map(|check| ("set-up", check)).collect();
    let unreachable = match context.connect().map(inside) {
        Ok(Ok((status, keyd, gatewayd))) => {
            all.extend(outside(&status).into_iter().map(|check| ("set-up", check)));
            all.extend(keyd.into_iter().map(|check| ("keyd", check)));
            let missing = || {
                let start = systemd::how_to_start_gatewayd(&context.home);
                vec![Check::failed("connection", "gatewayd is not connected.", start)]
            };
            all.extend(gatewayd.unwrap_or_else(missing).into_iter().map(|check| ("gatewayd", check)));
            false
        }
        // What can be seen without the daemons is shown all the same: it may say why they do not run.
        Err(error) if error.code() == UNREACHABLE => {
            let start = systemd::how_to_start(&context.home);
            all.push(("keyd", Check::failed("connection", "keyd does not answer.", start)));
            true
        }
        // systemd holds the socket of a keyd that does not start, and a keyd may hang.
        Ok(Err(error)) if error.code() == UNREACHABLE => {
            all.push(("keyd", Check::failed("connection", error.to_string(), "")));
            true
        }
        Ok(Err(error)) | Err(error) => return Err(error),
    };
    if unreachable {
        all.extend(settings(context));
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
                let stop = if check.detail.ends_with('.') { "" } else { "." };
                format!("{}{stop} {}", check.detail, check.remedy)
            };
            vec![word(check.state).to_owned(), (*who).to_owned(), check.name.clone(), in_one_line(&says)]
        });
        output::table(&["state", "of", "what", "says"], rows.collect())?;
    }
    Ok(match (unreachable, failed) {
        (true, _) => UNREACHABLE,
        (false, true) => FAILED,
        (false, false) => 0,
    })
}

/// keyd's state, and what both daemons say of themselves.
fn inside(mut client: AdminClient) -> Outcome<(Status, Vec<Check>, Option<Vec<Check>>)> {
    let status = client.status()?;
    let Reply::Checks { keyd, gatewayd } = client.ask(Operation::Doctor)? else { return Err(unexpected()) };
    Ok((status, keyd, gatewayd))
}

/// What the daemons say of their files, where that may be why they do not run.
fn settings(context: &Context) -> Vec<(&'static str, Check)> {
    let home = &context.home;
    let files =
        [("keyd", "strongroom-keyd", home.keyd_config()), ("gatewayd", "strongroom-gatewayd", home.gatewayd_config())];
    let wrong = files.into_iter().filter_map(|(who, program, file)| {
        let error = config::one(program, &file).err()?;
        Some((who, Check::failed("configuration", error.to_string(), "Mend it, then start the daemons.")))
    });
    wrong.collect()
}

/// A parser's words have several lines, and draw below them where it stopped.
fn in_one_line(text: &str) -> String {
    let is_drawn = |line: &str| line.chars().all(|character| "|^ ".contains(character));
    text.lines().map(str::trim).filter(|line| !is_drawn(line)).collect::<Vec<_>>().join("; ")
}

fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Ok => "ok",
        CheckState::Warning => "warning",
        CheckState::Failed => "failed",
    }
}

/// What can be seen of the files.
fn set_up(context: &Context) -> Vec<Check> {
    let home = &context.home;
    // These are keyd's, whoever that is.
    let keyd: Vec<u32> = home.data.metadata().iter().map(MetadataExt::uid).collect();
    let mut checks = vec![private("data-directory", &home.data, 0o700, &keyd)];
    checks.push(match backup_is_left(home) {
        Some(words) => Check::failed("vault-file", words, ""),
        None => private("vault-file", &home.vault(), 0o600, &keyd),
    });
    let owners = ownership::accepted(home);
    // The others need not be there, and are shown where something is wrong with them.
    let is_needed = |path: &Path| path == home.config || path == home.run;
    let is_wrong = |path: &Path| ownership::judge(path, ownership::OTHERS_MAY_READ, &owners).is_err();
    let places = ownership::places(home).into_iter().filter(|place| is_needed(&place.path) || is_wrong(&place.path));
    checks.extend(places.map(|place| private(place.name, &place.path, ownership::OTHERS_MAY_READ, &owners)));
    if let Some(words) = config::listens_beyond(home) {
        checks.push(Check::warning("listen", words, config::LISTEN_REMEDY));
    }
    if home.kind != Kind::System || !Path::new("/run/systemd/system").exists() {
        checks.push(Check::warning(
            "systemd",
            "the daemons run without systemd's outer layer.",
            "Install the units for a system installation where keys of value are kept.",
        ));
    }
    checks
}

/// What can be seen of the processes.
fn outside(status: &Status) -> Vec<Check> {
    let mut checks = vec![version(&status.version), mode(status)];
    checks.extend(seen("keyd-from-outside", status.keyd_pid));
    checks.extend(status.gatewayd_pid.and_then(|pid| seen("gatewayd-from-outside", pid)));
    checks
}

fn version(of_keyd: &str) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    if of_keyd == own {
        return Check::ok("versions", format!("keyd and strongroom are of version {own}."));
    }
    Check::failed(
        "versions",
        format!("keyd is of version {of_keyd} and strongroom of {own}."),
        "Install programs of one release and restart the daemons.",
    )
}

/// A path that gives others no more than this mode, and belongs to one of these.
fn private(name: &str, path: &Path, mode: u32, owners: &[u32]) -> Check {
    let shown = path.display();
    // An admin who is not keyd's user cannot look into its directory, which is as it should be.
    if let Err(error) = fs::metadata(path)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return Check::warning(name, format!("{shown} could not be looked at: {error}."), "Run doctor as root.");
    }
    match ownership::judge(path, mode, owners) {
        Ok(Some(mode)) => Check::ok(name, format!("{shown} has mode {mode:o}.")),
        Ok(None) => {
            Check::failed(name, format!("{shown} is not there."), "Run 'strongroom init', then 'strongroom up'.")
        }
        Err(Fault { detail, remedy }) => Check::failed(name, detail, remedy),
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
    let owner = |pid: u32| fs::metadata(format!("/proc/{pid}")).ok().and_then(|_| users::of_process(pid));
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
        _ if status.gatewayd_pid.is_none() => Check::warning(
            "users",
            "gatewayd is not connected, so as which user it runs is not known.",
            "Start gatewayd, then run doctor again.",
        ),
        _ => Check::warning("users", "the daemons' users could not be seen.", "Run doctor as root."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn modes_that_give_too_much_fail_and_stricter_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let own = [folder.path().metadata().unwrap().uid()];
        for (given, wanted, state) in [
            (0o700, 0o700, CheckState::Ok),
            (0o500, 0o700, CheckState::Ok),
            (0o710, 0o700, CheckState::Failed),
            (0o755, 0o755, CheckState::Ok),
            (0o775, 0o755, CheckState::Failed),
        ] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(given)).unwrap();
            assert_eq!(private("x", folder.path(), wanted, &own).state, state, "{given:o}");
        }
        assert_eq!(private("x", &folder.path().join("none"), 0o700, &own).state, CheckState::Failed);
        assert_eq!(private("x", folder.path(), 0o777, &[own[0] + 1]).state, CheckState::Failed);
    }

    #[test]
    fn a_parsers_words_are_one_line_of_the_table() {
        let words = "keyd.toml: TOML parse error at line 1, column 1\n  |\n1 | auto-lok = 1\n  | ^^^^^^^^\nunknown field\n Mend it.";
        assert_eq!(
            in_one_line(words),
            "keyd.toml: TOML parse error at line 1, column 1; 1 | auto-lok = 1; unknown field; Mend it."
        );
        assert_eq!(in_one_line("One. Two."), "One. Two.");
    }

    #[test]
    fn another_version_fails_and_a_caged_process_is_told_from_a_free_one() {
        assert_eq!(version(env!("CARGO_PKG_VERSION")).state, CheckState::Ok);
        assert_eq!(version("0.0.0").state, CheckState::Failed);
        // This test runs in no cage.
        assert_eq!(seen("x", std::process::id()).unwrap().state, CheckState::Failed);
        assert!(seen("x", u32::MAX).is_none());
    }
}
