//! The harness: the three programs as separate processes, an upstream that does what a test says, and an agent.
//!
//! A test reads like a sentence:
//!
//! ```no_run
//! use strongroom_tests::prelude::*;
//!
//! let scene = Scene::with(|exchange| exchange.respond("200 OK", &[], b"hello"));
//! let answer = scene.get("/openai/v1/models").send();
//! assert_eq!(answer.status(), 200);
//! ```
//!
//! Each test has a home, ports and processes of its own, which end with it. It refuses to start programs that were not
//! built, and it waits for conditions with a deadline, never for a time. As root the daemons run under users of their
//! own, as they do in a system installation.

pub mod agent;
pub mod client;
pub mod clock;
pub mod deadline;
pub mod disk;
pub mod fake_api;
pub mod h2_upstream;
pub mod h2c;
pub mod hostile;
pub mod many;
pub mod memory_group;
pub mod network;
pub mod process;
pub mod programs;
pub mod raw_upstream;
pub mod scene;
pub mod secrets;
pub mod strongroom;
pub mod tunnel;
pub mod wire;

/// What nearly every test uses.
pub mod prelude {
    pub use std::time::Duration;

    pub use strongroom_ctl::demo::certificate::Root;
    pub use strongroom_ctl::demo::http1::{Framing, Head};
    pub use strongroom_ctl::demo::needles::Needles;
    pub use strongroom_ctl::demo::upstream::{Exchange, Upstream};
    pub use strongroom_protocol::Refusal;

    pub use crate::agent::{Answer, Connection, Request};
    pub use crate::deadline::{until_still, within};
    pub use crate::process;
    pub use crate::scene::{AGENT, CREDENTIAL, HOST, Scene};
    pub use crate::strongroom::{Builder, Output, Strongroom};
}
