//! What an agent's environment is made of: its placeholders, where they go, and the certificate to trust.
//!
//! It holds nothing that is worth anything elsewhere; the token is the agent's own and goes to admins alone.
//! Sent by keyd, to ctl over admin.sock and to gatewayd for an agent that proved itself.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// One page of an agent's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Environment {
    /// The agent.
    pub agent: Name,
    /// Its token, where it has one and the asker may know it.
    pub token: Option<String>,
    /// The certificate of our certificate authority, as DER.
    pub ca: Vec<u8>,
    /// Its live grants, in the order in which they were made; at most [`GRANTS_IN_A_PAGE`].
    pub grants: Vec<EnvironmentGrant>,
    /// Ask again, after the last number.
    pub more: bool,
}

/// One grant, as the environment shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct EnvironmentGrant {
    /// Its number; also the place in the list.
    pub number: u64,
    /// Of this credential.
    pub credential: Name,
    /// The provider that the credential was made from.
    pub provider: Option<Name>,
    /// First path segment of the base-URL way in.
    pub route: Option<Name>,
    /// Environment variables in which programs expect this key.
    pub variables: Vec<String>,
    /// What the agent holds.
    pub placeholder: String,
    /// The placeholder is the variable's own name.
    pub named: bool,
}

/// Grants in one page: so many of the largest fit [`crate::frame::EXCHANGE_LIMIT`].
pub const GRANTS_IN_A_PAGE: usize = 16;

/// The variable of a credential that has none of its own: its name in capitals, with `_` for what a variable's name
/// cannot hold.
#[must_use]
pub fn variable_of(credential: &Name) -> String {
    let text: String = credential
        .as_str()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' })
        .collect();
    if text.starts_with(|first: char| first.is_ascii_digit()) { format!("_{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_named_like_its_credential() {
        for (name, variable) in [("GITHUB_TOKEN", "GITHUB_TOKEN"), ("my-api.key", "MY_API_KEY"), ("2fa", "_2FA")] {
            assert_eq!(variable_of(&name.parse().unwrap()), variable);
        }
    }
}
