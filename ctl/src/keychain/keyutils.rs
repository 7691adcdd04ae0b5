//! The kernel's keyrings: for machines without a desktop.
//!
//! A key is put into the session's keyring and, where the kernel has one, into the user's persistent keyring, which
//! outlives the session and forgets after three days without use. Every process of the user can read it, none of
//! another's. It refuses to work without a session's keyring, for a key would be nowhere. Called by `keychain.rs`.

use std::collections::HashMap;

use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;
use linux_keyutils_keyring_store::Store as Keyutils;

use super::{KeychainError, SERVICE, Store};

/// The place of a vault's key.
pub fn entry(vault: &str) -> Result<Entry, KeychainError> {
    let description = format!("{SERVICE}:{vault}");
    let store = Keyutils::new().map_err(|error| KeychainError::of(Store::Keyutils, error))?;
    store
        .build(SERVICE, vault, Some(&HashMap::from([("description", description.as_str())])))
        .map_err(|error| KeychainError::NoSession(error.to_string()))
}
