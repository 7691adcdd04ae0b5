//! The login keychain of macOS.
//!
//! Not run by anybody who wrote it: no machine with macOS was at hand. It is the same entry as on Linux, under the same
//! service and account, and macOS asks the user by itself. Called by `keychain.rs`.

use apple_native_keyring_store::keychain::Store as Keychain;
use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi;

use super::{KeychainError, SERVICE, Store};

/// The place of a vault's key.
pub fn entry(vault: &str) -> Result<Entry, KeychainError> {
    let of = |error| KeychainError::of(Store::Login, error);
    Keychain::new().map_err(of)?.build(SERVICE, vault, None).map_err(of)
}
