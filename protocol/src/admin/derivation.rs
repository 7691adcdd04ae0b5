//! How a passphrase becomes a slot's key: the parameters of Argon2id (RFC 9106), and which of them are accepted.
//!
//! It refuses parameters that are too weak, and such as would fill the memory of whoever derives. Used by ctl, which
//! derives, and by keyd, which stores them.

use serde::{Deserialize, Serialize};

/// Argon2id parameters of the passphrase slot (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct KeyDerivation {
    /// Random.
    pub salt: [u8; 16],
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KeyDerivation {
    /// What new vaults get, with a salt: RFC 9106's second recommended option, 64 MiB, 3 passes, 4 lanes.
    #[must_use]
    pub fn recommended(salt: [u8; 16]) -> Self {
        Self { salt, memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }

    /// Whether the parameters are within the bounds that either side accepts: from OWASP's minimum of 19 MiB and two
    /// passes to 1 GiB, 16 passes and 16 lanes. A file or a peer beyond them is refused before anything is computed.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        (19 * 1024..=1024 * 1024).contains(&self.memory_kib)
            && (2..=16).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recommended_derivation_is_within_bounds() {
        let recommended = KeyDerivation::recommended([0; 16]);
        assert!(recommended.is_within_bounds());
        assert!(!KeyDerivation { memory_kib: 1024, ..recommended }.is_within_bounds());
        assert!(!KeyDerivation { memory_kib: u32::MAX, ..recommended }.is_within_bounds());
        assert!(!KeyDerivation { passes: 1, ..recommended }.is_within_bounds());
        assert!(!KeyDerivation { lanes: 0, ..recommended }.is_within_bounds());
    }
}
