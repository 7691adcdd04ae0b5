//! Every call that keyd's filter allows is one that keyd makes: an allowance that nobody needs is an attacker's alone.
//!
//! keyd is traced from outside through a day of its own, from the locked vault to its end, and what was never called
//! must be in a list here, with the reason why it is allowed all the same. It refuses exceptions for what is not allowed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use strongroom_tests::prelude::*;

/// Allowed, and not seen in this test.
const UNSEEN: &[(&str, &str)] = &[
    ("epoll_pwait", "what epoll_wait is on aarch64"),
    ("clock_gettime", "the vDSO answers where the clock source lets it"),
    ("restart_syscall", "the kernel calls it, after a stop signal and only from some waits"),
    ("clock_nanosleep", "between the worker's attempts to write where the disk refuses"),
    ("sched_yield", "std's channels, when two threads meet"),
    ("readv", "tokio's streams, as the library likes"),
    ("writev", "tokio's streams, as the library likes"),
    ("fstat", "what std calls where statx is missing"),
    ("renameat2", "what newer C libraries make of renameat"),
    ("renameat", "what rename is on aarch64"),
    ("unlinkat", "what unlink is on aarch64"),
    ("ftruncate", "a torn tail of the audit log"),
    ("mprotect", "malloc, when an arena of another thread grows"),
    ("mremap", "malloc, for blocks that were mapped and grow"),
    ("sched_getaffinity", "malloc, when it makes an arena"),
    ("mmap", "malloc, for large blocks"),
    ("exit", "a thread's end, where it comes before the process's"),
    ("madvise", "the same: the thread's stack is given back"),
    ("rt_sigprocmask", "the same, with signals held back"),
    ("gettid", "abort"),
    ("tgkill", "abort"),
    ("rt_sigaction", "abort"),
    ("prctl", "doctor's own questions are asked before the first byte of a peer"),
    ("prlimit64", "the same"),
    ("capget", "the same"),
    ("getuid", "the same"),
    ("geteuid", "the same, and once behind it"),
    ("ioctl", "std's set_nonblocking"),
    ("lseek", "the audit reader, as std likes"),
];

#[test]
#[ignore = "needs root: traces another user's process"]
fn every_allowed_call_is_one_that_keyd_makes() {
    assert!(geteuid().is_root());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../keyd/src/sandbox/seccomp.rs");
    let source = fs::read_to_string(source).unwrap();
    let table = source.split("fn table()").nth(1).and_then(|rest| rest.split("#[cfg(test)]").next()).unwrap();
    let allowed: BTreeSet<&str> = table
        .split("libc::SYS_")
        .skip(1)
        .map(|rest| rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap())
        .collect();
    assert!(allowed.len() > 50, "the table was not found: {allowed:?}");

    let seen = a_day_of_keyds();
    assert!(["recvmsg", "sendmsg", "epoll_wait", "write"].iter().all(|call| seen.contains(*call)), "{seen:?}");
    let strangers: Vec<_> = seen.iter().filter(|call| !allowed.contains(call.as_str())).collect();
    assert_eq!(strangers, Vec::<&String>::new(), "called, though the filter does not allow it: nothing was traced");
    let excused = |call: &str| UNSEEN.iter().any(|(known, _)| *known == call);
    let useless: Vec<_> = allowed.iter().filter(|call| !seen.contains(**call) && !excused(call)).collect();
    assert_eq!(useless, Vec::<&&str>::new(), "allowed, and needed by nobody");
    let gone: Vec<_> = UNSEEN.iter().filter(|(call, _)| !allowed.contains(call)).collect();
    assert!(gone.is_empty(), "excused, and not allowed any more: {gone:?}");
}

/// The names of all calls from the locked vault to the end of the process.
fn a_day_of_keyds() -> BTreeSet<String> {
    let scene = Scene::with(|exchange| {
        let body = exchange.body()?;
        exchange.respond("200 OK", &[], &body)
    });
    let strongroom = &scene.strongroom;
    strongroom.must(&["lock"]);
    let (keyd, trace) = (strongroom.keyd(), strongroom.root().join("trace"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-p", &keyd.to_string(), "-o"]).arg(&trace).stderr(Stdio::null());
    let mut strace = strace.spawn().expect("strace is installed");
    let lines = || fs::read_to_string(&trace).unwrap_or_default();
    within(Duration::from_secs(20), "keyd is traced", || {
        let _ = strongroom.status();
        lines().contains("sendmsg").then_some(())
    });
    strongroom.must(&["unlock"]);
    scene.add_credential("second", &["--host", HOST, "--header", "x-api-key: {}"]);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let [_, agent_sock] = strongroom.ways();
    let request = Request::new(agent_sock, "GET", "/openai/x").bearer(&scene.placeholder);
    assert_eq!(request.send().status(), 200);
    assert_eq!(scene.post("/openai/x", &vec![b'x'; 3_000_000]).send().status(), 200);
    scene.get("/openai/%2e%2e/x").send().assert_refused(Refusal::BadRequest);
    strongroom.must_with(&["credential", "rotate", CREDENTIAL], b"sk-another-value-0123456789-abcdefgh");
    strongroom.must(&["audit", "--json"]);
    strongroom.must(&["audit", "verify"]);
    strongroom.ctl(&["doctor"]);
    process::signal(keyd, process::Signal::SIGSTOP);
    process::signal(keyd, process::Signal::SIGCONT);
    strongroom.must(&["credential", "remove", "second", "--purge", "--yes"]);
    strongroom.must(&["agent", "revoke", AGENT, "--yes"]);
    // The disk thread's second.
    within(Duration::from_secs(20), "the log is put on the disk", || lines().contains("fdatasync").then_some(()));
    strongroom.must(&["down"]);
    let ended = strace.wait().expect("our own child");
    assert!(ended.success(), "{ended}");
    let name = |line: &str| {
        let call = line.split_once(char::is_whitespace)?.1.trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let end = call.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
        (end > 0 && !call.starts_with("exited")).then(|| call[..end].to_owned())
    };
    lines().lines().filter_map(name).collect()
}
