//! `strongroom env` and `run`: what an agent's programs find.
//!
//! It refuses options behind the program's name: they are the program's. Read by `command/env.rs` and `command/run.rs`.

use std::ffi::OsString;

use clap::{Args as ClapArgs, ValueEnum};
use strongroom_protocol::Name;

use crate::error::{CtlError, Outcome};

/// `strongroom env`
#[derive(Debug, ClapArgs)]
pub struct Env {
    /// Whose environment
    #[arg(long)]
    pub agent: Name,
    /// How its programs reach the gateway
    #[arg(long, value_enum, default_value_t = Mode::Proxy)]
    pub mode: Mode,
    /// How to print it [default: shell]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
}

impl Env {
    /// How to print it.
    ///
    /// # Errors
    /// Where two formats are asked for.
    pub fn format(&self) -> Outcome<Format> {
        match (self.json, self.format) {
            (true, None | Some(Format::Json)) => Ok(Format::Json),
            (true, Some(_)) => Err(CtlError::usage("--json and --format ask for two formats. Give one of them.")),
            (false, format) => Ok(format.unwrap_or(Format::Shell)),
        }
    }
}

/// `strongroom run`
#[derive(Debug, ClapArgs)]
pub struct Run {
    /// As this agent
    #[arg(long)]
    pub agent: Name,
    /// How it reaches the gateway
    #[arg(long, value_enum, default_value_t = Mode::Proxy)]
    pub mode: Mode,
    /// Run it as this user; as root only
    #[arg(long, value_name = "USER|UID")]
    pub user: Option<String>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `--mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Proxy variables, and certificates to trust
    Proxy,
    /// Base-URL variables, where the provider's programs have them
    BaseUrl,
}

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for a shell to read
    Shell,
    /// A .env file
    Dotenv,
    /// One JSON object
    Json,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn format(more: &[&str]) -> Result<Format, u8> {
        let line = ["strongroom", "env", "--agent", "a"].iter().chain(more);
        let Command::Env(env) = Args::try_parse_from(line).unwrap().command else { panic!("another command") };
        env.format().map_err(|error| error.code())
    }

    #[test]
    fn json_is_a_format_and_contradicts_the_others() {
        assert_eq!([format(&[]), format(&["--format", "dotenv"])], [Ok(Format::Shell), Ok(Format::Dotenv)]);
        for line in [&["--json"][..], &["--format", "json"], &["--json", "--format", "json"]] {
            assert_eq!(format(line), Ok(Format::Json), "{line:?}");
        }
        for other in ["shell", "dotenv"] {
            assert_eq!(format(&["--format", other, "--json"]), Err(64), "{other}");
        }
    }
}
