//! Why a measurement could not be made: one sentence of what failed, with the system's reason.
//!
//! It refuses to be told apart: nobody handles these but a person. Used everywhere in this crate.

use std::fmt;

/// What failed, and why.
#[derive(Debug)]
pub struct BenchError(String);

/// With a [`BenchError`].
pub type Outcome<T> = Result<T, BenchError>;

impl BenchError {
    /// In these words.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BenchError {}

/// Names what was being done when an error came.
pub trait While<T> {
    /// "WHAT: error".
    ///
    /// # Errors
    /// The same, with more words.
    fn during(self, what: &str) -> Outcome<T>;
}

impl<T, E: fmt::Display> While<T> for Result<T, E> {
    fn during(self, what: &str) -> Outcome<T> {
        self.map_err(|error| BenchError(format!("{what}: {error}")))
    }
}
