//! The audit log: every use of a key on record before it happens, in files that show tampering.
//!
//! `record.rs` says what a line holds, `chain.rs` what ties lines together, `writer.rs` puts them on disk, `reader.rs`
//! and `verify.rs` read them back a page at a time, `refusals.rs` keeps a flood of refusals from filling the disk.
//! All of it is plain synchronous code: times are passed in. AUDIT.md describes the bytes for a reader without the code.
//! It refuses to hold a key from the vault, but for the audit key. Called by `logbook.rs` and `admin/`.

pub mod chain;
mod files;
pub mod reader;
pub mod record;
pub mod refusals;
pub mod verify;
pub mod writer;

pub use files::has_lines;
pub use refusals::RefusalCounter;
pub use writer::{AuditError, AuditLog, Found, Fsync};
