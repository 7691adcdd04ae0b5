//! Whole requests through the gateway, against a keyd that lives in the test and answers on the channel.
//!
//! It shows what no single file can: pooling, the second try, cancelling both ways, time limits, the end. The real keyd
//! and real TLS are the system tests' part.

#![allow(clippy::unwrap_used)]

mod early_answers;
mod framed_keyd;
mod requests;
mod stage;
mod streams;
