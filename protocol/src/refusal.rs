//! The closed list of reasons for which a request is not done, with HTTP status and wording.
//!
//! A refusal crosses sockets as a code; the words live here, so no message can ever carry what a request held.
//! It refuses to grow an "other". The codes are part of the outside contract: add, never rename.
//! Called by keyd and gatewayd (to refuse) and ctl (to explain).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! refusals {
    ($($variant:ident $code:literal $status:literal $retry:ident $message:literal $hint:literal)*) => {
        /// Why a request was not done. The wire number is the position: append only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(test, derive(postcard_schema::Schema))]
        pub enum Refusal {
            $(#[doc = $message] $variant,)*
        }

        impl Refusal {
            /// Every refusal there is.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code that outside programs see.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The HTTP status that goes with it where no challenge is due.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// Whether the same request can succeed later without anybody changing anything, or after a moment.
            #[must_use]
            pub fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry),* }
            }

            /// What happened, as one sentence.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }

            /// What to do about it, as one sentence.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint),* }
            }
        }
    };
}

refusals! {
    BadRequest "bad_request" 400 Useless
        "The request is malformed, or has a part that two parsers could read in two ways."
        "Check the request line, the path and the header fields."
    AuthorityMismatch "authority_mismatch" 400 Useless
        "The request names another host than the one it was sent to, or comes from a web page."
        "Use an address that 'strongroom status' shows, as http://ADDRESS/ROUTE/, as the base URL."
    NoPlaceholder "no_placeholder" 403 Useless
        "The request carries no placeholder where the credential expects one."
        "Give the client the placeholder that 'strongroom grant add' printed in place of its API key."
    UnknownPlaceholder "unknown_placeholder" 403 Useless
        "The value in the key's position is not a placeholder of this vault."
        "Run 'strongroom grant list' and give the client the placeholder of its grant, as the whole value."
    AgentMismatch "agent_mismatch" 403 Useless
        "The placeholder or token is another agent's than this connection shows, or its agent has to prove itself and did not."
        "Start the client with 'strongroom run --agent NAME', which brings the proof, or give this agent a grant of its own."
    AgentUnknown "agent_unknown" 403 Useless
        "No agent could be told from this connection."
        "Register the agent with 'strongroom agent add', or let it send its placeholder."
    HostNotAllowed "host_not_allowed" 403 Useless
        "No credential and no grant of this agent names this host or route."
        "Run 'strongroom credential list' for the routes there are."
    SiteNotAllowed "site_not_allowed" 403 Useless
        "A placeholder stands in a position that its credential does not declare, or not as the whole value, or twice."
        "Run 'strongroom credential show NAME' for the positions that are declared."
    RequestNotAllowed "request_not_allowed" 403 Useless
        "This method and path are not allowed by the grant or are denied by the credential."
        "Run 'strongroom grant list' for the patterns, or choose another endpoint."
    Revoked "revoked" 403 Useless
        "The grant, its agent or its credential has been revoked."
        "Ask for a new grant with 'strongroom grant add'."
    Expired "expired" 403 Useless
        "The grant has expired."
        "Ask for a new grant with 'strongroom grant add'."
    TooLarge "too_large" 431 Useless
        "The request line, the header fields, or a body into which a key goes are over the gateway's limits."
        "Send less; limits of request line and fields can be raised in gatewayd.toml, that of such a body is 1 MiB."
    RateLimited "rate_limited" 429 Later
        "The grant's rate limit is used up for now."
        "Wait for as long as Retry-After says, or grant a higher --rate."
    BudgetExhausted "budget_exhausted" 429 Later
        "The grant's budget is used up for now."
        "Wait for as long as Retry-After says, or grant a higher budget."
    UpstreamUnreachable "upstream_unreachable" 502 Possible
        "The upstream could not be reached, or closed the connection without an answer."
        "Check the network and the upstream's state, then try again."
    UpstreamUntrusted "upstream_untrusted" 502 Useless
        "The upstream did not prove with a certificate that it is the host which the credential names."
        "See keyd's log for what is wrong with its certificate; for a private CA add the credential with --ca."
    UpstreamProtocol "upstream_protocol" 502 Possible
        "The upstream's answer is not valid TLS or HTTP, or broke off."
        "Check that the host and port speak HTTPS."
    UpstreamForbiddenAddress "upstream_forbidden_address" 502 Useless
        "The upstream's name leads to an address that the gateway does not dial, such as a private or metadata address."
        "Where this is meant, name the host under [resolve] or the network in allow-private-upstreams in gatewayd.toml."
    ResponseUnscrubbable "response_unscrubbable" 502 Useless
        "The upstream's answer is encoded in a way in which a key in it could not be found."
        "Ask the endpoint for an answer without content encoding."
    VaultLocked "vault_locked" 503 Later
        "The vault is locked."
        "Run 'strongroom unlock'."
    KeydUnavailable "keyd_unavailable" 503 Later
        "The key daemon does not answer."
        "Run 'strongroom status', and 'strongroom up' or 'systemctl start strongroom-keyd' where it is down."
    AuditUnavailable "audit_unavailable" 503 Later
        "The use could not be written to the audit log, so it was not made."
        "Check the disk that holds the audit log."
    Overloaded "overloaded" 503 Later
        "The gateway has as many connections or exchanges as it takes."
        "Wait a moment and try again."
    UpstreamTimeout "upstream_timeout" 504 Possible
        "The upstream did not answer in time."
        "Try again, or raise the time-outs in gatewayd.toml."
}

impl Refusal {
    /// A second status that may go with the code, where it says more than the usual one: 401 where `no_placeholder` asks
    /// for Basic credentials, 413 where `too_large` is about a body.
    #[must_use]
    pub fn other_status(self) -> Option<u16> {
        match self {
            Self::NoPlaceholder => Some(401),
            Self::TooLarge => Some(413),
            _ => None,
        }
    }
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request will be refused again: clients get `x-should-retry: false`.
    Useless,
    /// It may work at once or later.
    Possible,
    /// It may work after the time in `Retry-After`.
    Later,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Refusal {
    type Err = UnknownRefusal;

    fn from_str(code: &str) -> Result<Self, UnknownRefusal> {
        Self::ALL.iter().copied().find(|refusal| refusal.code() == code).ok_or(UnknownRefusal)
    }
}

/// A text that is none of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownRefusal;

impl fmt::Display for UnknownRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a refusal code")
    }
}

impl std::error::Error for UnknownRefusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_distinct() {
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.code().parse(), Ok(*refusal));
            assert!(Refusal::ALL[..index].iter().all(|other| other.code() != refusal.code()));
        }
    }

    #[test]
    fn statuses_follow_the_contract() {
        for refusal in Refusal::ALL {
            let later = refusal.retry() == Retry::Later;
            assert_eq!(later, matches!(refusal.status(), 429 | 503), "{refusal}: Retry-After belongs to 429 and 503");
            assert!(refusal.other_status().is_none_or(|other| other < 500 && other != refusal.status()), "{refusal}");
            assert!(!refusal.message().is_empty() && refusal.message().ends_with('.') && refusal.hint().ends_with('.'));
        }
    }

    #[test]
    fn no_words_name_an_address_that_the_configuration_may_have_changed() {
        for refusal in Refusal::ALL {
            let words = format!("{} {}", refusal.message(), refusal.hint());
            assert!(!words.contains("127.0.0.1") && !words.contains("7777"), "{words}");
        }
    }
}
