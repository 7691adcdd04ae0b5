//! The things that are tried, by name, each with the plainest system call that does it.
//!
//! An attempt gives what the kernel said; that it may not come back at all is the point. It refuses unknown names.
//! Called by `main`, inside a cage or outside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::sync::mpsc;

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use crate::{Outcome, Worker, memory};

/// Tries `what`. `data` is the directory that keyd's cage leaves open; `data/..` is outside.
pub fn attempt(what: &str, data: &Path, worker: Option<&Worker>) -> Outcome {
    if let (Some(inner), Some(worker)) = (what.strip_prefix("worker:"), worker) {
        return in_worker(inner, data, worker);
    }
    let outside = data.parent().unwrap_or(data).join("outside");
    if let Some((name, number)) = what.split_once(':') {
        return numbered(name, number.parse().map_err(io::Error::other)?);
    }
    match what {
        // What keyd does with files, in one go.
        "vault" => write_a_vault(data),
        "read" => fs::read_to_string(data.join("vault")),
        "write" => done(fs::write(data.join("audit.jsonl"), "{}\n")),
        "config" => fs::read_to_string(data.join("config/gatewayd.toml")),
        // Files that must be out of reach.
        "open-passwd" => done(File::open("/etc/passwd")),
        "open-link-out" => done(File::open(data.join("link-out"))),
        "open-parent-memory" => done(File::open(format!("/proc/{}/mem", std::os::unix::process::parent_id()))),
        "write-outside" => done(OpenOptions::new().write(true).open(&outside)),
        "truncate-outside" => done(OpenOptions::new().write(true).truncate(true).open(&outside)),
        "create-outside" => done(File::create_new(data.with_file_name("new"))),
        "remove-outside" => done(fs::remove_file(&outside)),
        "list-outside" => done(fs::read_dir("/")),
        "move-out" => done(fs::rename(data.join("vault"), data.with_file_name("vault"))),
        "move-in" => done(fs::rename(&outside, data.join("vault"))),
        "link-in" => done(fs::hard_link(&outside, data.join("linked"))),
        "make-socket" => done(UnixListener::bind(data.join("socket"))),
        "make-fifo" => done(mkfifo(&data.join("fifo"), Mode::S_IRWXU).map_err(io::Error::from)),
        // The one device that needs no privilege: an overlay's mark for what is gone.
        "make-device" => done(mknod(&data.join("device"), SFlag::S_IFCHR, Mode::S_IRWXU, 0).map_err(io::Error::from)),
        "make-block-device" => {
            done(mknod(&data.join("device"), SFlag::S_IFBLK, Mode::S_IRWXU, 0).map_err(io::Error::from))
        }
        "make-directory" => done(fs::create_dir(data.join("directory"))),
        "remove-directory" => done(fs::remove_dir(data.join("audit"))),
        "symlink-inside" => done(std::os::unix::fs::symlink("/etc/passwd", data.join("symlink"))),
        // The network.
        "tcp-bind" => done(TcpListener::bind("127.0.0.1:0")),
        "tcp-connect" => done(TcpStream::connect("127.0.0.1:1")),
        "udp" => done(UdpSocket::bind("127.0.0.1:0")),
        "unix-connect" => done(UnixStream::connect(data.join("listening"))),
        "abstract-connect" => {
            let name = fs::read(data.join("config/abstract-name"))?;
            done(SocketAddr::from_abstract_name(name).and_then(|address| UnixStream::connect_addr(&address)))
        }
        "resolve" => resolve(),
        // Processes and threads.
        "thread" => done(std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().is_ok())),
        "abort" => std::process::abort(),
        // Too much for the arena that a thread but the first begins with, and in blocks too small for mappings.
        "allocate" => {
            drop(std::hint::black_box(vec![vec![1_u8; 100 * 1024]; 16]));
            Ok(String::new())
        }
        // SAFETY: it is not sound, and that is the attempt: the C library sees it, says so and aborts.
        "double-free" => unsafe {
            let block = std::hint::black_box(libc::malloc(64));
            libc::free(block);
            libc::free(std::hint::black_box(block));
            Ok(String::new())
        },
        "panic" => done(
            std::panic::catch_unwind(|| panic!("on purpose"))
                .err()
                .map_or(Err(io::ErrorKind::Other.into()), |_| Ok(())),
        ),
        // SAFETY: these calls take integers; signal 0 only asks.
        "signal-parent" => call(|| unsafe { libc::kill(libc::getppid(), 0) }.into()),
        // What is left of privileges, memory and flags.
        "no-new-privileges" => Ok(i32::from(nix::sys::prctl::get_no_new_privs()?).to_string()),
        "dumpable" => Ok(i32::from(nix::sys::prctl::get_dumpable()?).to_string()),
        "capabilities" => Ok(crate::sys::privilege::has_no_capabilities()?.to_string()),
        // SAFETY: the raw call changes this thread alone, which ends right after.
        "become-somebody" => call(|| unsafe { libc::syscall(libc::SYS_setuid, 61_234) }),
        "core-limit" => {
            let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
            // SAFETY: setrlimit reads the structure, which outlives the call.
            call(|| unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) }.into())
        }
        "heap-freed" => memory::freed_heap(true),
        "heap-live" => memory::freed_heap(false),
        "wait" => {
            writeln!(io::stdout(), "waiting")?;
            io::stdin().read_line(&mut String::new()).map(|_| String::new())
        }
        "peek" => {
            let pid = fs::read_to_string(data.join("pid"))?;
            done(File::open(format!("/proc/{pid}/mem")).and_then(|memory| memory::first_readable_byte(&memory, &pid)))
        }
        _ => system_call(what),
    }
}

/// System calls with arguments that are harmless, or senseless, where nothing forbids them: a filter looks first.
fn system_call(name: &str) -> Outcome {
    let program = c"/bin/true";
    let arguments = [program.as_ptr(), null()];
    // SAFETY: no address is asked for, so nothing is replaced; nobody uses what is mapped.
    let page = || unsafe {
        libc::mmap(null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    // SAFETY: as above.
    let map = |protection| unsafe {
        libc::mmap(null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).addr() as i64
    };
    // SAFETY: each call is the attempt itself, with our own memory or with none; none of them
    // touches memory that Rust looks at. Children leave at once with _exit.
    unsafe {
        match name {
            "socket" => call(|| libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into()),
            "socketpair" => call(|| libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, [0; 2].as_mut_ptr()).into()),
            "connect" => call(|| libc::connect(-1, null(), 0).into()),
            "bind" => call(|| libc::bind(-1, null(), 0).into()),
            "listen" => call(|| libc::listen(-1, 1).into()),
            "setsockopt" => call(|| libc::setsockopt(-1, libc::IPPROTO_TCP, libc::TCP_NODELAY, null(), 0).into()),
            "execve" => call(|| libc::execv(program.as_ptr(), arguments.as_ptr()).into()),
            "execveat" => call(|| {
                libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, program.as_ptr(), arguments.as_ptr(), null::<u8>(), 0)
            }),
            "clone" => call(|| match libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) {
                0 => libc::_exit(0),
                child => libc::waitpid(child as i32, null_mut(), 0).into(),
            }),
            "clone3" => call(|| libc::syscall(libc::SYS_clone3, null::<u8>(), 0)),
            "setns" => call(|| libc::setns(-1, 0).into()),
            "ptrace" => call(|| libc::ptrace(libc::PTRACE_ATTACH, 0, 0, 0)),
            "process-vm-readv" => call(|| libc::process_vm_readv(libc::getpid(), null(), 0, null(), 0, 0) as i64),
            "process-vm-writev" => call(|| libc::process_vm_writev(libc::getpid(), null(), 0, null(), 0, 0) as i64),
            "pidfd-open" => call(|| libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0)),
            "pidfd-getfd" => call(|| libc::syscall(libc::SYS_pidfd_getfd, -1, 0, 0)),
            "kill" => call(|| libc::kill(libc::getpid(), 0).into()),
            "tgkill-other" => call(|| libc::syscall(libc::SYS_tgkill, libc::getppid(), libc::getppid(), 0)),
            "mmap-executable" => call(|| map(libc::PROT_READ | libc::PROT_EXEC)),
            "mmap-writable-executable" => call(|| map(libc::PROT_WRITE | libc::PROT_EXEC)),
            "mprotect-executable" => call(|| libc::mprotect(page(), 4096, libc::PROT_READ | libc::PROT_EXEC).into()),
            "pkey-mprotect" => {
                call(|| libc::syscall(libc::SYS_pkey_mprotect, page(), 4096, libc::PROT_READ | libc::PROT_EXEC, -1))
            }
            "madvise-dodump" => call(|| libc::madvise(page(), 4096, libc::MADV_DODUMP).into()),
            "munlock" => call(|| libc::munlock(page(), 4096).into()),
            "memfd-create" => call(|| libc::memfd_create(c"x".as_ptr(), 0).into()),
            "shmat" => call(|| libc::shmat(-1, null(), libc::SHM_EXEC).addr() as i64),
            "io-uring" => call(|| libc::syscall(libc::SYS_io_uring_setup, 1, null::<u8>())),
            "bpf" => call(|| libc::syscall(libc::SYS_bpf, -1, null::<u8>(), 0)),
            "perf-event" => call(|| libc::syscall(libc::SYS_perf_event_open, null::<u8>(), 0, -1, -1, 0)),
            "userfaultfd" => call(|| libc::syscall(libc::SYS_userfaultfd, -1)),
            "keyctl" => call(|| libc::syscall(libc::SYS_keyctl, -1, 0, 0, 0, 0)),
            "add-key" => call(|| libc::syscall(libc::SYS_add_key, null::<u8>(), null::<u8>(), null::<u8>(), 0, 0)),
            "mount" => call(|| libc::mount(null(), null(), null(), 0, null()).into()),
            "pivot-root" => call(|| libc::syscall(libc::SYS_pivot_root, null::<u8>(), null::<u8>())),
            "chroot" => call(|| libc::chroot(null()).into()),
            "open-by-handle" => call(|| libc::syscall(libc::SYS_open_by_handle_at, -1, null::<u8>(), 0)),
            "init-module" => call(|| libc::syscall(libc::SYS_init_module, null::<u8>(), 0, null::<u8>())),
            "finit-module" => call(|| libc::syscall(libc::SYS_finit_module, -1, null::<u8>(), 0)),
            "kexec" => call(|| libc::syscall(libc::SYS_kexec_load, 0, 0, null::<u8>(), -1)),
            "reboot" => call(|| libc::syscall(libc::SYS_reboot, 0, 0, 0, null::<u8>())),
            "personality" => call(|| libc::personality(0xffff_ffff).into()),
            "setuid" => call(|| libc::syscall(libc::SYS_setuid, libc::getuid())),
            "capset" => call(|| libc::syscall(libc::SYS_capset, null::<u8>(), null::<u8>())),
            "seccomp" => call(|| libc::syscall(libc::SYS_seccomp, -1, 0, null::<u8>())),
            "prctl-dumpable" => call(|| libc::prctl(libc::PR_SET_DUMPABLE, 1).into()),
            "prctl-read" => call(|| libc::prctl(libc::PR_GET_DUMPABLE).into()),
            "rlimit-read" => {
                call(|| libc::getrlimit(libc::RLIMIT_CORE, &raw mut *Box::leak(Box::new(std::mem::zeroed()))).into())
            }
            "ioctl-other" => call(|| libc::ioctl(-1, libc::TIOCSTI, null::<u8>()).into()),
            "ioctl-fionbio" => call(|| libc::ioctl(-1, libc::FIONBIO, null::<u8>()).into()),
            "fcntl-owner" => call(|| libc::fcntl(-1, libc::F_SETOWN, 1).into()),
            "fcntl-flags" => call(|| libc::fcntl(-1, libc::F_GETFL).into()),
            // Their own numbers, which the C library leaves for clone's.
            #[cfg(target_arch = "x86_64")]
            "fork" => forked(libc::SYS_fork),
            #[cfg(target_arch = "x86_64")]
            "vfork" => forked(libc::SYS_vfork),
            #[cfg(target_arch = "x86_64")]
            "x32" => call(|| libc::syscall(libc::SYS_getpid | 0x4000_0000)),
            #[cfg(target_arch = "x86_64")]
            "32-bit" => {
                let mut number: u32 = 20; // getpid, by the 32-bit table
                std::arch::asm!("int 0x80", inout("eax") number, options(nostack));
                Ok((number == std::process::id()).to_string())
            }
            _ => Err(io::Error::other(format!("no attempt is called {name}"))),
        }
    }
}

/// A call of a whole row of them: by its number, or by its flag.
fn numbered(name: &str, number: i64) -> Outcome {
    match name {
        #[cfg(target_arch = "x86_64")]
        "call" if [libc::SYS_fork, libc::SYS_vfork].contains(&number) => forked(number),
        // SAFETY: nothing has the address, descriptor, number or length -1, and every bit of it is a flag too many.
        "call" => call(|| unsafe { libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) }),
        // SAFETY: a thread that shares no memory is refused, and so is made nowhere.
        "clone-thread" => {
            call(|| unsafe { libc::syscall(libc::SYS_clone, i64::from(libc::CLONE_THREAD) | number, 0, 0, 0, 0) })
        }
        // SAFETY: it takes an integer, and what it changes ends with this process.
        "unshare" => call(|| unsafe { libc::syscall(libc::SYS_unshare, number) }),
        _ => Err(io::Error::other(format!("no row of attempts is called {name}"))),
    }
}

/// Makes a child that leaves at once. In assembly, for after vfork it runs on our stack and must not return.
#[cfg(target_arch = "x86_64")]
fn forked(number: i64) -> Outcome {
    let mut child = number;
    // SAFETY: the child makes one call, exit, and touches no memory; the parent goes on as after any system call.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 60",
            "xor edi, edi",
            "syscall",
            "2:",
            inout("rax") child, out("rcx") _, out("r11") _, out("rdi") _, options(nostack)
        );
    }
    let child = i32::try_from(child).map_err(io::Error::other)?;
    if child < 0 {
        return Err(io::Error::from_raw_os_error(-child));
    }
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None)?;
    Ok(String::new())
}

fn call(attempt: impl FnOnce() -> i64) -> Outcome {
    if attempt() == -1 { Err(io::Error::last_os_error()) } else { Ok(String::new()) }
}

fn done<T>(result: io::Result<T>) -> Outcome {
    result.map(|_| String::new())
}

fn in_worker(what: &str, data: &Path, worker: &Worker) -> Outcome {
    let (answer, answers) = mpsc::channel();
    let (what, data) = (what.to_owned(), data.to_owned());
    let job = Box::new(move || drop(answer.send(attempt(&what, &data, None))));
    worker.send(job).map_err(|_| io::Error::other("the worker is gone"))?;
    answers.recv().map_err(io::Error::other)?
}

/// The steps of a vault's writing, and an audit log's: everything that keyd does to its directory.
fn write_a_vault(data: &Path) -> Outcome {
    let (new, vault, backup) = (data.join("vault.tmp"), data.join("vault"), data.join("vault.bak"));
    let lock = File::create(data.join("lock"))?;
    lock.try_lock().map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(b"new")?;
    file.sync_all()?;
    fs::hard_link(&vault, data.join("vault.bak.tmp"))?;
    fs::rename(data.join("vault.bak.tmp"), &backup)?;
    fs::rename(&new, &vault)?;
    File::open(data)?.sync_all()?;
    let mut log = OpenOptions::new().append(true).create(true).open(data.join("audit/000001.jsonl"))?;
    log.write_all(b"{}\n{}")?;
    log.set_len(3)?;
    log.sync_data()?;
    let names = fs::read_dir(data.join("audit"))?.count();
    fs::remove_file(&backup)?;
    Ok(format!("{} {names} {}", fs::read_to_string(&vault)?, fs::metadata(data.join("audit/000001.jsonl"))?.len()))
}

/// As tokio does it: on a thread that is started after the cage was closed.
fn resolve() -> Outcome {
    let thread = std::thread::Builder::new().spawn(|| ("localhost", 80).to_socket_addrs().map(Iterator::count))?;
    let found = thread.join().map_err(|_| io::Error::other("the thread panicked"))??;
    Ok((found > 0).to_string())
}
