//! `config check`: both files, read by the daemons' own parsers, which are the daemons.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Context;
use crate::error::{CtlError, Outcome};
use crate::{output, programs};

pub fn check(context: &Context) -> Outcome<()> {
    let mut wrong = Vec::new();
    for (program, file) in
        [("strongroom-keyd", context.home.keyd_config()), ("strongroom-gatewayd", context.home.gatewayd_config())]
    {
        match one(program, &file) {
            Ok(()) => output::note(&format!("{}: good", file.display())),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(CtlError::configuration(wrong.join("\n"))) }
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
