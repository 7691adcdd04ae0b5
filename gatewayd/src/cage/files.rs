//! Landlock for gatewayd: reads what name resolution reads, and its configuration; writes nothing, anywhere.
//! A proxy's credentials count as configuration: to be read again they lie in its directory, or in /etc.
//!
//! The vault lies in none of these directories, nor does /proc with other processes' memory. It refuses to allow
//! more for convenience: logs go to a descriptor that is open already. Connecting to keyd's socket needs no rule.
//!
//! Called by the cage's `enter`.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use strongroom_protocol::Check;

/// Restricts this thread, and those that it starts, to reading [`READABLE`] and `config`.
pub fn restrict_to(config: &Path) -> Vec<Check> {
    match restrict(config) {
        Ok(status) => account(&status),
        Err(error) => vec![Check::warning("landlock", format!("the kernel refused the rules: {error}."), REMEDY)],
    }
}

fn restrict(config: &Path) -> Result<RestrictionStatus, RulesetError> {
    // A directory that this machine does not have needs no rule.
    let readable = READABLE.iter().map(Path::new).chain([config]).filter_map(|path| PathFd::new(path).ok());
    let rules = readable.map(|directory| Ok::<_, RulesetError>(PathBeneath::new(directory, READ)));
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        // Outgoing connections are what gatewayd is for; listening is done before the cage, and the filter's to forbid.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(rules)?
        .restrict_self()
}

fn account(status: &RestrictionStatus) -> Vec<Check> {
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } if status.ruleset != RulesetStatus::NotEnforced => {
            effective_abi
        }
        LandlockStatus::NotEnabled => {
            return vec![Check::warning("landlock", "this kernel was started without Landlock.", REMEDY)];
        }
        _ => return vec![Check::warning("landlock", "this kernel has no Landlock.", REMEDY)],
    };
    let number = abi as i32;
    let files = Check::ok("landlock", format!("nothing can be written, and the vault cannot be read (ABI {number})."));
    let network = if abi >= ABI::V4 {
        Check::ok("landlock-network", "no further TCP port can be bound.")
    } else {
        Check::warning(
            "landlock-network",
            format!("this kernel (ABI {number}) has no TCP rules."),
            "Use Linux 6.7 or newer.",
        )
    };
    let scopes = if abi >= ABI::V6 {
        Check::ok("landlock-scopes", "no abstract socket and no process outside can be reached.")
    } else {
        Check::warning(
            "landlock-scopes",
            format!("this kernel (ABI {number}) has no scopes."),
            "Use Linux 6.12 or newer.",
        )
    };
    vec![files, network, scopes]
}

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// Whole directories, for files such as resolv.conf are replaced and not rewritten, and a rule holds for a file's
/// inode. /usr and /lib: the C library loads its name service modules when the first name is resolved.
const READABLE: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/run/NetworkManager",
    "/run/nscd",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/var/lib/sss/pipes",
];

/// ABI 9 would also govern connecting to sockets in the file system, which gatewayd must do.
const NEWEST: ABI = ABI::V8;

const REMEDY: &str = "Use Linux 5.13 or newer with landlock in lsm=, or rely on ProtectSystem= and InaccessiblePaths=.";
