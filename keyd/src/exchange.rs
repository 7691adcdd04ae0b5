//! The way of one agent request through keyd, a file a step.
//!
//! [`channel`] is the connection it comes over; [`admit`] judges it and writes it down, [`connect`] proves who the
//! upstream is ([`trust`] says by which roots, [`protocol`] in which HTTP version), [`substitute`] puts the key in
//! ([`whole_body`] holds a body where it goes there): so far the way is [`forward`]'s. [`underway`] sends it, [`answer`] looks
//! at the answer's head and streams the answer through the scrubber ([`scrub`]), [`running`] can cut it at any moment.
//! No step hands gatewayd a byte that did not pass the scrubber. Called by `gateway.rs`, which opens channels.

pub mod admit;
pub mod answer;
#[cfg(test)]
mod certificate_fixture;
pub mod channel;
pub mod connect;
pub mod connection;
pub mod decode;
pub mod download;
pub mod fields;
pub mod forward;
pub mod gather;
pub mod link;
pub mod negotiation;
pub mod pieces;
pub mod protocol;
pub mod record;
pub mod refuse;
pub mod room;
pub mod running;
pub mod scrub;
pub mod substitute;
pub mod trust;
pub mod underway;
pub mod upload;
pub mod whole_body;
