//! The directories of a home: made, with their modes whatever the umask, and owned by whom they belong to.
//!
//! `data` is keyd's alone. `run` can be entered by everybody, for agents of other users reach agent.sock there, and can
//! be written to by neither daemon where they have users of their own. It refuses a place that the daemons' users
//! cannot get to, and says which directory stops them; and a link in a directory's place, or in that of one above which
//! others can exchange: root gives away what it makes, and whoever put the link there chose what that is. Names are
//! followed once, by descriptors. Called by `init`, and by `up` for what does not outlive a reboot; `bundle` opens
//! directories here.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::geteuid;
use strongroom_protocol::home::{Home, Kind};

use crate::error::{CtlError, Outcome};
use crate::ownership;
use crate::users::{RunAs, Separate};

/// Makes all of them, and gives the configuration's.
///
/// # Errors
/// Where one cannot be made, or a daemon's user could not get there.
pub fn make(home: &Home, separate: Option<Separate>) -> Outcome<File> {
    let config = directory(home, &home.config, OPEN, None)?;
    directory(home, &home.data, PRIVATE, separate.map(|separate| separate.keyd))?;
    make_volatile(home)?;
    let Some(Separate { keyd, gateway }) = separate else { return Ok(config) };
    passable(&home.data, "keyd", keyd)?;
    for path in [home.config.join("x"), home.run.join("x")] {
        passable(&path, "keyd", keyd)?;
        passable(&path, "gatewayd", gateway)?;
    }
    Ok(config)
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
    if log.is_dir() { Ok(()) } else { directory(home, &log, PRIVATE, None).map(drop) }
}

/// Where the daemons' logs go when `up` starts them; the system's home itself has none, for systemd has its journal.
#[must_use]
pub fn logs(home: &Home) -> PathBuf {
    home.log.clone().unwrap_or_else(|| PathBuf::from("/var/log/strongroom"))
}

fn directory(home: &Home, path: &Path, mode: u32, owner: Option<RunAs>) -> Outcome<File> {
    // The kernel says no more than that it is no directory.
    let failed = |error: io::Error| {
        if path.is_symlink() {
            return CtlError::configuration(format!(
                "{} is a link. Put a directory in its place, or choose another STRONGROOM_HOME.",
                path.display()
            ));
        }
        CtlError::failed(format!(
            "the directory {} cannot be made: {error}. Check its parent's owner and mode.",
            path.display()
        ))
    };
    // The base directories of one user are that user's alone, by the XDG specification.
    let mode_above = if home.kind == Kind::User { PRIVATE } else { OPEN };
    // From here on it is this one that is changed, whatever its name leads to.
    let made = walk(path, |above, name, is_last| match step(above, name, is_last) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match mkdirat(above, name, Mode::S_IRWXU) {
                // Another 'up' was quicker.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let made = step(above, name, true)?;
            // The umask may have taken bits away.
            made.set_permissions(Permissions::from_mode(mode_above))?;
            Ok(made)
        }
        there => there,
    })
    .map_err(failed)?;
    if made.metadata().map_err(failed)?.uid() == geteuid().as_raw() {
        made.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    }
    if let Some(owner) = owner {
        fchown(&made, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
    }
    Ok(made)
}

/// Opens a directory itself and not what a link in its place leads to. As root, no link is followed on the way either
/// where somebody else could have put it: it would lead to what is root's.
///
/// # Errors
/// Where it cannot be opened, or is a link or no directory.
pub fn open(path: &Path) -> io::Result<File> {
    walk(path, step)
}

/// From the last directory whose name leads where it should, one step after the other.
fn walk(path: &Path, step: impl Fn(&File, &OsStr, bool) -> io::Result<File>) -> io::Result<File> {
    let base = beginning(path);
    let rest = path.strip_prefix(base).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut reached = OpenOptions::new().read(true).custom_flags((THROUGH | OFlag::O_DIRECTORY).bits()).open(base)?;
    let mut names = rest.iter().peekable();
    while let Some(name) = names.next() {
        reached = step(&reached, name, names.peek().is_none())?;
    }
    Ok(reached)
}

/// One step down, over no link. What is only passed need not be readable.
fn step(above: &File, name: &OsStr, is_last: bool) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let flags = if is_last { flags } else { flags | THROUGH };
    Ok(File::from(openat(above, name, flags, Mode::empty())?))
}

/// The nearest directory above that is there; for root, whose name nobody else can lead elsewhere.
fn beginning(path: &Path) -> &Path {
    let leads_well = |above: &&Path| if geteuid().is_root() { ownership::is_roots_name(above) } else { above.exists() };
    path.ancestors().skip(1).find(leads_well).unwrap_or(Path::new("/"))
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

/// Only to be passed.
#[cfg(target_os = "linux")]
const THROUGH: OFlag = OFlag::O_PATH;
#[cfg(not(target_os = "linux"))]
const THROUGH: OFlag = OFlag::empty();
/// Everybody may enter.
const OPEN: u32 = 0o755;
/// The owner alone may enter.
const PRIVATE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

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

    #[test]
    #[ignore = "needs root: links of another user's"]
    fn root_follows_no_link_of_somebody_elses_and_its_own_it_does() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let [above, victim] = ["above", "victim"].map(|name| folder.path().join(name));
        fs::create_dir(&above).unwrap();
        fs::create_dir(&victim).unwrap();
        let home = Home::under(&above.join("home"));
        symlink(&victim, above.join("home")).unwrap();
        let keyd = RunAs { uid: 61_001, gid: 61_001 };
        let separate = Some(Separate { keyd, gateway: RunAs { uid: 61_002, gid: 61_002 } });
        // In another user's directory, and in root's a link of that user's.
        for (owner, of_link) in [(61_003, 61_003), (61_003, 0), (0, 61_003)] {
            chown(&above, Some(owner), None).unwrap();
            lchown(above.join("home"), Some(of_link), None).unwrap();
            make(&home, separate).unwrap_err();
            open(&home.data).unwrap_err();
            assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{owner} {of_link}");
        }
        lchown(above.join("home"), Some(0), None).unwrap();
        make(&home, separate).unwrap();
        assert_eq!(victim.join("data").metadata().unwrap().uid(), 61_001, "root's own link");
        // A home of another user's, where there is none.
        fs::remove_file(above.join("home")).unwrap();
        chown(&above, Some(61_003), None).unwrap();
        make(&home, separate).unwrap();
        assert_eq!(above.join("home/data").metadata().unwrap().uid(), 61_001);
    }

    #[test]
    fn a_directory_above_need_not_be_readable() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(&folder.path().join("above/home"));
        fs::create_dir(folder.path().join("above")).unwrap();
        fs::create_dir(folder.path().join("above/home")).unwrap();
        fs::set_permissions(folder.path().join("above"), Permissions::from_mode(0o311)).unwrap();
        make(&home, None).unwrap();
        fs::set_permissions(folder.path().join("above"), Permissions::from_mode(0o755)).unwrap();
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
