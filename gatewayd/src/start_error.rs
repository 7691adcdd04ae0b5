//! Why gatewayd did not start, in words, with the exit code that service managers and scripts look at.
//!
//! It refuses to hold anything that a peer sent: no peer has been read from yet.
//! Made by every start-up step, printed by `main`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use strongroom_protocol::home::NoHome;

use crate::args::UsageError;
use crate::config::ConfigError;

/// Why gatewayd did not start.
#[derive(Debug)]
pub enum StartError {
    /// The command line.
    Usage(UsageError),
    /// The configuration file.
    Config(ConfigError),
    /// No directory to work in.
    Home(NoHome),
    /// Standard output could not be written.
    Output(io::Error),
    /// A log subscriber was there already.
    Log,
    /// A TCP address could not be listened on.
    ListenTcp(SocketAddr, io::Error),
    /// agent.sock could not be made.
    ListenAgent(PathBuf, io::Error),
    /// Another process answers on agent.sock.
    AlreadyRunning(PathBuf),
    /// An inherited descriptor is not what its name says.
    Inherited(String, io::Error),
    /// An inherited descriptor has a name that means nothing here.
    InheritedName(String),
    /// The event loop or a signal handler could not be set up.
    Runtime(io::Error),
}

impl StartError {
    /// 64 usage, 70 fault, 77 not permitted, 78 configuration (sysexits.h).
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        let not_permitted = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        ExitCode::from(match self {
            Self::Usage(_) => 64,
            Self::ListenTcp(_, error) | Self::ListenAgent(_, error) if not_permitted(error) => 77,
            Self::Config(_) | Self::Home(_) | Self::InheritedName(_) => 78,
            Self::ListenTcp(_, error) if is_elsewhere(error) => 78,
            _ => 70,
        })
    }
}

/// Another address would do: this one is not ours, or somebody else's now.
fn is_elsewhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Home(error) => error.fmt(f),
            Self::Output(error) => write!(f, "standard output could not be written: {error}; redirect it elsewhere"),
            Self::Log => f.write_str("logging was set up twice; this is a fault, please report it"),
            Self::ListenTcp(address, error) => {
                write!(f, "{address} cannot be listened on: {error}; free it or change 'listen' in gatewayd.toml")
            }
            Self::ListenAgent(path, error) => {
                write!(f, "{} cannot be made: {error}; check the directory and its owner", path.display())
            }
            Self::AlreadyRunning(path) => {
                write!(f, "another process answers on {}; stop it with 'strongroom down'", path.display())
            }
            Self::Inherited(name, error) => {
                write!(f, "the inherited descriptor '{name}' is unusable: {error}; check who sets LISTEN_FDS")
            }
            Self::InheritedName(name) => {
                write!(f, "the inherited descriptor '{name}' is unknown; name them 'agent' or 'tcp' in LISTEN_FDNAMES")
            }
            Self::Runtime(error) => {
                write!(f, "the event loop could not be started: {error}; check the system's limits")
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<UsageError> for StartError {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
