//! What the figures were made on.
//!
//! It refuses to say more than what bears on them: no name of a host or user. Called by `report`.

use std::fs;

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Of the first processor.
    pub cpu: String,
    /// As many as this program may use.
    pub cores: usize,
    /// In GiB, rounded up.
    pub memory: u64,
    /// Its version.
    pub kernel: String,
    /// The system's name and version.
    pub system: String,
    /// Programs that wanted a core when the run ended, the run's own among them, on average over five minutes.
    pub load: f64,
    /// Whether the daemons had users of their own.
    pub users: bool,
}

impl Machine {
    /// The one we run on.
    pub fn this() -> Self {
        let field = |file: &str, name: &str, separator: char| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(separator));
            line.unwrap_or("unknown").trim().trim_matches('"').to_owned()
        };
        let memory = field("/proc/meminfo", "MemTotal", ':');
        let memory = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            load: load.split(' ').nth(1).and_then(|load| load.parse().ok()).unwrap_or(0.0),
            cpu: field("/proc/cpuinfo", "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory.div_ceil(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            system: field("/etc/os-release", "PRETTY_NAME", '='),
            users: geteuid().is_root(),
        }
    }
}
