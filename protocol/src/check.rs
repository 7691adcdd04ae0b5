//! One line of a daemon's account of its own cage, as `strongroom doctor` shows it.
//!
//! keyd and gatewayd make these at start-up, from inside, by trying what must fail. It refuses nothing: it is a record.

use serde::{Deserialize, Serialize};

/// A rule, whether it holds, and what to do where it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Check {
    /// Short name, such as `seccomp`.
    pub name: String,
    /// Whether it holds.
    pub state: CheckState,
    /// What was found, one sentence.
    pub detail: String,
    /// What to do, one sentence; empty where it holds.
    pub remedy: String,
}

impl Check {
    /// A rule that holds.
    #[must_use]
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: CheckState::Ok, detail: detail.into(), remedy: String::new() }
    }

    /// A rule that the kernel or the set-up leaves out; the program works without it.
    #[must_use]
    pub fn warning(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: CheckState::Warning, detail: detail.into(), remedy: remedy.into() }
    }

    /// A rule that should hold and does not.
    #[must_use]
    pub fn failed(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state: CheckState::Failed, detail: detail.into(), remedy: remedy.into() }
    }
}

/// How a rule stands. The wire number is the position: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// It holds.
    Ok,
    /// It is weaker than it could be.
    Warning,
    /// It should hold and does not.
    Failed,
}
