//! Limits of the process: no core dump, no debugger of the same user, as many descriptors as are allowed, and no
//! signal mask that its parent left.
//!
//! It refuses to raise a hard limit, or to lower one that is not its business. PR_SET_PDEATHSIG is left alone on
//! purpose: `strongroom up` ends, and keyd must not end with it.
//!
//! Called by `confine`, before any key is in memory, and by `create-vault`, which holds one for a moment.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use strongroom_protocol::Check;

/// Name of the check.
pub const CORE_DUMPS: &str = "core-dumps";
/// Name of the check.
pub const UNDUMPABLE: &str = "undumpable";
/// Name of the check.
const DESCRIPTORS: &str = "descriptors";

/// Sets them all and reads each back. The signal mask is inherited by the threads that start later.
pub fn apply() -> Vec<Check> {
    // A parent that waits for signals blocks them, and we would never hear that we are to stop. SIGXFSZ is for the
    // audit log: where it cannot grow, writing is to fail and refuse that use, not to end keyd.
    let _cannot_fail = SigSet::from(Signal::SIGXFSZ).thread_set_mask();
    vec![forbid_core_dumps(), forbid_dumping(), raise_descriptor_limit()]
}

fn forbid_core_dumps() -> Check {
    let result = setrlimit(Resource::RLIMIT_CORE, 0, 0).and_then(|()| getrlimit(Resource::RLIMIT_CORE));
    match result {
        Ok((0, 0)) => Check::ok(CORE_DUMPS, "RLIMIT_CORE is 0, and cannot be raised again."),
        other => Check::failed(
            CORE_DUMPS,
            format!("RLIMIT_CORE is {other:?}."),
            "Set LimitCORE=0 (ulimit -c 0) from outside.",
        ),
    }
}

/// Undumpable also means: a debugger of the same uid is refused, and /proc/PID belongs to root. A core_pattern that
/// names a program ignores RLIMIT_CORE, but not this.
fn forbid_dumping() -> Check {
    match prctl::set_dumpable(false).and_then(|()| prctl::get_dumpable()) {
        Ok(false) => Check::ok(UNDUMPABLE, "other processes of the same user can neither read nor trace this one."),
        other => Check::failed(
            UNDUMPABLE,
            format!("PR_GET_DUMPABLE gives {other:?}."),
            "Use a kernel whose filters allow prctl.",
        ),
    }
}

/// Each exchange needs two descriptors, and the usual soft limit of 1,024 is for programs that use select.
fn raise_descriptor_limit() -> Check {
    let result = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
        .and_then(|()| getrlimit(Resource::RLIMIT_NOFILE));
    match result {
        Ok((soft, _)) if soft >= FEW_DESCRIPTORS => Check::ok(DESCRIPTORS, format!("{soft} may be open at once.")),
        Ok((soft, _)) => Check::warning(
            DESCRIPTORS,
            format!("only {soft} may be open at once, half of them for exchanges."),
            "Raise the hard limit (LimitNOFILE= or ulimit -Hn) to 16384.",
        ),
        Err(error) => Check::warning(DESCRIPTORS, format!("the limit is unknown: {error}."), "Allow prlimit64."),
    }
}

/// Below this 1,000 agents' connections do not fit.
const FEW_DESCRIPTORS: u64 = 4096;
