//! gatewayd ↔ keyd over `gateway.sock`: one enum per direction.
//!
//! gatewayd can ask for nothing here but channels, sessions, leaves, tunnels and what an agent's own environment is: no
//! operation of `admin.sock` can be expressed. Every question gets
//! exactly one reply; keyd also speaks unasked, of routes and of the lock. Variants are numbered by position: append
//! only. Golden files under `golden/` pin the bytes.

use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::check::Check;
use crate::environment::Environment;
use crate::name::Name;
use crate::refusal::Refusal;
use crate::session::Presented;

/// What gatewayd says.
#[derive(Debug, Serialize, Deserialize)]
pub enum GatewayMessage {
    /// First, once: gatewayd's version and its account of its own cage. Answered by [`KeydMessage::Welcome`].
    Hello {
        /// Cargo package version.
        version: String,
        /// For `strongroom doctor`; keyd passes it on and believes none of it.
        checks: Vec<Check>,
    },
    /// A channel is wanted; descriptors come with the message. Answered by `Accepted` or `Refused` with the same number.
    OpenChannel {
        /// gatewayd's own number for it.
        channel: u64,
        /// Where the upstream socket leads, as gatewayd says; keyd believes the certificate.
        authority: Authority,
        /// Which descriptors come along.
        upstream: Upstream,
    },
    /// An agent connected, and this is what is known of it; its socket comes with the message where that is said.
    /// Answered by `SessionOpened` or `SessionRefused`. Requests on channels name the number.
    OpenSession {
        /// gatewayd's own number for it, never used before.
        session: u64,
        /// What is known.
        presented: Presented,
    },
    /// The agent's connection has ended. No answer.
    CloseSession {
        /// Its number.
        session: u64,
    },
    /// An agent sent CONNECT, or a request for a host by its full name. Answered by `Intercept`, `Tunnel` or `NotConnected`.
    Connect {
        /// gatewayd's own number for the question; of a tunnel that comes of it too.
        question: u64,
        /// Whose it is.
        session: u64,
        /// Where it wants to go.
        authority: Authority,
        /// The uncompressed public point (SEC 1, 2.3.3) of a P-256 key of gatewayd's, where it has no leaf for this host.
        point: Option<Vec<u8>>,
        /// gatewayd's id for the request, as on channels.
        request_id: String,
        /// A tunnel is wanted where the host is not intercepted. Else it is no CONNECT: without a tunnel it is refused, or
        /// intercepted as far as its own refusal where a grant once allowed it.
        tunnel: bool,
    },
    /// A tunnel has ended. No answer.
    EndTunnel {
        /// The number of the question that it came of.
        tunnel: u64,
        /// Bytes from the agent.
        bytes_in: u64,
        /// Bytes to the agent.
        bytes_out: u64,
        /// Why it never began or was not allowed to go on.
        failure: Option<TunnelFailure>,
    },
    /// An agent asks for its own environment. Answered by `Environment` or `NoEnvironment`.
    AskEnvironment {
        /// gatewayd's own number for the question.
        question: u64,
        /// Whose it is.
        session: u64,
        /// What the agent presents where the session proves nothing.
        placeholder: Option<String>,
        /// Number of the last grant of the page before.
        after: Option<u64>,
    },
}

/// Whether the upstream could be dialled. keyd answers for both, so that a refusal by policy comes before a failure of
/// the network, and so that each is on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upstream {
    /// Two descriptors: our end of the pair, and the connected TCP socket.
    Connected,
    /// One descriptor, our end of the pair. Requests that policy allows are answered with this failure.
    Failed(DialFailure),
}

/// Why there is no upstream socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialFailure {
    /// No such name, or no address answered.
    Unreachable,
    /// Every address is one that gatewayd does not dial.
    ForbiddenAddress,
    /// Nothing answered in time.
    TimedOut,
}

impl From<DialFailure> for Refusal {
    fn from(failure: DialFailure) -> Self {
        match failure {
            DialFailure::Unreachable => Self::UpstreamUnreachable,
            DialFailure::ForbiddenAddress => Self::UpstreamForbiddenAddress,
            DialFailure::TimedOut => Self::UpstreamTimeout,
        }
    }
}

/// Why a tunnel never began or was not allowed to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelFailure {
    /// As [`DialFailure::Unreachable`].
    Unreachable,
    /// As [`DialFailure::ForbiddenAddress`].
    ForbiddenAddress,
    /// As [`DialFailure::TimedOut`].
    TimedOut,
    /// The agent's TLS hello names another host than its CONNECT.
    AnotherName,
    /// The agent's first words begin as TLS does, and are no hello that can be read.
    UnreadableHello,
}

impl From<DialFailure> for TunnelFailure {
    fn from(failure: DialFailure) -> Self {
        match failure {
            DialFailure::Unreachable => Self::Unreachable,
            DialFailure::ForbiddenAddress => Self::ForbiddenAddress,
            DialFailure::TimedOut => Self::TimedOut,
        }
    }
}

impl From<TunnelFailure> for Refusal {
    fn from(failure: TunnelFailure) -> Self {
        match failure {
            TunnelFailure::Unreachable => Self::UpstreamUnreachable,
            TunnelFailure::ForbiddenAddress => Self::UpstreamForbiddenAddress,
            TunnelFailure::TimedOut => Self::UpstreamTimeout,
            TunnelFailure::AnotherName => Self::AuthorityMismatch,
            TunnelFailure::UnreadableHello => Self::BadRequest,
        }
    }
}

/// What keyd says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum KeydMessage {
    /// Answer to `Hello`.
    Welcome {
        /// Cargo package version.
        version: String,
    },
    /// The channel is open: HTTP may follow on the pair.
    Accepted {
        /// gatewayd's number.
        channel: u64,
    },
    /// The channel is not open; the descriptors are closed.
    Refused {
        /// gatewayd's number.
        channel: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The vault was locked (or is, at the start). No routes are known while it is.
    Locked,
    /// The vault is unlocked, and these are the routes, in as many messages as it takes.
    Routes {
        /// The first of a new list: forget what was told before.
        first: bool,
        /// The last of it: the list may be used.
        last: bool,
        /// Names only.
        routes: Vec<Route>,
    },
    /// The session is open.
    SessionOpened {
        /// gatewayd's number.
        session: u64,
    },
    /// The session is not open; the descriptor is closed.
    SessionRefused {
        /// gatewayd's number.
        session: u64,
        /// Why.
        refusal: Refusal,
    },
    /// A credential names the host: gatewayd is to end the agent's TLS itself, with a leaf.
    Intercept {
        /// gatewayd's number.
        question: u64,
        /// A certificate for its key, where it sent a point.
        leaf: Option<Leaf>,
        /// As those of a [`Route`].
        fields: Vec<String>,
        /// As those of a [`Route`].
        bodies: Vec<BodyRequest>,
    },
    /// The agent may go there, and nobody looks inside.
    Tunnel {
        /// gatewayd's number, from now on the tunnel's.
        question: u64,
    },
    /// The agent may not go there.
    NotConnected {
        /// gatewayd's number.
        question: u64,
        /// Why.
        refusal: Refusal,
    },
    /// What allowed this tunnel was taken away: it has to end.
    CutTunnel {
        /// Its number.
        tunnel: u64,
    },
    /// A page of the agent's environment.
    Environment {
        /// gatewayd's number.
        question: u64,
        /// Without the token.
        page: Environment,
    },
    /// The agent is not known, or has no environment.
    NoEnvironment {
        /// gatewayd's number.
        question: u64,
        /// Why.
        refusal: Refusal,
    },
}

/// A certificate for one host, signed by our certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Leaf {
    /// DER.
    pub certificate: Vec<u8>,
    /// When it ends, in seconds of the Unix epoch; at most 24 hours from now.
    pub expires: u64,
}

/// A first path segment of the base-URL way in, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Route {
    /// The segment.
    pub name: Name,
    /// The destination.
    pub authority: Authority,
    /// Header fields, in lower case, in which credentials of this authority take a placeholder: requests that differ
    /// in one of them are kept on different channels, for a channel serves one agent alone.
    pub fields: Vec<String>,
    /// Requests in whose body a credential of this authority takes a placeholder. gatewayd reads no bodies, so it sends
    /// each of them over a channel of its own.
    pub bodies: Vec<BodyRequest>,
}

/// A request whose body keyd looks into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct BodyRequest {
    /// Its method, in capitals.
    pub method: String,
    /// Its canonical path, with nothing in it that canonicalising changes.
    pub path: String,
}

/// Routes in one [`KeydMessage::Routes`]; 64 of the longest fit [`crate::frame::EXCHANGE_LIMIT`].
pub const ROUTES_IN_A_MESSAGE: usize = 64;
