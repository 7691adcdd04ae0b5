//! `make bench`: sets the stage, measures in rounds, shows the table and keeps the figures.
//!
//! It refuses nothing by itself. The same program plays the upstream, as another process.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use strongroom_bench::error::{BenchError, Outcome, While};
use strongroom_bench::options::{self, Command, Options};
use strongroom_bench::report::Results;
use strongroom_bench::stage::Stage;
use strongroom_bench::{measure, upstream};
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().during("starting an event loop")?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        // From here on a signal does not kill us: the stage is to be taken down.
        let (mut interrupt, mut end) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        let stage = Stage::set(&options.subjects, &options.limits)?;
        stage.missing.iter().for_each(|words| measure::say(words));
        tokio::select! {
            outcome = on_stage(&stage, options) => outcome,
            _ = interrupt.recv() => Err(BenchError::new("interrupted")),
            _ = end.recv() => Err(BenchError::new("ended by a signal")),
        }
    })
}

async fn on_stage(stage: &Stage, options: &Options) -> Outcome<()> {
    if let Some(seconds) = options.hold {
        return measure::hold(stage, options, seconds).await;
    }
    let measurements = measure::all(stage, options).await?;
    let results = Results::new(options, stage, measurements, measure::at_rest(stage, options)?)?;
    fs::create_dir_all(&options.output).during("the directory for results")?;
    let file = results.save(&options.output)?;
    write!(io::stdout(), "{}", results.text()).during("standard output")?;
    measure::say(&format!("kept in {}", file.display()));
    match &options.record {
        Some(page) => results.write_into(page),
        None => Ok(()),
    }
}

fn on(kind: SignalKind) -> Outcome<Signal> {
    signal(kind).during("waiting for signals")
}
