//! `strongroom-gatewayd`: the network process. It takes agents' requests, dials upstreams and holds no key.
//!
//! This file is the order in which the process starts, and nothing else. Privileges only go down: sockets are opened
//! first, then the cage is entered, and only then is the first byte of a peer read. Proxy variables of its own
//! environment (`HTTP_PROXY` and its kin) are never read; a proxy for upstreams is named in the configuration.
//! Started by systemd, by `strongroom up`, or by hand.
#![forbid(unsafe_code)]

mod args;
mod cage;
mod channel;
mod config;
mod connect;
mod connection;
mod crowd;
mod dial;
#[cfg(test)]
mod end_to_end;
mod error_response;
mod forward;
mod gateway;
mod hang_up;
mod ingress;
mod key_client;
mod listen;
mod loopback_peer;
mod pool;
mod request_id;
mod serve;
mod shares;
mod shutdown;
mod start_error;
mod visitor;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{getuid, setsid};
use strongroom_protocol::home::Home;
use strongroom_protocol::log::Log;
use strongroom_protocol::service_manager::{self, ServiceManager};

use crate::args::{Command, Run};
use crate::config::Config;
use crate::start_error::StartError;

fn main() -> ExitCode {
    let is_journal = service_manager::is_journal(std::env::var_os("JOURNAL_STREAM").as_deref());
    let log = Log { program: "strongroom-gatewayd", target: env!("CARGO_CRATE_NAME"), is_journal };
    let Err(error) = run(log) else { return ExitCode::SUCCESS };
    log.last_word(format_args!("{error}"));
    error.exit_code()
}

fn run(log: Log) -> Result<(), StartError> {
    let run = match args::parse(std::env::args_os())? {
        Command::Help => return say(args::HELP),
        Command::Version => return say(concat!("strongroom-gatewayd ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::CheckConfig(path) => return Config::load_existing(&path).map(drop).map_err(StartError::from),
        Command::Run(run) => run,
    };
    let home = find_home()?;
    let config_file = run.config.clone().unwrap_or_else(|| home.gatewayd_config());
    let config = load(&run, &config_file)?;
    log.start(config.log_level).map_err(|_| StartError::Log)?;
    if run.detach {
        // It fails only for a process that leads a group already, which has no session to leave.
        let _ = setsid();
    }
    let descriptors = raise_descriptor_limit();
    let sockets = listen::open(&config, &home.agent_socket())?;
    let manager = service_manager(); // connected here: the cage allows no abstract socket
    let config_directory = config_file.parent().map(Path::to_owned).unwrap_or_default();
    let paths = cage::Paths { config: config_directory, gateway_socket: home.gateway_socket() };
    let checks = cage::enter(&paths); // cannot be undone; no peer byte is read before this line
    let from = serve::Sources { config_file, gateway_socket: home.gateway_socket(), descriptors };
    serve::until_shutdown(config, from, sockets, checks, manager)
}

fn service_manager() -> ServiceManager {
    let variables = service_manager::VARIABLES.map(|name| (name, std::env::var_os(name)));
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.as_deref());
    let (manager, error) = ServiceManager::find(value, std::process::id());
    if let Some(error) = error {
        tracing::warn!(%error, "the service manager cannot be told anything");
    }
    manager
}

fn find_home() -> Result<Home, StartError> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let system_is_installed = Path::new("/etc/strongroom").exists();
    Home::find(variable, getuid().as_raw(), system_is_installed).map_err(StartError::Home)
}

/// A file that was named must be there; the home's own may be missing, for every key has a default.
fn load(run: &Run, file: &Path) -> Result<Config, StartError> {
    let config = if run.config.is_some() { Config::load_existing(file) } else { Config::load(file) };
    config.map_err(StartError::from)
}

/// A thousand connections and 512 channels are more than the usual soft limit of 1,024. Gives what there is.
fn raise_descriptor_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return USUAL_DESCRIPTORS };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(soft, hard, %error, "the descriptor limit could not be raised");
            soft
        }
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The kernel's default, where it does not say.
const USUAL_DESCRIPTORS: usize = 1024;

fn say(text: &str) -> Result<(), StartError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(StartError::Output)
}
