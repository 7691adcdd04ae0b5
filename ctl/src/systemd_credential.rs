//! A slot key as an encrypted credential of systemd's, which decrypts it for keyd alone when the machine starts.
//!
//! `systemd-creds encrypt` does it, with the host's key or a TPM2 (systemd-creds(1)); the key goes through a pipe, never
//! an argument. The credential is written beside its place and renamed when keyd has the slot. It refuses to replace a
//! file, and to make any directory but systemd's own. Called by `slot add credential`.

use std::fs::{self, DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom_protocol::home::{Home, Kind};
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

/// Where the credential goes: where it was told to, else where systemd looks for the system's keyd.
///
/// # Errors
/// 64 where it was not told and the home is not the system's; 1 where there is a file, or no directory.
pub fn place(home: &Home, told: Option<&Path>) -> Outcome<PathBuf> {
    let store = Path::new(CREDSTORE);
    let place = match told {
        Some(told) => told.to_owned(),
        None if home.kind == Kind::System => store.join("vault-key"),
        None => {
            return Err(CtlError::usage(format!(
                "only the system's home has a place of its own for the credential, and this vault is {}. Say where it goes with --output FILE.",
                home.vault().display()
            )));
        }
    };
    if fs::symlink_metadata(&place).is_ok() {
        return Err(failed(&place, "it is there already; remove the slot that it belongs to, and the file"));
    }
    let directory = directory(&place);
    if directory.is_dir() || directory == store {
        return Ok(place);
    }
    Err(failed(&place, &format!("there is no directory {}", directory.display())))
}

/// Encrypts the key for keyd's unit on this host.
///
/// # Errors
/// Where systemd-creds is not there or refuses, and where the directory cannot be written.
pub fn encrypt(place: &Path, with_key: Option<&str>, key: &[u8]) -> Outcome<Made> {
    let directory = directory(place);
    if directory == Path::new(CREDSTORE) && !directory.is_dir() {
        DirBuilder::new().mode(0o700).create(directory).map_err(|error| failed(place, &error.to_string()))?;
    }
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

fn directory(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(place: &Path, why: &str) -> CtlError {
    CtlError::failed(format!(
        "the credential {} cannot be made: {why}. Nothing was changed; choose another place with --output.",
        place.display()
    ))
}

/// Where systemd looks for the encrypted credentials of units, as its own tmpfiles.d makes it.
const CREDSTORE: &str = "/etc/credstore.encrypted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_systems_home_has_a_place_without_being_told() {
        let folder = tempfile::tempdir().unwrap();
        let (own, told) = (Home::under(folder.path()), folder.path().join("key"));
        let user = Home { kind: Kind::User, ..own.clone() };
        for home in [&own, &user] {
            let error = place(home, None).unwrap_err();
            assert!(error.code() == 64 && error.to_string().contains("--output FILE"), "{error}");
        }
        for home in [&own, &user, &Home::system()] {
            assert_eq!(place(home, Some(&told)), Ok(told.clone()));
            assert_eq!(place(home, Some(Path::new("key"))), Ok("key".into()));
        }
        let usual = Path::new(CREDSTORE).join("vault-key");
        if !usual.exists() {
            assert_eq!(place(&Home::system(), None), Ok(usual));
        }
    }

    #[test]
    fn a_place_that_is_taken_or_has_no_directory_is_refused_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        let missing = folder.path().join("missing");
        let error = place(&home, Some(&missing.join("key"))).unwrap_err();
        assert!(error.code() == 1 && error.to_string().contains(missing.to_str().unwrap()), "{error}");
        assert_eq!(encrypt(&missing.join("key"), None, b"key").unwrap_err().code(), 1);
        assert!(!missing.exists());
        fs::write(&missing, "").unwrap();
        assert_eq!(place(&home, Some(&missing)).unwrap_err().code(), 1);
    }
}
