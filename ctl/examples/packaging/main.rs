//! What packages carry beside the programs: `packaging pages DIR` writes manual pages and completions, `packaging sbom
//! FILE` what the programs are made of.
//!
//! An example and not a command, so that what is shipped links nothing for it. It refuses to write over a directory that
//! is no directory, and knows no path but those that it is given. Called by `make install`, `make deb` and `make sbom`.
#![forbid(unsafe_code)]

mod pages;
mod sbom;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match arguments.as_slice() {
        [what, place] if what == "pages" => pages::write(Path::new(place)),
        [what, place] if what == "sbom" => sbom::write(Path::new(place)),
        _ => Err(io::Error::other("say 'pages DIRECTORY' or 'sbom FILE'")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "packaging: {error}");
            ExitCode::FAILURE
        }
    }
}
