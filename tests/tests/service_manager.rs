//! What the daemons say to a service manager, each from inside its cage: this test is the manager, and no systemd runs.
//!
//! What systemd makes of it is in `box.rs`. The twins are daemons that have no manager, or a bad name for one: they run.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom_tests::prelude::*;
use strongroom_tests::programs;
use tempfile::TempDir;

/// A home with a vault, everything as the test's own user.
struct Installed {
    folder: TempDir,
}

impl Installed {
    fn new() -> Self {
        let installed = Self { folder: TempDir::new().unwrap() };
        std::fs::write(installed.path().join("passphrase"), "correct horse battery staple").unwrap();
        installed.must(&["init"]);
        std::fs::write(installed.path().join("config/gatewayd.toml"), "listen = [\"127.0.0.1:0\"]\n").unwrap();
        installed
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(programs::path(program));
        command.env_clear().env("STRONGROOM_HOME", self.path()).stdin(Stdio::null()).stderr(Stdio::null());
        command.env("STRONGROOM_PASSPHRASE_FILE", self.path().join("passphrase"));
        command
    }

    fn must(&self, arguments: &[&str]) {
        assert!(self.command("strongroom").args(arguments).status().unwrap().success(), "{arguments:?}");
    }

    fn status(&self) -> bool {
        self.command("strongroom").arg("status").stdout(Stdio::null()).status().unwrap().success()
    }
}

/// A daemon that ends with the test, and in the test where that is asked for.
struct Daemon(Child);

impl Daemon {
    fn end(mut self) {
        process::signal(self.0.id(), process::Signal::SIGTERM);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The manager's socket and its name.
struct Manager(UnixDatagram, String);

impl Manager {
    fn at_path(installed: &Installed, name: &str) -> Self {
        let path = installed.path().join(name);
        Self::bound(&SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap().to_owned())
    }

    fn abstract_one() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("strongroom-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self::bound(&SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}"))
    }

    fn bound(address: &SocketAddr, name: String) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(socket, name)
    }

    fn start(&self, installed: &Installed, program: &str) -> Daemon {
        let mut command = installed.command(program);
        Daemon(command.env("NOTIFY_SOCKET", &self.1).env("WATCHDOG_USEC", "400000").spawn().unwrap())
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("the daemon says something in time");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next word that is none of these.
    fn next_but(&self, passed: &str) -> String {
        loop {
            let word = self.next();
            if word != passed {
                return word;
            }
        }
    }

    /// What has been said and not been heard.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while self.0.recv(&mut buffer).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }

    /// Whether it says that it lives three times more.
    fn hears_a_pulse(&self) {
        self.forget();
        let mut beats = 0;
        while beats < 3 {
            beats += u32::from(self.next() == "WATCHDOG=1");
        }
    }
}

#[test]
fn keyd_says_that_it_is_ready_locked_unlocked_alive_and_at_its_end() {
    let installed = Installed::new();
    for manager in [Manager::at_path(&installed, "notify"), Manager::abstract_one()] {
        let keyd = manager.start(&installed, "strongroom-keyd");
        let ready = manager.next();
        assert!(ready.starts_with("READY=1\nSTATUS=The vault is locked"), "{ready}");
        manager.hears_a_pulse();
        installed.must(&["unlock"]);
        assert_eq!(manager.next_but("WATCHDOG=1"), "STATUS=The vault is unlocked.");
        installed.must(&["lock"]);
        assert!(manager.next_but("WATCHDOG=1").starts_with("STATUS=The vault is locked"));
        keyd.end();
        assert!(manager.next_but("WATCHDOG=1").starts_with("STOPPING=1\n"));
    }
}

#[test]
fn gatewayd_says_that_it_is_ready_alive_reloading_and_at_its_end() {
    let installed = Installed::new();
    for (round, manager) in [Manager::at_path(&installed, "notify"), Manager::abstract_one()].into_iter().enumerate() {
        let gatewayd = manager.start(&installed, "strongroom-gatewayd");
        assert_eq!(manager.next(), "READY=1\nSTATUS=keyd does not answer.");
        manager.hears_a_pulse();
        manager.forget();
        process::signal(gatewayd.0.id(), process::Signal::SIGHUP);
        let others = |word: &String| !word.starts_with("WATCHDOG") && !word.starts_with("STATUS");
        let next = || std::iter::repeat_with(|| manager.next()).find(others).unwrap();
        let reloading = next();
        let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a moment");
        assert!(since.parse::<u64>().unwrap() > 0, "{reloading}");
        assert!(next().starts_with("READY=1\n"));
        gatewayd.end();
        assert!(next().starts_with("STOPPING=1\n"), "{round}");
    }
}

#[test]
fn a_manager_that_is_absent_or_has_no_name_is_done_without() {
    let installed = Installed::new();
    for named in
        [None, Some(""), Some("nowhere"), Some("@strongroom-nobody"), Some("/nowhere/notify"), Some("/dev/null")]
    {
        let mut command = installed.command("strongroom-keyd");
        command.envs(named.map(|name| ("NOTIFY_SOCKET", name)));
        let keyd = Daemon(command.spawn().unwrap());
        within(Duration::from_secs(30), "keyd answers", || installed.status().then_some(()));
        keyd.end();
    }
}
