//! The key that systemd decrypts for keyd, so that a server comes up unlocked: LoadCredentialEncrypted=vault-key, see
//! systemd.exec(5).
//!
//! Read once, before the cage, straight into locked memory, and wiped when it was tried. It refuses to be a reason not
//! to start: without a credential, or with one that makes no sense, keyd is locked and waits for an admin. Called by
//! `main`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::secret::Secret;
use crate::vault::KEY_LENGTH;

/// The key, where there is a credential of that name in the directory. Trouble is said in the log.
#[must_use]
pub fn read(directory: Option<&Path>) -> Option<Secret> {
    let path = directory?.join(NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(%error, "the credential vault-key cannot be read; the vault stays locked");
            return None;
        }
    };
    let key = read_exactly(file);
    if key.is_none() {
        tracing::error!("the credential vault-key is not one of ours, which have 32 bytes; the vault stays locked");
    }
    key
}

fn read_exactly(mut file: File) -> Option<Secret> {
    let mut key = Secret::zeroed(KEY_LENGTH).ok()?;
    file.read_exact(&mut key).ok()?;
    // Neither more nor less.
    matches!(file.read(&mut [0]), Ok(0)).then_some(key)
}

/// As it is called in the unit.
const NAME: &str = "vault-key";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_whole_key_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(None).is_none());
        assert!(read(Some(directory.path())).is_none(), "no credential of that name");
        let write = |bytes: &[u8]| std::fs::write(directory.path().join(NAME), bytes).unwrap();
        write(&[7; 32]);
        assert_eq!(read(Some(directory.path())).unwrap()[..], [7; 32]);
        for length in [0, 31, 33, 4096] {
            write(&vec![7; length]);
            assert!(read(Some(directory.path())).is_none(), "{length}");
        }
    }
}
