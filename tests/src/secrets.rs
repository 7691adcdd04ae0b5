//! What must be in no file of a home: keys, the passphrase, tokens and placeholders that a test's commands took or gave.
//!
//! Every [`crate::strongroom::Strongroom`] remembers its own and is searched when it is dropped, so that every test is one of
//! leaks. Searched are all files - logs, audit log, configuration, the vault -, as they are and with percent and JSON
//! escapes undone. It refuses to print what it found. Used by `strongroom` and by the tests of logs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use memchr::memmem;
use strongroom_ctl::demo::needles::Needles;
use strongroom_ctl::demo::report;

/// Secrets by what they are.
#[derive(Default)]
pub struct Secrets(BTreeMap<Vec<u8>, (&'static str, Needles)>);

impl Secrets {
    /// Remembers one; those that could stand anywhere by chance are let go.
    pub fn know(&mut self, what: &'static str, secret: &[u8]) {
        if secret.len() >= SHORTEST && self.0.len() < MOST {
            self.0.entry(secret.to_vec()).or_insert_with(|| (what, Needles::of(secret)));
        }
    }

    /// What a command took or gave, by its arguments.
    pub fn know_of(&mut self, arguments: &[&str], stdin: &[u8], stdout: &str) {
        let line = |bytes: &[u8]| bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
        match arguments {
            ["credential", "add" | "rotate", ..] => self.know("a key", &line(stdin)),
            ["agent", "add", .., "--token"] => self.know("a token", &line(stdout.as_bytes())),
            // A named placeholder is a variable's name, and no secret.
            ["grant", "add", ..] if stdout.contains("strongroom-") => {
                self.know("a placeholder", &line(stdout.as_bytes()));
            }
            _ => {}
        }
    }

    /// What is in there, in any form, and in which.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<String> {
        let mut ways = vec![bytes.to_vec()];
        ways.extend([without_percent(bytes), without_json(bytes)].into_iter().filter(|other| other != bytes));
        self.0.values().find_map(|(what, needles)| {
            let form = ways.iter().find_map(|bytes| needles.find(bytes))?;
            Some(format!("{what} ({form})"))
        })
    }

    /// What lies in which files of a home. What cannot be read is passed over: a test may have taken it away.
    #[must_use]
    pub fn found_below(&self, root: &Path) -> Vec<String> {
        let files = report::files_below(root).unwrap_or_default();
        let in_file = |file: &PathBuf| {
            let found = self.find(&fs::read(file).ok()?)?;
            Some(format!("{found} in {}", file.strip_prefix(root).unwrap_or(file).display()))
        };
        files.iter().filter_map(in_file).collect()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// `%2F` and the like undone.
fn without_percent(bytes: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    unescaped(bytes, b"%", |rest| {
        let (high, low) = (digit(rest.first())?, digit(rest.get(1))?);
        Some((u8::try_from(high * 16 + low).ok()?, 2))
    })
}

/// `\u002f`, `\/` and the like undone.
fn without_json(bytes: &[u8]) -> Vec<u8> {
    unescaped(bytes, b"\\", |rest| match rest {
        [b'u', digits @ ..] => {
            let text = std::str::from_utf8(digits.get(..4)?).ok()?;
            Some((u8::try_from(u32::from_str_radix(text, 16).ok()?).ok()?, 5))
        }
        [byte, ..] => Some((*byte, 1)),
        [] => None,
    })
}

/// With every escape replaced: what follows the sign gives a byte, and how many bytes it stood in.
fn unescaped(bytes: &[u8], sign: &[u8], byte: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    while let Some(at) = memmem::find(rest, sign) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match byte(rest) {
            Some((byte, length)) => {
                out.push(byte);
                rest = &rest[length..];
            }
            None => out.extend_from_slice(sign),
        }
    }
    out.extend_from_slice(rest);
    out
}

/// As short as a key may be that is masked.
const SHORTEST: usize = 16;
/// Tests with thousands of grants would take their time here.
const MOST: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-Zq8vB3mN/xT2kL9wR4yH";

    #[test]
    fn every_form_is_found_and_what_differs_is_not() {
        let mut secrets = Secrets::default();
        secrets.know("a key", KEY.as_bytes());
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = KEY.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for (text, form) in [
            (KEY, "literal"),
            (hex.as_str(), "hex"),
            // "u:" in front of it.
            ("dTpzay1acTh2QjNtTi94VDJrTDl3UjR5SA==", "base64"),
            (percent.as_str(), "literal"),
            ("sk-Zq8vB3mN%2fxT2kL9wR4yH", "literal"),
            (r"sk-Zq8vB3mN\/xT2kL9wR4\u0079H", "literal"),
        ] {
            let found = secrets.find(format!("x {text} y").as_bytes());
            assert_eq!(found, Some(format!("a key ({form})")), "{text}");
        }
        for text in ["sk-Zq8vB3mN%2exT2kL9wR4yH", "sk-Zq8vB3mN%xT2kL9wR4yH", r"\u", "%", "%2", r"\"] {
            assert_eq!(secrets.find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn commands_say_what_is_secret() {
        let mut secrets = Secrets::default();
        secrets.know_of(&["credential", "add", "a", "--bearer"], b"the-key-of-a-credential\n", "");
        secrets.know_of(&["credential", "rotate", "a"], b"the-next-key-of-it", "");
        secrets.know_of(&["agent", "add", "b", "--token"], b"", "the-token-of-an-agent\n");
        secrets.know_of(&["grant", "add", "a", "--agent", "b"], b"", "sk-strongroom-0123456789\n");
        secrets.know_of(&["grant", "add", "a", "--agent", "b"], b"", "OPENAI_API_KEY_OF_THEM\n");
        secrets.know_of(&["credential", "add", "weak", "--allow-weak"], b"short", "");
        for (text, what) in [
            ("the-key-of-a-credential", Some("a key (literal)")),
            ("the-next-key-of-it", Some("a key (literal)")),
            ("the-token-of-an-agent", Some("a token (literal)")),
            ("sk-strongroom-0123456789", Some("a placeholder (literal)")),
            ("OPENAI_API_KEY_OF_THEM", None),
            ("short", None),
        ] {
            assert_eq!(secrets.find(text.as_bytes()).as_deref(), what, "{text}");
        }
    }
}
