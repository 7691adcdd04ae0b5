//! Privileges only go down: no_new_privs, then every capability set, then what uid 0 could regain.
//!
//! It changes no uid: the service manager or `strongroom up` has chosen one. Run by root, which only the user mode
//! of root does, keyd goes on as a uid 0 that owns root's files and can do nothing else.
//! It refuses nothing and asks nothing: giving up is always allowed.
//!
//! Called by `confine`.

use nix::sys::prctl;
use strongroom_protocol::Check;

use crate::sys::privilege;

/// Name of the check.
pub const NO_NEW_PRIVILEGES: &str = "no-new-privileges";
/// Name of the check.
pub const CAPABILITIES: &str = "capabilities";

/// Drops everything; one line for each rule.
pub fn drop_all() -> Vec<Check> {
    vec![forbid_new_privileges(), drop_capabilities()]
}

fn forbid_new_privileges() -> Check {
    match prctl::set_no_new_privs().and_then(|()| prctl::get_no_new_privs()) {
        Ok(true) => Check::ok(NO_NEW_PRIVILEGES, "no program started from here could gain privileges."),
        other => {
            Check::failed(NO_NEW_PRIVILEGES, format!("PR_GET_NO_NEW_PRIVS gives {other:?}."), "Use Linux 3.5 or newer.")
        }
    }
}

fn drop_capabilities() -> Check {
    // These need CAP_SETPCAP, so they come first; who lacks it has nothing in the bounding set that no_new_privs
    // would let them have. Root's uid means nothing after the last line.
    let _ = privilege::lock_secure_bits();
    let _ = (0..64).try_for_each(|number| privilege::drop_from_bounding_set(number).map(drop));
    // EINVAL before Linux 4.3, which has no ambient set.
    let _ = privilege::clear_ambient_set();
    let dropped = privilege::drop_capabilities().and_then(|()| privilege::has_no_capabilities());
    match dropped {
        Ok(true) => Check::ok(CAPABILITIES, "none is left: permitted, effective, inheritable and ambient are empty."),
        Ok(false) => Check::failed(CAPABILITIES, "some are left.", "Set CapabilityBoundingSet= from outside."),
        Err(error) => Check::failed(
            CAPABILITIES,
            format!("they cannot be dropped: {error}."),
            "Set CapabilityBoundingSet= from outside.",
        ),
    }
}
