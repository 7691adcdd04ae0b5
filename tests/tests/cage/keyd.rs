//! keyd's cage: each rule broken, each twin, and all of keyd's day at once inside it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;
use strongroom_protocol::socket_passing::send_packet;

use crate::Outcome::{self, Died, Done, Errno};
use crate::{Scene, Twin, attempt, done, has_landlock, hold, killed, outcome, refused};

#[test]
fn keyd_dies_of_what_its_filter_does_not_list() {
    #[rustfmt::skip]
    let mut whats = vec![
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "setsockopt",
        "tcp-bind",
        "udp",
        "unix-connect",
        "execve",
        "execveat",
        "clone",
        "thread",
        "clone3",
        "setns",
        "ptrace",
        "process-vm-readv",
        "process-vm-writev",
        "pidfd-open",
        "pidfd-getfd",
        "kill",
        "tgkill-other",
        "mmap-executable",
        "mmap-writable-executable",
        "mprotect-executable",
        "pkey-mprotect",
        "madvise-dodump",
        "munlock",
        "memfd-create",
        "shmat",
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
        "setuid",
        "capset",
        "seccomp",
        "prctl-dumpable",
        "core-limit",
        "ioctl-other",
        "fcntl-owner",
        "symlink-inside",
        "make-socket",
        "make-fifo",
        "worker:socket",
        "worker:execve",
    ];
    if cfg!(target_arch = "x86_64") {
        whats.extend(["fork", "vfork", "x32"]);
    }
    hold("keyd", killed(&whats));
}

#[test]
fn keyd_may_do_the_harmless_half_of_each_conditional_rule() {
    let harmless = ["ioctl-fionbio", "fcntl-flags"];
    // Descriptor -1: the filter lets them pass, and the kernel finds no descriptor.
    let mut rows: Vec<_> = harmless.into_iter().map(|what| (what, Errno(libc::EBADF), Twin::AnythingElse)).collect();
    rows.push(("prctl-read", done(), Twin::AnythingElse));
    rows.push(("rlimit-read", done(), Twin::AnythingElse));
    rows.extend(["panic", "thread-end", "worker:allocate"].map(|what| (what, done(), Twin::Exactly(done()))));
    hold("keyd", rows);
}

#[test]
fn keyd_reaches_nothing_outside_its_data_directory() {
    if !has_landlock(3, "keyd's files") {
        return;
    }
    #[rustfmt::skip]
    let whats = [
        "open-passwd",
        "open-link-out",
        "write-outside",
        "truncate-outside",
        "create-outside",
        "remove-outside",
        "list-outside",
        "worker:open-passwd",
        "worker:create-outside",
    ];
    hold("keyd", refused(&whats, libc::EACCES));
    hold("keyd", refused(&["move-out", "move-in"], libc::EACCES));
    // Between directories: EXDEV, as if they were two file systems.
    hold("keyd", refused(&["link-in"], libc::EXDEV));
}

/// What seccomp ends keyd for before Landlock is asked is Landlock's to refuse as well: the second lock is tried alone.
#[test]
fn keyds_landlock_holds_without_its_filter() {
    if has_landlock(3, "keyd's files without seccomp") {
        let whats = ["make-socket", "make-fifo", "make-device", "symlink-inside", "remove-directory"];
        hold("unsealed-keyd", refused(&whats, libc::EACCES));
        hold("unsealed-keyd", vec![("make-block-device", Errno(libc::EACCES), Twin::AnythingElse)]);
        hold("unsealed-keyd", vec![("execve", Errno(libc::EACCES), Twin::Exactly(done()))]);
        // The audit log's, before the filter.
        hold("unsealed-keyd", vec![("make-directory", done(), Twin::Exactly(done()))]);
    }
    if has_landlock(4, "keyd's network without seccomp") {
        hold("unsealed-keyd", refused(&["tcp-bind"], libc::EACCES));
        let refused_by_nobody = Twin::Exactly(Errno(libc::ECONNREFUSED));
        hold("unsealed-keyd", vec![("tcp-connect", Errno(libc::EACCES), refused_by_nobody)]);
    }
    if has_landlock(6, "keyd's scopes without seccomp") {
        hold("unsealed-keyd", refused(&["abstract-connect", "signal-parent"], libc::EPERM));
    }
}

#[test]
fn keyd_does_its_work_in_its_data_directory() {
    let works = || Done("new 1 3".to_owned());
    hold("keyd", vec![("vault", works(), Twin::Exactly(works())), ("worker:vault", works(), Twin::Exactly(works()))]);
    hold("keyd", vec![("read", Done("old".into()), Twin::Exactly(Done("old".into())))]);
}

#[test]
fn the_environment_block_is_wiped_and_the_known_variables_are_kept() {
    let scene = Scene::new();
    let run =
        |command: &mut Command| outcome(&command.env("HOME", "/home/a").env("CANARY", "sk-canary").output().unwrap());
    // Kept HOME; the block is there; and no byte of it is left.
    assert_eq!(run(&mut scene.breaker("none", "environment")), Done("true true false".into()));
}

#[test]
fn announced_sockets_are_inherited_once() {
    let scene = Scene::new();
    let listener = UnixListener::bind(scene.data().join("given")).unwrap();
    let run = |variables: &[(&str, &str)]| {
        let mut command = scene.breaker("none", "inherit");
        command.envs(variables.iter().copied());
        let given = listener.as_raw_fd();
        // SAFETY: fcntl and dup2 are async-signal-safe and take integers. Two steps, for `given` may itself be 3 or 4.
        unsafe {
            command.pre_exec(move || {
                let high = libc::fcntl(given, libc::F_DUPFD, 10);
                libc::dup2(high, 3);
                libc::dup2(high, 4);
                Ok(())
            });
        }
        outcome(&command.output().unwrap())
    };
    let both = Done("again:false gateway:3:true:true admin:4:true:true".into());
    assert_eq!(run(&[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "gateway:admin")]), both);
    assert_eq!(run(&[("LISTEN_FDS", "1")]), Done("again:false unknown:3:true:true".into()));
    assert_eq!(run(&[]), Done("again:false".into()));
    assert_eq!(
        run(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "1")]),
        Done("again:false".into()),
        "meant for another process"
    );
    assert!(matches!(run(&[("LISTEN_FDS", "16")]), Outcome::Other(text) if text.contains("is not open")));
    assert!(matches!(run(&[("LISTEN_FDS", "many")]), Outcome::Other(text) if text.contains("LISTEN_FDS")));
}

#[test]
fn freed_memory_holds_nothing() {
    assert_eq!(attempt("none", "heap-freed"), Done("0".into()));
    let Done(found) = attempt("none", "heap-live") else { panic!("the twin did not run") };
    assert!(found.parse::<u32>().unwrap() >= 8, "what is not freed is found: {found}");
}

/// A filter around the breaker plays the older kernel: no Landlock, no memfd_secret.
#[test]
fn on_an_older_kernel_keyd_steps_down_and_says_so() {
    let Done(text) = attempt("keyd-on-old-kernel", "checks") else { panic!("no account") };
    for line in [
        "Warning landlock: ",
        "Warning secret-memory: ",
        "Warning inside-landlock: ",
        "Ok seccomp: ",
        "Ok capabilities: ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(attempt("keyd-on-old-kernel", "socket"), Died(Signal::SIGSYS), "the other layers hold");
}

#[test]
fn where_every_layer_is_required_a_missing_one_stops_keyd() {
    let Outcome::Other(text) = attempt("required-keyd-on-old-kernel", "checks") else { panic!("it started") };
    assert!(text.contains("landlock: ") && text.contains("require-sandbox = false"), "{text}");
    if has_landlock(1, "a complete cage") {
        assert!(matches!(attempt("required-keyd", "checks"), Done(_)));
    }
}

/// All that keyd does at once, within its cage and without.
#[test]
fn keyd_serves_inside_its_cage() {
    for cage in ["keyd", "none"] {
        let scene = Scene::new();
        let mut child = scene.breaker(cage, "serve").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{cage}: {:?}", child.wait());

        let gateway = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let address = UnixAddr::new(&scene.data().join("gateway.sock")).unwrap();
        connect(gateway.as_raw_fd(), &address).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        send_packet(gateway.as_fd(), b"channel", &[far.as_fd()]).unwrap();
        drop(far);
        let mut writer = near.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(&vec![7; 1 << 20]).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut echo = Vec::new();
        (&near).read_to_end(&mut echo).unwrap();
        writing.join().unwrap();
        assert_eq!(echo.len(), 1 << 20, "{cage}: {:?}", child.try_wait());

        let mut admin = UnixStream::connect(scene.data().join("admin.sock")).unwrap();
        admin.write_all(b"?").unwrap();
        let mut answer = Vec::new();
        admin.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"?");

        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(rest.trim(), format!("done served {}", 1 << 20), "{cage}: {status:?}");
        assert!(status.success());
    }
}
