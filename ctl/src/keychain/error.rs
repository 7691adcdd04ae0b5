//! Why a keychain did not do what was asked, in the house's two sentences, with an exit code.
//!
//! It holds names, paths and numbers. It refuses to hold what a keychain gave: the stores' own errors can carry a
//! secret's bytes and are taken apart here. Made everywhere in `keychain`; the commands turn it into [`CtlError`].

use std::fmt;
use std::io;
use std::time::Duration;

use keyring_core::Error as StoreError;

use super::text::Wrong;
use super::{SERVICE, Store};
use crate::error::CtlError;

/// What went wrong.
#[derive(Debug)]
pub enum KeychainError {
    /// The vault's name cannot be one.
    Name,
    /// No session bus answers.
    NoBus {
        /// Where it was looked for.
        address: String,
        /// The system's reason.
        error: io::Error,
    },
    /// The session bus's address is none that can be looked at.
    BusAddress(String),
    /// Another user serves the session bus.
    ForeignBus {
        /// Where it is.
        address: String,
        /// Whose it is.
        uid: u32,
    },
    /// Nobody serves a keyring on the session bus.
    NoService(String),
    /// There is no session keyring in the kernel; with the kernel's reason where it gave one.
    NoSession(Option<String>),
    /// Neither store of this system can be used, for these reasons.
    NoStore(Box<[Self; 2]>),
    /// The store is locked, or does not let this user in.
    Denied {
        /// Which.
        store: Store,
        /// Its reason.
        reason: String,
    },
    /// There is nothing under the vault's name.
    NoEntry {
        /// Where it was looked for.
        store: Store,
    },
    /// There are several items under the vault's name.
    Several {
        /// Where.
        store: Store,
        /// How many.
        number: usize,
    },
    /// What is there is no slot's key.
    Content {
        /// Where.
        store: Store,
        /// In which way.
        wrong: Wrong,
    },
    /// The store did not answer, or nobody answered its prompt.
    TimedOut(Duration),
    /// The store failed in another way.
    Failed {
        /// Which.
        store: Store,
        /// Its reason.
        reason: String,
    },
    /// The system gave no thread to ask on.
    NoThread(io::Error),
    /// The store's code panicked.
    Panicked,
}

impl KeychainError {
    /// The store's own error, without what it may hold of a secret.
    pub(super) fn of(store: Store, error: StoreError) -> Self {
        match error {
            StoreError::NoEntry => Self::NoEntry { store },
            StoreError::NoStorageAccess(reason) => Self::Denied { store, reason: reason.to_string() },
            StoreError::Ambiguous(items) => Self::Several { store, number: items.len() },
            StoreError::PlatformFailure(reason) => Self::Failed { store, reason: reason.to_string() },
            StoreError::BadEncoding(_) | StoreError::BadDataFormat(..) => Self::Content { store, wrong: Wrong::Mark },
            // Their words are about attributes and limits; those that come yet are not known to be.
            error @ (StoreError::BadStoreFormat(_) | StoreError::TooLong(..) | StoreError::Invalid(..)) => {
                Self::Failed { store, reason: error.to_string() }
            }
            _ => Self::Failed { store, reason: "the store does not offer it".to_owned() },
        }
    }
}

impl fmt::Display for KeychainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str(
                "the vault's path cannot be a name in a keychain: it is empty, too long, or has control characters. Move the vault.",
            ),
            Self::NoBus { address, error } => write!(
                f,
                "no session bus answers at {address} ({error}). Run this in a desktop session, or unlock with the passphrase."
            ),
            Self::BusAddress(address) => write!(
                f,
                "the session bus's address {address:?} is not one Unix socket's. Correct DBUS_SESSION_BUS_ADDRESS, or take it away."
            ),
            Self::ForeignBus { address, uid } => write!(
                f,
                "the session bus at {address} is served by uid {uid}, which is not this user. Nothing was sent; run this as that user, or find out who put it there."
            ),
            Self::NoService(reason) => write!(
                f,
                "no keyring answers on the session bus ({reason}). Start one, such as gnome-keyring-daemon, or unlock with the passphrase."
            ),
            Self::NoSession(reason) => write!(
                f,
                "this process has no session keyring in the kernel{}. Run it under 'keyctl session', or in a login that makes one (pam_keyinit).",
                reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"))
            ),
            Self::NoStore(reasons) => {
                let [first, second] = reasons.as_ref();
                write!(f, "there is no keychain here: {first} And {second}")
            }
            Self::Denied { store, reason } => write!(f, "{}", denied(*store, reason)),
            Self::NoEntry { store } => write!(f, "{}", no_entry(*store)),
            Self::Several { store, number } => write!(
                f,
                "{store} has {number} items of this vault, so none was used. Remove all but one: they have the attribute service={SERVICE} and the vault as username."
            ),
            Self::Content { store, wrong } => write!(
                f,
                "what {store} has of this vault is no key of Strongroom: {wrong}. It was left alone; remove that item, then add the slot again."
            ),
            Self::TimedOut(time) => write!(
                f,
                "the keyring did not answer within {} seconds. Look for its prompt on the screen, or unlock with the passphrase.",
                time.as_secs()
            ),
            Self::Failed { store, reason } => {
                write!(f, "{store} failed ({reason}). Look into its own log, or unlock with the passphrase.")
            }
            Self::NoThread(error) => write!(f, "no thread could be started: {error}. Try again."),
            Self::Panicked => f.write_str("the keychain's code met a fault of its own. Report it, with what is above."),
        }
    }
}

impl std::error::Error for KeychainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoBus { error, .. } | Self::NoThread(error) => Some(error),
            _ => None,
        }
    }
}

impl From<KeychainError> for CtlError {
    fn from(error: KeychainError) -> Self {
        let words = error.to_string();
        match error {
            KeychainError::NoBus { .. }
            | KeychainError::NoService(_)
            | KeychainError::NoSession(_)
            | KeychainError::NoStore(_)
            | KeychainError::TimedOut(_) => Self::unreachable(words),
            // Not 75: that is the vault's own, and says that the passphrase will help.
            KeychainError::ForeignBus { .. } | KeychainError::Denied { .. } => Self::not_permitted(words),
            KeychainError::BusAddress(_) => Self::configuration(words),
            KeychainError::NoThread(_) | KeychainError::Panicked => Self::fault(words),
            KeychainError::Name
            | KeychainError::NoEntry { .. }
            | KeychainError::Several { .. }
            | KeychainError::Content { .. }
            | KeychainError::Failed { .. } => Self::failed(words),
        }
    }
}

fn denied(store: Store, reason: &str) -> String {
    match store {
        #[cfg(target_os = "linux")]
        Store::Keyutils => format!(
            "the kernel does not let this process use its session keyring ({reason}). Run it under 'keyctl session', or in a login that makes one (pam_keyinit)."
        ),
        store => format!(
            "{store} is locked, and its password was not given ({reason}). Unlock it by logging in or with its own program, or unlock with the passphrase."
        ),
    }
}

fn no_entry(store: Store) -> String {
    match store {
        #[cfg(target_os = "linux")]
        Store::Keyutils => format!(
            "{store} has no key of this vault: it forgets them at each boot, and after three days without use. Unlock with the passphrase, then add the slot again."
        ),
        store => format!("{store} has no key of this vault. Unlock with the passphrase, then add the slot again."),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn no_bus() -> KeychainError {
        KeychainError::NoBus { address: "unix:path=/x".to_owned(), error: io::ErrorKind::NotFound.into() }
    }

    fn reason() -> String {
        "the reason".to_owned()
    }

    #[test]
    fn each_is_two_sentences_and_has_its_exit_code() {
        use KeychainError as E;
        let both = [Store::SecretService, Store::Keyutils];
        let mut every = vec![
            (E::Name, 1),
            (no_bus(), 69),
            (E::BusAddress("tcp:".to_owned()), 78),
            (E::ForeignBus { address: "unix:path=/x".to_owned(), uid: 7 }, 77),
            (E::NoService(reason()), 69),
            (E::NoSession(None), 69),
            (E::NoStore(Box::new([no_bus(), E::NoSession(Some(reason()))])), 69),
            (E::TimedOut(Duration::from_secs(60)), 69),
            (E::NoThread(io::ErrorKind::OutOfMemory.into()), 70),
            (E::Panicked, 70),
        ];
        for store in both {
            every.extend([
                (E::Denied { store, reason: reason() }, 77),
                (E::NoEntry { store }, 1),
                (E::Several { store, number: 2 }, 1),
                (E::Content { store, wrong: Wrong::Length(3) }, 1),
                (E::Failed { store, reason: reason() }, 1),
            ]);
        }
        for (error, code) in every {
            let words = error.to_string();
            assert!(words.ends_with('.') && words.contains(". "), "{words}: what happened, then what to do");
            assert_eq!(CtlError::from(error).code(), code, "{words}");
        }
    }

    #[test]
    fn what_a_store_read_is_in_no_error() {
        let secret = b"not to be seen".to_vec();
        for error in [
            StoreError::BadEncoding(secret.clone()),
            StoreError::BadDataFormat(secret.clone(), Box::new(io::Error::other("why"))),
        ] {
            let error = KeychainError::of(Store::SecretService, error);
            assert!(matches!(error, KeychainError::Content { .. }), "{error:?}");
            let words = format!("{error} {error:?}");
            assert!(!words.contains("not to be seen") && !words.contains("110, 111, 116"), "{words}");
        }
    }
}
