//! gatewayd's cage: each rule broken, each twin, and what must go on working.

use crate::Outcome::{Done, Errno};
use crate::{Twin, attempt, done, has_landlock, hold, killed, refused};

#[test]
fn gatewayd_dies_of_what_its_filter_lists() {
    #[rustfmt::skip]
    let mut whats = vec![
        "execve",
        "execveat",
        "clone",
        "setns",
        "ptrace",
        "process-vm-readv",
        "process-vm-writev",
        "pidfd-getfd",
        "mmap-writable-executable",
        "mprotect-executable",
        "pkey-mprotect",
        "shmat",
        "memfd-create",
        "listen",
        "io-uring",
        "bpf",
        "perf-event",
        "userfaultfd",
        "keyctl",
        "add-key",
        "mount",
        "pivot-root",
        "chroot",
        "open-by-handle",
        "init-module",
        "finit-module",
        "kexec",
        "reboot",
        "personality",
    ];
    if cfg!(target_arch = "x86_64") {
        whats.extend(["fork", "vfork", "x32"]);
    }
    hold("gatewayd", killed(&whats));
}

/// Not the names above, which stay where an entry goes: the very list that the filter is made of.
#[test]
fn gatewayd_dies_of_each_call_on_its_list() {
    let Done(numbers) = attempt("none", "forbidden") else { panic!("no list") };
    let calls: Vec<_> = numbers.split(' ').map(|number| format!("call:{number}")).collect();
    assert!(calls.len() > 45, "{numbers}");
    hold("gatewayd", killed(&calls.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn gatewayd_does_its_work() {
    let yes = || Done("true".to_owned());
    let config = || Done("listen = []".to_owned());
    hold(
        "gatewayd",
        vec![
            ("socket", done(), Twin::Exactly(done())),
            ("tcp-connect", Errno(libc::ECONNREFUSED), Twin::Exactly(Errno(libc::ECONNREFUSED))),
            ("udp", done(), Twin::Exactly(done())),
            ("unix-connect", done(), Twin::Exactly(done())),
            ("thread", done(), Twin::Exactly(done())),
            ("resolve", yes(), Twin::Exactly(yes())),
            ("config", config(), Twin::Exactly(config())),
            ("open-passwd", done(), Twin::Exactly(done())),
            // "Not there": the C library then makes its threads with clone.
            ("clone3", Errno(libc::ENOSYS), Twin::Exactly(Errno(libc::EINVAL))),
        ],
    );
}

#[test]
fn gatewayd_writes_nothing_and_reads_no_vault() {
    if !has_landlock(3, "gatewayd's files") {
        return;
    }
    #[rustfmt::skip]
    let whats = [
        "write",
        "make-socket",
        "make-fifo",
        "make-device",
        "make-directory",
        "remove-directory",
        "write-outside",
        "truncate-outside",
        "create-outside",
        "remove-outside",
        "list-outside",
        "symlink-inside",
    ];
    hold("gatewayd", refused(&whats, libc::EACCES));
    hold("gatewayd", refused(&["move-out", "move-in", "link-in"], libc::EACCES));
    hold("gatewayd", vec![("read", Errno(libc::EACCES), Twin::Exactly(Done("old".into())))]);
    hold("gatewayd", vec![("open-parent-memory", Errno(libc::EACCES), Twin::AnythingElse)]);
}

#[test]
fn gatewayd_binds_no_further_port_and_reaches_no_process() {
    if has_landlock(4, "binding") {
        hold("gatewayd", refused(&["tcp-bind"], libc::EACCES));
    }
    if has_landlock(6, "scopes") {
        hold("gatewayd", refused(&["abstract-connect", "signal-parent"], libc::EPERM));
    }
}
