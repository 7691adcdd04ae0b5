//! `strongroom agent ...` and `grant ...`: who may use which credential, with limits.
//!
//! It refuses rules that could never match. Read by `command/agent.rs` and `command/grant.rs`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use strongroom_protocol::admin::{InvalidRule, Rate, Rule};
use strongroom_protocol::{HostPattern, Name};

use super::{Json, host, number_from};
use crate::discreet::NameParser;
use crate::{quantity, unit};

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
        /// The credential to use
        #[arg(value_parser = NameParser)]
        credential: Name,
        /// The agent that uses it
        #[arg(long)]
        agent: Name,
        /// How to print it
        #[command(flatten)]
        json: Json,
    },
    /// Take a grant away, now
    Revoke {
        /// The credential to use
        #[arg(value_parser = NameParser)]
        credential: Name,
        /// The agent that uses it
        #[arg(long)]
        agent: Name,
    },
}

/// `strongroom grant add`
#[derive(Debug, ClapArgs)]
pub struct GrantAdd {
    /// The credential to use
    #[arg(value_parser = NameParser)]
    pub credential: Name,
    /// The agent that is to use it
    #[arg(long)]
    pub agent: Name,
    /// How often, such as 200/hour [default: 10000/hour with a burst of 2000]
    #[arg(long, value_parser = quantity::rate)]
    pub rate: Option<Rate>,
    /// How many at once [default: the rate's number]
    #[arg(long, value_parser = burst)]
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

fn burst(text: &str) -> Result<u32, String> {
    number_from(1, text)
}

fn rule(text: &str) -> Result<Rule, String> {
    let rule: Rule = text.parse().map_err(|error: InvalidRule| error.to_string())?;
    if rule.never_matches() {
        return Err(
            "no path looks so when it is matched: letters, digits and '-._~' stand there plain, other characters \
                    percent-encoded in capitals, like %2F"
                .to_owned(),
        );
    }
    Ok(rule)
}
