//! The directories of a home: made, with their modes whatever the umask, and owned by whom they belong to.
//!
//! `data` is keyd's alone. `run` can be entered by everybody, for agents of other users reach agent.sock there, and can
//! be written to by neither daemon where they have users of their own. It refuses a place that the daemons' users
//! cannot get to, and says which directory stops them; and a link in a directory's place: root gives away what it makes,
//! and whoever put the link there chose what that is. Called by `init`, and by `up` for what does not outlive a reboot;
//! `bundle` opens directories here.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use strongroom_protocol::home::{Home, Kind};

use crate::error::{CtlError, Outcome};
use crate::users::{RunAs, Separate};

/// Makes all of them.
///
/// # Errors
/// Where one cannot be made, or a daemon's user could not get there.
pub fn make(home: &Home, separate: Option<Separate>) -> Outcome<()> {
    directory(home, &home.config, OPEN, None)?;
    directory(home, &home.data, PRIVATE, separate.map(|separate| separate.keyd))?;
    make_volatile(home)?;
    let Some(Separate { keyd, gateway }) = separate else { return Ok(()) };
    passable(&home.data, "keyd", keyd)?;
    for path in [home.config.join("x"), home.run.join("x")] {
        passable(&path, "keyd", keyd)?;
        passable(&path, "gatewayd", gateway)?;
    }
    Ok(())
}

/// Makes those for sockets and logs, where they are not there (any more).
///
/// # Errors
/// Where one cannot be made.
pub fn make_volatile(home: &Home) -> Outcome<()> {
    if !home.run.is_dir() {
        directory(home, &home.run, OPEN, None)?;
    }
    let log = logs(home);
    if log.is_dir() { Ok(()) } else { directory(home, &log, PRIVATE, None) }
}

/// Where the daemons' logs go when `up` starts them; the system's home itself has none, for systemd has its journal.
#[must_use]
pub fn logs(home: &Home) -> PathBuf {
    home.log.clone().unwrap_or_else(|| PathBuf::from("/var/log/strongroom"))
}

fn directory(home: &Home, path: &Path, mode: u32, owner: Option<RunAs>) -> Outcome<()> {
    let failed = |error: io::Error| {
        CtlError::failed(format!(
            "the directory {} cannot be made: {error}. Check its parent's owner and mode.",
            path.display()
        ))
    };
    // The base directories of one user are that user's alone, by the XDG specification.
    let mode_above = if home.kind == Kind::User { PRIVATE } else { OPEN };
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|above| !above.exists()).collect();
    for above in missing.into_iter().rev() {
        DirBuilder::new().mode(PRIVATE).create(above).map_err(failed)?;
        // The umask may have taken bits away.
        open(above).and_then(|made| made.set_permissions(Permissions::from_mode(mode_above))).map_err(failed)?;
    }
    // `recursive`, for it may be there.
    DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(failed)?;
    if path.is_symlink() {
        return Err(CtlError::configuration(format!(
            "{} is a link. Put a directory in its place, or choose another STRONGROOM_HOME.",
            path.display()
        )));
    }
    // From here on it is this one that is changed, whatever its name leads to.
    let made = open(path).map_err(failed)?;
    if made.metadata().map_err(failed)?.uid() == geteuid().as_raw() {
        made.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    }
    match owner {
        Some(owner) => fchown(&made, Some(owner.uid), Some(owner.gid)).map_err(failed),
        None => Ok(()),
    }
}

/// Opens a directory itself and not what a link in its place leads to.
///
/// # Errors
/// Where it cannot be opened, or is a link or no directory.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY).bits()).open(path)
}

/// Another user has to pass every directory above.
fn passable(path: &Path, whose: &str, user: RunAs) -> Outcome<()> {
    for above in path.ancestors().skip(1) {
        let Ok(metadata) = above.metadata() else { continue };
        let needed = match () {
            () if metadata.uid() == user.uid => 0o100,
            () if metadata.gid() == user.gid => 0o010,
            () => 0o001,
        };
        if metadata.mode() & needed == 0 {
            return Err(CtlError::configuration(format!(
                "{whose}'s user (uid {}) cannot pass {}, whose mode is {:o}. Run 'chmod o+x' on it, or choose another STRONGROOM_HOME.",
                user.uid,
                above.display(),
                metadata.mode() & 0o777
            )));
        }
    }
    Ok(())
}

/// Everybody may enter.
const OPEN: u32 = 0o755;
/// The owner alone may enter.
const PRIVATE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_in_a_directorys_place_is_refused_and_what_it_leads_to_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(&folder.path().join("home"));
        let victim = folder.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o711)).unwrap();
        for place in [&home.config, &home.data] {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            symlink(&victim, place).unwrap();
            let error = make(&home, None).unwrap_err();
            assert!(error.code() == 78 && error.to_string().contains("is a link"), "{error}");
            assert_eq!(mode(&victim), 0o711);
            fs::remove_file(place).unwrap();
        }
        make(&home, None).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn each_has_its_mode_and_what_is_gone_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(&folder.path().join("above/home"));
        make(&home, None).unwrap();
        let log = home.log.clone().unwrap();
        assert_eq!([mode(&home.config), mode(&home.run)], [OPEN; 2]);
        assert_eq!([mode(&home.data), mode(&log)], [PRIVATE; 2]);
        assert_eq!(mode(&folder.path().join("above")), OPEN);
        fs::remove_dir(&home.run).unwrap();
        make_volatile(&home).unwrap();
        assert_eq!(mode(&home.run), OPEN);
    }

    #[test]
    fn a_directory_that_stops_a_user_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home/data");
        fs::create_dir_all(&path).unwrap();
        let stranger = RunAs { uid: 61_001, gid: 61_001 };
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let error = passable(&path, "keyd", stranger).unwrap_err();
        assert!(error.code() == 78 && error.to_string().contains(&folder.path().display().to_string()), "{error}");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        passable(&path, "keyd", stranger).unwrap();
        // The owner needs its own bit alone.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let own = RunAs { uid: geteuid().as_raw(), gid: 61_001 };
        passable(&path, "keyd", own).unwrap();
    }
}
