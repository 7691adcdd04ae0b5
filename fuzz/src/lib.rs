//! Everything that parses what a peer sends, as functions over bytes that check their own properties.
//!
//! The fuzzer calls them (`make fuzz`, the crate in `libfuzzer/`), and every test run does, on the corpus that is kept
//! and on mutations of it (`tests/corpus.rs`). They are keyd's and gatewayd's own files, compiled into this crate. A
//! target panics where a property does not hold; it refuses nothing. Add one: write the function, name it in
//! [`TARGETS`], and give it a seed in `corpus/`.

mod bodies;
pub mod dice;
mod messages;
mod policies;
mod texts;

#[path = "../../keyd/src"]
#[allow(dead_code, unused_imports, missing_docs, reason = "a part of keyd's files is used")]
mod keyd {
    pub mod audit;
    pub mod config;
    pub mod peer;
    pub mod policy;
    pub mod secret;
    pub mod sys;
    pub mod vault;
    pub mod exchange {
        pub mod decode;
        pub mod scrub;
    }
}
// keyd's files name each other from their own crate's root.
use keyd::{audit, exchange, peer, policy, secret, sys, vault};

// A module of `policy` in unit tests alone, and this is none.
#[path = "../../keyd/src/policy/fixture.rs"]
#[allow(dead_code, missing_docs, clippy::duplicate_mod)]
mod fixture;

#[path = "../../gatewayd/src/connection/framing.rs"]
#[allow(dead_code, missing_docs)]
mod gatewayd_framing;

#[path = "../../gatewayd/src/connect/head.rs"]
#[allow(dead_code, missing_docs)]
mod gatewayd_connect_head;

#[path = "../../gatewayd/src/connect/client_hello.rs"]
#[allow(dead_code, missing_docs)]
mod gatewayd_client_hello;

/// A property over any bytes.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("gateway_message", messages::gateway_message),
    ("keyd_message", messages::keyd_message),
    ("admin_request", messages::admin_request),
    ("admin_reply", messages::admin_reply),
    ("frames", messages::frames),
    ("heads", messages::heads),
    ("agent_framing", messages::agent_framing),
    ("connect_head", messages::connect_head),
    ("client_hello", messages::client_hello),
    ("vault_file", texts::vault_file),
    ("keyd_toml", texts::keyd_toml),
    ("names", texts::names),
    ("path", policies::path),
    ("rule", policies::rule),
    ("json_body", policies::json_body),
    ("form_body", policies::form_body),
    ("scrub", bodies::scrub),
    ("decode", bodies::decode),
];

/// Runs the target of this name.
///
/// # Panics
/// Where there is none, or its property does not hold.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    target(bytes);
}

/// Cuts bytes at places that the first of them choose.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let Some((&count, rest)) = bytes.split_first() else { return Vec::new() };
    let Some((cuts, mut rest)) = rest.split_at_checked(usize::from(count % 8)) else { return vec![rest] };
    let mut pieces = Vec::new();
    for cut in cuts {
        let at = usize::from(*cut).min(rest.len());
        let (piece, more) = rest.split_at(at);
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}
