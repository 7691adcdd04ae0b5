//! What the benchmark was asked to do.
//!
//! It refuses words that it does not know: a misspelt scenario must not pass for a measured one. Called by `main.rs`.

use std::path::PathBuf;

use lexopt::prelude::*;

use crate::error::{BenchError, Outcome, While};
use crate::scenario::{self, Scenario};
use crate::stage::SubjectKind;

/// A command.
#[derive(Debug)]
pub enum Command {
    /// Measure.
    Measure(Options),
    /// Write the tables of a result file into a page.
    Render {
        /// The results.
        results: PathBuf,
        /// The page, with its markers.
        page: PathBuf,
    },
    /// Play the upstream.
    Upstream {
        /// Where the root's certificate goes.
        root: PathBuf,
    },
    /// Say what there is.
    Help,
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many times everything is measured.
    pub rounds: usize,
    /// These scenarios.
    pub scenarios: Vec<Scenario>,
    /// These subjects.
    pub subjects: Vec<SubjectKind>,
    /// Lines of gatewayd's `[limits]` that are not its defaults.
    pub limits: String,
    /// Lines of keyd's own benchmark, to be kept with the results.
    pub alone: Option<PathBuf>,
    /// Write the tables into this page afterwards.
    pub record: Option<PathBuf>,
    /// Keep the load on for so many seconds instead, for a profiler.
    pub hold: Option<u64>,
    /// Where results go.
    pub output: PathBuf,
}

/// Reads the command line.
///
/// # Errors
/// Where a word is unknown.
pub fn parse() -> Outcome<Command> {
    let mut options = Options {
        rounds: 7,
        scenarios: scenario::ALL.to_vec(),
        subjects: SubjectKind::ALL.to_vec(),
        limits: String::new(),
        alone: None,
        record: None,
        hold: None,
        output: PathBuf::from("target/bench"),
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().during("the command line")? {
        match argument {
            Long("rounds") => options.rounds = number(&mut parser)?.max(1),
            Long("only") => options.scenarios = names(&mut parser, scenario::ALL, |one| one.name)?,
            Long("subjects") => options.subjects = names(&mut parser, &SubjectKind::ALL, SubjectKind::name)?,
            Long("limits") => options.limits = value(&mut parser)?,
            Long("alone") => options.alone = Some(value(&mut parser)?.into()),
            Long("record") => options.record = Some(value(&mut parser)?.into()),
            Long("hold") => options.hold = Some(number(&mut parser)? as u64),
            Long("output") => options.output = value(&mut parser)?.into(),
            Long("help") | Short('h') => return Ok(Command::Help),
            Value(word) if word == "upstream" => return Ok(Command::Upstream { root: value(&mut parser)?.into() }),
            Value(word) if word == "render" => {
                return Ok(Command::Render { results: value(&mut parser)?.into(), page: value(&mut parser)?.into() });
            }
            other => return Err(BenchError::new(format!("{}. Try --help.", other.unexpected()))),
        }
    }
    Ok(Command::Measure(options))
}

fn value(parser: &mut lexopt::Parser) -> Outcome<String> {
    parser.value().and_then(|value| value.string()).during("the command line")
}

fn number(parser: &mut lexopt::Parser) -> Outcome<usize> {
    value(parser)?.parse().during("the command line")
}

/// The things of these names, in their own order; an empty list means all.
fn names<T: Copy>(parser: &mut lexopt::Parser, all: &[T], name: impl Fn(T) -> &'static str) -> Outcome<Vec<T>> {
    let text = value(parser)?;
    let wanted: Vec<&str> = text.split([',', ' ']).filter(|word| !word.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|&&word| all.iter().all(|&one| name(one) != word)) {
        let known: Vec<&str> = all.iter().map(|&one| name(one)).collect();
        return Err(BenchError::new(format!("there is no {unknown}. There are: {}.", known.join(", "))));
    }
    Ok(all.iter().copied().filter(|&one| wanted.is_empty() || wanted.contains(&name(one))).collect())
}

/// What `--help` says.
pub const HELP: &str = "\
Measures what a request costs: direct, through a plain one-process proxy, through nginx, through Strongroom.

  strongroom-bench [OPTIONS]
  strongroom-bench render RESULTS PAGE    write the tables of a result file between the markers of a page

  --rounds N         how many times everything is measured, in turn [7]
  --only LIST        these scenarios [all]
  --subjects LIST    of direct, one-process, nginx, strongroom, connect, connect-h2 [all]
  --limits LINES     gatewayd's [limits], where they are not to be its defaults
  --alone FILE       the lines of keyd's own benchmark, to be kept with the results
  --record PAGE      write the tables into this page afterwards
  --hold SECONDS     keep the first scenario's load on for so long and print the pids, for a profiler
  --output DIR       where results go, as JSON [target/bench]
";
