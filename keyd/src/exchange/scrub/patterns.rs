//! Which keys are looked for in an answer, and what little of their shape is public.
//!
//! Every version of every credential that names the authority, and of every credential that the agent's grants reach:
//! an agent may use one upstream to echo what it got from another. Weak keys are left out, for a mask over a guess
//! would tell that the guess was right. The keys themselves are not copied: a pattern is a place in the vault's
//! records, and [`Patterns`] holds those records.

use std::rc::Rc;

use strongroom_protocol::Authority;

use crate::policy::live::Live;

/// Keys to look for.
pub struct Patterns {
    live: Rc<Live>,
    /// Credential and version, as indexes; and how many bytes of the key are the provider's public prefix.
    places: Vec<Place>,
    shape: Shape,
}

struct Place {
    credential: usize,
    version: usize,
    prefix: usize,
}

/// What decides how much is held back. It is the same for every key of the same coarse kind: public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Some key has bytes above 0x20 outside letters, digits and `-_.~+/=%\`.
    pub other_bytes: bool,
    /// Most bytes that are ever held: 256, or the next power of two that the longest key fits in.
    pub bucket: usize,
}

impl Patterns {
    /// The keys that could come back from this authority to this agent.
    #[must_use]
    pub fn new(live: Rc<Live>, authority: &Authority, agent: u64) -> Self {
        let named: Vec<u64> = live.credentials_naming(authority).map(|credential| credential.id).collect();
        let contents = live.contents();
        let granted = |id| contents.grants.iter().any(|grant| grant.agent == agent && grant.credential == id);
        let mut places = Vec::new();
        for (index, credential) in contents.credentials.iter().enumerate() {
            if !named.contains(&credential.id) && !granted(credential.id) {
                continue;
            }
            for (number, version) in credential.versions.iter().enumerate() {
                if !version.weak {
                    let prefix = if version.value.starts_with(credential.key_prefix.as_bytes()) {
                        credential.key_prefix.len()
                    } else {
                        0
                    };
                    places.push(Place { credential: index, version: number, prefix });
                }
            }
        }
        let mut patterns = Self { live, places, shape: Shape { other_bytes: false, bucket: SMALLEST_BUCKET } };
        let longest = patterns.keys().map(|(key, _)| key.len()).max().unwrap_or(0);
        let other_bytes = patterns.keys().any(|(key, _)| !key.iter().all(|byte| Shape::is_common(*byte)));
        patterns.shape = Shape { other_bytes, bucket: longest.next_power_of_two().max(SMALLEST_BUCKET) };
        patterns
    }

    /// Each key, and how many of its bytes are a public prefix.
    pub fn keys(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.places.iter().map(|place| {
            let version = &self.live.contents().credentials[place.credential].versions[place.version];
            (&version.value[..], place.prefix)
        })
    }

    /// What is public of them.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether these were made from this generation.
    #[must_use]
    pub fn are_of(&self, live: &Rc<Live>) -> bool {
        Rc::ptr_eq(&self.live, live)
    }
}

impl Shape {
    /// Whether the byte could belong to a key.
    #[must_use]
    pub fn holds(self, byte: u8) -> bool {
        Self::is_common(byte) || self.other_bytes && byte > 0x20 && byte != 0x7f
    }

    fn is_common(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"-_.~+/=%\\".contains(&byte)
    }
}

/// No shorter bucket, so that short keys all look alike.
pub const SMALLEST_BUCKET: usize = 256;

#[cfg(test)]
pub mod fixture {
    //! Patterns over given keys, for the tests of this folder.

    use super::*;
    use crate::policy::fixture;

    /// Patterns for one authority whose credential had these values.
    pub fn patterns(keys: &[&[u8]], prefix: &str) -> Patterns {
        let mut contents = fixture::contents();
        let id = fixture::credential(&mut contents, "one", "a.example", keys);
        if let Some(credential) = contents.credentials.iter_mut().find(|credential| credential.id == id) {
            prefix.clone_into(&mut credential.key_prefix);
        }
        let authority = "a.example".parse().expect("an authority");
        Patterns::new(Rc::new(Live::new(contents)), &authority, 0)
    }
}
