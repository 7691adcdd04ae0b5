//! A session bus with a keyring, in a home of its own, and the commands that ask them.
//!
//! The bus starts nothing by itself, so that a keyring is there where a test has started one and nowhere else. It refuses
//! to leave processes behind: bus and keyring end with it. Called by the tests beside it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use strongroom_tests::prelude::*;

/// A bus, what runs on it, and its home.
pub struct Desk {
    keyring: Option<Running>,
    _bus: Option<Running>,
    address: String,
    home: tempfile::TempDir,
}

/// A process that ends with the test.
struct Running(Child);

impl Desk {
    /// With a bus and an unlocked keyring.
    #[track_caller]
    pub fn new() -> Self {
        let mut desk = Self::without_keyring();
        desk.unlock();
        desk
    }

    /// With a bus alone.
    #[track_caller]
    pub fn without_keyring() -> Self {
        let mut desk = Self::without_bus();
        let configuration = desk.path("bus.conf");
        fs::write(&configuration, BUS.replace("ADDRESS", &desk.address)).expect("our own directory");
        let mut command = desk.command("dbus-daemon");
        command.args(["--nofork", "--nopidfile"]).arg(format!("--config-file={}", configuration.display()));
        desk._bus = Some(Running::start(&mut command, ""));
        within(PATIENCE, "the bus answers", || desk.bus_has("org.freedesktop.DBus").then_some(()));
        desk
    }

    /// With a home, and an address at which nothing listens.
    pub fn without_bus() -> Self {
        let home = tempfile::Builder::new().prefix("strongroom-desk-").tempdir().expect("a temporary directory");
        for folder in ["run", "data"] {
            fs::create_dir(home.path().join(folder)).expect("our own directory");
        }
        let address = format!("unix:path={}", home.path().join("bus").display());
        Self { keyring: None, _bus: None, address, home }
    }

    /// At another address.
    pub fn at(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Starts the keyring with a password, in place of the one that ran.
    #[track_caller]
    pub fn start_keyring(&mut self, password: &str) {
        self.keyring = None;
        within(PATIENCE, "the old keyring is gone", || (!self.bus_has(KEYRING)).then_some(()));
        let mut command = self.command("gnome-keyring-daemon");
        command.args(["--foreground", "--unlock", "--components=secrets"]);
        self.keyring = Some(Running::start(&mut command, password));
        within(PATIENCE, "the keyring is on the bus", || self.bus_has(KEYRING).then_some(()));
    }

    /// Starts the keyring with its own password, in place of the one that ran.
    #[track_caller]
    pub fn unlock(&mut self) {
        self.start_keyring(PASSWORD);
        let property = ["string:org.freedesktop.Secret.Collection", "string:Locked"];
        within(PATIENCE, "the keyring is unlocked", || {
            let answer = self.dbus(KEYRING, COLLECTION, "org.freedesktop.DBus.Properties.Get", &property);
            answer.contains("boolean false").then_some(())
        });
    }

    /// Locks the keyring.
    #[track_caller]
    pub fn lock(&self) {
        let locked = self.dbus(
            KEYRING,
            "/org/freedesktop/secrets",
            "org.freedesktop.Secret.Service.Lock",
            &[&format!("array:objpath:{COLLECTION}")],
        );
        assert!(locked.contains(COLLECTION), "{locked}");
    }

    /// A path in its home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A program, in this home and on this bus.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in ["DISPLAY", "WAYLAND_DISPLAY", "GNOME_KEYRING_CONTROL"] {
            command.env_remove(name);
        }
        command
            .current_dir("/")
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("data"));
        command
    }

    /// ctl's module, under test.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str], input: &str) -> Output {
        process::run(self.command(DRIVER).args(arguments), input.as_bytes())
    }

    /// The same in a session keyring of its own.
    #[track_caller]
    pub fn ask_in_a_session(&self, arguments: &[&str], input: &str) -> Output {
        process::run(self.command("keyctl").args(["session", "-", DRIVER]).args(arguments), input.as_bytes())
    }

    /// What another program finds, stores and clears.
    #[track_caller]
    pub fn secret_tool(&self, arguments: &[&str], input: &str) -> Output {
        process::run(self.command("secret-tool").args(arguments), input.as_bytes())
    }

    /// Lets every user reach what is in its home, as under /tmp.
    pub fn open_to_all(&self) {
        for (folder, mode) in [("", 0o755), ("run", 0o777)] {
            fs::set_permissions(self.path(folder), Permissions::from_mode(mode)).expect("our own directory");
        }
    }

    /// A copy of the driver where every user can run it.
    pub fn driver_for_all(&self) -> String {
        let copy = self.path("keychain");
        fs::copy(DRIVER, &copy).expect("it was built");
        copy.display().to_string()
    }

    /// What a command says to another user.
    #[track_caller]
    pub fn ask_as(&self, uid: u32, words: &[&str]) -> Output {
        let mut command = self.command("setpriv");
        command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups"]).args(words);
        process::run(&mut command, b"")
    }

    fn bus_has(&self, name: &str) -> bool {
        let name = format!("string:{name}");
        self.dbus("org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", &[&name]).contains("boolean true")
    }

    fn dbus(&self, service: &str, object: &str, method: &str, arguments: &[&str]) -> String {
        let mut command = self.command("dbus-send");
        command
            .args(["--session", "--print-reply=literal", &format!("--dest={service}"), object, method])
            .args(arguments);
        process::run(&mut command, b"").stdout
    }
}

impl Running {
    #[track_caller]
    fn start(command: &mut Command, input: &str) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it as root"));
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads its password");
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A name for a vault that no other test has.
pub fn vault() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::SeqCst);
    format!("/home/somebody/strongroom-test-{}-{next}/vault", std::process::id())
}

/// A key that no other test has, as the driver takes it.
pub fn key() -> String {
    let mut bytes = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes of a vault's item, as secret-tool takes them.
pub fn of(vault: &str) -> [&str; 4] {
    ["service", "strongroom", "username", vault]
}

/// All three, refused with this exit code and these words, before anybody could have answered a prompt.
#[track_caller]
pub fn all_fail(desk: &Desk, store: &str, vault: &str, code: i32, words: &str) {
    for (command, input) in [("get", String::new()), ("set", key()), ("delete", String::new())] {
        let start = Instant::now();
        let refused = desk.ask(&[command, store, vault], &input);
        assert!(refused.assert_code(code).stderr.contains(words), "{refused:?}");
        assert!(refused.stderr.contains(". "), "what happened, then what to do: {refused:?}");
        assert!(refused.stdout.is_empty() && start.elapsed() < Duration::from_secs(30), "{refused:?}");
    }
}

/// The name of the keyring on the bus.
const KEYRING: &str = "org.freedesktop.secrets";
/// What the login's password opens.
const COLLECTION: &str = "/org/freedesktop/secrets/collection/login";
/// The password that the keyring was first started with.
const PASSWORD: &str = "a password";
/// Asks by ctl's own module.
pub const DRIVER: &str = env!("CARGO_BIN_EXE_keychain");
/// A user who owns nothing here.
pub const STRANGER: u32 = 61_234;
/// A bus and a keyring start in a tenth of a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A bus that starts no service.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>ADDRESS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#;
