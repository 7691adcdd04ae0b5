//! `config check`: both files, read by the daemons' own parsers, which are the daemons.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use super::Context;
use crate::error::{CONFIGURATION, CtlError, Outcome};
use crate::{files, output, programs};

pub fn check(context: &Context, as_json: bool) -> Outcome<u8> {
    let files =
        [("strongroom-keyd", context.home.keyd_config()), ("strongroom-gatewayd", context.home.gatewayd_config())];
    let (mut rows, mut found, mut code) = (Vec::new(), Vec::new(), 0);
    for (program, file) in files {
        let wrong = one(program, &file).err().map(|error| error.to_string());
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
        rows.push(vec![file.display().to_string(), state.to_owned()]);
        found.push(json!({ "file": file, "good": wrong.is_none(), "wrong": wrong }));
    }
    if as_json {
        output::json(&found.into())?
    } else {
        output::table(&["file", "state"], rows)?
    }
    Ok(code)
}

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
