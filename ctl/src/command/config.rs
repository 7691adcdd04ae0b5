//! `config check`: both files, read by the daemons' own parsers, which are the daemons, and what else `up` refuses of them.
//!
//! It changes nothing. Called by `main`; `up` and `doctor` read single files with it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use strongroom_protocol::home::Home;

use super::Context;
use crate::error::{CONFIGURATION, CtlError, Outcome};
use crate::ownership::{self, Fault, OTHERS_MAY_READ};
use crate::{config_values, files, output, programs};

pub fn check(context: &Context, as_json: bool) -> Outcome<u8> {
    let files = [("strongroom-keyd", context.home.keyd_config()), (GATEWAYD, context.home.gatewayd_config())];
    let (mut rows, mut found, mut code) = (Vec::new(), Vec::new(), 0);
    for (program, file) in files {
        let judged = safe(&file, &context.home).and_then(|()| one(program, &file));
        let judged = judged.and_then(|()| if program == GATEWAYD { listens_once(&context.home) } else { Ok(()) });
        let wrong = judged.err().map(|error| error.to_string());
        if wrong.is_some() {
            code = CONFIGURATION;
        }
        let state = match wrong {
            Some(_) => "wrong",
            None if file.exists() => "good",
            None => "not there, so the defaults hold",
        };
        if let (Some(words), false) = (&wrong, as_json) {
            output::note(&format!("strongroom: {words}"));
        }
        let warning = if program == GATEWAYD && wrong.is_none() { listens_beyond(&context.home) } else { None };
        if let (Some(words), false) = (&warning, as_json) {
            output::note(&format!("Warning: {words} {LISTEN_REMEDY}"));
        }
        rows.push(vec![file.display().to_string(), state.to_owned()]);
        found.push(json!({ "file": output::path(&file), "good": wrong.is_none(), "wrong": wrong, "warning": warning }));
    }
    if as_json {
        output::json(&found.into())?
    } else {
        output::table(&["file", "state"], rows)?
    }
    Ok(code)
}

/// Others could change it, so `up` would not start on it.
fn safe(file: &Path, home: &Home) -> Outcome<()> {
    let judged = ownership::judge(file, OTHERS_MAY_READ, &ownership::accepted(home));
    judged.map(drop).map_err(|Fault { detail, remedy }| CtlError::configuration(format!("{detail} {remedy}")))
}

/// An address that is listened at already cannot be bound, which the parser does not try.
///
/// # Errors
/// Which it is.
pub fn listens_once(home: &Home) -> Outcome<()> {
    let mut seen = BTreeSet::new();
    // What is no address is the parser's concern, and of port 0 each is another one.
    let addresses = config_values::listen(home).into_iter().filter_map(|text| text.parse::<SocketAddr>().ok());
    match addresses.filter(|address| address.port() != 0).find(|address| !seen.insert(*address)) {
        Some(twice) => Err(CtlError::configuration(format!(
            "{}: 'listen' names {twice} twice. Take one away.",
            home.gatewayd_config().display()
        ))),
        None => Ok(()),
    }
}

/// Which addresses of `listen` are not loopback's, and what that means: on the way there nothing is encrypted.
#[must_use]
pub fn listens_beyond(home: &Home) -> Option<String> {
    let addresses = config_values::listen(home).into_iter().filter_map(|text| text.parse::<SocketAddr>().ok());
    let beyond: Vec<String> = addresses
        .filter(|address| !address.ip().to_canonical().is_loopback())
        .map(|address| address.to_string())
        .collect();
    let words = || {
        let all = beyond.join(" and ");
        format!("gatewayd listens at {all}, and placeholders and answers travel in the clear on the way there.")
    };
    (!beyond.is_empty()).then(words)
}

/// What is to be done about it.
pub const LISTEN_REMEDY: &str = "Name loopback addresses and bridges of this machine alone.";

const GATEWAYD: &str = "strongroom-gatewayd";

/// Reads one file.
///
/// # Errors
/// What the daemon says of it.
pub fn one(program: &str, file: &Path) -> Outcome<()> {
    // Without a file the defaults hold, and they are right.
    if !file.exists() {
        return Ok(());
    }
    // The daemon would wait for ever for what a pipe has to say.
    files::open(file).map_err(|error| {
        CtlError::configuration(format!("{} cannot be read: {error}. Put a file in its place.", file.display()))
    })?;
    let path = programs::find(program)?;
    let output = Command::new(path).arg("--check-config").arg(file).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        CtlError::configuration(format!("{program} cannot be run: {error}. Install all three programs together."))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(CtlError::configuration(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_warning_names_the_addresses_that_are_not_loopbacks() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.config).unwrap();
        assert_eq!(listens_beyond(&home), None, "the default");
        for (list, named) in [
            (r#""127.0.0.1:7777", "127.9.9.9:1", "[::1]:7777", "[::ffff:127.0.0.1]:1""#, None),
            (r#""127.0.0.1:7777", "0.0.0.0:7777", "[::]:1""#, Some("at 0.0.0.0:7777 and [::]:1, and")),
        ] {
            fs::write(home.gatewayd_config(), format!("listen = [{list}]\n")).unwrap();
            let said = listens_beyond(&home);
            assert_eq!(said.is_some(), named.is_some(), "{said:?}");
            assert!(named.is_none_or(|named| said.is_some_and(|said| said.contains(named))), "{list}");
        }
    }

    #[test]
    fn an_address_that_is_named_twice_is_found_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.config).unwrap();
        for (list, is_good) in [
            (r#""127.0.0.1:1", "[::1]:1", "127.0.0.1:2""#, true),
            (r#""127.0.0.1:0", "127.0.0.1:0""#, true),
            (r#""127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1""#, false),
            (r#""[::1]:1", "[0:0::1]:1""#, false),
        ] {
            fs::write(home.gatewayd_config(), format!("listen = [{list}]\n")).unwrap();
            assert_eq!(listens_once(&home).is_ok(), is_good, "{list}");
        }
    }
}
