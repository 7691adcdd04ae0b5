//! Who is at the other end of an agent's connection, as gatewayd presents it to keyd.
//!
//! A *session* is one such connection. What proves something is checked by keyd itself: a socket of agent.sock, which
//! comes beside the message, and a token. A uid of loopback TCP is gatewayd's word: it can only narrow. It refuses to
//! say which agent that is: keyd finds out, each time anew, for agents come and go.
//! Sent by gatewayd, read by keyd.

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::secret_bytes::SecretBytes;

/// What is known of an agent's connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Presented {
    /// The connection's own socket comes along: it was accepted on agent.sock.
    pub socket: bool,
    /// Whose the peer of a loopback TCP connection is, by the kernel's word to gatewayd.
    pub uid: Option<u32>,
    /// What the agent sent as its token.
    pub token: Option<PresentedToken>,
}

/// A token, and the name that came with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct PresentedToken {
    /// The agent whose token it is said to be; none where only a token was sent.
    pub agent: Option<Name>,
    /// The token.
    pub token: SecretBytes,
}

/// How every token begins, so that people and scanners know it.
pub const TOKEN_PREFIX: &str = "strongroom-agent-";

/// No token is longer, in bytes; what is may be refused unread.
pub const LONGEST_TOKEN: usize = 256;

/// Letters and digits behind that: 238 random bits.
pub const TOKEN_TAIL: usize = 40;
