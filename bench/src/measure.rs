//! Rounds: every scenario against every subject, in turn, so that what disturbs the machine disturbs all alike.
//!
//! The order within a round moves on by one each time. It refuses to average: every single measurement is kept, and
//! `report` takes medians. Called by `main.rs`.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{BenchError, Outcome, While};
use crate::load::{self, Run};
use crate::options::Options;
use crate::process;
use crate::scenario::{Amount, Scenario};
use crate::stage::{Stage, Subject, SubjectKind};

/// One scenario, one subject, one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Which scenario, by name.
    pub scenario: String,
    /// Which subject, by name.
    pub subject: String,
    /// In which round, from 0.
    pub round: usize,
    /// Exchanges that ended in the measured time.
    pub exchanges: u64,
    /// The measured time, in seconds.
    pub seconds: f64,
    /// CPU time of each of the subject's processes for one exchange, in microseconds.
    pub cpu: Vec<(String, f64)>,
    /// Half of the exchanges took no longer than this, in microseconds.
    pub p50: f64,
    /// 99 of 100 took no longer than this, in microseconds.
    pub p99: f64,
    /// From request to the first byte of the answer's body: the median, in microseconds.
    pub first: f64,
    /// The most resident memory of the subject's processes in this time, in MiB.
    pub peak: f64,
    /// New connections that the upstream got, warm-up included.
    pub connections: u32,
}

/// What is measured once a subject and not under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AtRest {
    /// Which subject, by name.
    pub subject: String,
    /// From start until it answers, in milliseconds; the median where it was started several times.
    pub start_up: f64,
    /// Resident memory before the first request, in MiB.
    pub idle: f64,
}

/// A part of keyd measured alone, by its own benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    /// What, and with how many keys or grants; the unit; the median, the lowest and the highest.
    pub cells: Vec<String>,
}

impl Alone {
    /// From the benchmark's lines, whose cells are separated by tabs: what, how many, median, unit, lowest, highest.
    #[must_use]
    pub fn read(text: &str) -> Vec<Self> {
        let lines = text.lines().map(|line| line.split('\t').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
        lines.filter(|cells| cells.len() == ALONE_COLUMNS.len()).map(|cells| Self { cells }).collect()
    }
}

/// What the cells of [`Alone`] are.
pub const ALONE_COLUMNS: [&str; 6] = ["", "keys", "median", "unit", "lowest", "highest"];

/// Measures everything that was asked for.
///
/// # Errors
/// Where a subject fails: then its figures would mean nothing.
pub async fn all(stage: &Stage, options: &Options) -> Outcome<Vec<Measurement>> {
    let mut measurements = Vec::new();
    let began = Instant::now();
    for round in 0..options.rounds {
        let seconds = began.elapsed().as_secs();
        say(&format!("round {} of {}, after {seconds} s", round + 1, options.rounds));
        for (index, scenario) in options.scenarios.iter().enumerate() {
            let count = stage.subjects.len();
            let in_turn = (0..count).map(|turn| &stage.subjects[(turn + round + index) % count]);
            for subject in in_turn.filter(|subject| subject.kind.takes_part_in(scenario)) {
                let what = format!("{} with {}", scenario.name, subject.kind.name());
                measurements.push(one(stage, subject, scenario, round).await.during(&what)?);
            }
        }
    }
    Ok(measurements)
}

async fn one(stage: &Stage, subject: &Subject, scenario: &Scenario, round: usize) -> Outcome<Measurement> {
    subject.processes.iter().for_each(|(_, pid)| process::forget_peak(*pid));
    let before = load::connections(&stage.upstream).await?;
    let mut marks = Vec::new();
    let run = load::run(&subject.target, scenario, || marks.push(subject.cpu())).await?;
    let after = load::connections(&stage.upstream).await?;
    let [began, ended] = &marks[..] else { return Err(BenchError::new("a run has a beginning and an end")) };
    let cpu = subject.processes.iter().zip(began.iter().zip(ended)).map(|((name, _), (began, ended))| {
        ((*name).to_owned(), micros(ended.saturating_sub(*began)) / float(run.exchanges))
    });
    Ok(Measurement {
        scenario: scenario.name.to_owned(),
        subject: subject.kind.name().to_owned(),
        round,
        exchanges: run.exchanges,
        seconds: run.time.as_secs_f64(),
        cpu: cpu.collect(),
        p50: micros(Run::percentile(&run.latencies, 0.50)),
        p99: micros(Run::percentile(&run.latencies, 0.99)),
        first: micros(Run::percentile(&run.first_bytes, 0.50)),
        peak: subject.processes.iter().map(|(_, pid)| mib(process::peak(*pid))).sum(),
        // The two questions were connections too; the first counted itself.
        connections: u32::try_from(after - before - 1).unwrap_or(u32::MAX),
    })
}

/// Start-up and idle memory. The daemons are started again for it, so this comes last.
///
/// # Errors
/// Where they do not start.
pub fn at_rest(stage: &Stage, options: &Options) -> Outcome<Vec<AtRest>> {
    let mut rows = Vec::new();
    for subject in stage.subjects.iter().filter(|subject| subject.is_at_rest_by_itself()) {
        let mut times = vec![subject.start_up];
        if let Some(strongroom) = stage.strongroom.as_ref().filter(|_| subject.kind == SubjectKind::Strongroom) {
            for _ in 1..options.rounds {
                times.push(strongroom.start_again()?);
            }
        }
        times.sort_unstable();
        let start_up = times[times.len() / 2].as_secs_f64() * 1e3;
        rows.push(AtRest { subject: subject.kind.name().to_owned(), start_up, idle: mib(subject.idle) });
    }
    Ok(rows)
}

/// Keeps the load of the first scenario on the first subject, for a profiler to look at its processes.
///
/// # Errors
/// Where the subject fails.
pub async fn hold(stage: &Stage, options: &Options, seconds: u64) -> Outcome<()> {
    let (Some(subject), Some(scenario)) = (stage.subjects.first(), options.scenarios.first()) else {
        return Err(BenchError::new("there is nothing to hold"));
    };
    let pids: Vec<String> = subject.processes.iter().map(|(name, pid)| format!("{name} {pid}")).collect();
    say(&format!("{} on {} for {seconds} s: {}", scenario.name, subject.kind.name(), pids.join(", ")));
    let end = Instant::now() + Duration::from_secs(seconds);
    let scenario = match scenario.amount {
        Amount::Time(_) => Scenario { amount: Amount::Time(Duration::from_secs(seconds)), ..*scenario },
        Amount::Count(_) => *scenario,
    };
    while Instant::now() < end {
        let mut marks = Vec::new();
        let run = load::run(&subject.target, &scenario, || marks.push(subject.cpu().iter().sum::<Duration>())).await?;
        let cpu = marks.last().copied().unwrap_or_default().saturating_sub(marks.first().copied().unwrap_or_default());
        say(&format!("{} exchanges, {:.1} us of CPU each", run.exchanges, micros(cpu) / float(run.exchanges)));
    }
    Ok(())
}

/// Progress goes to standard error; the table alone to standard output.
pub fn say(words: &str) {
    // Nobody may be listening.
    let _ = writeln!(io::stderr(), "{words}");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_another_shape_are_no_figures() {
        let rows = Alone::read("   Compiling keyd\nprose\t4\t2.5\tGiB/s\t2.4\t2.6\nhalf\t1\n");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].cells[..4], ["prose", "4", "2.5", "GiB/s"]);
    }
}
