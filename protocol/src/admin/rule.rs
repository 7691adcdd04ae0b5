//! What a grant allows, as an admin writes it: how often, and which methods and paths.
//!
//! It refuses texts that have two readings. Parsed by ctl, matched and counted by keyd's `policy/`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token bucket: `burst` at most, refilled evenly with `count` a `seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Rate {
    /// Requests, at least 1.
    pub count: u32,
    /// in this many seconds, at least 1.
    pub seconds: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

impl Rate {
    /// What a grant has where none was said.
    pub const DEFAULT: Self = Self { count: 10_000, seconds: 3600, burst: 2_000 };

    /// Whether a bucket can be made of it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.count > 0 && self.seconds > 0 && self.burst > 0
    }
}

/// A method and a path pattern: `POST /v1/**`.
///
/// In the path `*` stands for any characters but `/`, and a segment `**` for any number of segments. Matched with
/// regard to case on the canonical path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    method: String,
    path: String,
}

impl Rule {
    /// The method, or `*` for every one.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path pattern; begins with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether canonical paths, which the pattern is matched with, can never look so: they have no such byte, or write
    /// the encoding in another way (RFC 3986, 6.2.2). Parsing takes such rules, for vaults may hold them; whoever reads
    /// one from a person says it.
    #[must_use]
    pub fn never_matches(&self) -> bool {
        // `{}` stands where a key goes, in a path that has one.
        let path = self.path.replace("{}", "");
        let bytes = path.as_bytes();
        let encoded = |at: usize| {
            let digits = bytes.iter().skip(at + 1).take(2).take_while(|byte| **byte != b'*');
            let digits: Vec<u8> = digits.copied().collect();
            let upper_case = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
            let value = std::str::from_utf8(&digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
            match digits.len() {
                2 => upper_case && value.is_some_and(stays_encoded),
                // A star stands for what is missing.
                cut => upper_case && bytes.get(at + 1 + cut) == Some(&b'*'),
            }
        };
        bytes.iter().enumerate().any(|(at, byte)| match byte {
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => true,
            b'%' => !encoded(at),
            _ => false,
        })
    }
}

/// Whether a canonical path has this byte percent-encoded: no control character, and nothing unreserved (RFC 3986, 2.3).
fn stays_encoded(value: u8) -> bool {
    let is_unreserved = value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~');
    value >= 0x20 && value != 0x7f && !is_unreserved
}

impl std::str::FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (method, path) = text.split_once(' ').ok_or(InvalidRule)?;
        let is_method =
            !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
        let is_path = path.starts_with('/')
            && path.len() <= 512
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte));
        // What canonical paths never have would be a rule that never matches: say so now.
        let canonical = !path.contains("//") && !path.split('/').any(|segment| matches!(segment, "." | ".."));
        if (is_method || method == "*") && method.len() <= 32 && is_path && canonical {
            Ok(Self { method: method.to_owned(), path: path.to_owned() })
        } else {
            Err(InvalidRule)
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A text that is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidRule;

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a rule is a method in capitals (or '*'), a space and a path pattern without query, like 'POST /v1/**'",
        )
    }
}

impl std::error::Error for InvalidRule {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_parsed_and_written_alike() {
        for text in ["POST /v1/**", "* /", "GET /a/*/b", "M-SEARCH /x"] {
            assert_eq!(text.parse::<Rule>().expect("a rule").to_string(), text);
        }
        for text in [
            "",
            "POST",
            "post /v1",
            "POST v1",
            "POST /a//b",
            "POST /a/../b",
            "POST /a?b",
            " /a",
            "POST  /a",
            "POST /a b",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text:?}");
        }
    }
    #[test]
    fn what_no_canonical_path_has_never_matches() {
        for path in ["/a%2fb", "/%41", "/%7E", "/a{b}", "/a\"b", "/%zz", "/%2", "/%00", "/a%/b", "/%2e*", "/%2b*"] {
            assert!(format!("GET {path}").parse::<Rule>().expect(path).never_matches(), "{path}");
        }
        for path in [
            "/",
            "/v1/**",
            "/a%2Fb",
            "/%20",
            "/%C3%BC",
            "/%*",
            "/%2*",
            "/a~b",
            "/(x)",
            "/a:b@c",
            "/%2B*",
            "/bot{}/send",
        ] {
            assert!(!format!("GET {path}").parse::<Rule>().expect(path).never_matches(), "{path}");
        }
    }
}
