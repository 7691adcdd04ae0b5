//! Names that people give: credentials, agents, routes.
//!
//! One alphabet for all three, so that a name can stand in a URL's first segment, a file name, a shell word and a
//! log line without quoting. Refuses everything else. Called wherever a name crosses a socket.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 1 to 64 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Longest name, in bytes.
    pub const LIMIT: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match text.as_bytes() {
            [] => Err(InvalidName::Empty),
            bytes if bytes.len() > Self::LIMIT => Err(InvalidName::TooLong(bytes.len())),
            [first, ..] if !first.is_ascii_alphanumeric() => Err(InvalidName::FirstCharacter),
            bytes if !bytes.iter().all(|&byte| allowed(byte)) => Err(InvalidName::Character),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidName {
    /// No characters at all.
    Empty,
    /// More than [`Name::LIMIT`] bytes; holds how many.
    TooLong(usize),
    /// The first character is neither a letter nor a digit.
    FirstCharacter,
    /// A character outside the alphabet.
    Character,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty")?,
            Self::TooLong(length) => write!(f, "the name has {length} bytes, {} are allowed", Name::LIMIT)?,
            Self::FirstCharacter => f.write_str("the name does not begin with a letter or digit")?,
            Self::Character => f.write_str("the name has a character that is not allowed")?,
        }
        f.write_str("; use letters, digits, '.', '_' and '-'")
    }
}

impl std::error::Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for text in ["openai", "A", "team-1.prod_eu", "7z"] {
            assert_eq!(text.parse::<Name>().expect("a name").as_str(), text);
        }
    }

    #[test]
    fn names_that_could_be_mistaken_for_something_else_are_refused() {
        for text in ["", ".hidden", "-flag", "@token", "a/b", "a b", "a\n", "é", "..", "a\0"] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert_eq!("x".repeat(65).parse::<Name>(), Err(InvalidName::TooLong(65)));
    }

    #[test]
    fn a_peer_cannot_send_a_bad_name() {
        let bytes = postcard::to_stdvec("../vault").expect("encodes");
        assert!(postcard::from_bytes::<Name>(&bytes).is_err());
    }
}
