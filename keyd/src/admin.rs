//! admin.sock: what people ask of keyd.
//!
//! [`serve`] reads one request after another, [`dispatch`] is the whole permission table, `operation/` does what it
//! allows, a file a subject. It refuses callers whose uid is not an admin's before it reads a byte of theirs, and a
//! peer that keeps it waiting in the middle of a message. Called by `serve.rs`.

pub mod dispatch;
pub mod guests;
pub mod operation;
pub mod serve;
