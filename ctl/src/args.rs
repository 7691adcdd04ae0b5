//! The command line. Its names are a contract; what is not built is not offered.
//!
//! It refuses secrets as arguments: there is no place for one. Called by `main`.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use strongroom_protocol::admin::{InvalidRule, Rate, Rule};
use strongroom_protocol::{HostPattern, Name, Site};

use crate::demo::DemoOptions;
use crate::discreet::SiteParser;
use crate::keychain::Store;
use crate::{pin, quantity, unit};

/// Lets AI agents use API keys that they never hold.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, propagate_version = true, max_term_width = 100)]
pub struct Args {
    /// Read the passphrase from this file instead of asking for it
    #[arg(long, global = true, value_name = "FILE", env = PASSPHRASE_FILE, hide_env_values = true)]
    pub passphrase_file: Option<PathBuf>,
    /// Answer every confirmation with yes
    #[arg(long, global = true)]
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
        let mut command = Self::command();
        // Set and empty is as good as not set; clap would take it for a file without a name.
        if env::var_os(PASSPHRASE_FILE).is_some_and(|value| value.is_empty()) {
            command = command.mut_arg("passphrase_file", |argument| argument.env(None::<&str>));
        }
        let matches = command.clone().try_get_matches()?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

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

/// `strongroom credential`
#[derive(Debug, Subcommand)]
pub enum Credential {
    /// Add a credential; its value comes from standard input or a prompt
    Add(Box<CredentialAdd>),
    /// List credentials
    List(Json),
    /// Show one credential, without its value
    Show {
        /// Its name
        name: Name,
        /// How to print it
        #[command(flatten)]
        json: Json,
    },
    /// Give a credential a new value; agents notice nothing
    Rotate {
        /// Its name
        name: Name,
        /// Take a value that is too short or too guessable to be masked in answers
        #[arg(long)]
        allow_weak: bool,
    },
    /// Remove a credential and revoke its grants
    Remove {
        /// Its name
        name: Name,
        /// Erase its value too; this cannot be undone
        #[arg(long)]
        purge: bool,
    },
}

/// `strongroom credential add`
#[derive(Debug, ClapArgs)]
pub struct CredentialAdd {
    /// Its name
    pub name: Name,
    /// Take hosts, positions and route from the catalogue: --host and --route replace its own, positions are added
    #[arg(long)]
    pub provider: Option<String>,
    /// Where the key may go: HOST or HOST:PORT; '*.' in front stands for one label
    #[arg(long = "host", value_name = "HOST", value_parser = host)]
    pub hosts: Vec<HostPattern>,
    /// The key goes into 'Authorization: Bearer'
    #[arg(long)]
    pub bearer: bool,
    /// The key goes into this header, in place of '{}'
    #[arg(long = "header", value_name = "'NAME: {}'", value_parser = SiteParser("header", Site::parse_header))]
    pub headers: Vec<Site>,
    /// The key is the password of 'Authorization: Basic', with this user name
    #[arg(long, value_name = "USER", value_parser = SiteParser("basic", Site::parse_basic))]
    pub basic: Vec<Site>,
    /// The key is the value of this query parameter
    #[arg(long, value_name = "NAME", value_parser = SiteParser("query", Site::parse_query))]
    pub query: Vec<Site>,
    /// The path begins like this, with the key in place of '{}'
    #[arg(long, value_name = "'/bot{}'", value_parser = SiteParser("path-prefix", Site::parse_path_prefix))]
    pub path_prefix: Vec<Site>,
    /// The key is a string in the JSON body of such a request, at this pointer
    #[arg(long, value_name = "'POST /path#/pointer'", value_parser = SiteParser("body-json", Site::parse_body_json))]
    pub body_json: Vec<Site>,
    /// The key is a field of the form in the body of such a request
    #[arg(long, value_name = "'POST /path#field'", value_parser = SiteParser("body-form", Site::parse_body_form))]
    pub body_form: Vec<Site>,
    /// First path segment under which agents reach it [default: the provider's, else NAME]
    #[arg(long)]
    pub route: Option<Name>,
    /// Trust these certificates (PEM) for this credential, in place of the platform's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Trust only chains in which this public key stands: 'sha256//BASE64' of its SubjectPublicKeyInfo, or hex; may be
    /// given again
    #[arg(long = "pin", value_name = "SPKI", value_parser = pin::parse)]
    pub pins: Vec<pin::Pin>,
    /// Speak HTTP/2 with the upstream
    #[arg(long)]
    pub http2: bool,
    /// Take a value that is too short or too guessable to be masked in answers
    #[arg(long)]
    pub allow_weak: bool,
    /// Pass the upstream's cookies on to agents
    #[arg(long)]
    pub keep_cookies: bool,
    /// Let agents ask for parts of an answer
    #[arg(long)]
    pub allow_range: bool,
}

/// `strongroom agent`
#[derive(Debug, Subcommand)]
pub enum Agent {
    /// Add an agent; with --token prints its token
    Add(AgentAdd),
    /// Let an agent reach hosts without a key, through the proxy
    Allow(Egress),
    /// Take such hosts from an agent, now
    Disallow(Egress),
    /// List agents
    List(Json),
    /// Show one agent and its grants
    Show {
        /// Its name
        name: Name,
        /// How to print it
        #[command(flatten)]
        json: Json,
    },
    /// Take everything from an agent, now
    Revoke {
        /// Its name
        name: Name,
    },
    /// Revoke an agent and take it off the list
    Remove {
        /// Its name
        name: Name,
    },
}

/// `strongroom agent add`
#[derive(Debug, ClapArgs)]
pub struct AgentAdd {
    /// Its name
    pub name: Name,
    /// Processes of this user are the agent; may be given again
    #[arg(long = "uid", value_name = "USER|UID")]
    pub uids: Vec<String>,
    /// Processes of this systemd service are the agent
    #[arg(long, value_parser = unit::parse)]
    pub unit: Option<String>,
    /// Make a token, for what neither user nor service tells apart, such as containers, and print it
    #[arg(long)]
    pub token: bool,
}

/// `strongroom agent allow` and `disallow`
#[derive(Debug, ClapArgs)]
pub struct Egress {
    /// Its name
    pub name: Name,
    /// HOST or HOST:PORT; '*.' in front stands for one label
    #[arg(value_name = "HOST", value_parser = host, required_unless_present = "profiles")]
    pub hosts: Vec<HostPattern>,
    /// The hosts that this tool needs, such as pip or git; may be given again
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,
}

/// `strongroom grant`
#[derive(Debug, Subcommand)]
pub enum Grant {
    /// Let an agent use a credential; prints the placeholder
    Add(GrantAdd),
    /// List grants
    List(Json),
    /// Show one grant
    Show {
        /// Of this credential
        credential: Name,
        /// To this agent
        #[arg(long)]
        agent: Name,
        /// How to print it
        #[command(flatten)]
        json: Json,
    },
    /// Take a grant away, now
    Revoke {
        /// Of this credential
        credential: Name,
        /// To this agent
        #[arg(long)]
        agent: Name,
    },
}

/// `strongroom grant add`
#[derive(Debug, ClapArgs)]
pub struct GrantAdd {
    /// Of this credential
    pub credential: Name,
    /// To this agent
    #[arg(long)]
    pub agent: Name,
    /// How often, such as 200/hour [default: 10000/hour with a burst of 2000]
    #[arg(long, value_parser = quantity::rate)]
    pub rate: Option<Rate>,
    /// How many at once [default: the rate's number]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub burst: Option<u32>,
    /// Allow only such requests; may be given again
    #[arg(long, value_name = "'METHOD PATTERN'", value_parser = rule)]
    pub allow: Vec<Rule>,
    /// End by itself after this time, such as 30d
    #[arg(long, value_parser = quantity::duration, allow_hyphen_values = true)]
    pub expires: Option<Duration>,
    /// What the agent holds: a random text, or the variable's own name, which counts only with agent.sock or a token
    #[arg(long, value_enum, default_value_t = Placeholder::Random)]
    pub placeholder: Placeholder,
}

/// `--placeholder`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Placeholder {
    /// A random text
    Random,
    /// The variable's own name
    Named,
}

/// `strongroom env`
#[derive(Debug, ClapArgs)]
pub struct Env {
    /// Whose environment
    #[arg(long)]
    pub agent: Name,
    /// How its programs reach the gateway
    #[arg(long, value_enum, default_value_t = Mode::Proxy)]
    pub mode: Mode,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Shell)]
    pub format: Format,
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

/// `strongroom unlock`
#[derive(Debug, ClapArgs)]
pub struct Unlock {
    /// With the key in this user's keychain
    #[arg(long, conflicts_with = "recovery")]
    pub keychain: bool,
    /// Wait so many seconds for somebody to unlock the keychain, and prompt nobody; for units
    #[arg(long, value_name = "SECONDS", requires = "keychain", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait: Option<u64>,
    /// With the recovery code, from a prompt or standard input
    #[arg(long)]
    pub recovery: bool,
}

/// A passphrase that is to be.
#[derive(Debug, ClapArgs)]
pub struct NewPassphrase {
    /// Read the new passphrase from this file instead of asking for it
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}

/// `strongroom passphrase`
#[derive(Debug, ClapArgs)]
pub struct PassphraseChange {
    /// The new one
    #[command(flatten)]
    pub new: NewPassphrase,
    /// With the recovery code in place of a passphrase that was lost; all other passphrases are removed
    #[arg(long)]
    pub recovery: bool,
}

/// `strongroom slot`
#[derive(Debug, Subcommand)]
pub enum Slot {
    /// List the ways to unlock
    List(Json),
    /// Add one
    #[command(subcommand)]
    Add(SlotAdd),
    /// Remove one, so that what it was opens the vault no more
    Remove {
        /// Its number, as 'slot list' shows it
        id: u32,
    },
}

/// `strongroom slot add`
#[derive(Debug, Subcommand)]
pub enum SlotAdd {
    /// Another passphrase, which counts as the first does
    Passphrase(NewPassphrase),
    /// A key in this user's keychain, with which 'unlock --keychain' asks for nothing
    Keychain(KeychainSlot),
    /// An encrypted credential, with which systemd lets keyd unlock when it starts
    Credential(CredentialSlot),
    /// A code to write down, for the day on which the passphrase is lost
    Recovery,
}

/// `strongroom slot add keychain`
#[derive(Debug, ClapArgs)]
pub struct KeychainSlot {
    /// Which keychain; the one that keeps the key longest where nothing is said
    #[arg(long, value_parser = store)]
    pub store: Option<Store>,
}

/// `strongroom slot add credential`
#[derive(Debug, ClapArgs)]
pub struct CredentialSlot {
    /// Where the encrypted credential goes [default: /etc/credstore.encrypted/vault-key, in the system's home alone]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What encrypts it: host, tpm2, host+tpm2 or auto, see systemd-creds(1)
    #[arg(long, value_name = "KEY")]
    pub with_key: Option<String>,
}

/// `strongroom restore`
#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// A file that 'strongroom backup' made
    pub file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Read the backup's passphrase from this file, where it is not today's
    #[arg(long, value_name = "FILE")]
    pub backup_passphrase_file: Option<PathBuf>,
    /// Open the backup with a recovery code of its time
    #[arg(long, conflicts_with = "backup_passphrase_file")]
    pub recovery: bool,
    /// How to print it
    #[command(flatten)]
    pub json: Json,
}

/// `strongroom ca`
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Print the certificate to trust
    Show(Json),
    /// Make a new certificate authority in place of the old one
    Rotate,
}

/// `strongroom audit`
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    /// Something else than showing lines
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// Only of this agent
    #[arg(long)]
    pub agent: Option<Name>,
    /// Only of this credential
    #[arg(long)]
    pub credential: Option<Name>,
    /// Only of this long ago until now, such as 1h
    #[arg(long, value_parser = quantity::duration)]
    pub since: Option<Duration>,
    /// Go on with new lines as they come
    #[arg(long)]
    pub follow: bool,
    /// How to print it
    #[command(flatten)]
    pub json: Json,
}

/// `strongroom audit ...`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no line was changed, and print a checkpoint
    Verify(Json),
}

/// `strongroom config`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check both configuration files with the daemons' own parsers
    Check(Json),
}

fn store(text: &str) -> Result<Store, String> {
    let known = || Store::ALL.iter().map(|store| store.name()).collect::<Vec<_>>().join(", ");
    Store::named(text).ok_or_else(|| format!("there is no such keychain here; known are: {}", known()))
}

fn rule(text: &str) -> Result<Rule, String> {
    let rule: Rule = text.parse().map_err(|error: InvalidRule| error.to_string())?;
    if rule.never_matches() {
        return Err("no path looks so when it is matched: letters, digits and '-._~' stand there plain, other characters \
                    percent-encoded in capitals, like %2F"
            .to_owned());
    }
    Ok(rule)
}

fn host(text: &str) -> Result<HostPattern, String> {
    HostPattern::parse_unicode(text).map_err(|error| error.to_string())
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
