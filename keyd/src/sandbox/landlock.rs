//! Landlock: of the whole file system only the data directory stays reachable.
//!
//! Everything that the kernel can restrict is restricted, to the newest ABI that both it and we know; on an older
//! one the rest is left out and said. Beneath the data directory keyd reads, writes, creates, links, renames and
//! removes ordinary files, and makes the audit log's directory. It executes nothing there, and makes no device,
//! socket, pipe or symbolic link. TCP, abstract sockets and signals to others are refused besides: seccomp does that
//! too, but a second lock costs nothing.
//!
//! Called by `confine`.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use strongroom_protocol::Check;

use super::SandboxError;

/// Name of the check.
pub const FILES: &str = "landlock";
const NETWORK: &str = "landlock-network";
const SCOPES: &str = "landlock-scopes";

/// Restricts this thread, and those that it starts, to `data`.
///
/// # Errors
/// Where `data` cannot be opened; that the kernel has no Landlock is a warning.
pub fn restrict_to(data: &Path) -> Result<Vec<Check>, SandboxError> {
    // Opening it the plain way first gives the errno that the crate's error hides.
    std::fs::read_dir(data).map_err(|error| SandboxError::Data(data.to_owned(), error))?;
    let directory =
        PathFd::new(data).map_err(|_| SandboxError::Data(data.to_owned(), std::io::ErrorKind::NotFound.into()))?;
    Ok(match restrict(directory) {
        Ok(status) => account(&status),
        Err(error) => vec![Check::warning(FILES, format!("the kernel refused the rules: {error}."), REMEDY)],
    })
}

fn restrict(directory: PathFd) -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(directory, LEFT))?
        .restrict_self()
}

/// What stays allowed beneath the data directory. MakeReg covers links within one directory; links and renames
/// between directories would need Refer.
const LEFT: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile});

fn account(status: &RestrictionStatus) -> Vec<Check> {
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            effective_abi
        }
        LandlockStatus::NotEnabled => {
            return vec![Check::warning(FILES, "this kernel was started without Landlock.", REMEDY)];
        }
        _ => return vec![Check::warning(FILES, "this kernel has no Landlock.", REMEDY)],
    };
    let number = abi as i32;
    let files = Check::ok(FILES, format!("only the data directory is reachable (ABI {number})."));
    let network = if abi >= ABI::V4 {
        Check::ok(NETWORK, "no TCP socket can be bound or connected.")
    } else {
        Check::warning(
            NETWORK,
            format!("this kernel (ABI {number}) has no TCP rules; seccomp alone forbids sockets."),
            "Use Linux 6.7 or newer.",
        )
    };
    let scopes = if abi >= ABI::V6 {
        Check::ok(SCOPES, "no abstract socket and no process outside can be reached.")
    } else {
        Check::warning(
            SCOPES,
            format!("this kernel (ABI {number}) has no scopes; seccomp alone forbids signals."),
            "Use Linux 6.12 or newer.",
        )
    };
    vec![files, network, scopes]
}

/// The newest ABI whose rights were read and found to be nothing that keyd needs.
const NEWEST: ABI = ABI::V9;

const REMEDY: &str = "Use Linux 5.13 or newer with landlock in lsm=, or rely on ProtectSystem= and InaccessiblePaths=.";
