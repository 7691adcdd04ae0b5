//! A wildcard must not name everybody's hosts: `*.co.uk` would be half a country.
//!
//! Looks in the public suffix list, which is built in. Called by `credential add` and `agent allow`.

use strongroom_protocol::HostPattern;
use strongroom_protocol::authority::Host;

use crate::error::{CtlError, Outcome};

/// Refuses a wildcard over a public suffix.
///
/// # Errors
/// Where the host is such a wildcard.
pub fn check(host: &HostPattern) -> Outcome<()> {
    let HostPattern::OneLabelBefore(rest) = host else { return Ok(()) };
    let Host::Name(name) = rest.host() else { return Ok(()) };
    // A suffix itself, or one label above suffixes that the list names with a wildcard.
    let is_suffix = |name: &str| psl::suffix_str(name) == Some(name);
    if is_suffix(name) || is_suffix(&format!("any-label.{name}")) {
        return Err(CtlError::usage(format!(
            "*.{name} would name everybody's hosts below a public suffix. Name the hosts one by one."
        )));
    }
    Ok(())
}
