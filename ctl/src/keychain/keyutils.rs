//! The kernel's keyrings: for machines without a desktop.
//!
//! A key is put into the session's keyring and, where the kernel has one, into the user's persistent keyring, which
//! outlives the session and forgets after three days without use. Every process of the user can read it, none of
//! another's. It refuses to work without a session's keyring, for a key would be nowhere. Called by `keychain.rs`.

use std::collections::HashMap;

use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;
use linux_keyutils::{KeyRing, KeyRingIdentifier};
use linux_keyutils_keyring_store::Store as Keyutils;

use super::{KeychainError, SERVICE, Store};

/// The place of a vault's key.
pub fn entry(vault: &str) -> Result<Entry, KeychainError> {
    check_session()?;
    let description = format!("{SERVICE}:{vault}");
    let of = |error| KeychainError::of(Store::Keyutils, error);
    Keyutils::new()
        .map_err(of)?
        .build(SERVICE, vault, Some(&HashMap::from([("description", description.as_str())])))
        .map_err(of)
}

/// The kernel gives a process without a session's keyring the one of all its user's sessions, into which a key can be
/// put, but from which it can be neither read nor linked: half of a `set` would be done.
fn check_session() -> Result<(), KeychainError> {
    let keyring = |which| {
        KeyRing::from_special_id(which, false).map_err(|error| KeychainError::NoSession(Some(error.to_string())))
    };
    if keyring(KeyRingIdentifier::Session)? == keyring(KeyRingIdentifier::UserSession)? {
        return Err(KeychainError::NoSession(None));
    }
    Ok(())
}
