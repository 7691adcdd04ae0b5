//! The passphrase: asked for, turned into a key, forgotten.
//!
//! It comes from a file, the terminal or, without one, standard input; never from an argument or a variable's value.
//! Argon2id (RFC 9106) runs here and not in keyd, so keyd never sees a passphrase; keyd's parameters are checked against
//! bounds first, for a false keyd could ask for a derivation that is easily reversed. Called by the commands that widen
//! access.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::KeyDerivation;
use zeroize::Zeroizing;

use crate::error::{CtlError, Outcome};
use crate::{output, prompt, secret_input};

/// Where the passphrase comes from.
#[derive(Debug, Clone)]
pub struct Source {
    option: &'static str,
    file: Option<PathBuf>,
}

impl Source {
    /// `--passphrase-file`, or the variable of that name; else the terminal, and without one standard input.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        Self::of("--passphrase-file", file)
    }

    /// Another option, for another passphrase than the one that every command may need.
    #[must_use]
    pub fn of(option: &'static str, file: Option<PathBuf>) -> Self {
        Self { option, file }
    }

    /// The passphrase of a vault that is there.
    ///
    /// # Errors
    /// Where the file cannot be read, or there is no terminal.
    pub fn existing(&self) -> Outcome<Zeroizing<Vec<u8>>> {
        match &self.file {
            // No vault opens with none.
            Some(file) => Some(read(file)?).filter(|passphrase| !passphrase.is_empty()).ok_or_else(|| {
                CtlError::not_permitted(format!(
                    "the passphrase file {} is empty. Give one that holds the passphrase.",
                    file.display()
                ))
            }),
            None => match prompt("Passphrase: ") {
                Err(error) if prompt::is_nothing(&error) => Err(nothing()),
                asked => asked.or_else(|_| self.piped("passphrase")),
            },
        }
    }

    /// A new passphrase, asked for twice. Says a word where it is short.
    ///
    /// # Errors
    /// Where it is empty or the two differ, and as [`Self::existing`].
    pub fn new_one(&self) -> Outcome<Zeroizing<Vec<u8>>> {
        let passphrase = match &self.file {
            Some(file) => read(file)?,
            None => match prompt("New passphrase: ") {
                Ok(first) => {
                    let again = prompt("The same again: ").map_err(|_| nothing())?;
                    if *first != *again {
                        return Err(CtlError::failed("the two passphrases differ. Nothing was done; try again."));
                    }
                    first
                }
                Err(error) if prompt::is_nothing(&error) => return Err(nothing()),
                Err(_) => self.piped("new passphrase")?,
            },
        };
        if passphrase.is_empty() {
            return Err(CtlError::failed("the passphrase is empty. Choose one; several random words are best."));
        }
        if passphrase.len() < SHORT_PASSPHRASE {
            output::note(
                "The passphrase is short. Whoever gets the vault file can try passphrases; several random words are better.",
            );
        }
        Ok(passphrase)
    }

    fn piped(&self, what: &str) -> Outcome<Zeroizing<Vec<u8>>> {
        // Before it is looked at: then it is taken in any case.
        let whose = secret_input::whose();
        secret_input::instead_of_a_prompt(LONGEST_PASSPHRASE)?.ok_or_else(|| self.missing(what, whose))
    }

    fn missing(&self, what: &str, whose: Option<&str>) -> CtlError {
        let option = self.option;
        let how =
            whose.map_or_else(|| ", or on standard input".to_owned(), |whose| format!("; standard input is {whose}"));
        CtlError::usage(format!(
            "the {what} is needed and there is no terminal to ask at. Give it with {option} FILE{how}."
        ))
    }
}

/// Derives the 32-byte key of the passphrase slot.
///
/// # Errors
/// Where the parameters are out of bounds, or there is not enough memory.
pub fn derive(passphrase: &[u8], derivation: &KeyDerivation) -> Outcome<SecretBytes> {
    if !derivation.is_within_bounds() {
        return Err(CtlError::failed(
            "the vault's key derivation is outside the accepted bounds, so the passphrase was not used. Put the backup 'vault.bak' in its place.",
        ));
    }
    let bad = |error| CtlError::fault(format!("the key could not be derived: {error}. Check the free memory."));
    let params = Params::new(derivation.memory_kib, derivation.passes, derivation.lanes, Some(32)).map_err(bad)?;
    let mut key = Zeroizing::new(vec![0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, &derivation.salt, &mut key)
        .map_err(bad)?;
    Ok(SecretBytes::new(std::mem::take(&mut *key)))
}

fn read(file: &Path) -> Outcome<Zeroizing<Vec<u8>>> {
    let unreadable = |error: io::Error| {
        CtlError::failed(format!(
            "the passphrase file {} cannot be read: {error}. Check its path and mode.",
            file.display()
        ))
    };
    // Sized beforehand: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_PASSPHRASE + 1));
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(LONGEST_PASSPHRASE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LONGEST_PASSPHRASE {
        return Err(CtlError::failed(format!(
            "the passphrase file {} has more than {LONGEST_PASSPHRASE} bytes. Give one that holds the passphrase alone.",
            file.display()
        )));
    }
    secret_input::strip_newline(&mut bytes);
    Ok(bytes)
}

/// Below it a word is said.
const SHORT_PASSPHRASE: usize = 12;

/// Far more than anybody types; a file that never ends is refused.
const LONGEST_PASSPHRASE: usize = 4096;

fn prompt(words: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    prompt::ask(words).map(|mut text| Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
}

/// Somebody was asked.
fn nothing() -> CtlError {
    CtlError::failed("nothing was typed where the passphrase was asked for. Nothing was done; try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_passphrase_gives_the_same_key_and_another_salt_another() {
        let small = KeyDerivation { salt: [1; 16], memory_kib: 19 * 1024, passes: 2, lanes: 1 };
        let key = derive(b"correct horse", &small).unwrap();
        assert_eq!(key.len(), 32);
        assert_eq!(key.expose(), derive(b"correct horse", &small).unwrap().expose());
        assert_ne!(key.expose(), derive(b"correct horse", &KeyDerivation { salt: [2; 16], ..small }).unwrap().expose());
        assert_ne!(key.expose(), derive(b"correct horsf", &small).unwrap().expose());
    }

    /// The vault that `keyd/src/vault/contents_v1.rs` opens with this key.
    #[test]
    fn the_key_of_a_vault_that_was_made_long_ago_is_still_found() {
        let salt = *b"\x5e\x3a\xa5\x5b\x64\x08\x93\xf8\x6a\xf4\xd8\x0e\x0b\x06\x1a\x3f";
        let derivation = KeyDerivation { salt, memory_kib: 65536, passes: 3, lanes: 4 };
        let key = derive(b"correct horse battery staple", &derivation).unwrap();
        let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "e03eaee65b4b0feebeae25cee29bbe5eb13bc99640ea67a19b80d8dfaf0cbe87");
    }

    #[test]
    fn a_file_gives_all_but_one_newline_and_an_endless_one_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " two words \n\n").unwrap();
        let source = Source::new(Some(file.path().to_owned()));
        assert_eq!(source.existing().unwrap().as_slice(), b" two words \n");
        for empty in ["\r\n", "\n", ""] {
            std::fs::write(file.path(), empty).unwrap();
            assert_eq!(source.new_one().unwrap_err().code(), 1);
            let error = source.existing().unwrap_err();
            assert!(error.code() == 77 && error.to_string().ends_with("is empty. Give one that holds the passphrase."));
        }
        for path in ["/dev/zero", "/no/such/file", "/"] {
            assert_eq!(Source::new(Some(path.into())).existing().unwrap_err().code(), 1, "{path}");
        }
    }

    #[test]
    fn parameters_out_of_bounds_are_refused_before_anything_is_computed() {
        let weak = KeyDerivation { salt: [1; 16], memory_kib: 8, passes: 1, lanes: 1 };
        assert_eq!(derive(b"x", &weak).unwrap_err().code(), 1);
        let huge = KeyDerivation { salt: [1; 16], memory_kib: u32::MAX, passes: 3, lanes: 1 };
        assert_eq!(derive(b"x", &huge).unwrap_err().code(), 1);
    }
}
