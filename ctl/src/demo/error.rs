//! Why the demo, or its upstream, could not go on.
//!
//! It refuses to hold a key: a command's standard error is quoted, its standard input never.
//! Made everywhere in the demo; printed by `mod.rs`.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug)]
pub enum DemoError {
    /// A certificate could not be made.
    Certificate(rcgen::Error),
    /// TLS could not be set up.
    Tls(rustls::Error),
    /// The system refused something.
    System {
        /// What was being done.
        doing: &'static str,
        /// With which file, where with one.
        path: Option<PathBuf>,
        /// The system's reason.
        source: io::Error,
    },
    /// A `strongroom` command failed.
    Command {
        /// Its arguments.
        command: String,
        /// Its exit code; none where a signal ended it.
        code: Option<i32>,
        /// What it said.
        stderr: String,
    },
    /// The agent process ended, or said something else than it should.
    Agent(String),
    /// A signal asked us to stop.
    Interrupted,
}

impl DemoError {
    /// For `map_err`: what was being done when the system refused.
    pub fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, path: None, source }
    }

    /// For `map_err`: what was being done, and with which file.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::System { doing, path: Some(path), source }
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(error) => write!(f, "A certificate could not be made: {error}. Report this as a fault."),
            Self::Tls(error) => write!(f, "TLS could not be set up: {error}. Report this as a fault."),
            Self::System { doing, path: None, source } => {
                write!(f, "The system refused {doing}: {source}. Check limits and free space, then try again.")
            }
            Self::System { doing, path: Some(path), source } => {
                write!(
                    f,
                    "The system refused {doing} {}: {source}. Check its permissions, then try again.",
                    path.display()
                )
            }
            Self::Command { command, code, stderr } => {
                let end = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
                write!(f, "'strongroom {command}' ended with {end}. It said:\n{}", stderr.trim_end())
            }
            Self::Agent(what) => write!(f, "The agent process did not do its part. It said:\n{}", what.trim_end()),
            Self::Interrupted => f.write_str("Interrupted. What was started has been stopped."),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Certificate(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<rcgen::Error> for DemoError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error)
    }
}

impl From<rustls::Error> for DemoError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}
