//! The Secret Service: GNOME Keyring, KWallet, KeePassXC and their like, over the session bus.
//!
//! An item lies in the default collection, is found by the attributes `service` and `username`, and has a label for the
//! list of a keyring's own program. Its value crosses the bus encrypted for this session. It refuses a bus that is not
//! this user's. Called by `keychain.rs`.

use std::collections::HashMap;

use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;
use zbus_secret_service_keyring_store::Store as SecretService;

use super::{KeychainError, SERVICE, Store, bus};

/// The place of a vault's key.
pub fn entry(vault: &str) -> Result<Entry, KeychainError> {
    bus::check()?;
    // The bus is there: what fails now is that nobody serves the keyring on it.
    let service = SecretService::new().map_err(|error| KeychainError::NoService(error.to_string()))?;
    let label = format!("Strongroom: the vault {vault}");
    service
        .build(SERVICE, vault, Some(&HashMap::from([("label", label.as_str())])))
        .map_err(|error| KeychainError::of(Store::SecretService, error))
}
