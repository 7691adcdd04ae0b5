//! `strongroom`: hides its memory, parses the command line, does what it says, and gives the exit code.

use std::process::ExitCode;

use strongroom_ctl::args::Args;
use strongroom_ctl::error::USAGE;
use strongroom_ctl::{command, discreet, hidden, output};

fn main() -> ExitCode {
    hidden::from_others();
    let args = match Args::read() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake in the command line.
            let code = if error.use_stderr() { USAGE } else { 0 };
            match discreet::words(&error) {
                Some(words) => output::note(&words),
                // Words that were given are in it, and may steer the terminal.
                None if error.use_stderr() => output::note(error.render().to_string().trim_end()),
                None => drop(error.print()),
            }
            return ExitCode::from(code);
        }
    };
    hidden::as_fits(&args.command);
    match command::run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::note(&format!("strongroom: {error}"));
            ExitCode::from(error.code())
        }
    }
}
