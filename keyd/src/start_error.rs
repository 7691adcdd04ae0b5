//! Why keyd does not start, and the exit code that says so.
//!
//! 64 usage, 70 a fault of ours or of the machine, 77 not permitted, 78 configuration; 1 where the command itself
//! failed. Called by `main`.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use strongroom_protocol::frame::FrameError;
use strongroom_protocol::home::NoHome;

use crate::args::UsageError;
use crate::audit::AuditError;
use crate::config::ConfigError;
use crate::environment::TooLate;
use crate::listen::ListenError;
use crate::sandbox::SandboxError;
use crate::vault::OpenError;
use crate::vault::create::CreateError;
use strongroom_protocol::log::Log;

macro_rules! start_errors {
    ($($(#[$doc:meta])* $variant:ident($inner:ty) $code:literal $before:literal)*) => {
        /// Why keyd does not start.
        #[derive(Debug)]
        pub enum StartError {
            $($(#[$doc])* $variant($inner),)*
        }

        impl StartError {
            fn code(&self) -> u8 {
                match self { $(Self::$variant(_) => $code,)* }
            }
        }

        impl fmt::Display for StartError {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant(inner) => write!(f, concat!($before, "{}"), inner),)* }
            }
        }
    };
}

start_errors! {
    /// The command line is not understood.
    Usage(UsageError) 64 ""
    /// Another thread ran before the environment was cleared.
    Environment(TooLate) 70 ""
    /// There is no home.
    Home(NoHome) 78 ""
    /// The configuration cannot be used.
    Config(ConfigError) 78 ""
    /// The session could not be left.
    Detach(io::Error) 70 "the caller's session could not be left: "
    /// Inherited sockets make no sense.
    Inherited(io::Error) 78 "the inherited sockets cannot be used: "
    /// The sockets cannot be opened.
    Listen(ListenError) 77 ""
    /// The vault cannot be opened.
    Vault(OpenError) 78 ""
    /// The audit log cannot be opened.
    Audit(AuditError) 78 ""
    /// The cage is not complete.
    Sandbox(SandboxError) 70 ""
    /// No thread could be started.
    Worker(io::Error) 70 "a thread could not be started: "
    /// No runtime could be made.
    Runtime(io::Error) 70 "the runtime could not be started: "
    /// No vault was made.
    Create(CreateError) 1 ""
    /// The message on standard input is not understood.
    Frame(FrameError) 64 ""
    /// The message on standard input could not be read.
    Input(io::Error) 64 "standard input could not be read: "
    /// Something could not be printed.
    Output(io::Error) 70 "standard output could not be written: "
}

macro_rules! from {
    ($($variant:ident($inner:ty))*) => {
        $(impl From<$inner> for StartError {
            fn from(inner: $inner) -> Self {
                Self::$variant(inner)
            }
        })*
    };
}

from! {
    Usage(UsageError) Environment(TooLate) Home(NoHome) Config(ConfigError) Listen(ListenError) Vault(OpenError)
    Audit(AuditError) Sandbox(SandboxError) Create(CreateError) Frame(FrameError)
}

impl std::error::Error for StartError {}

/// Writes one line and gives the exit code.
pub fn report(log: Log, error: &StartError) -> ExitCode {
    log.last_word(format_args!("{error}"));
    ExitCode::from(error.code())
}

/// Prints what `--help` and `--version` ask for.
pub fn say(text: &str) -> Result<(), StartError> {
    io::stdout().write_all(text.as_bytes()).map_err(StartError::Output)
}
