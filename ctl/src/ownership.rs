//! Whose a home's files are, and who else may write to them.
//!
//! Who can write to the configuration decides what the daemons dial, and who can write to the other directories whom ctl
//! talks to and where root writes. So they belong to root or to the one who starts the daemons, and nobody else writes
//! to them; not even the daemons, where those have users of their own. What is not there is nobody's. `up` refuses the
//! first that is otherwise, `doctor` shows each, and `down` ends the daemons all the same where keyd names them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
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
    first_fault(places(home))
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
    fn a_look_takes_one_users_own_home_and_not_what_keyd_could_change_for_itself() {
        let folder = tempfile::tempdir().unwrap();
        let home = made(&folder);
        chown(&home.data, Some(61_001), None).unwrap();
        assert!(accepted(&home).contains(&61_001) && !starters().contains(&61_001));
        fs::write(home.keyd_config(), "gateway-uid = 61002\n").unwrap();
        assert_eq!(accepted(&home), starters());
    }
}
