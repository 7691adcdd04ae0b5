//! Secret bytes at rest: in the locked arena, compared in constant time, wiped when dropped.
//!
//! One region is set up for the life of the process, before the cage closes: [`prepare`]. It refuses to show itself:
//! there is no `Clone`, no `PartialEq`, and `Debug` prints `[REDACTED]`. `Serialize` exists for the vault, whose
//! bytes are sealed in a `Secret` of their own; deserializing copies from the input straight into the arena.
//!
//! Called by the vault, the policy and the exchange, wherever a key is held.

use std::fmt;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strongroom_protocol::Check;

use crate::sys::arena::{Arena, Keeping, Span};

/// Sets up the region, unless it is there already, and says how well its pages are kept.
///
/// Call it once at start: the cage forbids the system calls that it needs, and giving up privileges lowers the limit
/// on locked memory.
pub fn prepare() -> Check {
    let Some(arena) = arena() else {
        return Check::failed(
            CHECK,
            "no memory for keys could be mapped.",
            "Give the process memory: 256 KiB are enough to start.",
        );
    };
    let size = arena.capacity() / 1024;
    match arena.keeping() {
        Keeping::SecretMemory => Check::ok(
            CHECK,
            format!("{size} KiB of memfd_secret: locked, never dumped, unreadable through /proc even for root (EIO)."),
        ),
        Keeping::Locked => Check::warning(
            CHECK,
            format!(
                "{size} KiB of locked memory, never dumped; this kernel or filter has no memfd_secret, so root can read it."
            ),
            "Allow the system call memfd_secret (Linux 5.14 or newer, secretmem.enable=1 before 6.5).",
        ),
        Keeping::Pageable => Check::warning(
            CHECK,
            format!("{size} KiB of ordinary memory: never dumped, but it may be written to swap."),
            "Raise the limit on locked memory (LimitMEMLOCK= or ulimit -l) to 8 MiB and restart.",
        ),
    }
}

/// Whether no page of it can be written to a disk.
#[must_use]
pub fn stays_out_of_swap() -> bool {
    arena().is_some_and(|arena| arena.keeping() != Keeping::Pageable)
}

/// Bytes that nobody else should see.
pub struct Secret(Span);

impl Secret {
    /// Copies bytes into the arena. Wiping the source is the caller's.
    ///
    /// # Errors
    /// [`ArenaFull`].
    pub fn copy_from(bytes: &[u8]) -> Result<Self, ArenaFull> {
        let mut secret = Self::zeroed(bytes.len())?;
        secret.copy_from_slice(bytes);
        Ok(secret)
    }

    /// `length` zero bytes, to be filled in place.
    ///
    /// # Errors
    /// [`ArenaFull`].
    pub fn zeroed(length: usize) -> Result<Self, ArenaFull> {
        arena().and_then(|arena| arena.take(length)).map(Self).ok_or(ArenaFull { wanted: length })
    }

    /// Whether the bytes are equal, in a time that depends on the lengths alone.
    #[must_use]
    pub fn matches(&self, other: &[u8]) -> bool {
        let difference = self.iter().zip(other).fold(0, |seen, (ours, theirs)| black_box(seen | (ours ^ theirs)));
        self.len() == other.len() && difference == 0
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("secret bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Secret, E> {
                Secret::copy_from(bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// The arena has no stretch of this length left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaFull {
    /// Bytes that were wanted.
    pub wanted: usize,
}

impl fmt::Display for ArenaFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, all) = arena().map_or((0, 0), |arena| (arena.available(), arena.capacity()));
        write!(
            f,
            "no room for a secret of {} bytes: {free} of {all} bytes of locked memory are free; remove credentials, or raise the limit on locked memory and restart",
            self.wanted
        )
    }
}

impl std::error::Error for ArenaFull {}

/// The one region, mapped when it is first asked for; unit tests never call [`prepare`].
fn arena() -> Option<&'static Arena> {
    static ARENA: OnceLock<Option<Arena>> = OnceLock::new();
    ARENA.get_or_init(|| Arena::map(SIZES).ok()).as_ref()
}

const CHECK: &str = "secret-memory";

/// What is tried, in bytes: within the 8 MiB that an ordinary user may lock, then for smaller limits. 256 KiB hold
/// about two thousand keys, and a vault of that size while it is sealed.
const SIZES: &[usize] = &[4 * 1024 * 1024, 1024 * 1024, 256 * 1024];

#[cfg(test)]
mod tests {
    use strongroom_protocol::CheckState;

    use super::*;

    #[test]
    fn a_secret_holds_what_it_was_given() {
        let mut secret = Secret::copy_from(b"sk-test-1234").unwrap();
        assert_eq!(&*secret, b"sk-test-1234");
        secret[0] = b'S';
        assert_eq!(&*secret, b"Sk-test-1234");
        assert_eq!(&*Secret::zeroed(3).unwrap(), [0; 3]);
        assert!(Secret::zeroed(0).unwrap().is_empty());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::copy_from(b"sk-test-1234").unwrap()), "[REDACTED]");
    }

    #[test]
    fn only_equal_bytes_match() {
        let secret = Secret::copy_from(b"abcdef").unwrap();
        assert!(secret.matches(b"abcdef"));
        for other in [&b"abcdeg"[..], b"Abcdef", b"abcde", b"abcdefg", b""] {
            assert!(!secret.matches(other), "{other:?}");
        }
        assert!(Secret::zeroed(0).unwrap().matches(b""));
    }

    #[test]
    fn the_serial_form_is_that_of_bytes_and_round_trips() {
        let secret = Secret::copy_from(&[0, 1, 254, 255]).unwrap();
        let bytes = postcard::to_stdvec(&secret).unwrap();
        assert_eq!(bytes, [4, 0, 1, 254, 255]);
        let back: Secret = postcard::from_bytes(&bytes).unwrap();
        assert!(back.matches(&secret));
        assert!(postcard::from_bytes::<Secret>(&[4, 0, 1]).is_err());
    }

    #[test]
    fn a_secret_that_cannot_fit_is_an_error_with_words() {
        let error = Secret::zeroed(1 << 40).unwrap_err();
        assert_eq!(error, ArenaFull { wanted: 1 << 40 });
        assert!(error.to_string().contains("1099511627776 bytes"));
    }

    #[test]
    fn preparing_says_how_the_pages_are_kept() {
        let check = prepare();
        assert_eq!(check.name, "secret-memory");
        assert_ne!(check.state, CheckState::Failed);
        assert_eq!(check, prepare(), "twice is once");
    }

    #[test]
    fn secrets_may_be_held_by_any_thread() {
        fn held_anywhere<T: Send + Sync + 'static>() {}
        held_anywhere::<Secret>();
        let secret = Secret::copy_from(b"elsewhere").unwrap();
        assert!(std::thread::spawn(move || secret.matches(b"elsewhere")).join().unwrap());
    }
}
