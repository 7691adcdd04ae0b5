//! Results: the figures of one run, with where and how they were made.
//!
//! Ratios are taken within a round and then their median, since subjects of one round had the same machine. It refuses to
//! round in anybody's favour: what misses its goal is shown as missing it. Called by `main.rs`.

mod machine;
mod page;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::machine::Machine;
use crate::error::{Outcome, While};
use crate::measure::{Alone, AtRest, Measurement};
use crate::options::Options;
use crate::stage::Stage;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    date: String,
    command: String,
    machine: Machine,
    rounds: usize,
    nginx: Option<String>,
    missing: Vec<String>,
    at_rest: Vec<AtRest>,
    #[serde(default)]
    alone: Vec<Alone>,
    measurements: Vec<Measurement>,
}

impl Results {
    /// Of a run that has just ended.
    ///
    /// # Errors
    /// Where the lines of keyd's own benchmark cannot be read.
    pub fn new(
        options: &Options,
        stage: &Stage,
        measurements: Vec<Measurement>,
        at_rest: Vec<AtRest>,
    ) -> Outcome<Self> {
        let read = |file: &PathBuf| fs::read_to_string(file).during(&file.display().to_string());
        let alone = options.alone.as_ref().map(read).transpose()?.unwrap_or_default();
        Ok(Self {
            date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            command: command(),
            machine: Machine::this(),
            rounds: options.rounds,
            nginx: stage.nginx.clone(),
            missing: stage.missing.clone(),
            at_rest,
            alone: Alone::read(&alone),
            measurements,
        })
    }

    /// From a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn load(file: &Path) -> Outcome<Self> {
        let what = file.display().to_string();
        serde_json::from_slice(&fs::read(file).during(&what)?).during(&what)
    }

    /// Into a file of its own, and into `latest.json`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn save(&self, directory: &Path) -> Outcome<PathBuf> {
        let text = serde_json::to_string_pretty(self).during("the results")?;
        let file = directory.join(format!("{}.json", self.date.replace(':', "")));
        for path in [&file, &directory.join("latest.json")] {
            fs::write(path, &text).during(&path.display().to_string())?;
        }
        Ok(file)
    }

    /// A figure of one scenario and subject: the median over the rounds.
    fn median(&self, scenario: &str, subject: &str, figure: impl Fn(&Measurement) -> f64) -> Option<f64> {
        median(self.of(scenario, subject).map(figure).collect())
    }

    /// A figure made of two subjects' measurements in the same round: the median over the rounds.
    fn compared(
        &self,
        scenario: &str,
        (one, other): (&str, &str),
        figure: impl Fn(&Measurement, &Measurement) -> f64,
    ) -> Option<f64> {
        let pairs = self.of(scenario, one).filter_map(|one| {
            let other = self.of(scenario, other).find(|other| other.round == one.round)?;
            Some(figure(one, other))
        });
        median(pairs.collect())
    }

    fn of<'a>(&'a self, scenario: &str, subject: &str) -> impl Iterator<Item = &'a Measurement> {
        self.measurements.iter().filter(move |one| one.scenario == scenario && one.subject == subject)
    }
}

impl Measurement {
    /// CPU time of all processes for one exchange, in microseconds.
    fn cpu_sum(&self) -> f64 {
        self.cpu.iter().map(|(_, micros)| micros).sum()
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn per_second(&self) -> f64 {
        self.exchanges as f64 / self.seconds
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        even if even % 2 == 0 => Some(f64::midpoint(figures[middle - 1], figures[middle])),
        _ => Some(figures[middle]),
    }
}

/// As a reader would give it.
fn command() -> String {
    let words = ["ROUNDS", "ONLY", "SUBJECTS", "LIMITS"].into_iter().filter_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        let quote = if value.contains(' ') { "'" } else { "" };
        Some(format!(" {name}={quote}{value}{quote}"))
    });
    format!("make bench{}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
