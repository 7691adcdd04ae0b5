//! `strongroom audit ...`: which lines of the log are shown.
//!
//! It refuses nothing that is a name or a time; what chooses lines is nothing to `verify`. Read by `command/audit.rs`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use strongroom_protocol::Name;

use super::Json;
use crate::checkpoint::Checkpoint;
use crate::quantity;

/// `strongroom audit`
#[derive(Debug, ClapArgs)]
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
    Verify(Verify),
}

/// `strongroom audit verify`
#[derive(Debug, ClapArgs)]
pub struct Verify {
    /// Check against a checkpoint that was kept elsewhere too: it shows lines that were cut off since
    ///
    /// It is what this command prints last; with --json, the text of 'checkpoint'.
    #[arg(long, value_name = "'SEQ CHAIN'")]
    pub checkpoint: Option<Checkpoint>,
    /// How to print it
    #[command(flatten)]
    pub json: Json,
}
