//! `strongroom demo`: the real daemons in a temporary home, one agent, one upstream, and a look at who saw the key.
//!
//! Every part is the real thing: the same programs, separate processes, TLS, a random key. It refuses to call a place
//! clean that it could not read, and it stops what it started, whatever happens. Called by `main`; its upstream,
//! memory scan and message reader also serve the system tests.

pub mod agent;
pub mod certificate;
pub mod error;
pub mod http1;
pub mod interrupt;
pub mod isolation;
pub mod memory;
pub mod needles;
pub mod report;
pub mod stage;
pub mod upstream;

mod play;

use std::io::{self, Write};

use clap::{Args, ValueEnum};

/// Options of `strongroom demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Which part this process plays; the demo starts the others itself.
    #[arg(long, hide = true)]
    role: Option<Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The program with the placeholder.
    Agent,
    /// Tries whether a user namespace can be entered.
    Probe,
}

/// Plays the demo and returns the exit code: 0 where every promise holds, 1 where one does not or something failed.
///
/// Must be called before any thread is started.
#[must_use]
pub fn run(options: &DemoOptions) -> i32 {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let outcome = match options.role {
        Some(Role::Agent) => agent::run(&mut out).map(|()| true).map_err(|error| error.to_string()),
        Some(Role::Probe) => isolation::enter_namespace().map(|()| true).map_err(|error| error.to_string()),
        None => play::play(&mut err).map_err(|error| error.to_string()).and_then(|report| {
            report.print(&mut out).map_err(|error| error.to_string())?;
            Ok(report.holds())
        }),
    };
    match outcome {
        Ok(holds) => i32::from(!holds),
        Err(words) => {
            // Where even standard error is gone, the exit code has to do.
            let _ = writeln!(err, "strongroom demo: {words}");
            1
        }
    }
}
