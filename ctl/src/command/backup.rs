//! `backup` and `restore`: the vault file as it is, encrypted, and the way back.
//!
//! A backup was read back and compared when this says that it is there. Before restoring, what would change is shown. It
//! refuses to replace a file, and to restore what it was not told to with a yes. Called by `command.rs`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde_json::json;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{
    Failure, Operation, Reply, RestoreChange, RestoreKind, RestoreView, SlotView, VaultState,
};

use super::{Context, slot};
use crate::admin_client::{AdminClient, unexpected};
use crate::args::Restore;
use crate::error::{CtlError, Outcome};
use crate::passphrase::{self, Source};
use crate::{certificates, files, output};

/// Writes a backup.
pub fn backup(context: &Context, path: &Path) -> Outcome<()> {
    let Reply::VaultFile(bytes) = context.connect()?.ask(Operation::Backup)? else { return Err(unexpected()) };
    if !is_whole(&bytes) {
        return Err(CtlError::fault("what keyd sent is not a whole vault. Nothing was written; try again."));
    }
    let failed = |error: io::Error| {
        CtlError::failed(format!("the backup {} cannot be written: {error}. Choose another file.", path.display()))
    };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CtlError::failed(format!("{} is there already. Choose another file.", path.display()))
        }
        _ => failed(error),
    })?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| fs::read(path));
    match written {
        Ok(again) if again == bytes => {}
        other => {
            let _ = fs::remove_file(path);
            return Err(failed(
                other.err().unwrap_or_else(|| io::Error::other("it reads otherwise than it was written")),
            ));
        }
    }
    output::note(&format!(
        "The backup is at {}, encrypted as the vault is. It opens with today's passphrase. SHA-256 {}.",
        path.display(),
        certificates::fingerprint(&bytes)
    ));
    Ok(())
}

/// Shows what a backup would change, asks, and puts it in the vault's place.
pub fn restore(context: &Context, options: &Restore) -> Outcome<()> {
    let file = read(&options.file)?;
    let mut client = context.connect()?;
    client.is_for_secrets()?;
    // Where there is a vault, it has to be open, and its passphrase is needed; keyd says so.
    let there = client.status()?.state;
    let passphrase = match there {
        VaultState::Uninitialised => None,
        VaultState::Unlocked => Some(context.passphrase.existing()?),
        VaultState::Locked => return Err(Failure::Locked.into()),
        VaultState::Unusable(_) => {
            return Err(CtlError::failed(
                "the vault that is there cannot be used, so it cannot be compared. Move it away, then restore.",
            ));
        }
    };
    let proof = |client: &mut AdminClient| match &passphrase {
        None => Ok(None),
        Some(passphrase) => passphrase::derive(passphrase, &context.open_derivation(client)?).map(Some),
    };
    let key = |client: &mut AdminClient| -> Outcome<SecretBytes> {
        if options.recovery {
            return slot::recovery_key();
        }
        let Reply::Derivation(derivation) = client.ask(Operation::BackupDerivation { file: file.clone() })? else {
            return Err(unexpected());
        };
        match (&options.backup_passphrase_file, &passphrase) {
            (Some(path), _) => passphrase::derive(&Source::new(Some(path.clone())).existing()?, &derivation),
            (None, Some(passphrase)) => passphrase::derive(passphrase, &derivation),
            (None, None) => passphrase::derive(&context.passphrase.existing()?, &derivation),
        }
    };
    let key = key(&mut client)?;
    let copy = || SecretBytes::new(key.expose().to_vec());
    let look = Operation::RestoreLook { file: file.clone(), key: copy() };
    let proved = proof(&mut client)?;
    let Reply::Restore(view) = client.ask_perhaps_with(proved, look)? else { return Err(unexpected()) };
    show(&view, options.json.json)?;
    if options.dry_run {
        return Ok(());
    }
    context.confirm("Put the backup in the vault's place, and lock it?")?;
    let proved = proof(&mut client)?;
    client.ask_perhaps_with(proved, Operation::Restore { file, key: copy() })?;
    output::note(match view.now {
        Some(_) => {
            "The backup is the vault now, and it is locked. Unlock with the backup's passphrase. The vault before it is beside it, as vault.before-restore, until the next change of slots or purge."
        }
        None => "The backup is the vault now. Unlock it with the backup's passphrase.",
    });
    Ok(())
}

fn show(view: &RestoreView, as_json: bool) -> Outcome<()> {
    if as_json {
        let slot = |slot: &SlotView| json!({ "id": slot.id, "kind": slot.kind });
        let one = |change: &RestoreChange| {
            json!({
                "change": change.kind, "credential": change.credential, "agent": change.agent,
                "slot": change.slot.as_ref().map(slot),
            })
        };
        let changes: Vec<_> = view.changes.iter().map(one).collect();
        return output::json(&json!({
            "generation": view.now, "backup_generation": view.backup, "changes": changes, "more": view.more,
        }));
    }
    match view.now {
        None => output::note(&format!("There is no vault. The backup has generation {}.", view.backup)),
        Some(now) => output::note(&format!("The vault has generation {now}, the backup {}.", view.backup)),
    }
    if view.now.is_some() && view.changes.is_empty() {
        output::note("Slots, credentials, agents and grants are the same in both.");
    }
    output::table(&["change", "what", "name"], view.changes.iter().map(row).collect())?;
    if view.more > 0 {
        output::note(&format!("And {} more.", view.more));
    }
    Ok(())
}

fn row(change: &RestoreChange) -> Vec<String> {
    let kind = match change.kind {
        RestoreKind::Returns => "is there again",
        RestoreKind::Goes => "is gone",
        RestoreKind::Differs => "is otherwise",
    };
    let (what, name) = match (&change.credential, &change.agent) {
        _ if change.slot.is_some() => ("slot", change.slot.as_ref().map(slot::name).unwrap_or_default()),
        (Some(credential), Some(agent)) => ("grant", format!("{} to {}", credential.as_str(), agent.as_str())),
        (Some(name), None) => ("credential", name.as_str().to_owned()),
        (None, Some(name)) => ("agent", name.as_str().to_owned()),
        (None, None) => ("vault", String::new()),
    };
    vec![kind.to_owned(), what.to_owned(), name]
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let failed = |why: &str| {
        CtlError::failed(format!(
            "the backup {} cannot be used: {why}. Give one that 'strongroom backup' made.",
            path.display()
        ))
    };
    let mut bytes = Vec::new();
    let file = files::open(path).map_err(|error| failed(&error.to_string()))?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| failed(&error.to_string()))?;
    if is_whole(&bytes) { Ok(bytes) } else { Err(failed("it is no whole vault file")) }
}

/// Whether it begins as a vault and its checksum fits: see VAULT.md.
fn is_whole(bytes: &[u8]) -> bool {
    let Some((covered, checksum)) = bytes.split_last_chunk::<32>() else { return false };
    bytes.len() as u64 <= LARGEST && bytes.starts_with(b"STRONGRM") && digest(&SHA256, covered).as_ref() == checksum
}

/// Bytes of the largest vault file.
const LARGEST: u64 = 1024 * 1024 + 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_refused_at_once_and_a_whole_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, whole] = ["pipe", "whole"].map(|name| folder.path().join(name));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&pipe).unwrap_err().code(), 1);
        let mut file = b"STRONGRM and more".to_vec();
        file.extend_from_slice(digest(&SHA256, &file).as_ref());
        fs::write(&whole, &file).unwrap();
        assert_eq!(read(&whole), Ok(file));
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_no_backup() {
        let mut file = b"STRONGRM and more".to_vec();
        file.extend_from_slice(digest(&SHA256, &file).as_ref());
        assert!(is_whole(&file));
        assert!(!is_whole(&file[..file.len() - 1]) && !is_whole(b"") && !is_whole(&file[1..]));
        file[10] ^= 1;
        assert!(!is_whole(&file));
    }
}
