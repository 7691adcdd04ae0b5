//! Every call that keyd's filter allows is one that keyd makes: an allowance that nobody needs is an attacker's alone.
//!
//! keyd is traced from its own start, through a day, to its end; what the C library does for it at moments that no test
//! can order from keyd itself is traced in the breaker, in the same cage. What was never called after the filter must be
//! in a list here, with the reason why it is allowed all the same. It refuses exceptions for what is not allowed, and for
//! what was seen.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use strongroom_ctl::admin_client::AdminClient;
use strongroom_protocol::admin::{Operation, Reply};
use strongroom_tests::prelude::*;
use strongroom_tests::{programs, strongroom::files_below};
use tempfile::TempDir;

/// Allowed, and never seen here.
const UNSEEN: &[(&str, &str)] = &[(
    "sched_getaffinity",
    "malloc, for the first arena of a thread but the main one: today std's start of a thread makes it before the filter",
)];

/// Allowed, and seen or not as the machine likes.
const BY_CHANCE: &[(&str, &str)] = &[
    ("clock_gettime", "the vDSO answers where the clock source lets it"),
    ("sched_yield", "std's channels, when two threads meet"),
];

/// One need by two names, after the architecture and the C library: one of them is enough.
const EITHER: &[(&str, &str)] =
    &[("epoll_wait", "epoll_pwait"), ("newfstatat", "fstat"), ("rename", "renameat"), ("unlink", "unlinkat")];

/// What the breaker does in keyd's cage, and for which calls that stands.
const IN_THE_BREAKER: &[(&str, &[&str])] = &[
    // With SIGABRT ignored, as a parent may leave it: then abort sets it back and tries again.
    ("abort", &["rt_sigprocmask", "rt_sigaction", "gettid", "tgkill"]),
    ("double-free", &["writev"]),
    ("thread-end", &["exit", "madvise"]),
    ("worker:allocate", &["mprotect"]),
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

    let mut seen = a_day_of_keyds();
    assert!(["recvmsg", "sendmsg", "write"].iter().all(|call| seen.contains(*call)), "{seen:?}");
    let strangers: Vec<_> = seen.iter().filter(|call| !allowed.contains(call.as_str())).collect();
    assert_eq!(strangers, Vec::<&String>::new(), "called, though the filter does not allow it: nothing was traced");
    for (attempt, calls) in IN_THE_BREAKER {
        let traced = in_the_breaker(attempt);
        let missing: Vec<_> = calls.iter().filter(|call| !traced.contains(**call)).collect();
        assert!(missing.is_empty(), "{attempt} is there for {missing:?}, and makes {traced:?}");
        seen.extend(calls.iter().map(ToString::to_string));
    }
    let is_seen = |call: &str| seen.contains(call);
    let has_a_twin =
        |call: &str| EITHER.iter().any(|&(one, other)| call == one && is_seen(other) || call == other && is_seen(one));
    let excuses = || UNSEEN.iter().chain(BY_CHANCE).map(|(call, _)| *call);
    let excused = |call: &str| has_a_twin(call) || excuses().any(|known| known == call);
    let useless: Vec<_> = allowed.iter().filter(|call| !is_seen(call) && !excused(call)).collect();
    assert_eq!(useless, Vec::<&&str>::new(), "allowed, and needed by nobody");
    let pairs = EITHER.iter().flat_map(|&(one, other)| [one, other]);
    let gone: Vec<_> = excuses().chain(pairs).filter(|call| !allowed.contains(call)).collect();
    assert!(gone.is_empty(), "excused, and not allowed any more: {gone:?}");
    let both = EITHER.iter().filter(|(one, other)| is_seen(one) && is_seen(other)).map(|(one, _)| one);
    let untrue: Vec<_> = UNSEEN.iter().map(|(call, _)| call).filter(|call| is_seen(call)).chain(both).collect();
    assert!(untrue.is_empty(), "excused, and seen: {untrue:?}");
}

/// The names of all calls from the filter to the end of the process.
fn a_day_of_keyds() -> BTreeSet<String> {
    let traced = Traced::new();
    let stopping = traced.stop_in_its_sleep();
    let scene = Scene::build(Strongroom::new().programs(traced.directory.path()), |exchange| {
        let body = exchange.body()?;
        exchange.respond("200 OK", &[], &body)
    });
    stopping.join().unwrap();
    let strongroom = &scene.strongroom;
    strongroom.must(&["lock"]);
    let newest = files_below(&strongroom.home().audit()).into_iter().max().expect("there is a log");
    OpenOptions::new().append(true).open(newest).and_then(|mut log| log.write_all(b"{\"torn")).unwrap();
    strongroom.must(&["unlock"]);
    scene.add_credential("second", &["--host", HOST, "--header", "x-api-key: {}"]);
    strongroom.must(&["agent", "add", "of-a-unit", "--unit", "strongroom-test.service"]);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let [_, agent_sock] = strongroom.ways();
    let request = Request::new(agent_sock, "GET", "/openai/x").bearer(&scene.placeholder);
    assert_eq!(request.send().status(), 200);
    assert_eq!(scene.post("/openai/x", &vec![b'x'; 3_000_000]).send().status(), 200);
    scene.get("/openai/%2e%2e/x").send().assert_refused(Refusal::BadRequest);
    strongroom.must_with(&["credential", "rotate", CREDENTIAL], b"sk-another-value-0123456789-abcdefgh");
    strongroom.must(&["audit", "--json"]);
    strongroom.must(&["audit", "verify"]);
    let from_the_third = Operation::AuditRead { from: 3, since: None, agent: None, credential: None };
    let read = AdminClient::connect(strongroom.home()).and_then(|mut admin| admin.ask(from_the_third));
    assert!(matches!(read, Ok(Reply::Audit { .. })), "{read:?}");
    strongroom.ctl(&["doctor"]);
    strongroom.must(&["credential", "remove", "second", "--purge", "--yes"]);
    strongroom.must(&["agent", "revoke", AGENT, "--yes"]);
    // The disk thread's second. strace writes when it has enough to write.
    within(Duration::from_secs(20), "the log is put on the disk", || {
        let _ = strongroom.status();
        traced.lines().contains("fdatasync").then_some(())
    });
    let keyd = strongroom.keyd().to_string();
    strongroom.must(&["down"]);
    within(Duration::from_secs(20), "the tracer writes the rest", || {
        let is_end = |line: &str| line.starts_with(&keyd) && line.ends_with("+++ exited with 0 +++");
        traced.lines().lines().any(is_end).then_some(())
    });
    calls_behind_the_filter(&traced.lines())
}

/// The usual programs, but that keyd starts with a tracer and under a service manager that has no time for it.
struct Traced {
    directory: TempDir,
    _manager: UnixDatagram,
}

impl Traced {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let all_may = |name: &str, mode| fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        all_may("", 0o755);
        // Processes are known by the names of their programs, so keyd's stays and only its place is another.
        fs::create_dir(path("real")).unwrap();
        fs::create_dir(path("trace")).unwrap();
        all_may("trace", 0o777);
        for (name, place) in [
            ("strongroom", "strongroom"),
            ("strongroom-gatewayd", "strongroom-gatewayd"),
            ("strongroom-keyd", "real/strongroom-keyd"),
        ] {
            fs::copy(programs::path(name), path(place)).unwrap();
        }
        let manager = UnixDatagram::bind(path("manager")).unwrap();
        all_may("manager", 0o777);
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(path("manager")).unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.send(b"x").is_ok() {}
        assert_eq!(sender.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        // -D: the tracer is the grandchild, and keyd the child that `up` waits for.
        let script = format!(
            "#!/bin/sh\necho $$ >{0}/trace/pid\n\
             NOTIFY_SOCKET={0}/manager exec strace -D -f -q -o {0}/trace/calls {0}/real/strongroom-keyd \"$@\"\n",
            directory.path().display()
        );
        fs::write(path("strongroom-keyd"), script).unwrap();
        all_may("strongroom-keyd", 0o755);
        Self { directory, _manager: manager }
    }

    /// Stops keyd while it sleeps, and lets it go on: some time after it was started.
    fn stop_in_its_sleep(&self) -> std::thread::JoinHandle<()> {
        let pid = self.directory.path().join("trace/pid");
        let sleeps = format!("{} ", libc::SYS_clock_nanosleep);
        std::thread::spawn(move || {
            let keyd = within(Duration::from_secs(60), "keyd waits for its manager", || {
                let keyd: u32 = fs::read_to_string(&pid).ok()?.trim().parse().ok()?;
                fs::read_to_string(format!("/proc/{keyd}/syscall")).ok()?.starts_with(&sleeps).then_some(keyd)
            });
            process::signal(keyd, process::Signal::SIGSTOP);
            process::signal(keyd, process::Signal::SIGCONT);
        })
    }

    fn lines(&self) -> String {
        fs::read_to_string(self.directory.path().join("trace/calls")).unwrap_or_default()
    }
}

/// The calls of one attempt in keyd's cage.
fn in_the_breaker(attempt: &str) -> BTreeSet<String> {
    let scene = crate::Scene::new();
    let trace: PathBuf = scene.directory.path().join("trace");
    let breaker = scene.breaker("keyd", attempt);
    // The shell leaves the signal ignored to what it starts.
    let mut strace = Command::new("sh");
    strace.args(["-c", "trap '' ABRT; exec strace -f -q -o \"$0\" \"$@\""]).arg(&trace);
    strace.arg(breaker.get_program()).args(breaker.get_args()).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().expect("strace is installed");
    calls_behind_the_filter(&fs::read_to_string(trace).unwrap())
}

fn calls_behind_the_filter(trace: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let call = line.split_once(char::is_whitespace)?.1.trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let end = call.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
        (end > 0 && !call.starts_with("exited")).then(|| call[..end].to_owned())
    };
    let (_, caged) = trace.rsplit_once("seccomp(SECCOMP_SET_MODE_FILTER").expect("the filter is installed");
    caged.lines().skip(1).filter_map(name).collect()
}
