//! The caller's session keyring stays behind: what we start as another user gets an empty one.
//!
//! It survives a change of user and exec, and whoever has it possesses the keys in it, whatever their owner: the key of
//! a vault's slot (`slot add keychain --store keyutils`), tickets, and what a link leads to, as the persistent keyring.
//! It refuses to go on where the kernel has keyrings and gives no new one. Called by `login`, and by `spawn` for daemons
//! with users of their own. Where the user stays the same nothing is gained, and is left alone: by its number alone that
//! user reaches its persistent keyring, in which such a key lies too.
//!
//! The only place in ctl with `unsafe`: neither std nor nix has the call, and linux-keyutils all of its kin but this one.
#![allow(unsafe_code)]

use crate::error::Outcome;

/// Leaves it, for this thread and for what it starts or becomes.
///
/// # Errors
/// Where the kernel gives no other.
#[cfg(target_os = "linux")]
pub fn leave() -> Outcome<()> {
    use nix::errno::Errno;
    use nix::libc::{KEY_SPEC_SESSION_KEYRING, KEYCTL_GET_KEYRING_ID, KEYCTL_JOIN_SESSION_KEYRING};

    use crate::error::CtlError;

    let joined = keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0);
    match joined {
        Ok(()) => Ok(()),
        Err(error) if no_program_has_keyrings(error, || keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)) => {
            Ok(())
        }
        Err(Errno::EDQUOT) => Err(CtlError::not_permitted(
            "this user has too many kernel keys for a new session keyring, and the caller's is not handed on. Look at /proc/key-users, and raise kernel.keys.maxkeys.",
        )),
        Err(error) => Err(CtlError::not_permitted(format!(
            "the kernel gives no new session keyring: {error}. The caller's is not handed on; look for what forbids keyctl here."
        ))),
    }
}

/// No keyrings are known elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn leave() -> Outcome<()> {
    Ok(())
}

/// A kernel without keyrings; or a filter of system calls, as of containers, that refuses even the name of the own
/// keyring. The kernel itself never answers that question so, and a filter binds the program as well.
#[cfg(target_os = "linux")]
fn no_program_has_keyrings(error: nix::errno::Errno, name: impl FnOnce() -> Result<(), nix::errno::Errno>) -> bool {
    use nix::errno::Errno;
    error == Errno::ENOSYS || (error == Errno::EPERM && name() == Err(Errno::EPERM))
}

#[cfg(target_os = "linux")]
fn keyctl(operation: u32, first: i32, second: i32) -> Result<(), nix::errno::Errno> {
    use nix::libc::{SYS_keyctl, c_long, syscall};
    let (operation, first, second) = (c_long::from(operation), c_long::from(first), c_long::from(second));
    // SAFETY: both operations take numbers, but for the name of the keyring that is joined: it is null, which stands for
    // one without a name, so that the kernel reads and writes no memory of ours.
    nix::errno::Errno::result(unsafe { syscall(SYS_keyctl, operation, first, second) }).map(drop)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_new_keyring_is_joined_or_none_can_be_had_by_anybody() {
        use nix::libc::{KEY_SPEC_SESSION_KEYRING, KEYCTL_GET_KEYRING_ID};
        // Of a thread of its own: the others keep theirs.
        std::thread::spawn(leave).join().unwrap().unwrap();
        let named = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
        assert!(matches!(named, Ok(()) | Err(Errno::ENOSYS | Errno::EPERM)), "{named:?}");
    }

    #[test]
    fn only_where_keyrings_are_out_of_reach_is_it_no_error() {
        let refused = |error, name| no_program_has_keyrings(error, || name);
        assert!(refused(Errno::ENOSYS, Ok(())) && refused(Errno::EPERM, Err(Errno::EPERM)));
        for error in [Errno::EDQUOT, Errno::EACCES, Errno::ENOMEM, Errno::EINVAL] {
            assert!(!refused(error, Err(Errno::EPERM)), "{error}");
        }
        for name in [Ok(()), Err(Errno::EACCES), Err(Errno::ENOKEY), Err(Errno::ENOSYS)] {
            assert!(!refused(Errno::EPERM, name), "{name:?}");
        }
    }
}
