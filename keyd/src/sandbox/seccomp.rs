//! seccomp: the system calls that keyd makes once it serves, and no other.
//!
//! An allow-list. Anything else, a call by another architecture's numbers among it, kills the process at once
//! (SIGSYS), so that a fault is seen and an attacker gets no second try. Each line of the table says who needs it;
//! a line nobody needs is to be removed. What is not here is the point: no socket, connect, bind or listen, no
//! program and no thread, no ptrace, no executable memory, no io_uring, no kill.
//! Where files are concerned, Landlock decides which.
//!
//! Called by `Confined::seal`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use strongroom_protocol::Check;

use crate::sys::unit;

/// Name of the check.
pub const FILTER: &str = "seccomp";

/// Installs the filter for every thread of the process.
pub fn install() -> Check {
    let result = filter().and_then(|program| seccompiler::apply_filter_all_threads(&program));
    match result {
        Ok(()) => Check::ok(FILTER, format!("{} system calls are left; any other ends the process.", table().len())),
        Err(error) => Check::warning(
            FILTER,
            format!("the filter was not installed: {error}."),
            "Use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64.",
        ),
    }
}

fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, allowed) in table() {
        let rules = rules.entry(call).or_default();
        for conditions in allowed.alternatives() {
            let conditions = conditions
                .into_iter()
                .map(|(argument, width, compare, value)| SeccompCondition::new(argument, width, compare, value));
            rules.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
        }
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?;
    Ok(BpfProgram::try_from(filter)?)
}

/// With which arguments a call is allowed.
enum With {
    /// All.
    Any,
    /// Only where this argument has one of these values. The kernel reads it as 32 bits.
    OneOf(u8, &'static [u32]),
    /// Only where this argument is null.
    Null(u8),
    /// Only where these bits of this argument are clear.
    Without(u8, u32),
    /// Only where both of these arguments have these values.
    Both((u8, u32), (u8, u32)),
}

type Condition = (u8, Width, Compare, u64);

impl With {
    /// Each inner list must hold as a whole; one of them is enough; none at all allows everything.
    fn alternatives(self) -> Vec<Vec<Condition>> {
        match self {
            Self::Any => Vec::new(),
            Self::OneOf(argument, values) => {
                values.iter().map(|&value| vec![(argument, Width::Dword, Compare::Eq, value.into())]).collect()
            }
            Self::Null(argument) => vec![vec![(argument, Width::Qword, Compare::Eq, 0)]],
            Self::Without(argument, bits) => vec![vec![(argument, Width::Dword, Compare::MaskedEq(bits.into()), 0)]],
            Self::Both((one, value), (other, other_value)) => vec![vec![
                (one, Width::Dword, Compare::Eq, value.into()),
                (other, Width::Dword, Compare::Eq, other_value.into()),
            ]],
        }
    }
}

/// The allow-list, by who needs it.
#[rustfmt::skip] // one line a call, its reason beside it
fn table() -> Vec<(i64, With)> {
    use With::{Any, Both, Null, OneOf, Without};
    let mut table = vec![
        // The runtime: waiting, waking, and the worker thread's queue.
        (libc::SYS_epoll_pwait, Any),    // mio on aarch64, and glibc's epoll_wait there
        (libc::SYS_epoll_ctl, Any),      // mio and AsyncFd: a descriptor comes or goes
        (libc::SYS_futex, Any),          // locks and channels between the threads
        (libc::SYS_clock_gettime, Any),  // where the vDSO has to ask the kernel
        (libc::SYS_clock_nanosleep, Any), // std's sleep, before a service manager whose queue is full
        (libc::SYS_sched_yield, Any),    // std's channels, when they contend
        (libc::SYS_restart_syscall, Any), // the kernel, after a stop signal during that sleep
        (libc::SYS_timer_settime, Any),  // the closers' alarms; there is no call that makes another

        // Sockets: those that were accepted or passed; there is no call that makes one.
        (libc::SYS_accept4, Any),        // both listeners
        (libc::SYS_recvfrom, Any),       // upstream sockets (recv), tokio's end of its own pair for signals
        (libc::SYS_sendto, Any),         // the other end of that (send)
        (libc::SYS_recvmsg, Any),        // all Unix sockets, with the descriptors that they bring
        (libc::SYS_sendmsg, Any),        // gateway.sock, passed sockets, admin.sock
        (libc::SYS_shutdown, Any),       // ending a channel though a duplicate of it lives
        (libc::SYS_getsockopt, Any),     // SO_PEERCRED, SO_DOMAIN, SO_ERROR: it only reads
        (libc::SYS_getpeername, Any),    // whether a passed socket is connected
        (libc::SYS_getsockname, Any),    // where an agent's socket was accepted

        // Descriptors and files. Landlock leaves the data directory.
        (libc::SYS_read, Any),           // files, the runtime's wake-up
        (libc::SYS_write, Any),          // files, the log on standard error, the runtime's wake-up
        (libc::SYS_writev, Any),         // glibc's last words before an abort
        (libc::SYS_pread64, Any),        // the audit reader
        (libc::SYS_close, Any),          // everything
        (libc::SYS_fcntl, OneOf(1, &[
            libc::F_GETFD as u32, libc::F_SETFD as u32,   // std checks descriptors before it closes them
            libc::F_GETFL as u32, libc::F_SETFL as u32,   // O_NONBLOCK
            libc::F_DUPFD_CLOEXEC as u32,                 // a file that the worker syncs
        ])),
        (libc::SYS_ioctl, OneOf(1, &[
            libc::FIONBIO as u32,                         // std's set_nonblocking
            unit::PIDFD_GET_INFO,                         // in which unit a peer is
        ])),
        (libc::SYS_openat, Any),         // vault and audit files
        (libc::SYS_newfstatat, Any),     // their metadata
        (libc::SYS_fstat, Any),          // the same of open files, in glibc 2.39 and newer
        (libc::SYS_statx, Any),          // the same by std
        (libc::SYS_lseek, Any),          // the audit reader and writer
        (libc::SYS_getdents64, Any),     // the list of audit files
        (libc::SYS_ftruncate, Any),      // the audit log's torn tail
        (libc::SYS_fsync, Any),          // a vault or a directory that was written
        (libc::SYS_fdatasync, Any),      // the audit log
        (libc::SYS_flock, Any),          // the vault's lock
        (libc::SYS_linkat, Any),         // the vault's backup
        (libc::SYS_renameat, Any),       // the new vault takes the old one's place
        (libc::SYS_unlinkat, Any),       // what a crash left behind

        // Memory: never executable, so that no code can be brought in.
        (libc::SYS_mmap, Without(2, libc::PROT_EXEC as u32)),     // malloc
        (libc::SYS_mprotect, Without(2, libc::PROT_EXEC as u32)), // malloc, when an arena grows
        (libc::SYS_munmap, Any),         // malloc
        (libc::SYS_brk, Any),            // malloc
        (libc::SYS_madvise, OneOf(2, &[libc::MADV_DONTNEED as u32, libc::MADV_FREE as u32])), // malloc gives pages back
        (libc::SYS_sched_getaffinity, Any), // malloc counts processors for a thread's first arena
        (libc::SYS_getrandom, Any),      // ring, and std's hash tables

        // Signals and the end, an orderly one and a panic's.
        (libc::SYS_rt_sigaction, Any),   // abort resets SIGABRT; tokio's handlers
        (libc::SYS_rt_sigprocmask, Any), // abort
        (libc::SYS_rt_sigreturn, Any),   // the return from tokio's handlers and the alarms'
        (libc::SYS_sigaltstack, Any),    // std, when a thread ends
        (libc::SYS_getpid, Any),         // abort, and Status
        (libc::SYS_gettid, Any),         // abort
        (libc::SYS_tgkill, Both((0, std::process::id()), (2, libc::SIGABRT as u32))), // abort, of ourselves alone
        (libc::SYS_exit, Any),           // the worker's end
        (libc::SYS_exit_group, Any),     // the process's end

        // doctor's questions, asked from inside. None of them changes anything.
        (libc::SYS_prctl, OneOf(0, &[
            libc::PR_GET_DUMPABLE as u32, libc::PR_GET_NO_NEW_PRIVS as u32, libc::PR_GET_SECCOMP as u32,
        ])),
        (libc::SYS_prlimit64, Null(2)),  // reads a limit, sets none
        (libc::SYS_capget, Any),         // reads capabilities
        (libc::SYS_geteuid, Any),        // whose the process is
    ];
    // Calls of x86_64 that newer architectures have under the names above only.
    #[cfg(target_arch = "x86_64")]
    table.extend([
        (libc::SYS_epoll_wait, Any), // mio
        (libc::SYS_rename, Any),     // glibc, for renameat
        (libc::SYS_unlink, Any),     // glibc, for unlinkat
    ]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_for_this_machine() {
        assert!(!filter().unwrap().is_empty());
    }

    #[test]
    fn no_call_is_listed_twice() {
        // A second line without conditions would silently widen the first.
        let mut calls: Vec<_> = table().into_iter().map(|(call, _)| call).collect();
        let all = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), all);
    }

    #[test]
    fn what_the_cage_is_for_is_not_listed() {
        #[rustfmt::skip]
        let forbidden = [
            libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen,
            libc::SYS_execve, libc::SYS_execveat, libc::SYS_clone, libc::SYS_clone3, libc::SYS_ptrace,
            libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kill, libc::SYS_io_uring_setup,
            libc::SYS_bpf, libc::SYS_memfd_create, libc::SYS_seccomp, libc::SYS_setuid, libc::SYS_capset,
            libc::SYS_munlock, libc::SYS_munlockall, libc::SYS_pidfd_getfd, libc::SYS_userfaultfd, libc::SYS_keyctl,
        ];
        let listed: Vec<_> = table().into_iter().map(|(call, _)| call).collect();
        assert!(forbidden.iter().all(|call| !listed.contains(call)));
    }
}
