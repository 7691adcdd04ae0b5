//! keyd: alone decrypts the vault, alone speaks TLS with the upstream. This file is the start-up order and no more.
//!
//! Privileges only go down, and no peer's byte is read before the cage is sealed. It spawns no child, dials nothing and
//! listens only on Unix sockets. Started by systemd, by `strongroom up`, or by hand.
#![deny(unsafe_code)]

mod admin;
mod args;
mod audit;
mod config;
mod create;
mod credential;
mod environment;
mod exchange;
mod gateway;
mod listen;
mod logbook;
mod mismatch;
mod peer;
mod policy;
mod run_mark;
mod sandbox;
mod secret;
mod serve;
mod start_error;
mod state;
mod sys;
mod tries;
mod turn;
mod vault;
mod waking;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use strongroom_protocol::home::Home;
use strongroom_protocol::log::Log;

use crate::args::{Args, Command};
use crate::config::Config;
use crate::environment::Environment;
use crate::exchange::trust::Trust;
use crate::run_mark::RunMark;
use crate::start_error::StartError;
use crate::vault::LockedVault;
use crate::worker::Worker;

/// Buffers of hyper and rustls hold keys for a moment; freed memory is wiped, whoever freed it.
#[global_allocator]
static ALLOCATOR: sys::WipingAllocator = sys::WipingAllocator;

fn main() -> ExitCode {
    let mut log = Log { program: "strongroom-keyd", target: env!("CARGO_CRATE_NAME"), is_journal: false };
    match run(&mut log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => start_error::report(log, &error),
    }
}

fn run(log: &mut Log) -> Result<(), StartError> {
    let environment = Environment::take()?;
    log.is_journal = environment.is_journal();
    let args = Args::parse(std::env::args_os())?;
    let home = || Home::find(|name| environment.path(name), nix::unistd::geteuid().as_raw(), system_is_installed());
    match args.command {
        Command::Say(text) => return start_error::say(&text),
        Command::CheckConfig(path) => return Config::load_existing(&path).map(drop).map_err(StartError::from),
        Command::CreateVault => return create::from_standard_input(&home()?),
        Command::Serve => {}
    }
    let home = home()?;
    let config = match &args.config {
        Some(named) => Config::load_existing(named)?,
        None => Config::load(&home.keyd_config())?,
    };
    let config = config.in_home(&home);
    // It fails only where it was started before.
    let _ = log.start(config.log_level);
    if args.detach {
        nix::unistd::setsid().map_err(|error| StartError::Detach(error.into()))?;
    }
    let inherited = environment.inherited_sockets().map_err(StartError::Inherited)?;
    let listeners = listen::open(&home, inherited, config.has_other_admins(nix::unistd::geteuid().as_raw()))?;
    let (manager, error) = environment.service_manager();
    if let Some(error) = error {
        tracing::warn!(%error, "the service manager cannot be told anything");
    }
    let memory = secret::prepare();
    if config.require_sandbox && !secret::stays_out_of_swap() {
        return Err(sandbox::SandboxError::Missing(memory).into());
    }
    let credential = credential::read(environment.path("CREDENTIALS_DIRECTORY").as_deref());
    let vault = LockedVault::open(&home.vault())?;
    let audit = audit::AuditLog::open(&home.audit())?;
    let trust = Trust::load();
    let confined = sandbox::confine(&sandbox::Paths { data: home.data.clone(), require: config.require_sandbox })?;
    // Threads and the runtime's descriptors are made before the filter, which allows neither.
    let worker = Worker::start(home.vault()).map_err(StartError::Worker)?;
    sys::closer::start().and_then(|()| sys::alarm::guard_this_thread()).map_err(StartError::Worker)?;
    let runtime = serve::runtime().map_err(StartError::Runtime)?;
    let mut checks = confined.seal()?;
    checks.push(memory);
    checks.push(environment::check());
    checks.push(serve::roots_check(&trust));
    // Last: a start that fails has served nobody.
    let (mark, beginnings) = RunMark::set(&home.data, Instant::now());
    serve::until_shutdown(
        runtime,
        serve::Parts {
            config,
            agent_socket: home.agent_socket(),
            listeners,
            vault,
            audit,
            trust,
            worker,
            checks,
            credential,
            manager,
            mark,
            beginnings,
        },
    )
}

/// Whether `/etc/strongroom` is there: a user without files of their own administers the system's.
fn system_is_installed() -> bool {
    Home::system().config.exists()
}
