//! Why a command failed: two sentences for a tired person, and an exit code for scripts.
//!
//! The codes are a contract: 1 the command itself, 64 usage, 69 not reachable, 70 a fault of ours, 75 locked, 77 not
//! permitted, 78 configuration; 126 and 127 where `run`'s program does not start, as with `env` and `sudo`. Made
//! everywhere in ctl, printed by `main`.

use std::fmt;

/// Words and an exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CtlError {
    code: u8,
    words: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:expr;)*) => {
        impl CtlError {
            $($(#[$doc])*
            pub fn $name(words: impl Into<String>) -> Self {
                Self { code: $code, words: words.into() }
            })*
        }
    };
}

kinds! {
    /// The command itself failed: a name that does not exist, a value that cannot be.
    failed = FAILED;
    /// The command line does not make sense.
    usage = USAGE;
    /// keyd cannot be reached.
    unreachable = UNREACHABLE;
    /// A fault of ours.
    fault = FAULT;
    /// The vault is locked.
    locked = LOCKED;
    /// Wrong passphrase, or the wrong user.
    not_permitted = NOT_PERMITTED;
    /// A configuration file, or the set-up.
    configuration = CONFIGURATION;
    /// `run`'s program is there and cannot be run.
    not_executable = NOT_EXECUTABLE;
    /// `run`'s program is not there.
    not_found = NOT_FOUND;
}

impl CtlError {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }

    /// With the exit code of a daemon that did not start, where it is one that scripts know.
    #[must_use]
    pub fn of_daemon(code: Option<i32>, words: impl Into<String>) -> Self {
        let code =
            code.and_then(|code| u8::try_from(code).ok()).filter(|code| matches!(*code, NOT_PERMITTED | CONFIGURATION));
        Self { code: code.unwrap_or(FAULT), words: words.into() }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for CtlError {}

/// Shorthand for what every command gives.
pub type Outcome<T> = Result<T, CtlError>;

/// The command itself failed.
pub const FAILED: u8 = 1;
/// The command line.
pub const USAGE: u8 = 64;
/// keyd cannot be reached.
pub const UNREACHABLE: u8 = 69;
/// A fault of ours.
pub const FAULT: u8 = 70;
/// The vault is locked.
pub const LOCKED: u8 = 75;
/// Not permitted.
pub const NOT_PERMITTED: u8 = 77;
/// Configuration.
pub const CONFIGURATION: u8 = 78;
/// The program cannot be run, as shells have it.
pub const NOT_EXECUTABLE: u8 = 126;
/// There is no such program, as shells have it.
pub const NOT_FOUND: u8 = 127;
