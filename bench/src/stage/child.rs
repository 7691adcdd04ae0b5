//! A program that this one started, and its end.
//!
//! It refuses to outlive us: dropping it ends the program and waits for it. Used by `stage`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Outcome, While};

/// The program.
pub struct Child(std::process::Child);

impl Child {
    /// Starts it with an environment of its own.
    pub fn start(command: &mut Command, name: &str) -> Outcome<Self> {
        command.env_clear().spawn().map(Self).during(&format!("starting {name}"))
    }

    /// Starts one that reads `input` and then writes the port on which it listens. Its standard input stays open.
    pub fn with_port(command: &mut Command, input: &[u8], name: &str) -> Outcome<(Self, u16)> {
        let mut child = Self::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()), name)?;
        let what = format!("{name}'s port");
        if let Some(stdin) = &mut child.0.stdin {
            stdin.write_all(input).during(&what)?;
        }
        let mut line = String::new();
        if let Some(stdout) = &mut child.0.stdout {
            BufReader::new(stdout).read_line(&mut line).during(&what)?;
        }
        Ok((child, line.trim().parse().during(&what)?))
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It is ours and was not waited for: its pid is nobody else's.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}
