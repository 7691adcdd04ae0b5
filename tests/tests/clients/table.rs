//! docs/clients.md: what each client can do, by the tests that it has.
//!
//! What works is the list of this program's own tests, so a row cannot say more than is tested; a client without a row
//! and a row without a test are failures. Versions are those that `tests/clients` pins. `UPDATE_TEXTS=1` writes the file
//! anew, for a reviewer to read as a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::table::rows::{LEFT_OUT, ROWS};
use crate::way::Way;

mod rows;

/// One client by one way.
pub struct Row {
    /// Its name.
    pub client: &'static str,
    /// Which one.
    pub version: Version,
    /// How it comes.
    pub way: Way,
    /// Where its tests are.
    pub module: &'static str,
    /// What it heeds, beside the key's own variable.
    pub variables: &'static str,
    /// What it speaks to the gateway where it may choose.
    pub http: &'static str,
    /// What does not work, and why, or what has to be known.
    pub limits: &'static str,
}

/// Where a version stands.
pub enum Version {
    /// In `requirements.txt`.
    Python(&'static str),
    /// In `package.json`.
    Node(&'static str),
    /// On the machine: what it is on the one where the table was looked over.
    System(&'static str),
}

/// What this module's client speaks through the proxy, for its tests to compare.
#[track_caller]
pub fn http(module: &str) -> &'static str {
    let row = ROWS.iter().find(|row| module.strip_prefix("clients::") == Some(row.module));
    row.unwrap_or_else(|| panic!("{module} has no row")).http
}

#[test]
fn the_document_says_what_is_tested() {
    let text = document(&tests());
    let path = root().join("docs/clients.md");
    if std::env::var_os("UPDATE_TEXTS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/clients.md is not what the tests say; write it anew with UPDATE_TEXTS=1");
}

#[test]
fn every_client_has_a_row_and_every_row_a_test() {
    let tests = tests();
    let has_a_row = |test: &str| ROWS.iter().any(|row| name_within(row, test).is_some());
    let without: Vec<_> = tests.iter().filter(|test| !test.starts_with("table::") && !has_a_row(test)).collect();
    assert_eq!(without, Vec::<&String>::new());
    for row in ROWS {
        assert!(!works(row, &tests).is_empty(), "{} has no test in {}", row.client, row.module);
    }
    let modules: BTreeSet<_> = ROWS.iter().map(|row| row.module).collect();
    assert_eq!(modules.len(), ROWS.len(), "two rows for one client");
}

/// The names of all tests in this program.
fn tests() -> Vec<String> {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg("--list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    assert!(names.len() > ROWS.len(), "{text}");
    names
}

fn document(tests: &[String]) -> String {
    let mut text = BEFORE.to_owned();
    for (name, meaning) in SHORT {
        writeln!(text, "- **{}**: {}", meaning, name.replace('_', " ")).unwrap();
    }
    for (way, title) in [(Way::Proxy, IN_THE_PROXY), (Way::BaseUrl, BY_BASE_URL)] {
        write!(text, "\n{title}\n\n{HEADINGS}\n").unwrap();
        for row in ROWS.iter().filter(|row| row.way == way) {
            let Row { client, variables, http, limits, .. } = row;
            let (version, works) = (version(&row.version), works(row, tests).join(", "));
            writeln!(text, "| {client} | {version} | {variables} | {http} | {works} | {limits} |").unwrap();
        }
    }
    write!(text, "\n{NOT_TESTED}\n\n").unwrap();
    for (client, why) in LEFT_OUT {
        writeln!(text, "- {client}: {why}").unwrap();
    }
    text
}

/// What a client's tests say, in their order.
fn works(row: &Row, tests: &[String]) -> Vec<String> {
    let names = tests.iter().filter_map(|test| name_within(row, test));
    names
        .map(|name| {
            let short = SHORT.iter().find(|(long, _)| *long == name);
            short.map_or_else(|| name.replace('_', " "), |(_, short)| (*short).to_owned())
        })
        .collect()
}

/// The test's own name, where it is this client's.
fn name_within<'a>(row: &Row, test: &'a str) -> Option<&'a str> {
    let rest = test.strip_prefix(row.module)?.strip_prefix("::")?;
    rest.rsplit("::").next()
}

fn version(version: &Version) -> String {
    let pinned = |file: &str, lines: BTreeMap<String, String>, name: &str| {
        lines.get(name).cloned().unwrap_or_else(|| panic!("{file} pins no {name}"))
    };
    let read = |file: &str| fs::read_to_string(root().join("tests/clients").join(file)).unwrap();
    match version {
        Version::System(version) => (*version).to_owned(),
        Version::Python(name) => {
            let text = read("python/requirements.txt");
            let lines = text.lines().filter_map(|line| line.split_once("=="));
            pinned(
                "requirements.txt",
                lines.map(|(name, version)| (name.to_owned(), version.to_owned())).collect(),
                name,
            )
        }
        Version::Node(name) => {
            let package: serde_json::Value = serde_json::from_str(&read("node/package.json")).unwrap();
            let lists = [&package["dependencies"], &package["optionalDependencies"]];
            let lines = lists.into_iter().filter_map(|list| list.as_object()).flatten();
            let lines = lines.filter_map(|(name, version)| Some((name.clone(), version.as_str()?.to_owned())));
            pinned("package.json", lines.collect(), name)
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Tests that many clients have, and what they are called in the table.
const SHORT: &[(&str, &str)] = &[
    ("calls_work_and_no_key_is_held", "calls"),
    ("errors_are_readable_and_not_retried_for_ever", "errors"),
    ("refusals_are_readable_and_not_retried", "refusals"),
    ("every_event_arrives_before_the_next_is_sent", "streams"),
    ("what_breaks_off_is_no_end", "cut streams"),
];

const BEFORE: &str = "\
# Clients

<!-- Made from the tests by 'UPDATE_TEXTS=1 cargo test -p strongroom-tests --test clients table::'; do not edit it by hand. -->

What real client programs do with Strongroom, each line by tests that `make test` runs against APIs as the providers have
them. [Connecting an agent](agents.md) says how a program gets its environment. What works, in short:

";

const HEADINGS: &str = "\
| client | version | variables that matter | HTTP | what works | what does not, and what to know |
|---|---|---|---|---|---|";

const IN_THE_PROXY: &str = "\
## Through the proxy

Each program knows the provider by its own name and is started by `strongroom run`, which sets all of these variables; the
tests' machine has no other network, and the provider takes the real key alone. HTTP is what the program speaks to the
gateway. Where a CONNECT is refused - a host that is not allowed, a locked vault - programs show the status, 403 or 503, and
seldom the words beside it; `strongroom audit` names the host if the agent is known by a user, a unit or a token.";

const BY_BASE_URL: &str = "\
## By base URL

No certificate and no proxy: the program is given `http://127.0.0.1:7777/ROUTE` in place of the provider's address.";

const NOT_TESTED: &str = "## Not tested";
