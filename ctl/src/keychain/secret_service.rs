//! The Secret Service: GNOME Keyring, KWallet, KeePassXC and their like, over the session bus.
//!
//! An item lies in the default collection, is found by the attributes `service` and `username`, and has a label for the
//! list of a keyring's own program. Its value crosses the bus encrypted for this session. It refuses a bus that is not
//! this user's. Called by `keychain.rs`.

use std::collections::HashMap;

use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;
use secret_service::{EncryptionType, blocking};
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

/// Whether a vault's key can be read without a prompt. Only looks at the locks, so that none can come up.
pub fn is_unlocked(vault: &str) -> Result<bool, KeychainError> {
    bus::check()?;
    let failed = |error: secret_service::Error| KeychainError::NoService(error.to_string());
    // No secret crosses this connection.
    let service = blocking::SecretService::connect(EncryptionType::Plain).map_err(failed)?;
    let found = service.search_items(HashMap::from([("service", SERVICE), ("username", vault)])).map_err(failed)?;
    if found.unlocked.is_empty() && found.locked.is_empty() {
        return Err(KeychainError::NoEntry { store: Store::SecretService });
    }
    Ok(found.locked.is_empty())
}
