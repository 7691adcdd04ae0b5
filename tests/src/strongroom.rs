//! A Strongroom of a test's own: a temporary home, the real programs, and `strongroom` commands on it.
//!
//! Dropping it ends the daemons by pid, and shows their logs where the test failed; where it did not, it fails if a secret
//! of the test's lies in any file of the home. It refuses to start without a port that is free. Tests reach most of it
//! through [`crate::scene::Scene`].

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::geteuid;
use ring::rand::{SecureRandom, SystemRandom};
use strongroom_ctl::demo::stage::{GATEWAY_USER, KEYD_USER};
use strongroom_protocol::home::Home;
use tempfile::TempDir;

use crate::agent::{Request, Way};
use crate::disk;
use crate::process;
use crate::programs;
use crate::secrets::Secrets;

/// How a Strongroom is to be.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    resolve: Vec<(String, SocketAddr)>,
    limits: Vec<String>,
    timeouts: Vec<String>,
    tables: String,
    programs: Option<PathBuf>,
    disk: Option<&'static str>,
    descriptors: Option<u32>,
    log_level: Option<&'static str>,
}

/// A home with its daemons.
#[derive(Debug)]
pub struct Strongroom {
    directory: TempDir,
    home: Home,
    port: u16,
    programs: Option<PathBuf>,
    descriptors: Option<u32>,
    daemons: Mutex<Vec<u32>>,
    secrets: Mutex<Secrets>,
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit code, and that a failure says why on standard error alone.
    ///
    /// # Panics
    /// Where it is another one.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        if code != 0 {
            assert!(!self.stderr.trim().is_empty(), "a failure without words: {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

impl Builder {
    /// This name is dialled there.
    #[must_use]
    pub fn resolving(mut self, host: &str, address: SocketAddr) -> Self {
        self.resolve.push((host.to_owned(), address));
        self
    }

    /// A line of gatewayd's `[limits]`.
    #[must_use]
    pub fn limit(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }

    /// A line of gatewayd's `[timeouts]`.
    #[must_use]
    pub fn timeout(mut self, line: &str) -> Self {
        self.timeouts.push(line.to_owned());
        self
    }

    /// More of gatewayd.toml: whole tables, at its end.
    #[must_use]
    pub fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self
    }

    /// Takes the programs from this directory, where one of them is not the usual one.
    #[must_use]
    pub fn programs(mut self, directory: &Path) -> Self {
        self.programs = Some(directory.to_owned());
        self
    }

    /// The home, logs and all, lies on a disk of its own, of this size (as tmpfs takes it). For root. The disk is in a
    /// mount namespace of the calling thread and of what it starts, and ends with them.
    #[must_use]
    pub fn on_a_disk_of(mut self, size: &'static str) -> Self {
        self.disk = Some(size);
        self
    }

    /// The daemons may have so many descriptors each.
    #[must_use]
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Both daemons log from this level on.
    #[must_use]
    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = Some(level);
        self
    }

    /// An empty home: not even `init` was run.
    ///
    /// # Panics
    /// Where the system gives no directory or port.
    #[track_caller]
    #[must_use]
    pub fn empty(self) -> Strongroom {
        let directory = tempfile::Builder::new().prefix("sr-").tempdir().expect("a temporary directory");
        if geteuid().is_root() {
            // The daemons' users pass through; what lies below has modes of its own.
            fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).expect("our own directory");
        }
        let root = directory.path().join("h");
        fs::create_dir(&root).expect("our own directory");
        fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("our own directory");
        if let Some(size) = self.disk {
            disk::mount(&root, size);
        }
        fs::write(directory.path().join("passphrase"), format!("{PASSPHRASE}\n")).expect("our own directory");
        let Self { programs, descriptors, .. } = self;
        let (home, port, daemons) = (Home::under(&root), free_port(), Mutex::default());
        let mut secrets = Secrets::default();
        secrets.know("the passphrase", PASSPHRASE.as_bytes());
        let secrets = Mutex::new(secrets);
        Strongroom { directory, home, port, programs, descriptors, daemons, secrets }
    }

    /// After `init`; the daemons are not up.
    ///
    /// # Panics
    /// Where `init` fails.
    #[track_caller]
    #[must_use]
    pub fn created(self) -> Strongroom {
        let config = self.gatewayd_toml();
        let level = self.log_level.map(|level| format!("log-level = \"{level}\"\n")).unwrap_or_default();
        let strongroom = self.empty();
        strongroom.must(&[&["init"], strongroom.users()].concat());
        let text = format!("listen = [\"127.0.0.1:{}\"]\n{level}{config}", strongroom.port);
        fs::write(strongroom.home.gatewayd_config(), text).expect("init made the directory");
        let keyd_config = strongroom.home.keyd_config();
        let text = fs::read_to_string(&keyd_config).expect("init made it");
        fs::write(keyd_config, level + &text).expect("init made it");
        strongroom
    }

    /// After `up`; the vault is locked.
    ///
    /// # Panics
    /// Where `up` fails.
    #[track_caller]
    #[must_use]
    pub fn locked(self) -> Strongroom {
        let strongroom = self.created();
        strongroom.up();
        strongroom
    }

    /// Ready for use.
    ///
    /// # Panics
    /// Where a step fails.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Strongroom {
        let strongroom = self.locked();
        strongroom.must(&["unlock"]);
        strongroom
    }

    fn gatewayd_toml(&self) -> String {
        let mut text = String::from("\n[resolve]\n");
        for (host, address) in &self.resolve {
            text.push_str(&format!("\"{host}\" = \"{address}\"\n"));
        }
        let (limits, timeouts) = (self.limits.join("\n"), self.timeouts.join("\n"));
        format!("{text}\n[limits]\n{limits}\n\n[timeouts]\n{timeouts}\n{}", self.tables)
    }
}

impl Strongroom {
    /// One with every default.
    #[allow(clippy::new_ret_no_self, reason = "the sentence begins here: Strongroom::new().resolving(..).start()")]
    #[must_use]
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Its directories.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// `STRONGROOM_HOME`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("h")
    }

    /// Where agents find the base URL.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The ways in.
    #[must_use]
    pub fn ways(&self) -> [Way; 2] {
        [Way::Tcp(self.address()), Way::Unix(self.home.agent_socket())]
    }

    /// A request over TCP.
    #[must_use]
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(Way::Tcp(self.address()), method, target)
    }

    /// Writes a file beside the home, readable by all.
    ///
    /// # Panics
    /// Where the system refuses.
    #[track_caller]
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).expect("our own directory");
        path
    }

    /// The file with the passphrase.
    #[must_use]
    pub fn passphrase_file(&self) -> PathBuf {
        self.directory.path().join("passphrase")
    }

    /// A `strongroom` command on this home, with the passphrase at hand; the environment holds nothing else.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.as_it_is(Command::new(self.program()), arguments)
    }

    fn program(&self) -> PathBuf {
        self.programs.as_ref().map_or_else(|| programs::path("strongroom"), |directory| directory.join("strongroom"))
    }

    fn as_it_is(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).env_clear().env("STRONGROOM_HOME", self.root());
        command.env("STRONGROOM_PASSPHRASE_FILE", self.passphrase_file());
        command
    }

    /// Runs a command, with nothing on its standard input.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_with(arguments, b"")
    }

    /// Runs a command with this on its standard input.
    #[track_caller]
    pub fn ctl_with(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        let output = process::run(&mut self.command(arguments), stdin);
        self.secrets().know_of(arguments, stdin, &output.stdout);
        output
    }

    /// What must be in no file of this home.
    pub fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command that must succeed; gives its standard output.
    #[track_caller]
    pub fn must(&self, arguments: &[&str]) -> String {
        self.must_with(arguments, b"")
    }

    /// As [`Strongroom::must`], with standard input.
    #[track_caller]
    pub fn must_with(&self, arguments: &[&str], stdin: &[u8]) -> String {
        let output = self.ctl_with(arguments, stdin);
        assert_eq!(output.code, Some(0), "strongroom {arguments:?}: {output:?}");
        output.stdout
    }

    /// The options by which `init` and `up` separate the users, as root.
    #[must_use]
    pub fn users(&self) -> &'static [&'static str] {
        debug_assert_eq!((KEYD_USER, GATEWAY_USER), (61_001, 61_002));
        if geteuid().is_root() { &["--keyd-user", "61001", "--gateway-user", "61002"] } else { &[] }
    }

    /// Runs `up` and remembers whom it started.
    #[track_caller]
    pub fn up(&self) {
        let arguments = [&["up"], self.users()].concat();
        let output = match self.descriptors {
            None => self.ctl(&arguments),
            Some(most) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--nofile={most}:{most}")).arg(self.program());
                process::run(&mut self.as_it_is(limited, &arguments), b"")
            }
        };
        output.assert_code(0);
        let (keyd, gatewayd) = (self.keyd(), self.gatewayd());
        self.daemons.lock().expect("no panic holds it").extend([keyd, gatewayd]);
    }

    /// keyd's pid.
    #[track_caller]
    #[must_use]
    pub fn keyd(&self) -> u32 {
        self.pid("keyd")
    }

    /// gatewayd's pid.
    #[track_caller]
    #[must_use]
    pub fn gatewayd(&self) -> u32 {
        self.pid("gatewayd")
    }

    /// What `status --json` says.
    #[track_caller]
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        self.ctl(&["status", "--json"]).json()
    }

    /// All audit records.
    #[track_caller]
    #[must_use]
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = self.must(&["audit", "--json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The logs of both daemons.
    #[must_use]
    pub fn logs(&self) -> String {
        let Some(directory) = &self.home.log else { return String::new() };
        let read = |name: &str| format!("--- {name}\n{}", fs::read_to_string(directory.join(name)).unwrap_or_default());
        read("keyd.log") + &read("gatewayd.log")
    }

    #[track_caller]
    fn pid(&self, name: &str) -> u32 {
        let status = self.status();
        let pid = status[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.unwrap_or_else(|| panic!("no pid of {name} in {status}"))
    }
}

impl Drop for Strongroom {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let mut pids = std::mem::take(&mut *self.daemons.lock().unwrap_or_else(PoisonError::into_inner));
        // A test may have started others by itself.
        if self.home.admin_socket().exists() {
            let output = process::run(&mut self.command(&["status", "--json"]), b"");
            let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap_or_default();
            let found =
                ["gatewayd", "keyd"].map(|name| status[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()));
            pids.extend(found.into_iter().flatten());
        }
        pids.into_iter().for_each(process::end);
        if !std::thread::panicking() {
            let found = self.secrets().found_below(&self.root());
            assert!(found.is_empty(), "secrets of this test lie in its home: {found:?}");
        }
    }
}

/// A fresh key that no scrubber and no compressor can guess: letters and digits.
#[must_use]
pub fn random_key(prefix: &str) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0; 40];
    SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
    let text = bytes.iter().map(|&byte| char::from(alphabet[usize::from(byte) % alphabet.len()]));
    prefix.chars().chain(text).collect()
}

/// Whether a path is inside any of these directories; for tests that walk a home.
#[must_use]
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    strongroom_ctl::demo::report::files_below(directory).expect("a home can be listed")
}

/// A port below those that the kernel gives to clients: nobody takes it while gatewayd is restarted.
fn free_port() -> u16 {
    let mut bytes = [0; 2];
    loop {
        SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
        let port = 10_240 + u16::from_le_bytes(bytes) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The passphrase of every test's vault.
pub const PASSPHRASE: &str = "correct horse battery staple";
