//! Which systemd unit a peer's process belongs to, by the kernel's word.
//!
//! The process is the one that connected, held by a pidfd (SO_PEERPIDFD, Linux 6.5) so that its number cannot be reused,
//! and its control group is asked of that (PIDFD_GET_INFO, Linux 6.13). A unit's control group is a directory whose
//! inode number is the group's id. It refuses to guess: on an older kernel nobody is in any unit.
//! Called by `gateway/sessions.rs`.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::checked;
use super::descriptor::socket_option;

/// The id of the control group of the process that connected; none where the kernel does not say.
#[must_use]
pub fn cgroup_of_peer(socket: BorrowedFd<'_>) -> Option<u64> {
    let number = socket_option(socket, SO_PEERPIDFD).ok()?;
    // SAFETY: a descriptor that the kernel has just made for us; nobody else owns it.
    let process = unsafe { OwnedFd::from_raw_fd(number) };
    let mut info = PidfdInfo { mask: PIDFD_INFO_CGROUPID, ..PidfdInfo::default() };
    // SAFETY: the kernel reads and writes the 64 bytes that the request's number states, the size of `info`.
    let returned = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    checked(returned).ok()?;
    (info.mask & PIDFD_INFO_CGROUPID != 0).then_some(info.cgroup)
}

/// Whether this is the control group of a unit: `NAME.service` of the system's slice, or a path below the root of all
/// groups, such as `/user.slice/user-1000.slice/x.service`.
#[must_use]
pub fn is_cgroup_of(unit: &str, cgroup: u64) -> bool {
    places(unit).iter().any(|place| inode(place).is_ok_and(|inode| inode == cgroup))
}

fn places(unit: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if let Some(below) = unit.strip_prefix('/') {
        return vec![root.join(below)];
    }
    let system = root.join("system.slice");
    let mut places = vec![system.join(unit)];
    // Instances of a template get a slice of their own (systemd.resource-control(5)), whose name escapes dashes.
    if let Some((template, _)) = unit.split_once('@') {
        places.push(system.join(format!("system-{}.slice", template.replace('-', "\\x2d"))).join(unit));
    }
    places
}

fn inode(path: &Path) -> io::Result<u64> {
    fs::symlink_metadata(path).map(|metadata| metadata.ino())
}

/// `struct pidfd_info`, first version (linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 12],
}

/// Not in the libc crate for every target.
const SO_PEERPIDFD: libc::c_int = 77;
/// `_IOWR(0xff, 11, struct pidfd_info)` with 64 bytes.
pub(crate) const PIDFD_GET_INFO: u32 = 0xc040_ff0b;
const PIDFD_INFO_CGROUPID: u64 = 1 << 2;

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_structure_has_the_size_of_its_request() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
    }

    #[test]
    fn a_units_group_lies_where_systemd_puts_it() {
        let lies = |unit: &str, place: &str| places(unit).iter().any(|one| one == Path::new(place));
        assert!(lies("a.service", "/sys/fs/cgroup/system.slice/a.service"));
        assert!(lies(
            "strongroom-agent@x.service",
            "/sys/fs/cgroup/system.slice/system-strongroom\\x2dagent.slice/strongroom-agent@x.service"
        ));
        assert!(lies("/user.slice/x.service", "/sys/fs/cgroup/user.slice/x.service"));
    }

    #[test]
    fn nobody_is_in_a_unit_that_is_not_there() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let cgroup = cgroup_of_peer(ours.as_fd()).unwrap_or(1);
        assert!(!is_cgroup_of("no-such-unit.service", cgroup));
    }
}
