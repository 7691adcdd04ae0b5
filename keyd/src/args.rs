//! keyd's command line: almost nothing, for nothing that matters may come from it.
//!
//! It refuses what it does not know, and never takes a secret. Called by `main`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::prelude::*;

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub command: Command,
    /// Another configuration file than the home's.
    pub config: Option<PathBuf>,
    /// Leave the caller's session.
    pub detach: bool,
}

/// What keyd can do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Be the daemon.
    Serve,
    /// Make a vault from a message on standard input, for `strongroom init`.
    CreateVault,
    /// Read a configuration file and say what is wrong with it.
    CheckConfig(PathBuf),
    /// Print this text.
    Say(String),
}

impl Args {
    /// Parses the program's arguments, its name first.
    ///
    /// # Errors
    /// For everything that is not known.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut parser = lexopt::Parser::from_iter(arguments);
        let mut args = Self { command: Command::Serve, config: None, detach: false };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("config") => args.config = Some(parser.value()?.into()),
                Long("detach") => args.detach = true,
                Long("check-config") => args.command = Command::CheckConfig(parser.value()?.into()),
                Value(word) if word == "create-vault" && args.command == Command::Serve => {
                    args.command = Command::CreateVault
                }
                Long("help") | Short('h') => args.command = Command::Say(HELP.to_owned()),
                Long("version") | Short('V') => {
                    args.command =
                        Command::Say(concat!("strongroom-keyd ", env!("CARGO_PKG_VERSION"), "\n").to_owned());
                }
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(args)
    }
}

/// A command line that is not understood.
#[derive(Debug)]
pub struct UsageError(lexopt::Error);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see strongroom-keyd --help", self.0)
    }
}

impl std::error::Error for UsageError {}

const HELP: &str = "\
strongroom-keyd: the key daemon of Strongroom

Usage: strongroom-keyd [--config FILE] [--detach]
       strongroom-keyd --check-config FILE
       strongroom-keyd create-vault < MESSAGE

  --config FILE        read this instead of keyd.toml in the home's configuration
  --detach             leave the caller's session, as 'strongroom up' wants it
  --check-config FILE  say whether the file can be used, and exit
  create-vault         make a vault from a message of 'strongroom init'
  -V, --version        print the version
  -h, --help           print this

The home is STRONGROOM_HOME, or the system's for root, or the user's XDG directories.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, UsageError> {
        Args::parse(std::iter::once("strongroom-keyd").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn known_words_are_understood() {
        assert_eq!(parse(&[]).unwrap(), Args { command: Command::Serve, config: None, detach: false });
        assert_eq!(parse(&["create-vault"]).unwrap().command, Command::CreateVault);
        assert_eq!(parse(&["--check-config", "x"]).unwrap().command, Command::CheckConfig("x".into()));
        assert!(parse(&["--config=x", "--detach"]).unwrap().detach);
    }

    #[test]
    fn anything_else_is_refused() {
        for words in [&["--passphrase", "x"][..], &["serve"], &["--config"], &["create-vault", "create-vault"], &["-x"]]
        {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
