//! The two ways in which a client comes to the gateway over TCP.

/// How a client comes to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It is given the gateway's address in place of the provider's.
    BaseUrl,
    /// It knows the provider by its own name, and `strongroom run` gives it the proxy.
    Proxy,
}
