//! The real daemons in a home of their own, set up by the commands that a user would give.
//!
//! It refuses to tune them: they run with their defaults, but for a rate that lets the load
//! through and limits that were asked for. Dropping it takes
//! them down. Called by `stage`.

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use strongroom_ctl::demo::stage::{PROGRAMS, is_reachable_by_others};
use strongroom_protocol::home::Home;

use super::{Setting, Subject, SubjectKind, plain, tls};
use crate::error::{BenchError, Outcome, While};
use crate::load::Target;
use crate::upstream::HOST;

/// The installation.
pub struct Strongroom {
    program: PathBuf,
    home: PathBuf,
    passphrase: PathBuf,
    port: u16,
    placeholder: String,
    start_up: Duration,
}

impl Strongroom {
    /// Makes the home, starts the daemons, unlocks, adds credential, agent and grant.
    pub fn start(setting: &Setting) -> Outcome<Self> {
        let mut strongroom = Self {
            program: programs(setting)?.join(PROGRAMS[0]),
            home: setting.directory.join("home"),
            passphrase: setting.directory.join("passphrase"),
            port: 0,
            placeholder: String::new(),
            start_up: Duration::ZERO,
        };
        fs::create_dir(&strongroom.home).during("the home")?;
        fs::set_permissions(&strongroom.home, Permissions::from_mode(0o711)).during("the home")?;
        fs::write(&strongroom.passphrase, "a passphrase for the benchmark alone\n").during("the passphrase")?;
        strongroom.run(&[&["init"], users()].concat(), b"")?;
        strongroom.port =
            TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).during("a port")?.port();
        let config = format!(
            "listen = [\"127.0.0.1:{}\"]\n[resolve]\n\"{HOST}\" = \"127.0.0.1:{}\"\n[limits]\n{}\n",
            strongroom.port, setting.upstream, setting.limits
        );
        fs::write(Home::under(&strongroom.home).gatewayd_config(), config).during("gatewayd's configuration")?;
        strongroom.start_up = strongroom.up()?;
        strongroom.run(&["unlock"], b"")?;
        let root = setting.root.to_string_lossy();
        let credential = ["credential", "add", NAME, "--host", HOST, "--bearer", "--ca", &root];
        strongroom.run(&credential, setting.key.as_bytes())?;
        strongroom.run(&["agent", "add", NAME], b"")?;
        let rate = ["--rate", "100000000/hour", "--burst", "1000000"];
        let placeholder = strongroom.run(&[&["grant", "add", NAME, "--agent", NAME][..], &rate].concat(), b"")?;
        placeholder.trim().clone_into(&mut strongroom.placeholder);
        Ok(strongroom)
    }

    /// One of the ways in.
    ///
    /// # Errors
    /// Where a command fails.
    pub fn subject(&self, kind: SubjectKind) -> Outcome<Subject> {
        let base = plain(self.port, &format!("/{NAME}"), &self.placeholder);
        let is_http2 = kind == SubjectKind::ConnectHttp2;
        let target = if kind == SubjectKind::Strongroom {
            base
        } else {
            let ca = self.run(&["ca", "show"], b"")?;
            let alpn: &[&[u8]] = if is_http2 { &[b"h2"] } else { &[b"http/1.1"] };
            let (through, tls) = (Some(format!("{HOST}:443")), Some(tls(ca.as_bytes(), alpn)?));
            Target { tls, through, is_http2, host: HOST.to_owned(), prefix: String::new(), ..base }
        };
        Ok(Subject::new(kind, target, self.processes()?, self.start_up))
    }

    /// Stops and starts the daemons, and gives how long the start took.
    ///
    /// # Errors
    /// Where a command fails.
    pub fn start_again(&self) -> Outcome<Duration> {
        self.run(&["down"], b"")?;
        self.up()
    }

    fn up(&self) -> Outcome<Duration> {
        let began = Instant::now();
        self.run(&[&["up"], users()].concat(), b"")?;
        Ok(began.elapsed())
    }

    fn processes(&self) -> Outcome<Vec<(&'static str, u32)>> {
        let status = self.run(&["status", "--json"], b"")?;
        let status: serde_json::Value = serde_json::from_str(&status).during("strongroom status")?;
        ["keyd", "gatewayd"]
            .into_iter()
            .map(|name| {
                let pid = status[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
                pid.map(|pid| (name, pid)).ok_or_else(|| BenchError::new(format!("no pid of {name} in {status}")))
            })
            .collect()
    }

    /// Runs a command and gives its standard output.
    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Outcome<String> {
        let what = format!("strongroom {}", arguments.join(" "));
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("STRONGROOM_HOME", &self.home);
        command.env("STRONGROOM_PASSPHRASE_FILE", &self.passphrase);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().during(&what)?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that wants no input may be gone before it could take any.
            let _ = pipe.write_all(stdin);
        }
        let output = child.wait_with_output().during(&what)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(BenchError::new(format!("{what}: {}", String::from_utf8_lossy(&output.stderr))))
    }
}

impl Drop for Strongroom {
    fn drop(&mut self) {
        // Where they are down already there is nothing to take down.
        let _ = self.run(&["down"], b"");
    }
}

fn users() -> &'static [&'static str] {
    if geteuid().is_root() { &["--keyd-user", "61001", "--gateway-user", "61002"] } else { &[] }
}

/// The directory of the programs; a copy of it where the daemons' users could not reach them.
fn programs(setting: &Setting) -> Outcome<PathBuf> {
    let built = &setting.programs;
    if let Some(missing) = PROGRAMS.iter().find(|name| !built.join(name).is_file()) {
        return Err(BenchError::new(format!("{missing} is not in {}. Run 'make bench'.", built.display())));
    }
    if !geteuid().is_root() || PROGRAMS.iter().all(|name| is_reachable_by_others(&built.join(name))) {
        return Ok(built.clone());
    }
    let bin: &Path = &setting.directory.join("bin");
    fs::create_dir(bin).during("a directory for the programs")?;
    for name in PROGRAMS {
        fs::copy(built.join(name), bin.join(name)).during(name)?;
    }
    fs::set_permissions(bin, Permissions::from_mode(0o755)).during("a directory for the programs")?;
    Ok(bin.to_owned())
}

/// Of credential, route and agent.
const NAME: &str = "bench";
