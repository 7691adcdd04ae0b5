//! Enters one of the two cages, by the daemons' own source files, and then tries one thing that it must not do.
//!
//! ```text
//!   breaker CAGE DATA ATTEMPT     done [words] | errno N | error words | (dies)
//!
//!   CAGE: none | gatewayd | keyd | required-keyd | keyd-on-old-kernel | required-keyd-on-old-kernel | unsealed-keyd
//! ```
//!
//! The daemons themselves have no hook for tests; these are the same files, compiled into a program that misbehaves
//! on purpose. With `none` it does the same without a cage: the twin that shows that the attempt itself works.
//! It refuses nothing. Called by `tests/cage.rs`.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

mod attempt;
mod memory;
mod serve;

#[path = "../../../../keyd/src"]
#[allow(dead_code, unused_imports)]
mod keyd {
    pub mod environment;
    pub mod sandbox;
    pub mod secret;
    pub mod sys;
}
// The daemon's files name each other from their own crate's root.
use keyd::{environment, sandbox, secret, sys};

#[path = "../../../../gatewayd/src"]
mod gatewayd {
    pub mod cage;
}

/// keyd's own: what it wipes is looked for by the attempts on memory.
#[global_allocator]
static ALLOCATOR: sys::WipingAllocator = sys::WipingAllocator;

fn main() -> ExitCode {
    let answer = match run() {
        Ok(answer) => answer,
        Err(error) => Err(io::Error::other(error.to_string())),
    };
    let words = match answer {
        Ok(words) => format!("done {words}"),
        Err(error) => error.raw_os_error().map_or_else(|| format!("error {error}"), |number| format!("errno {number}")),
    };
    match writeln!(io::stdout(), "{}", words.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(74),
    }
}

/// What one attempt came to.
type Outcome = io::Result<String>;

/// Jobs for the thread that keyd's worker stands for: started between the two halves of its cage.
type Worker = mpsc::Sender<Box<dyn FnOnce() + Send>>;

fn run() -> Result<Outcome, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("say: breaker CAGE DATA ATTEMPT");
    let (cage, data, what) = (next()?, PathBuf::from(next()?), next()?);
    match cage.as_str() {
        "keyd" => in_keyds_cage(&data, &what, false),
        "required-keyd" => in_keyds_cage(&data, &what, true),
        "keyd-on-old-kernel" => play_an_old_kernel().and_then(|()| in_keyds_cage(&data, &what, false)),
        "required-keyd-on-old-kernel" => play_an_old_kernel().and_then(|()| in_keyds_cage(&data, &what, true)),
        // Without seccomp, which would end the process before Landlock could refuse.
        "unsealed-keyd" => {
            let _confined = sandbox::confine(&sandbox::Paths { data: data.clone(), require: false })?;
            Ok(attempt::attempt(&what, &data, None))
        }
        "gatewayd" => {
            let paths =
                gatewayd::cage::Paths { config: data.join("config"), gateway_socket: data.join("gateway.sock") };
            let checks = gatewayd::cage::enter(&paths);
            Ok(if what == "checks" { Ok(written(&checks)) } else { attempt::attempt(&what, &data, None) })
        }
        "none" if what == "environment" => {
            let kept = environment::Environment::take()?;
            let home = kept.path("HOME").is_some();
            Ok(memory::environment_block().map(|block| format!("{home} {block}")))
        }
        "none" if what == "inherit" => Ok(inherited()),
        "none" if what == "serve" => Ok(serve::prepare(&data)?.run(None)),
        "none" if what == "thread-end" => Ok(end(worker()?)),
        "none" if what == "forbidden" => Ok(Ok(forbidden())),
        "none" => Ok(attempt::attempt(&what, &data, Some(&worker()?))),
        _ => Err("there is no such cage".into()),
    }
}

fn in_keyds_cage(data: &Path, what: &str, require: bool) -> Result<Outcome, Box<dyn std::error::Error>> {
    environment::Environment::take()?;
    let memory = secret::prepare();
    let serving = (what == "serve").then(|| serve::prepare(data)).transpose()?;
    let confined = sandbox::confine(&sandbox::Paths { data: data.to_owned(), require })?;
    let worker = worker()?;
    sys::closer::start()?;
    sys::alarm::guard_this_thread()?;
    let serving = serving.map(|serving| serving.with_runtime()).transpose()?;
    let mut checks = confined.seal()?;
    checks.push(memory);
    checks.push(environment::check());
    Ok(match serving {
        Some(serving) => serving.run(Some(&worker)),
        None if what == "checks" => Ok(written(&checks)),
        None if what == "thread-end" => end(worker),
        None => attempt::attempt(what, data, Some(&worker)),
    })
}

/// Takes what was left open for us, and says what it is.
fn inherited() -> Outcome {
    let environment = environment::Environment::take().map_err(io::Error::other)?;
    let sockets = environment.inherited_sockets()?;
    let again = environment.inherited_sockets();
    let mut words = vec![format!("again:{}", again.is_ok_and(|sockets| !sockets.is_empty()))];
    for (name, socket) in sockets {
        let closes_on_exec = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFD)? == libc::FD_CLOEXEC;
        let listening = sys::socket_kind(socket.as_fd())?.listening;
        words.push(format!("{name}:{}:{closes_on_exec}:{listening}", socket.as_raw_fd()));
    }
    Ok(words.join(" "))
}

/// Makes the system calls that newer layers need fail as on a kernel that does not know them.
fn play_an_old_kernel() -> Result<(), Box<dyn std::error::Error>> {
    let unknown = [libc::SYS_landlock_create_ruleset, libc::SYS_memfd_secret].map(|call| (call, Vec::new()));
    let missing = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(unknown.into_iter().collect(), SeccompAction::Allow, missing, architecture)?;
    Ok(seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?)
}

/// Starts the thread, and waits until it runs.
fn worker() -> io::Result<Worker> {
    let (worker, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    std::thread::Builder::new().spawn(move || jobs.into_iter().for_each(|job| job()))?;
    let (running, runs) = mpsc::channel();
    let _ = worker.send(Box::new(move || running.send(()).unwrap_or_default()));
    let _ = runs.recv();
    Ok(worker)
}

/// The thread ends with its sender, a moment before the process would.
fn end(worker: Worker) -> Outcome {
    drop(worker);
    std::thread::sleep(Duration::from_millis(100));
    Ok(String::new())
}

/// The numbers of the calls on gatewayd's list.
fn forbidden() -> String {
    gatewayd::cage::calls::FORBIDDEN.iter().map(|number| format!("{number} ")).collect()
}

fn written(checks: &[strongroom_protocol::Check]) -> String {
    checks
        .iter()
        .map(|check| format!("\n{:?} {}: {} {}", check.state, check.name, check.detail, check.remedy))
        .collect()
}
