//! Words about a wrong command line that do not repeat what may be a key.
//!
//! A key in an argument is refused like any word that has no place there, and it must not reach a log by way of the
//! refusal. It refuses to guess what a key looks like: it is silent about every value in such a place. Called by
//! `args.rs` and `main`.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use strongroom_protocol::name::InvalidName;
use strongroom_protocol::site::InvalidSite;
use strongroom_protocol::{Name, Site};

/// Reads the option of this name. Where it is wrong the value is not repeated: somebody who writes the key itself in
/// place of `{}`, or behind a user name, should not find it in a log as well.
#[derive(Debug, Clone)]
pub struct SiteParser(pub &'static str, pub fn(&str) -> Result<Site, InvalidSite>);

impl TypedValueParser for SiteParser {
    type Value = Site;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Site, clap::Error> {
        let Self(option, parse) = self;
        let site = value
            .to_str()
            .map_or_else(|| Err("it is not UTF-8".to_owned()), |text| parse(text).map_err(|error| error.to_string()));
        site.map_err(|words| {
            let words = format!("--{option} is wrong: {words}\n\nFor more information, try '--help'.\n");
            clap::Error::raw(ErrorKind::ValueValidation, words).with_cmd(command)
        })
    }
}

/// Reads the name of a credential. A key in its place is seldom a name, and is not repeated then.
#[derive(Debug, Clone)]
pub struct NameParser;

impl TypedValueParser for NameParser {
    type Value = Name;

    fn parse_ref(&self, command: &Command, _: Option<&Arg>, value: &OsStr) -> Result<Name, clap::Error> {
        let name = value.to_str().map_or_else(
            || Err("the name is not UTF-8".to_owned()),
            |text| text.parse().map_err(|error: InvalidName| error.to_string()),
        );
        name.map_err(|words| {
            let words = format!("{words}. It {UNSAID}.\n\nFor more information, try '--help'.\n");
            clap::Error::raw(ErrorKind::ValueValidation, words).with_cmd(command)
        })
    }
}

/// What is said in place of clap's words, where those would repeat a word that may be a key.
#[must_use]
pub fn words(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_unsaid = match error.kind() {
        ErrorKind::UnknownArgument => !word.starts_with('-'),
        // An option that takes no value was given one.
        ErrorKind::TooManyValues => true,
        _ => false,
    };
    is_unsaid.then(|| format!("strongroom: there is a word too many on the command line; it {UNSAID}; see --help."))
}

const UNSAID: &str = "is not repeated here, for it may be a key. Give keys on standard input or at the prompt";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[test]
    fn a_key_on_the_command_line_is_not_repeated() {
        for line in [
            &["credential", "add", "x", "sk-live-1234", "--bearer"][..],
            &["credential", "rotate", "x", "sk-live-1234"],
            &["credential", "rotate", "x", "--value=sk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--bearer=sk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--bearer", "--http2=sk-live-1234"],
            &["credential", "rotate", "x", "--allow-weak=sk-live-1234"],
            &["credential", "add", "sk-live-1234+5", "--host", "a.example", "--bearer"],
            &["credential", "rotate", "sk-live-1234+5"],
            &["credential", "show", "sk-live-1234+5"],
            &["grant", "add", "sk-live-1234+5", "--agent", "a"],
            &["credential", "add", "x", "--host", "a.example", "--header", "x-api-key: sk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--basic", "user:sk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--query", "key=sk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--path-prefix", "/botsk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--body-json", "sk-live-1234"],
            &["credential", "add", "x", "--host", "a.example", "--body-form", "POST /token?sk-live-1234#x"],
        ] {
            let parsed = Args::try_parse_from(std::iter::once("strongroom").chain(line.iter().copied()));
            let error = parsed.unwrap_err();
            let said = words(&error).unwrap_or_else(|| error.to_string());
            assert!(!said.contains("sk-live") && said.contains("--help"), "{line:?}: {said}");
        }
        let wrong = Args::try_parse_from(["strongroom", "status", "--jsno"]).unwrap_err();
        assert!(words(&wrong).is_none() && wrong.to_string().contains("--json"), "{wrong}");
    }
}
