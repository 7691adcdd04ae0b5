//! seccomp for gatewayd: a list of what a taken-over network process would try next, each of which ends it (SIGSYS).
//!
//! A deny-list, for the C library's resolver decides at run time what it calls. Threads stay allowed (the resolver
//! blocks, so tokio runs it on threads of its own), new processes do not. It leaves files to Landlock.
//!
//! Called by the cage's `enter`.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use strongroom_protocol::Check;

/// Installs the filters for every thread of the process.
pub fn forbid() -> Check {
    let result = install();
    match result {
        Ok(()) => {
            Check::ok("seccomp", format!("{} system calls and executable memory end the process.", FORBIDDEN.len()))
        }
        Err(error) => Check::warning(
            "seccomp",
            format!("the filter was not installed: {error}."),
            "Use a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64.",
        ),
    }
}

fn install() -> Result<(), seccompiler::Error> {
    // The kernel runs all filters and obeys the strictest answer.
    seccompiler::apply_filter_all_threads(&without_clone3()?)?;
    if cfg!(target_arch = "x86_64") {
        seccompiler::apply_filter_all_threads(&without_x32())?;
    }
    seccompiler::apply_filter_all_threads(&without_forbidden()?)
}

fn without_forbidden() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|&call| (call, Vec::new())).collect();
    let bits = |argument, mask: libc::c_int, value: libc::c_int| {
        let (mask, value) = (u64::from(mask.cast_unsigned()), u64::from(value.cast_unsigned()));
        SeccompRule::new(vec![SeccompCondition::new(argument, Width::Dword, Compare::MaskedEq(mask), value)?])
    };
    // A process of its own, or a thread in a new namespace.
    let mut clone = vec![bits(0, libc::CLONE_THREAD, 0)?];
    for flag in NAMESPACES {
        clone.push(bits(0, *flag, *flag)?);
    }
    rules.insert(libc::SYS_clone, clone);
    // Code that was written at run time. Libraries are mapped readable and executable from the start.
    let writable_code = libc::PROT_WRITE | libc::PROT_EXEC;
    rules.insert(libc::SYS_mmap, vec![bits(2, writable_code, writable_code)?]);
    rules.insert(libc::SYS_mprotect, vec![bits(2, libc::PROT_EXEC, libc::PROT_EXEC)?]);
    rules.insert(libc::SYS_pkey_mprotect, vec![bits(2, libc::PROT_EXEC, libc::PROT_EXEC)?]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, architecture()?)?;
    Ok(filter.try_into()?)
}

/// clone3 takes its flags in memory, where a filter cannot look. "Not there" makes the C library use clone.
fn without_clone3() -> Result<BpfProgram, seccompiler::Error> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, missing, architecture()?)?.try_into()?)
}

/// On x86_64 a kernel may know each call under a second number (x32), which a deny-list would let through:
///
/// ```text
///   load the number;  if it is 0x4000_0000 or more: kill the process;  else: allow
/// ```
fn without_x32() -> BpfProgram {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
        step((libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16, 0, 1, X32_BIT),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn architecture() -> Result<TargetArch, seccompiler::Error> {
    Ok(TargetArch::try_from(std::env::consts::ARCH)?)
}

/// `__X32_SYSCALL_BIT`.
const X32_BIT: u32 = 0x4000_0000;

const NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// What the filter ends the process for, whatever the arguments. The tests try each.
#[rustfmt::skip]
pub const FORBIDDEN: &[i64] = &[
    // Another program, another process.
    libc::SYS_execve, libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")] libc::SYS_fork,
    #[cfg(target_arch = "x86_64")] libc::SYS_vfork,
    // Other processes' memory and descriptors: keyd's above all.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd, libc::SYS_kcmp,
    // Ways around this filter, and into the kernel.
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_personality,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_kexec_load, libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")] libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")] libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")] libc::SYS_ioperm,
    // Another view of the file system.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr,
    libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    // The kernel's keyrings, which others may use.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // Executable memory out of a shared segment, or a file that was written here.
    libc::SYS_shmat, libc::SYS_memfd_create,
    // A socket that is not bound gets a port by it, past Landlock. Ours listen before the cage, also where it is read again.
    libc::SYS_listen,
    // The machine.
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct, libc::SYS_quotactl,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_sethostname, libc::SYS_setdomainname,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_this_machine() {
        assert!(!without_forbidden().unwrap().is_empty());
        assert!(!without_clone3().unwrap().is_empty());
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut calls = FORBIDDEN.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), FORBIDDEN.len());
    }
}
