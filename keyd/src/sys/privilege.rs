//! Capabilities and process flags for which nix has no call.
//!
//! Each function changes or reads one thing of the calling thread. It refuses to know why: the order is in
//! `sandbox/privileges.rs`.
//!
//! Called by `sandbox/` and `environment_block.rs`.

use std::io;

use super::checked;

/// Gives up all capabilities: permitted, effective and inheritable.
///
/// # Errors
/// The kernel's; giving up is always allowed, so none is expected.
pub fn drop_capabilities() -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = [CapabilitySets::default(); 2];
    // SAFETY: capset reads a header and, for version 3, two sets; both outlive the call and have the kernel's layout.
    let returned = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    checked(returned as libc::c_int).map(drop)
}

/// Whether no capability is left to this thread, permitted, effective or inheritable.
///
/// # Errors
/// The kernel's.
pub fn has_no_capabilities() -> io::Result<bool> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilitySets::default(); 2];
    // SAFETY: capget writes two sets for version 3, and the version to the header; both are ours and large enough.
    let returned = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    checked(returned as libc::c_int)?;
    Ok(data == [CapabilitySets::default(); 2])
}

/// Takes one capability out of the bounding set; false where there is no capability of this number.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn drop_from_bounding_set(capability: u32) -> io::Result<bool> {
    match process_control(libc::PR_CAPBSET_DROP, capability.into()) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Clears the ambient set, which would hand capabilities on to another program.
///
/// # Errors
/// The kernel's.
pub fn clear_ambient_set() -> io::Result<()> {
    process_control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong).map(drop)
}

/// Locks the securebits so that uid 0 means nothing any more: neither a new program nor a change of uid gives
/// capabilities back.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn lock_secure_bits() -> io::Result<()> {
    process_control(libc::PR_SET_SECUREBITS, SECURE_BITS).map(drop)
}

/// The seccomp mode of this thread: 0 none, 2 filter.
///
/// # Errors
/// `EINVAL` where the kernel has no seccomp.
pub fn seccomp_mode() -> io::Result<i32> {
    process_control(libc::PR_GET_SECCOMP, 0)
}

/// How many threads this process has; 1 where /proc does not say.
pub fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count().max(1))
}

fn process_control(option: libc::c_int, argument: libc::c_ulong) -> io::Result<i32> {
    let none: libc::c_ulong = 0;
    // SAFETY: every option that this file uses takes plain integers, never an address.
    checked(unsafe { libc::prctl(option, argument, none, none, none) })
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64 capabilities in two sets.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE set and locked, KEEP_CAPS clear and locked (linux/securebits.h).
const SECURE_BITS: libc::c_ulong = 0b11_10_11_11;

#[cfg(test)]
mod tests {
    use super::*;

    /// capset changes the calling thread only, so a thread of its own can give everything up.
    #[test]
    fn capabilities_can_be_given_up_by_anybody() {
        std::thread::spawn(|| {
            drop_capabilities().unwrap();
            clear_ambient_set().unwrap();
            assert!(has_no_capabilities().unwrap());
            assert_eq!(drop_from_bounding_set(1).unwrap_err().raw_os_error(), Some(libc::EPERM));
            assert!(lock_secure_bits().is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_held_is_seen_as_held() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let empty = ["CapInh:", "CapPrm:", "CapEff:"].iter().all(|name| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].trim().chars().all(|digit| digit == '0')
        });
        assert_eq!(has_no_capabilities().unwrap(), empty);
    }

    #[test]
    fn no_capability_has_the_number_63() {
        let found = drop_from_bounding_set(63);
        assert!(matches!(found, Ok(false)) || found.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM)));
    }

    #[test]
    fn threads_are_counted() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(thread_count() >= 2);
        drop(stop);
        let _ = thread.join().unwrap();
    }
}
