//! `strongroom env` and `run`: what an agent's programs find.
//!
//! It refuses options behind the program's name: they are the program's. Read by `command/env.rs` and `command/run.rs`.

use std::ffi::OsString;

use clap::{Args as ClapArgs, ValueEnum};
use strongroom_protocol::Name;

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
