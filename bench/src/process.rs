//! Other processes, by pid: CPU time, memory, children, and their end.
//!
//! It refuses to end what this program did not start. Used by `stage` and `measure`.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// CPU time of a process, all threads, user and system, to the nanosecond; zero where there is none.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()));
    clock.and_then(clock_gettime).map(Duration::from).unwrap_or_default()
}

/// Resident memory, in bytes.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    kib(pid, "VmRSS")
}

/// The most resident memory since [`forget_peak`], or ever, in bytes.
#[must_use]
pub fn peak(pid: u32) -> u64 {
    kib(pid, "VmHWM")
}

/// Lets the peak begin anew; where the kernel does not allow it, the peak stays the one of the process's life.
pub fn forget_peak(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// A process and all its children.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children.flat_map(family)).collect()
}

fn kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_grows_and_our_memory_is_known() {
        let own = std::process::id();
        let before = cpu_time(own);
        while cpu_time(own) == before {}
        assert!(resident(own) > 0 && peak(own) >= resident(own) / 2);
        assert!(family(own).contains(&own));
        let mut gone = std::process::Command::new("true").spawn().expect("there is such a program");
        gone.wait().expect("our own child");
        assert_eq!(cpu_time(gone.id()), Duration::ZERO);
    }
}
