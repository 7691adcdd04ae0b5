//! The bytes on the sockets: golden files pin them, mutated and random bytes try to break the readers.
//!
//! `samples.rs` has one value for each variant of each wire enum; it does not compile when a variant is missing.
#![allow(clippy::unwrap_used)]

mod golden;
mod mutation;
mod samples;
