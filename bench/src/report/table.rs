//! The figures as tables of text cells, the same for the terminal and for the page.
//!
//! It refuses to know how they are drawn. Called by `page`.

use super::Results;
use crate::measure::{ALONE_COLUMNS, AtRest, Measurement};
use crate::scenario::{self, Scenario, Unit};
use crate::stage::SubjectKind;

/// Rows of cells under a title.
pub struct Table {
    /// What it is about.
    pub title: String,
    /// The first row.
    pub columns: Vec<&'static str>,
    /// The others.
    pub rows: Vec<Vec<String>>,
}

impl Results {
    /// All of them.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.goals()];
        tables.extend(scenario::ALL.iter().filter_map(|scenario| self.scenario(scenario)));
        if !self.at_rest.is_empty() {
            tables.push(self.at_rest());
        }
        tables.push(Table {
            title: "Parts of keyd alone".to_owned(),
            columns: ALONE_COLUMNS.to_vec(),
            rows: self.alone.iter().map(|row| row.cells.clone()).collect(),
        });
        tables.retain(|table| !table.rows.is_empty());
        tables
    }

    fn goals(&self) -> Table {
        let mut rows = Vec::new();
        for (name, goal) in CPU_GOALS {
            let figures = ["nginx", SUBJECT].map(|subject| self.ratio(name, subject));
            let Some(found) = figures[1] else { continue };
            let nginx = figures[0].map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"));
            rows.push(vec![
                title(name).to_owned(),
                nginx,
                format!("{found:.2}"),
                format!("{goal:.2}"),
                verdict(found >= *goal).to_owned(),
            ]);
        }
        for (way, found) in self.of_base_url() {
            rows.push(vec![
                format!("{}: requests a second by {way} / by base URL", title("json-16")),
                "-".to_owned(),
                format!("{found:.2}"),
                format!("{TUNNEL_GOAL:.2}"),
                verdict(found >= TUNNEL_GOAL).to_owned(),
            ]);
        }
        for (what, goal, found) in self.other_goals() {
            let Some(found) = found else { continue };
            rows.push(vec![
                what,
                "-".to_owned(),
                format!("{found:.0}"),
                format!("at most {goal:.0}"),
                verdict(found <= goal).to_owned(),
            ]);
        }
        Table {
            title: "CPU of the one-process proxy / CPU of the subject (1.00: as cheap as one process)".to_owned(),
            columns: vec!["scenario", "nginx", "strongroom", "goal", ""],
            rows,
        }
    }

    /// Requests a second through a tunnel, as a part of those by base URL.
    fn of_base_url(&self) -> Vec<(&'static str, f64)> {
        let rate = |way| self.compared("json-16", (way, SUBJECT), |one, base| one.per_second() / base.per_second());
        ["connect", "connect-h2"].into_iter().filter_map(|way| Some((way, rate(way)?))).collect()
    }

    /// What is to be at most so much.
    fn other_goals(&self) -> Vec<(String, f64, Option<f64>)> {
        let over_direct = |scenario, figure: fn(&Measurement) -> f64| {
            self.compared(scenario, (SUBJECT, "direct"), |ours, direct| figure(ours) - figure(direct))
        };
        let cold = self.compared("cold", ("connect", "direct"), |ours, direct| ours.p50 - direct.p50);
        let idle = self.at_rest.iter().find(|row| row.subject == SUBJECT).map(|row| row.idle);
        let grown = |scenario| Some(self.median(scenario, SUBJECT, |one| one.peak)? - idle?);
        vec![
            (format!("{}: added p50 over direct, us", title("json-1")), 45.0, over_direct("json-1", |one| one.p50)),
            ("CONNECT, cold: first request after direct's, us".to_owned(), 3000.0, cold),
            ("SSE: first event after direct's, us".to_owned(), 1000.0, over_direct("sse-first", |one| one.first)),
            (format!("{}: memory over idle, MiB", title("down")), 16.0, grown("down")),
            (format!("{}: memory over idle, MiB", title("up")), 16.0, grown("up")),
        ]
    }

    fn ratio(&self, scenario: &str, subject: &str) -> Option<f64> {
        self.compared(scenario, ("one-process", subject), |baseline, ours| baseline.cpu_sum() / ours.cpu_sum())
    }

    fn scenario(&self, scenario: &Scenario) -> Option<Table> {
        let bulk = scenario.unit == Unit::Bulk;
        let rows: Vec<_> = SubjectKind::ALL.iter().filter_map(|kind| self.row(scenario, kind.name())).collect();
        let columns = if bulk {
            vec!["", "CPU ms/GiB", "ratio", "MiB/s", "peak MiB", "dials", "CPU by process, ms/GiB"]
        } else {
            vec![
                "",
                "CPU us",
                "ratio",
                "per second",
                "p50 us",
                "p99 us",
                "first byte us",
                "peak MiB",
                "dials",
                "CPU by process, us",
            ]
        };
        (!rows.is_empty()).then(|| Table { title: scenario.title.to_owned(), columns, rows })
    }

    fn row(&self, scenario: &Scenario, subject: &str) -> Option<Vec<String>> {
        let bulk = scenario.unit == Unit::Bulk;
        // 64 MiB in us to GiB in ms.
        let scale = if bulk { 16.0 / 1000.0 } else { 1.0 };
        let per_second = self.median(scenario.name, subject, |one| one.per_second())?;
        let cpu = self.median(scenario.name, subject, |one| one.cpu_sum() * scale).filter(|cpu| *cpu > 0.0);
        let or_dash =
            |figure: Option<f64>, digits: usize| figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"));
        let ratio = cpu.and_then(|_| self.ratio(scenario.name, subject));
        let peak = self.median(scenario.name, subject, |one| one.peak).filter(|_| cpu.is_some());
        let mut row = vec![subject.to_owned(), or_dash(cpu, 1), or_dash(ratio, 2)];
        if bulk {
            row.push(format!("{:.0}", per_second * 64.0));
        } else {
            row.push(format!("{per_second:.0}"));
            let figures: [fn(&Measurement) -> f64; 3] = [|one| one.p50, |one| one.p99, |one| one.first];
            for figure in figures {
                row.push(or_dash(self.median(scenario.name, subject, figure), 0));
            }
        }
        row.push(or_dash(peak, 1));
        row.push(or_dash(self.median(scenario.name, subject, |one| f64::from(one.connections)), 0));
        row.push(self.by_process(scenario.name, subject, scale));
        Some(row)
    }

    /// Where a subject's processes do different things.
    fn by_process(&self, scenario: &str, subject: &str, scale: f64) -> String {
        let Some(one) = self.of(scenario, subject).next() else { return String::new() };
        if one.cpu.windows(2).all(|pair| pair[0].0 == pair[1].0) {
            return String::new();
        }
        let cpu = |one: &Measurement, index: usize| one.cpu.get(index).map_or(0.0, |cpu| cpu.1) * scale;
        let part = |index| self.median(scenario, subject, |one| cpu(one, index)).unwrap_or(0.0);
        let parts = one.cpu.iter().enumerate().map(|(index, (name, _))| format!("{name} {:.1}", part(index)));
        parts.collect::<Vec<_>>().join(", ")
    }

    fn at_rest(&self) -> Table {
        let row = |one: &AtRest| vec![one.subject.clone(), format!("{:.1}", one.start_up), format!("{:.1}", one.idle)];
        Table {
            title: "At rest".to_owned(),
            columns: vec!["", "start-up ms", "idle memory MiB"],
            rows: self.at_rest.iter().map(row).collect(),
        }
    }
}

fn title(name: &str) -> &'static str {
    scenario::ALL.iter().find(|scenario| scenario.name == name).map_or("", |scenario| scenario.title)
}

fn verdict(holds: bool) -> &'static str {
    if holds { "reached" } else { "missed" }
}

/// Whose goals they are.
const SUBJECT: &str = "strongroom";
/// Of the requests a second by base URL, through a tunnel that is kept.
const TUNNEL_GOAL: f64 = 0.7;
/// What is to be reached.
const CPU_GOALS: &[(&str, f64)] = &[
    ("json-1", 0.70),
    ("json-16", 0.70),
    ("json-64", 0.70),
    ("post", 0.70),
    ("sse", 0.70),
    ("down", 0.80),
    ("up", 0.75),
];
