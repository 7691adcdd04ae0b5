//! The demo's own installation: a temporary home, the real programs in it, and their end.
//!
//! Everything is done by running `strongroom` as a user would. It refuses to leave anything behind: dropping the stage
//! takes the daemons down, by pid where they do not listen, and removes the directory. Called by `mod.rs`.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::error::DemoError;

/// Under which users daemons and agents run where root can choose: numbers that no distribution gives to anybody.
pub const KEYD_USER: u32 = 61_001;
/// gatewayd's.
pub const GATEWAY_USER: u32 = 61_002;
/// The agent's.
pub const AGENT_USER: u32 = 61_003;

/// A temporary installation.
#[derive(Debug)]
pub struct Stage {
    directory: TempDir,
    program: PathBuf,
    separate_users: bool,
    daemons: Option<Daemons>,
}

/// The daemons' processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daemons {
    /// keyd's pid.
    pub keyd: u32,
    /// gatewayd's pid.
    pub gatewayd: u32,
}

impl Stage {
    /// Makes the directory; with `separate_users` the daemons will have users of their own.
    ///
    /// # Errors
    /// The system's.
    pub fn set(separate_users: bool) -> Result<Self, DemoError> {
        let directory = tempfile::Builder::new()
            .prefix("strongroom-demo-")
            .tempdir()
            .map_err(DemoError::system("a temporary directory"))?;
        let mut stage = Self { program: own_program()?, directory, separate_users, daemons: None };
        let home = stage.home();
        fs::create_dir(&home).map_err(DemoError::file("making", &home))?;
        if separate_users {
            // Other users pass through on the way to what is theirs, and can list nothing.
            for path in [stage.directory.path(), &home] {
                fs::set_permissions(path, Permissions::from_mode(0o711))
                    .map_err(DemoError::file("opening up", path))?;
            }
            if !is_reachable_by_others(&stage.program) {
                stage.program = stage.bring_programs()?;
            }
        }
        let file = stage.passphrase_file();
        fs::write(&file, "a passphrase for the demo alone\n").map_err(DemoError::file("writing", &file))?;
        Ok(stage)
    }

    /// `STRONGROOM_HOME` of the installation.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The `strongroom` program that is used.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Writes a file beside the home.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, DemoError> {
        let path = self.directory.path().join(name);
        fs::write(&path, text).map_err(DemoError::file("writing", &path))?;
        Ok(path)
    }

    /// Runs `strongroom init`.
    ///
    /// # Errors
    /// As [`Stage::strongroom`].
    pub fn init(&self) -> Result<(), DemoError> {
        self.strongroom(&[&["init"], self.users()].concat(), b"").map(drop)
    }

    /// Runs `strongroom up` and remembers whom it started.
    ///
    /// # Errors
    /// As [`Stage::strongroom`].
    pub fn up(&mut self) -> Result<Daemons, DemoError> {
        self.strongroom(&[&["up"], self.users()].concat(), b"")?;
        let status = self.strongroom(&["status", "--json"], b"")?;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        let pid = |name: &str| status[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let (Some(keyd), Some(gatewayd)) = (pid("keyd"), pid("gatewayd")) else {
            return Err(DemoError::Command {
                command: "status --json".to_owned(),
                code: Some(0),
                stderr: status.to_string(),
            });
        };
        Ok(*self.daemons.insert(Daemons { keyd, gatewayd }))
    }

    /// Runs a `strongroom` command and gives its standard output.
    ///
    /// # Errors
    /// [`DemoError::Command`] where it fails, with what it said.
    pub fn strongroom(&self, arguments: &[&str], stdin: &[u8]) -> Result<String, DemoError> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("STRONGROOM_HOME", self.home())
            .env("STRONGROOM_PASSPHRASE_FILE", self.passphrase_file());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(DemoError::file("running", &self.program))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that wants no input may be gone before it could take any.
            let _ = pipe.write_all(stdin);
        }
        let output = child.wait_with_output().map_err(DemoError::file("waiting for", &self.program))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(DemoError::Command { command: arguments.join(" "), code: output.status.code(), stderr })
    }

    fn passphrase_file(&self) -> PathBuf {
        self.directory.path().join("passphrase")
    }

    fn users(&self) -> &'static [&'static str] {
        if self.separate_users { &["--keyd-user", "61001", "--gateway-user", "61002"] } else { &[] }
    }

    /// Copies the three programs to where every user can run them.
    fn bring_programs(&self) -> Result<PathBuf, DemoError> {
        let bin = self.directory.path().join("bin");
        fs::create_dir(&bin).map_err(DemoError::file("making", &bin))?;
        for name in PROGRAMS {
            let from = self.program.with_file_name(name);
            fs::copy(&from, bin.join(name)).map_err(DemoError::file("copying", &from))?;
        }
        fs::set_permissions(&bin, Permissions::from_mode(0o755)).map_err(DemoError::file("opening up", &bin))?;
        Ok(bin.join(PROGRAMS[0]))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Both before and after `up` was successful: it may have been interrupted in between.
        let taken_down = self.strongroom(&["down"], b"").is_ok();
        let Some(Daemons { keyd, gatewayd }) = self.daemons else { return };
        for pid in [gatewayd, keyd] {
            if !taken_down && is_our_daemon(pid) {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
    }
}

/// Whether every user can run this program where it lies.
#[must_use]
pub fn is_reachable_by_others(program: &Path) -> bool {
    program.ancestors().all(|path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0))
}

/// Whether this pid is still a daemon of ours, and not one that got its number afterwards.
fn is_our_daemon(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("strongroom-"))
}

fn own_program() -> Result<PathBuf, DemoError> {
    std::env::current_exe().map_err(DemoError::system("the path of this program"))
}

/// The programs, `strongroom` first.
pub const PROGRAMS: [&str; 3] = ["strongroom", "strongroom-keyd", "strongroom-gatewayd"];
