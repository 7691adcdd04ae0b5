//! `make bench`: sets the stage, measures in rounds, shows the table and keeps the figures.
//!
//! It refuses nothing by itself. The same program plays the upstream, as another process.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use strongroom_bench::error::{Outcome, While};
use strongroom_bench::options::{self, Command, Options};
use strongroom_bench::report::Results;
use strongroom_bench::stage::Stage;
use strongroom_bench::{measure, upstream};
use tokio::task::LocalSet;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            measure::say(&format!("bench: {error}"));
            ExitCode::from(70)
        }
    }
}

fn run() -> Outcome<()> {
    match options::parse()? {
        Command::Upstream { root } => upstream::run(&root),
        Command::Render { results, page } => Results::load(&results)?.write_into(&page),
        Command::Help => io::stdout().write_all(options::HELP.as_bytes()).during("standard output"),
        Command::Measure(options) => measure(&options),
    }
}

fn measure(options: &Options) -> Outcome<()> {
    let stage = Stage::set(&options.subjects, &options.limits)?;
    stage.missing.iter().for_each(|words| measure::say(words));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("starting an event loop")?;
    let local = LocalSet::new();
    if let Some(seconds) = options.hold {
        return local.block_on(&runtime, measure::hold(&stage, options, seconds));
    }
    let measurements = local.block_on(&runtime, measure::all(&stage, options))?;
    let results = Results::new(options, &stage, measurements, measure::at_rest(&stage, options)?);
    fs::create_dir_all(&options.output).during("the directory for results")?;
    let file = results.save(&options.output)?;
    write!(io::stdout(), "{}", results.text()).during("standard output")?;
    measure::say(&format!("kept in {}", file.display()));
    match &options.record {
        Some(page) => results.write_into(page),
        None => Ok(()),
    }
}
