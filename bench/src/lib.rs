//! What a request costs, measured from outside on the real programs.
//!
//! ```text
//!   load ──▶ direct ───────────────────────────────▶ upstream     each in turn, in interleaved rounds;
//!        ──▶ one-process | nginx | keyd + gatewayd ─▶             CPU time of what stands in the middle
//! ```
//!
//! `load` and `upstream` are as light as they can be, since they share the machine with what is measured. It refuses to
//! compare what was not measured side by side: noise of the machine hits all subjects of a round alike. Called by
//! `make bench` through `main.rs`.
#![forbid(unsafe_code)]

pub mod error;
pub mod http1;
pub mod load;
pub mod measure;
pub mod options;
pub mod process;
pub mod report;
pub mod scenario;
pub mod stage;
pub mod upstream;
