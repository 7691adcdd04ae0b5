//! `strongroom`: parses the command line, does what it says, and gives the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use strongroom_ctl::args::Args;
use strongroom_ctl::error::USAGE;
use strongroom_ctl::{command, discreet};

fn main() -> ExitCode {
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake in the command line.
            let code = if error.use_stderr() { USAGE } else { 0 };
            match discreet::words(&error) {
                Some(words) => drop(writeln!(io::stderr(), "{words}")),
                None => drop(error.print()),
            }
            return ExitCode::from(code);
        }
    };
    match command::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "strongroom: {error}");
            ExitCode::from(error.code())
        }
    }
}
