//! Who may use which key where: plain functions over the vault's records, without I/O.
//!
//! [`live::Live`] is one unlocked generation of the vault with its look-up tables; [`decide::decide`] is the whole
//! judgement over one request head. Nothing here waits, logs, touches a socket or changes the vault, so every rule can
//! be tested by calling it. Called by `exchange/` and `gateway/` (to judge) and `state` (to build a new generation).

pub mod body;
pub mod decide;
pub mod find;
#[cfg(test)]
pub mod fixture;
pub mod form;
pub mod identity;
pub mod json;
pub mod key_strength;
pub mod lenient;
pub mod limit;
pub mod live;
pub mod path;
pub mod percent;
pub mod placeholder;
pub mod positions;
pub mod rule;
