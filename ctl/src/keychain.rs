//! The slot's key in the user's own keychain, so that a vault can be unlocked without its passphrase.
//!
//! Linux has two: a *Secret Service* (GNOME Keyring, KWallet, KeePassXC) over the session bus, whose items are on disk
//! under the login's password, and the kernel's *keyutils*, whose keys are gone at the next boot. On macOS there is one,
//! the login keychain. The stores are the `keyring` project's; here is what is asked of them, in which form, and in which
//! words they fail.
//!
//! It refuses to hand a key to a session bus that another user serves, to overwrite or delete an item that is not ours,
//! to choose the weaker store without saying so, and to wait for ever for a prompt that nobody answers. Nothing of it
//! runs before it is asked. Called by the commands of slots, and by `unlock`.

#[cfg(target_os = "macos")]
mod apple;
#[cfg(target_os = "linux")]
mod bus;
mod error;
#[cfg(target_os = "linux")]
mod keyutils;
mod patience;
#[cfg(target_os = "linux")]
mod secret_service;
mod text;

use std::fmt;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::{thread, time::Instant};

use keyring_core::{Entry, Error as StoreError};
use zeroize::Zeroizing;

pub use error::KeychainError;

#[cfg(target_os = "linux")]
use crate::output;

/// Where a key can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Secret Service, over the session bus.
    #[cfg(target_os = "linux")]
    SecretService,
    /// The kernel's keyrings.
    #[cfg(target_os = "linux")]
    Keyutils,
    /// The login keychain.
    #[cfg(target_os = "macos")]
    Login,
}

/// What `keychain` means here, and why it is not the better one where it is not.
#[derive(Debug)]
#[must_use = "the user is to be told which store it is"]
pub struct Choice {
    /// The store.
    pub store: Store,
    /// Why the Secret Service is not it; none where it is.
    pub instead: Option<KeychainError>,
}

/// The key of a slot: 32 random bytes.
pub type SlotKey = Zeroizing<[u8; 32]>;

/// Keeps a key under the vault's name, in place of the one that was there.
///
/// # Errors
/// Where the store cannot be reached or is locked, or has something else under that name.
pub fn set(store: Store, vault: &str, key: &SlotKey) -> Result<(), KeychainError> {
    let entry = open(store, vault)?;
    let text = text::encode(key);
    patience::within(FOR_A_PROMPT, move || {
        match read(store, &entry) {
            Ok(_) | Err(KeychainError::NoEntry { .. }) => {}
            Err(error) => return Err(error),
        }
        entry.set_secret(text.as_bytes()).map_err(|error| {
            // A key goes into two keyrings of the kernel, and may have come into one of them.
            #[cfg(target_os = "linux")]
            if store == Store::Keyutils {
                drop(entry.delete_credential());
            }
            KeychainError::of(store, error)
        })
    })
}

/// The key that is kept under the vault's name.
///
/// # Errors
/// As [`set`], and where there is none.
pub fn get(store: Store, vault: &str) -> Result<SlotKey, KeychainError> {
    let entry = open(store, vault)?;
    patience::within(FOR_A_PROMPT, move || read(store, &entry))
}

/// A vault's key, as soon as it can be read without asking anybody: at login a keyring is there before it is unlocked, or
/// comes later. It prompts nobody.
///
/// # Errors
/// Where that is not so when the time is over; at once where no keychain has such a key.
#[cfg(target_os = "linux")]
pub fn wait(vault: &str, time: Duration) -> Result<SlotKey, KeychainError> {
    let until = Instant::now() + time;
    let mut told = false;
    loop {
        let why = match ready(vault)? {
            Ok(key) => return Ok(key),
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(why);
        }
        if !std::mem::replace(&mut told, true) {
            output::note("waiting for the keychain to be unlocked.");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// A vault's key: a login has unlocked the one keychain there is.
///
/// # Errors
/// As [`get`].
#[cfg(target_os = "macos")]
pub fn wait(vault: &str, _: Duration) -> Result<SlotKey, KeychainError> {
    get(Store::Login, vault)
}

/// Takes the key away; false where there was none.
///
/// # Errors
/// As [`set`].
pub fn delete(store: Store, vault: &str) -> Result<bool, KeychainError> {
    let entry = open(store, vault)?;
    patience::within(FOR_A_PROMPT, move || {
        match read(store, &entry) {
            Ok(_) => {}
            Err(KeychainError::NoEntry { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        match entry.delete_credential() {
            Ok(()) => Ok(true),
            // Somebody else was faster.
            Err(StoreError::NoEntry) => Ok(false),
            Err(error) => Err(KeychainError::of(store, error)),
        }
    })
}

/// The store that is meant by `keychain`: the one that keeps a key longest.
///
/// # Errors
/// Where there is none.
pub fn pick() -> Result<Choice, KeychainError> {
    #[cfg(target_os = "linux")]
    match probe(Store::SecretService) {
        Ok(()) => Ok(Choice { store: Store::SecretService, instead: None }),
        // Another user's bus is an attack or a mistake, and nothing to get around in silence.
        Err(error @ KeychainError::ForeignBus { .. }) => Err(error),
        Err(first) => match probe(Store::Keyutils) {
            Ok(()) => Ok(Choice { store: Store::Keyutils, instead: Some(first) }),
            Err(second) => Err(KeychainError::NoStore(Box::new([first, second]))),
        },
    }
    #[cfg(target_os = "macos")]
    {
        Ok(Choice { store: Store::Login, instead: None })
    }
}

impl Store {
    /// Its name on the command line and in a slot's list.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Self::SecretService => "secret-service",
            #[cfg(target_os = "linux")]
            Self::Keyutils => "keyutils",
            #[cfg(target_os = "macos")]
            Self::Login => "login-keychain",
        }
    }

    /// The store of that name, where this system has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|store| store.name() == name)
    }

    /// How long a key stays, in words for whoever chooses it.
    #[must_use]
    pub fn lasts(self) -> &'static str {
        match self {
            #[cfg(target_os = "linux")]
            Self::SecretService => "on disk, under the password of the keyring",
            #[cfg(target_os = "linux")]
            Self::Keyutils => "in the kernel's memory: gone at the next boot, or after three days without use",
            #[cfg(target_os = "macos")]
            Self::Login => "on disk, under the password of the login",
        }
    }

    /// Those of this system.
    pub const ALL: &'static [Self] = &[
        #[cfg(target_os = "linux")]
        Self::SecretService,
        #[cfg(target_os = "linux")]
        Self::Keyutils,
        #[cfg(target_os = "macos")]
        Self::Login,
    ];

    /// The place of a vault's key. Opening prompts nobody.
    fn entry(self, vault: &str) -> Result<Entry, KeychainError> {
        match self {
            #[cfg(target_os = "linux")]
            Self::SecretService => secret_service::entry(vault),
            #[cfg(target_os = "linux")]
            Self::Keyutils => keyutils::entry(vault),
            #[cfg(target_os = "macos")]
            Self::Login => apple::entry(vault),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_os = "linux")]
            Self::SecretService => "the Secret Service",
            #[cfg(target_os = "linux")]
            Self::Keyutils => "the kernel's keyring",
            #[cfg(target_os = "macos")]
            Self::Login => "the login keychain",
        })
    }
}

fn open(store: Store, vault: &str) -> Result<Entry, KeychainError> {
    let vault = name(vault)?;
    patience::within(TO_OPEN, move || store.entry(&vault))
}

/// A key in our form, or the reason why there is none.
fn read(store: Store, entry: &Entry) -> Result<SlotKey, KeychainError> {
    let found = Zeroizing::new(entry.get_secret().map_err(|error| KeychainError::of(store, error))?);
    text::decode(&found).map_err(|wrong| KeychainError::Content { store, wrong })
}

/// A vault's key where it can be read now, or why it cannot be yet; an error where it never will.
#[cfg(target_os = "linux")]
fn ready(vault: &str) -> Result<Result<SlotKey, KeychainError>, KeychainError> {
    use KeychainError as E;
    let name = name(vault)?;
    let store = Store::SecretService;
    let why = match patience::within(TO_OPEN, move || secret_service::is_unlocked(&name)) {
        Ok(true) => return get(store, vault).map(Ok),
        Ok(false) => E::Denied { store, reason: "nobody has unlocked it".to_owned() },
        Err(error @ (E::NoBus { .. } | E::NoService(_) | E::NoEntry { .. } | E::TimedOut(_))) => error,
        Err(error) => return Err(error),
    };
    match (get(Store::Keyutils, vault), why) {
        (Ok(key), _) => Ok(Ok(key)),
        (Err(_), why @ E::NoEntry { .. }) => Err(why),
        (Err(_), why) => Ok(Err(why)),
    }
}

/// Whether a store would answer. Looks for nothing that is there, so that no prompt can come up.
#[cfg(target_os = "linux")]
fn probe(store: Store) -> Result<(), KeychainError> {
    let entry = open(store, PROBE)?;
    match patience::within(TO_OPEN, move || read(store, &entry).map(drop)) {
        Err(KeychainError::NoEntry { .. }) => Ok(()),
        other => other,
    }
}

/// A vault's name as the stores take it: they hand it to C and to D-Bus, and people read it in lists.
fn name(vault: &str) -> Result<String, KeychainError> {
    if vault.is_empty() || vault.len() > LONGEST_NAME || vault.chars().any(char::is_control) {
        return Err(KeychainError::Name);
    }
    Ok(vault.to_owned())
}

/// The attribute under which all of Strongroom's items are found.
const SERVICE: &str = "strongroom";
/// The name of no vault: theirs are absolute paths.
#[cfg(target_os = "linux")]
const PROBE: &str = "probe";
/// The longest path, and less than what a key's description in the kernel can have.
const LONGEST_NAME: usize = 4000;
/// A person types a password in that time; no signal tells of it that every keyring sends.
#[cfg(target_os = "linux")]
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// A bus may have to start the keyring's daemon first.
const TO_OPEN: Duration = Duration::from_secs(10);
/// For a person to type a password, who may have to find the window first.
const FOR_A_PROMPT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_stores() {
        for store in Store::ALL {
            assert_eq!(Store::named(store.name()), Some(*store));
        }
        assert_eq!(Store::named("keychain"), None);
    }

    #[test]
    fn a_vault_has_a_name_that_every_store_can_take() {
        assert_eq!(
            name("/home/ö/.local/share/strongroom/vault").ok().as_deref(),
            Some("/home/ö/.local/share/strongroom/vault")
        );
        for bad in ["", "a\0b", "a\nb", "\u{1b}[2J", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(matches!(name(bad), Err(KeychainError::Name)), "{bad:?}");
        }
        assert!(name(&"x".repeat(LONGEST_NAME)).is_ok());
    }
}
