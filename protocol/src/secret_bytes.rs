//! Bytes that must not outlive their use: wiped on drop, never printed, never cloned.
//!
//! Carries a credential's value or a derived key from ctl to keyd. It refuses `Clone`, `PartialEq` and a derived
//! `Debug` or `Serialize`; the wire form is written here by hand, so that no other serialiser is taken by accident.
//! keyd moves what it keeps into locked pages; this type is for the way there.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroize;

/// Secret bytes of at most [`SecretBytes::LIMIT`], wiped when dropped.
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Longest secret that any message carries, in bytes. The longest keys seen in the field (JWTs, PEM keys) stay
    /// below 8 KiB; four times that is refused nowhere and still bounded.
    pub const LIMIT: usize = 32 * 1024;

    /// Takes the bytes over. The vector's spare capacity is wiped, for `into_boxed_slice` may move the bytes.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(bytes.into_boxed_slice());
        }
        let exact: Box<[u8]> = bytes.as_slice().into();
        bytes.zeroize();
        Self(exact)
    }

    /// The bytes. Keep the borrow short.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SecretBytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {} secret bytes", SecretBytes::LIMIT)
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<SecretBytes, E> {
                if bytes.len() > SecretBytes::LIMIT {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(SecretBytes(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let secret = SecretBytes::new(b"hunter2hunter2hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "[REDACTED]");
    }

    #[test]
    fn the_wire_form_round_trips() {
        let secret = SecretBytes::new(vec![0, 1, 2, 255]);
        let bytes = postcard::to_stdvec(&secret).expect("encodes");
        let back: SecretBytes = postcard::from_bytes(&bytes).expect("decodes");
        assert_eq!(back.expose(), [0, 1, 2, 255]);
    }

    #[test]
    fn a_secret_over_the_limit_is_refused() {
        let bytes = postcard::to_stdvec(&SecretBytes::new(vec![7; SecretBytes::LIMIT + 1])).expect("encodes");
        assert!(postcard::from_bytes::<SecretBytes>(&bytes).is_err());
    }
}
