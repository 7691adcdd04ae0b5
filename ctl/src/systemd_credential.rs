//! A slot key as an encrypted credential of systemd's, which decrypts it for keyd alone when the machine starts.
//!
//! `systemd-creds encrypt` does it, with the host's key or a TPM2 (systemd-creds(1)); the key goes through a pipe, never
//! an argument. The credential is written beside its place and renamed when keyd has the slot. It refuses to replace a
//! file. Called by `slot add credential`.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempPath;

use crate::error::{CtlError, Outcome};

/// An encrypted credential that is not at its place yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Made {
    temporary: TempPath,
    place: PathBuf,
}

impl Made {
    /// Puts it at its place.
    ///
    /// # Errors
    /// Where there is a file by now, or the directory cannot be written.
    pub fn keep(self) -> Outcome<()> {
        self.temporary.persist_noclobber(&self.place).map_err(|error| failed(&self.place, &error.error.to_string()))
    }
}

/// Encrypts the key for keyd's unit on this host.
///
/// # Errors
/// Where systemd-creds is not there or refuses, and where the file is there already.
pub fn encrypt(place: &Path, with_key: Option<&str>, key: &[u8]) -> Outcome<Made> {
    if fs::symlink_metadata(place).is_ok() {
        return Err(failed(place, "it is there already; remove the slot that it belongs to, and the file"));
    }
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(|error| failed(place, &error.to_string()))?;
    let temporary = tempfile::Builder::new()
        .prefix(".vault-key-")
        .tempfile_in(directory)
        .map_err(|error| failed(place, &error.to_string()))?
        .into_temp_path();
    let mut command = Command::new("systemd-creds");
    command.arg("encrypt").arg("--name=vault-key");
    command.args(with_key.map(|key| format!("--with-key={key}")));
    command.arg("-").arg(&temporary).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let unusable = |error: std::io::Error| {
        CtlError::failed(format!("systemd-creds cannot be run: {error}. It comes with systemd 250 or newer."))
    };
    let mut child = command.spawn().map_err(unusable)?;
    if let Some(mut input) = child.stdin.take() {
        // Where it ended early its own words say why.
        let _ = input.write_all(key);
    }
    let output = child.wait_with_output().map_err(unusable)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(CtlError::failed(format!(
            "systemd-creds made no credential: {}. Run this as root; --with-key=host needs no TPM.",
            words.trim().trim_end_matches('.')
        )));
    }
    // It is encrypted, and nobody else's all the same.
    fs::set_permissions(&temporary, Permissions::from_mode(0o600))
        .map_err(|error| failed(place, &error.to_string()))?;
    Ok(Made { temporary, place: place.to_owned() })
}

fn failed(place: &Path, why: &str) -> CtlError {
    CtlError::failed(format!(
        "the credential {} cannot be made: {why}. Nothing was changed; choose another place with --output.",
        place.display()
    ))
}
