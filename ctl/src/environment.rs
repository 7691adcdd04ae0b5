//! An agent's environment: asked for, made into variables, printed or given to a program.
//!
//! It holds placeholders and the agent's own token, and nothing that is worth anything elsewhere. What comes over
//! agent.sock is gatewayd's word, so it is looked at before it steers a program or a shell. Called by `env` and `run`.

pub mod bundle;
pub mod format;
pub mod gateway_client;
pub mod source;
pub mod variables;

use std::net::SocketAddr;

use strongroom_protocol::Name;
use strongroom_protocol::environment::EnvironmentGrant;

/// All that an agent's environment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The agent.
    pub agent: Name,
    /// Its token, where it has one and we may know it.
    pub token: Option<String>,
    /// The certificate of our certificate authority, as DER.
    pub ca: Vec<u8>,
    /// Where gatewayd listens, as programs of this machine reach it.
    pub gateway: SocketAddr,
    /// Its live grants.
    pub grants: Vec<EnvironmentGrant>,
    /// keyd told it to us as to an admin.
    pub as_admin: bool,
}
