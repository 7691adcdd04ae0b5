//! Descriptors that our caller left open for us: closed, before any of our own is opened.
//!
//! A shell's `exec 3>pipe`, a CI runner's log pipe or a lock of the caller would else live on in the daemons for as long
//! as they run: the reader of that pipe would wait for ever. Only descriptors without close-on-exec are looked at; all
//! that this program opens has it. It refuses to touch 0, 1 and 2. Called by `up`, first of all.

use std::fs;
use std::os::fd::RawFd;

use nix::unistd::close;

/// Closes them. Where `/proc` says nothing, nothing is done.
pub fn close_all() {
    for number in inherited() {
        // Gone already is as good.
        let _ = close(number);
    }
}

fn inherited() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| *number > 2 && stays_open_on_exec(*number)).collect()
}

fn stays_open_on_exec(number: RawFd) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
}

/// `O_CLOEXEC` as `/proc` shows it; the same number on x86_64 and aarch64.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn only_what_would_reach_a_child_is_seen() {
        let ours = File::open("/dev/null").unwrap();
        let left = File::open("/dev/null").unwrap();
        fcntl(&left, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        assert!(!stays_open_on_exec(ours.as_raw_fd()));
        assert!(stays_open_on_exec(left.as_raw_fd()));
        let found = inherited();
        assert!(found.contains(&left.as_raw_fd()) && !found.contains(&ours.as_raw_fd()), "{found:?}");
        assert!(found.iter().all(|number| *number > 2), "{found:?}");
    }
}
