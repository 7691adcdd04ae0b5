//! The command line, parsed once into what is to be done.
//!
//! It refuses unknown words, values that are missing and options given twice; it reads no file.
//! Called by `main`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::prelude::*;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
    /// Parse this file and say what is wrong with it.
    CheckConfig(PathBuf),
    /// Serve.
    Run(Run),
}

/// How to serve.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// A configuration file other than the home's.
    pub config: Option<PathBuf>,
    /// Leave the caller's session.
    pub detach: bool,
}

/// What `--help` prints.
pub const HELP: &str = "\
Usage: strongroom-gatewayd [--config FILE] [--detach]
       strongroom-gatewayd --check-config FILE

The network process of Strongroom: takes agents' requests, dials upstreams, holds no key.

  --config FILE        read FILE in place of gatewayd.toml of the installation
  --detach             leave the session of the caller
  --check-config FILE  parse FILE and exit: 0 where it is right, 78 where it is not
  --version, --help

Exit codes: 64 usage, 70 fault, 77 not permitted, 78 configuration.
";

/// Parses the command line, program name first.
///
/// # Errors
/// Where a word is unknown, stands twice or lacks its value.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_iter(words);
    let mut run = Run::default();
    let mut check = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("version") | Short('V') => return Ok(Command::Version),
            Long("config") if run.config.is_none() => run.config = Some(parser.value()?.into()),
            Long("check-config") if check.is_none() => check = Some(PathBuf::from(parser.value()?)),
            Long("detach") if !run.detach => run.detach = true,
            Long(name @ ("config" | "check-config" | "detach")) => {
                return Err(UsageError(format!("--{name} stands twice")));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    match check {
        Some(_) if run != Run::default() => Err(UsageError("--check-config stands alone".to_owned())),
        Some(path) => Ok(Command::CheckConfig(path)),
        None => Ok(Command::Run(run)),
    }
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see 'strongroom-gatewayd --help'", self.0)
    }
}

impl std::error::Error for UsageError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command, UsageError> {
        parse(std::iter::once("strongroom-gatewayd").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn each_form_is_taken() {
        assert_eq!(parse_words(&[]), Ok(Command::Run(Run::default())));
        let run = Run { config: Some("/c".into()), detach: true };
        assert_eq!(parse_words(&["--detach", "--config", "/c"]), Ok(Command::Run(run)));
        assert_eq!(parse_words(&["--check-config=/c"]), Ok(Command::CheckConfig("/c".into())));
        assert_eq!(parse_words(&["--version"]), Ok(Command::Version));
        assert_eq!(parse_words(&["--help"]), Ok(Command::Help));
    }

    #[test]
    fn everything_else_is_refused() {
        for words in [
            &["--conf", "x"][..],
            &["--config"],
            &["x"],
            &["--detach", "--detach"],
            &["--detach=yes"],
            &["--config", "a", "--config", "b"],
            &["--check-config", "a", "--detach"],
            &["-x"],
        ] {
            let error = parse_words(words).expect_err("refused").to_string();
            assert!(error.ends_with("see 'strongroom-gatewayd --help'"), "{words:?}: {error}");
        }
    }
}
