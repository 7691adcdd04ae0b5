//! The command line. Its names are a contract; what is not built is not offered.
//!
//! It refuses secrets as arguments: there is no place for one. Called by `main`.

mod agent;
mod audit;
mod credential;
mod program;
mod vault;

use std::env;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use strongroom_protocol::HostPattern;

pub use self::agent::{Agent, AgentAdd, Egress, Grant, GrantAdd, Placeholder};
pub use self::audit::{Audit, AuditCommand, Verify};
pub use self::credential::{Credential, CredentialAdd};
pub use self::program::{Env, Format, Mode, Run};
pub use self::vault::{CredentialSlot, KeychainSlot, NewPassphrase, PassphraseChange, Restore, Slot, SlotAdd, Unlock};
use crate::demo::DemoOptions;

/// Lets AI agents use API keys that they never hold.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, propagate_version = true, max_term_width = 100)]
pub struct Args {
    /// Read the passphrase from this file instead of asking for it
    #[arg(long, global = true, value_name = "FILE", env = PASSPHRASE_FILE, hide_env_values = true, help_heading = GLOBAL)]
    pub passphrase_file: Option<PathBuf>,
    /// Answer every confirmation with yes
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub yes: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// Reads this program's command line.
    ///
    /// # Errors
    /// Where it makes no sense, or asks for help or the version.
    pub fn read() -> Result<Self, clap::Error> {
        let without = || Self::command().mut_arg("passphrase_file", |argument| argument.env(None::<&str>));
        // Set and empty is as good as not set; clap would take it for a file without a name.
        let is_empty = env::var_os(PASSPHRASE_FILE).is_some_and(|value| value.is_empty());
        let mut command = if is_empty { without() } else { Self::command() };
        let matches = command.clone().try_get_matches().map_err(|error| match error.kind() {
            // clap would show the option as one that has to be given, for the variable gave it.
            ErrorKind::MissingRequiredArgument => without().try_get_matches().err().unwrap_or(error),
            _ => error,
        })?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Over the options that every command has.
const GLOBAL: &str = "Global options";

/// Names the file that answers the passphrase prompt.
const PASSPHRASE_FILE: &str = "STRONGROOM_PASSPHRASE_FILE";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the vault and the default configuration
    Init(Users),
    /// Start both daemons
    Up {
        /// Under whose uids
        #[command(flatten)]
        users: Users,
        /// Stay, and log to standard error
        #[arg(long)]
        foreground: bool,
    },
    /// Stop both daemons
    ///
    /// A keyd that could not write down what was taken away, on a full disk, is stopped only with --yes.
    Down,
    /// Open the vault
    Unlock(Unlock),
    /// Close the vault and cut every exchange
    Lock,
    /// Say how things are
    Status(Json),
    /// Change the passphrase
    Passphrase(PassphraseChange),
    /// The ways to unlock the vault
    #[command(subcommand)]
    Slot(Slot),
    /// Write the vault, encrypted as it is, to a file
    Backup {
        /// A file that is not there yet
        file: PathBuf,
    },
    /// Show what a backup would change, and put it in the vault's place
    Restore(Restore),
    /// Named secrets and where they may go
    #[command(subcommand)]
    Credential(Credential),
    /// Who may use credentials
    #[command(subcommand)]
    Agent(Agent),
    /// Which agent may use which credential, with limits
    #[command(subcommand)]
    Grant(Grant),
    /// Print what an agent's programs find in their environment
    Env(Env),
    /// Run a program as an agent: with placeholders for keys, and the way to the gateway
    Run(Run),
    /// Show who used what
    Audit(Audit),
    /// The certificate authority that intercepted connections are signed by
    #[command(subcommand)]
    Ca(Ca),
    /// Look at the configuration
    #[command(subcommand)]
    Config(Config),
    /// Say what protects the daemons, and what is missing
    Doctor(Json),
    /// Show one agent's request in a temporary home, and who saw the key
    Demo(DemoOptions),
    /// Print completions for a shell
    Completions {
        /// For this shell
        shell: Shell,
    },
}

/// `--json`
#[derive(Debug, Clone, Copy, ClapArgs)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Users for the daemons.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Users {
    /// Run keyd as this user; as root only
    #[arg(long, value_name = "USER|UID", requires = "gateway_user")]
    pub keyd_user: Option<String>,
    /// Run gatewayd as this user; as root only
    #[arg(long, value_name = "USER|UID", requires = "keyd_user")]
    pub gateway_user: Option<String>,
}

/// `strongroom ca`
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Print the certificate to trust
    Show(Json),
    /// Make a new certificate authority in place of the old one
    Rotate,
}

/// `strongroom config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check both configuration files with the daemons' own parsers
    Check(Json),
}

fn host(text: &str) -> Result<HostPattern, String> {
    HostPattern::parse_unicode(text).map_err(|error| match text.strip_prefix("*.").unwrap_or(text) {
        // The parser speaks of a label that is not one.
        rest if rest.contains('*') && !text.contains('/') => {
            "'*' stands only in front, for one label: '*.example.com'".to_owned()
        }
        _ => error.to_string(),
    })
}

/// A number of at least this, in words for people.
fn number_from(least: u32, text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ if least == 0 => Err("write a whole number".to_owned()),
        Ok(_) => Err(format!("write a number from {least}")),
        Err(_) => Err(format!("write a whole number from {least}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(line: &[&str]) -> bool {
        Args::try_parse_from(std::iter::once("strongroom").chain(line.iter().copied())).is_ok()
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_contracts_lines_are_understood() {
        for line in [
            &["init"][..],
            &["up", "--foreground"],
            &["unlock", "--keychain"],
            &["unlock", "--keychain", "--wait", "600"],
            &["unlock", "--recovery"],
            &["slot", "list", "--json"],
            &["slot", "add", "passphrase", "--new-passphrase-file", "f"],
            &["slot", "add", "credential", "--with-key", "tpm2", "--output", "f"],
            &["slot", "add", "keychain"],
            &["slot", "add", "recovery"],
            &["slot", "remove", "2"],
            &["backup", "f"],
            &["restore", "f", "--dry-run", "--json"],
            &["credential", "add", "x", "--provider", "openai", "--yes"],
            &[
                "credential",
                "add",
                "x",
                "--host",
                "a.example:8443",
                "--host",
                "*.b.example",
                "--bearer",
                "--header",
                "x-api-key: {}",
                "--route",
                "r",
                "--ca",
                "f",
            ],
            &[
                "credential",
                "add",
                "x",
                "--host",
                "a.example",
                "--basic",
                "u",
                "--query",
                "key",
                "--query",
                "api_key",
                "--path-prefix",
                "/bot{}",
                "--body-json",
                "POST /token#/secret",
                "--body-form",
                "POST /token#secret",
                "--pin",
                "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "--http2",
            ],
            &["--yes", "credential", "remove", "x", "--purge"],
            &[
                "grant",
                "add",
                "x",
                "--agent",
                "a",
                "--rate",
                "200/hour",
                "--burst",
                "5",
                "--allow",
                "POST /v1/**",
                "--allow",
                "GET /",
                "--expires",
                "30d",
            ],
            &["audit", "--agent", "a", "--since", "1h", "--follow", "--json"],
            &["grant", "show", "x", "--agent", "a", "--json"],
            &["config", "check", "--json"],
            &["agent", "add", "a", "--uid", "1000", "--uid", "root", "--unit", "a.service", "--token"],
            &["agent", "allow", "a", "pypi.org", "*.b.example:8443", "--profile", "npm", "--profile", "git"],
            &["agent", "allow", "a", "--profile", "pip"],
            &["agent", "disallow", "a", "pypi.org"],
            &["grant", "add", "x", "--agent", "a", "--placeholder", "named"],
            &["env", "--agent", "a", "--mode", "base-url", "--format", "dotenv"],
            &["run", "--agent", "a", "--user", "u", "--mode", "proxy", "--", "git", "-C", "/", "log", "--yes"],
            &["ca", "show", "--json"],
            &["ca", "rotate", "--yes"],
            &["audit", "verify"],
            &["completions", "fish"],
        ] {
            assert!(parses(line), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_built_or_makes_no_sense_is_refused() {
        for line in [
            &[][..],
            &["credential"],
            &["credential", "add", "x", "--host", "a.example", "--bearer", "sk-key"],
            &["credential", "add", "../x", "--bearer"],
            &["credential", "add", "x", "--host", "user@a.example"],
            &["credential", "add", "x", "--host", "a.example", "--basic", "u:p"],
            &["credential", "add", "x", "--host", "a.example", "--basic"],
            &["credential", "add", "x", "--query", "key=value"],
            &["credential", "add", "x", "--path-prefix", "/bot"],
            &["credential", "add", "x", "--body-json", "/token#/secret"],
            &["credential", "add", "x", "--body-form", "POST /token"],
            &["credential", "add", "x", "--pin", "sha1//AAAA"],
            &["credential", "add", "x", "--header", "host: {}"],
            &["agent", "add", "a", "--uid"],
            &["agent", "add", "a", "--unit", "a.socket"],
            &["agent", "allow", "a"],
            &["agent", "allow", "a", "https://pypi.org"],
            &["env"],
            &["env", "--agent", "a", "--format", "fish"],
            &["run", "--agent", "a"],
            &["run", "--", "true"],
            &["grant", "add", "x", "--agent", "a", "--placeholder", "none"],
            &["grant", "add", "x"],
            &["grant", "add", "x", "--agent", "a", "--rate", "0/hour"],
            &["grant", "add", "x", "--agent", "a", "--burst", "0"],
            &["grant", "add", "x", "--agent", "a", "--allow", "post /v1"],
            &["grant", "add", "x", "--agent", "a", "--allow", "GET /a%2fb"],
            &["grant", "add", "x", "--agent", "a", "--expires", "-3d"],
            &["unlock", "--keychain", "--recovery"],
            &["unlock", "--wait", "600"],
            &["unlock", "--keychain", "--wait", "0"],
            &["slot", "add", "keychain", "--store", "drawer"],
            &["slot", "add"],
            &["slot", "remove"],
            &["restore", "x", "--recovery", "--backup-passphrase-file", "y"],
            &["passphrase", "secret"],
            &["up", "--keyd-user", "k"],
            &["completions", "no-such-shell"],
        ] {
            assert!(!parses(line), "{line:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_words_for_people() {
        for (line, words) in [
            (&["grant", "add", "x", "--agent", "a", "--burst", "x"][..], "write a whole number from 1"),
            (&["grant", "add", "x", "--agent", "a", "--burst", "0"], "write a number from 1"),
            (&["slot", "remove", "x"], "write a whole number"),
            (&["unlock", "--keychain", "--wait", "x"], "write a whole number of seconds, from 1 to 86400"),
            (&["unlock", "--keychain", "--wait", "0"], "write a whole number of seconds, from 1 to 86400"),
            (&["agent", "allow", "a", "*"], "'*' stands only in front, for one label: '*.example.com'"),
            (&["agent", "allow", "a", "*.*.com"], "'*' stands only in front"),
            (&["credential", "add", "x", "--host", "a.*.com"], "'*' stands only in front"),
            (&["credential", "add", "x", "--host", "*.com"], "everybody's hosts"),
            (&["credential", "add", "x", "--body-json", "POST /pq/*#/auth"], "the path is exact"),
            (&["credential", "add", "x", "--body-form", "POST /pq/**#auth"], "the path is exact"),
            (&["credential", "add", "x", "--host", "https://*.example.com/"], "without 'https://'"),
        ] {
            let error = Args::try_parse_from(std::iter::once("strongroom").chain(line.iter().copied())).unwrap_err();
            assert!(error.to_string().contains(words), "{line:?}: {error}");
        }
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        for line in [
            &["run", "--agent", "a", "--", "env", "-i", "--", "x", "--yes", "--agent", "b"][..],
            &["run", "--agent", "a", "env", "-i", "--", "x", "--yes", "--agent", "b"],
        ] {
            let args = Args::try_parse_from(std::iter::once("strongroom").chain(line.iter().copied())).unwrap();
            let Command::Run(run) = args.command else { panic!("another command") };
            assert!(!args.yes && run.agent.as_str() == "a", "{line:?}");
            assert_eq!(run.command, ["env", "-i", "--", "x", "--yes", "--agent", "b"]);
        }
    }
}
