//! The tables drawn: aligned for a terminal, as Markdown between two markers of a page.
//!
//! It refuses to touch a page outside its markers. Called by `main.rs`.

use std::fs;
use std::path::Path;

use super::Results;
use super::table::Table;
use crate::error::{BenchError, Outcome, While};

impl Results {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        self.tables().iter().map(text).collect()
    }

    /// Puts the tables in the place of what stands between the markers.
    ///
    /// # Errors
    /// Where the page has no markers or cannot be written.
    pub fn write_into(&self, page: &Path) -> Outcome<()> {
        let what = page.display().to_string();
        let old = fs::read_to_string(page).during(&what)?;
        let (before, rest) = old.split_once(BEGIN).ok_or_else(|| BenchError::new(format!("{what} has no {BEGIN}")))?;
        let (_, after) = rest.split_once(END).ok_or_else(|| BenchError::new(format!("{what} has no {END}")))?;
        fs::write(page, format!("{before}{BEGIN}\n{}{END}{after}", self.markdown())).during(&what)
    }

    fn markdown(&self) -> String {
        let machine = &self.machine;
        let nginx =
            self.nginx.as_ref().map_or("nginx was not installed".to_owned(), |version| format!("nginx {version}"));
        let users = if machine.users { "the daemons under users of their own" } else { "all under one user" };
        let mut text = format!(
            "\n`{}` on {}: {} with {} cores, {} GiB of memory, Linux {} ({}), {nginx}, {users}. Medians of {} rounds; load average {:.1}.\n",
            self.command,
            self.date.split('T').next().unwrap_or_default(),
            machine.cpu,
            machine.cores,
            machine.memory,
            machine.kernel,
            machine.system,
            self.rounds,
            machine.load
        );
        for table in self.tables() {
            text.push_str(&format!("\n### {}\n\n| {} |\n|{}\n", table.title, table.columns.join(" | "), rule(&table)));
            for row in &table.rows {
                text.push_str(&format!("| {} |\n", row.join(" | ")));
            }
        }
        text + "\n"
    }
}

/// The first column is words, the others are figures.
fn rule(table: &Table) -> String {
    table.columns.iter().enumerate().map(|(index, _)| if index == 0 { "---|" } else { "---:|" }).collect()
}

fn text(table: &Table) -> String {
    let head: Vec<String> = table.columns.iter().map(|column| (*column).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(&table.rows).collect();
    let widths: Vec<usize> =
        (0..head.len()).map(|index| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0)).collect();
    let mut text = format!("\n{}\n", table.title);
    for line in lines {
        for (index, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            if index == 0 {
                text.push_str(&format!("  {cell:<width$}"));
            } else {
                text.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";
