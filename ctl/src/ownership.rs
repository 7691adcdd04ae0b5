//! Whose a home's files are, and who else may write to them.
//!
//! Who can write to the configuration decides what the daemons dial, and who can write to the other directories whom ctl
//! talks to and where root writes. So they belong to root or to the one who starts the daemons, and nobody else writes
//! to them; not even the daemons, where those have users of their own. What is not there is nobody's. Root goes where the
//! home's name leads, so whoever could rename a directory above it chooses the home; below a user's own directory that is
//! that user. `init` and `up` refuse the first that is otherwise, `doctor` shows each, `down` ends the daemons all the
//! same where keyd names them, `admin_client` gives no passphrase away, and `bundle` writes nothing there as root.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, geteuid};
use strongroom_protocol::home::{Home, Kind};

use crate::config_values;
use crate::directories;
use crate::error::{CtlError, Outcome};

/// A file or directory that has to be safe from others.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// What `doctor` calls it.
    pub name: &'static str,
    /// Where it is.
    pub path: PathBuf,
}

/// What is wrong with a place, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was found.
    pub detail: String,
    /// The way out.
    pub remedy: String,
}

/// All but keyd's own, which keyd judges itself.
#[must_use]
pub fn places(home: &Home) -> Vec<Place> {
    let mut places = vec![
        Place { name: "configuration-directory", path: home.config.clone() },
        Place { name: "keyd-configuration", path: home.keyd_config() },
        Place { name: "gatewayd-configuration", path: home.gatewayd_config() },
        Place { name: "socket-directory", path: home.run.clone() },
        Place { name: "log-directory", path: directories::logs(home) },
    ];
    // What lies above the others is root's own. Ours concerns nobody: the directories in it are judged by themselves.
    if let (Kind::Explicit, true, Some(above)) = (home.kind, geteuid().is_root(), home.config.parent()) {
        places.insert(0, Place { name: "home-directory", path: above.to_owned() });
    }
    places
}

/// Who may own them: root, and whoever starts the daemons.
#[must_use]
pub fn starters() -> Vec<u32> {
    vec![0, geteuid().as_raw()]
}

/// As [`starters`], and, for one who only looks, the home's own user where there is one for everything.
#[must_use]
pub fn accepted(home: &Home) -> Vec<u32> {
    let mut owners = starters();
    if let Ok(data) = home.data.metadata()
        && config_values::gateway_uid(home).is_none_or(|gateway| gateway == data.uid())
    {
        owners.push(data.uid());
    }
    owners
}

/// Refuses a home that somebody else could have changed.
///
/// # Errors
/// Where a place belongs to somebody else, or others may write to it.
pub fn check(home: &Home) -> Outcome<()> {
    first_fault(places(home))?;
    check_above(home)
}

/// Refuses, as root, a home in whose place somebody could put another, but for a user whose own directory it lies in.
///
/// # Errors
/// Where a directory above belongs to somebody else, or others may write to it.
pub fn check_above(home: &Home) -> Outcome<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    match fault_above(&named(home), is_own_directory) {
        Some(Fault { detail, remedy }) => Err(CtlError::configuration(format!("{detail} {remedy}"))),
        None => Ok(()),
    }
}

/// Whether nobody but root could put another home in this one's place.
#[must_use]
pub fn is_below_root_alone(home: &Home) -> bool {
    named(home).into_iter().all(is_path_below_root_alone)
}

/// The same of any path.
#[must_use]
pub fn is_path_below_root_alone(path: &Path) -> bool {
    fault_above(&[path], |_, _| false).is_none()
}

/// Whether nobody but root decides what this name leads to: the directory that has it, and a link that does, is root's.
#[must_use]
pub fn is_roots_name(path: &Path) -> bool {
    let is_roots = |owner: u32| owner == 0 || is_outside(owner);
    is_path_below_root_alone(path) && fs::symlink_metadata(path).is_ok_and(|metadata| is_roots(metadata.uid()))
}

/// What a home's name leads to. Logs are not read by us.
fn named(home: &Home) -> [&Path; 3] {
    [&home.config, &home.data, &home.run]
}

/// What is wrong with a directory above these, as it is named and as it is where links lead elsewhere.
fn fault_above(paths: &[&Path], is_accepted: impl Fn(u32, &Path) -> bool) -> Option<Fault> {
    for above in paths.iter().flat_map(|path| path.ancestors().skip(1)) {
        let real = fs::canonicalize(above).unwrap_or_default();
        for path in std::iter::once(above).chain(real.ancestors()) {
            // Of a link it is the link that others could change.
            let Ok(metadata) = fs::symlink_metadata(path) else { continue };
            let (owner, mode, shown) = (metadata.uid(), metadata.mode() & 0o7777, path.display());
            if owner != 0 && !is_outside(owner) && !is_accepted(owner, path) {
                return Some(Fault {
                    detail: format!("{shown} belongs to uid {owner}, who could put another home in this one's place."),
                    remedy: "Choose a STRONGROOM_HOME in root's directories.".to_owned(),
                });
            }
            let is_kept_apart = metadata.is_symlink() || mode & STICKY != 0;
            if mode & 0o022 != 0 && !is_kept_apart {
                return Some(Fault {
                    detail: format!("{shown} has mode {mode:o}, so others could put another home in this one's place."),
                    remedy: format!("Look into it, then run 'chmod {:o}' on it.", mode & !0o022),
                });
            }
        }
    }
    None
}

/// Whether the path lies in the directory that the owner's account has.
fn is_own_directory(owner: u32, path: &Path) -> bool {
    let account = User::from_uid(Uid::from_raw(owner)).ok().flatten();
    account.is_some_and(|account| account.dir.parent().is_some() && path.starts_with(&account.dir))
}

/// In a user namespace, as the demo's, everything of the machine's root belongs to nobody that has a number.
fn is_outside(owner: u32) -> bool {
    let everybody = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    owner == OVERFLOW && !fs::read_to_string("/proc/self/uid_map").is_ok_and(everybody)
}

/// The same of where the sockets are and the notes of processes, alone.
///
/// # Errors
/// As [`check`].
pub fn check_sockets(home: &Home) -> Outcome<()> {
    first_fault(places(home).into_iter().filter(|place| home.run.starts_with(&place.path)))
}

fn first_fault(places: impl IntoIterator<Item = Place>) -> Outcome<()> {
    for place in places {
        if let Err(Fault { detail, remedy }) = judge(&place.path, OTHERS_MAY_READ, &starters()) {
            return Err(CtlError::configuration(format!("{detail} {remedy}")));
        }
    }
    Ok(())
}

/// The mode of what is there, where it gives others no more than `most` and belongs to one of these; nothing where it is
/// not there.
///
/// # Errors
/// What is wrong, in words.
pub fn judge(path: &Path, most: u32, owners: &[u32]) -> Result<Option<u32>, Fault> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Fault {
                detail: format!("{shown} could not be looked at: {error}."),
                remedy: "Check the directories above it.".to_owned(),
            });
        }
    };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if !owners.contains(&owner) {
        let own = owners.last().copied().unwrap_or_default();
        return Err(Fault {
            detail: format!("{shown} belongs to uid {owner}, who could change it at any time."),
            remedy: format!(
                "Use that account, or look into it and, where it is as it should be, run 'chown {own}' on it."
            ),
        });
    }
    if mode & 0o777 & !most != 0 {
        return Err(Fault {
            detail: format!("{shown} has mode {mode:o}, which gives others too much."),
            remedy: format!("Look into it for what others left there, then run 'chmod {:o}' on it.", mode & most),
        });
    }
    Ok(Some(mode))
}

/// Who has no number in a user namespace; also the user `nobody`.
pub const OVERFLOW: u32 = 65_534;
/// In such a directory each may rename and remove only what is theirs.
const STICKY: u32 = 0o1000;
/// Read and enter, for others.
pub const OTHERS_MAY_READ: u32 = 0o755;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::directories;

    fn made(folder: &tempfile::TempDir) -> Home {
        let home = Home::under(&folder.path().join("home"));
        directories::make(&home, None).unwrap();
        fs::write(home.keyd_config(), "").unwrap();
        fs::write(home.gatewayd_config(), "").unwrap();
        home
    }

    #[test]
    fn a_home_as_init_makes_it_is_taken_and_so_is_one_without_volatile_directories() {
        let folder = tempfile::tempdir().unwrap();
        let home = made(&folder);
        check(&home).unwrap();
        fs::remove_dir(&home.run).unwrap();
        fs::remove_file(home.gatewayd_config()).unwrap();
        check(&home).unwrap();
    }

    #[test]
    fn what_others_may_write_to_is_refused_and_the_words_say_how_to_mend_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = made(&folder);
        for place in places(&home) {
            let good = place.path.metadata().unwrap().permissions();
            for more in [0o020, 0o002, 0o022] {
                fs::set_permissions(&place.path, Permissions::from_mode(good.mode() | more)).unwrap();
                let error = check(&home).unwrap_err();
                let words = error.to_string();
                let mend = format!("chmod {:o}'", good.mode() & 0o755);
                assert!(error.code() == 78 && words.contains(&place.path.display().to_string()), "{words}");
                assert!(words.contains(&mend), "{words}: {mend}");
            }
            fs::set_permissions(&place.path, good).unwrap();
        }
        check(&home).unwrap();
    }

    #[test]
    fn the_place_of_the_sockets_is_judged_without_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let home = made(&folder);
        fs::set_permissions(home.keyd_config(), Permissions::from_mode(0o666)).unwrap();
        assert!(check(&home).is_err() && check_sockets(&home).is_ok());
        fs::set_permissions(&home.run, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(check_sockets(&home).unwrap_err().code(), 78);
    }

    #[test]
    #[ignore = "needs root: gives files to other users"]
    fn what_belongs_to_a_stranger_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = made(&folder);
        for place in places(&home) {
            chown(&place.path, Some(61_001), None).unwrap();
            let error = check(&home).unwrap_err();
            assert!(error.code() == 78 && error.to_string().contains("belongs to uid 61001"), "{error}");
            chown(&place.path, Some(0), None).unwrap();
        }
        check(&home).unwrap();
    }

    #[test]
    #[ignore = "needs root: gives files to other users"]
    fn whoever_could_rename_a_directory_above_is_refused_by_root_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let above = folder.path().join("above");
        let home = Home::under(&above.join("home"));
        directories::make(&home, None).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&above, &link).unwrap();
        let through = Home::under(&link.join("home"));
        let is_safe = || {
            let safe = is_below_root_alone(&home);
            assert_eq!([check(&home).is_ok(), check(&through).is_ok(), is_below_root_alone(&through)], [safe; 3]);
            safe
        };
        assert!(is_safe());
        for (owner, mode, safe) in
            [(61_001, 0o755, false), (0, 0o775, false), (0, 0o757, false), (0, 0o1777, true), (0, 0o755, true)]
        {
            chown(&above, Some(owner), None).unwrap();
            fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_safe(), safe, "{owner} {mode:o}");
        }
        // The link itself can be put elsewhere.
        std::os::unix::fs::lchown(&link, Some(61_001), None).unwrap();
        assert!(check(&home).is_ok() && check(&through).unwrap_err().code() == 78);
    }

    #[test]
    fn a_users_own_directory_is_the_one_of_the_account() {
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap().dir;
        assert!(is_own_directory(0, &root.join("x/home")) && !is_own_directory(0, Path::new("/srv/home")));
        assert!(!is_own_directory(4_294_000_000, &root));
    }

    #[test]
    #[ignore = "needs root: gives files to other users"]
    fn a_look_takes_one_users_own_home_and_not_what_keyd_could_change_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let home = made(&folder);
        chown(&home.data, Some(61_001), None).unwrap();
        assert!(accepted(&home).contains(&61_001) && !starters().contains(&61_001));
        fs::write(home.keyd_config(), "gateway-uid = 61002\n").unwrap();
        assert_eq!(accepted(&home), starters());
    }
}
