//! The package on a machine: installed, used, upgraded under a running request, downgraded, removed and purged.
//!
//! The machine is `tests/systemd-box`. The test starts itself inside it: the outer half makes the packages and boots, the
//! inner one is the story. `BOXED` says which is which.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use strongroom_tests::agent::Way;
use strongroom_tests::prelude::*;

use super::{must, package};

const BOXED: &str = "STRONGROOM_TEST_IN_A_BOX";
const NAME: &str = "in_a_box::the_package_is_installed_used_upgraded_and_purged";

#[test]
#[ignore = "needs root: boots a systemd of its own and installs packages in it"]
fn the_package_is_installed_used_upgraded_and_purged() {
    if let Some(packages) = std::env::var_os(BOXED) {
        return inside(Path::new(&packages));
    }
    let folder = tempfile::Builder::new().prefix("sr-packages-").tempdir().expect("a temporary directory");
    package(&folder.path().join("old"), None);
    package(&folder.path().join("new"), Some("9.0.0-1"));
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd-box"));
    command.args(["--journal", "--timeout", "400"]).arg(std::env::current_exe().expect("a path"));
    command.args([NAME, "--exact", "--include-ignored", "--nocapture"]);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env(BOXED, folder.path());
    let output = command.output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// The one package in a folder.
fn only(folder: PathBuf) -> PathBuf {
    let mut entries = fs::read_dir(folder).expect("packages were made");
    entries.next().expect("one package").expect("an entry").path()
}

fn dpkg(arguments: &[&str]) -> String {
    // The box is gone before its files could need to be on a disk.
    must(Command::new("dpkg").arg("--force-unsafe-io").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().expect("systemctl");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn ctl(arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut command = Command::new("/usr/bin/strongroom");
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("STRONGROOM_PASSPHRASE_FILE", "/run/passphrase");
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the package's program");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[track_caller]
fn must_ctl(arguments: &[&str], input: &[u8]) -> String {
    ctl(arguments, input).assert_code(0).stdout.clone()
}

/// Every file of the machine that a package could have left, and its users.
fn traces() -> Vec<String> {
    let mut command = Command::new("find");
    command.args(["/etc", "/usr", "/var", "/run", "/lib/systemd", "-xdev"]);
    // What dpkg, man and systemd keep of their own accord.
    for place in [
        "/var/lib/dpkg",
        "/var/log",
        "/var/cache",
        "/run/systemd",
        "/run/log",
        "/run/lock",
        "/run/udev",
        "/var/tmp",
        "/var/lib/systemd/credential.secret",
    ] {
        command.args(["-path", place, "-prune", "-o"]);
    }
    command.args(["-printf", "%y %p\n"]);
    let mut lines: Vec<String> = must(&mut command).lines().map(str::to_owned).collect();
    // The copies that tools keep of user databases before they change them.
    lines.retain(|line| {
        !["passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock"].iter().any(|end| line.ends_with(end))
    });
    for database in ["/etc/passwd", "/etc/group"] {
        lines.extend(fs::read_to_string(database).expect("users").lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

fn new_in(before: &[String]) -> Vec<String> {
    traces().into_iter().filter(|line| before.binary_search(line).is_err()).collect()
}

fn inside(packages: &Path) {
    let (old, new) = (only(packages.join("old")), only(packages.join("new")));
    let (old, new) = (old.to_str().expect("a plain path"), new.to_str().expect("a plain path"));
    // Images for containers have a policy that nothing is started.
    let _ = fs::remove_file("/usr/sbin/policy-rc.d");
    // The index of all manual pages is made anew with each package, and takes most of the time.
    let _ = fs::remove_file("/var/lib/man-db/auto-update");
    fs::write("/run/passphrase", "correct horse battery staple").expect("a box of our own");
    let before = traces();

    never_used(old, &before);
    let (upstream, root, release) = slow_upstream();
    let placeholder = installed(old, &upstream, &root);
    let ask = |target: &str| Request::new(agent_sock(), "GET", target).bearer(&placeholder);
    assert_eq!(ask("/openai/quick").send().text(), "quick");
    upgraded_under_a_request(new, &ask, &upstream, &release);
    // Back to the version before: files, daemons and the vault go on.
    dpkg(&["-i", "--force-downgrade", old]);
    assert!(dpkg(&["-s", "strongroom"]).contains("Version: 0."));
    must_ctl(&["unlock"], b"");
    assert_eq!(ask("/openai/quick").send().text(), "quick");
    must_ctl(&["audit", "verify"], b"");
    removed_and_purged(&before);
}

fn agent_sock() -> Way {
    Way::Unix("/run/strongroom/agent.sock".into())
}

/// Installed and purged without ever having had a vault.
fn never_used(package: &str, before: &[String]) {
    dpkg(&["-i", package]);
    assert!(!new_in(before).is_empty());
    dpkg(&["--purge", "strongroom"]);
    assert_eq!(new_in(before), Vec::<String>::new(), "a purge without a vault leaves nothing");
}

/// An upstream that answers `/slow` when it is told to, and everything else at once.
fn slow_upstream() -> (Upstream, Root, mpsc::Sender<()>) {
    let root = Root::new("The tests' root").expect("a certificate");
    let (release, released) = mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let upstream =
        Upstream::start(root.server(strongroom_tests::scene::HOST).expect("a certificate"), move |exchange| {
            if exchange.head().target() != "/slow" {
                return exchange.respond("200 OK", &[], b"quick");
            }
            let waited = released.lock().expect("one at a time").recv_timeout(Duration::from_secs(25));
            exchange.respond("200 OK", &[], if waited.is_ok() { b"slow" } else { b"late" })
        });
    (upstream.expect("a port"), root, release)
}

/// Users, sockets, daemons by socket, `init`, `unlock`, `status`; gives an agent's placeholder.
fn installed(package: &str, upstream: &Upstream, root: &Root) -> String {
    dpkg(&["-i", package]);
    for socket in ["strongroom-keyd.socket", "strongroom-admin.socket", "strongroom-gateway.socket"] {
        assert_eq!(systemctl(&["is-active", socket]), "active", "{socket}");
        assert_eq!(systemctl(&["is-enabled", socket]), "enabled", "{socket}");
    }
    assert_eq!(systemctl(&["is-active", "strongroom-keyd.service"]), "inactive", "nobody has asked yet");
    let status = ctl(&["status", "--json"], b"");
    assert_eq!(status.json()["state"], "uninitialised", "{status:?}");
    assert_eq!(systemctl(&["is-active", "strongroom-keyd.service"]), "active", "the socket has started it");

    must_ctl(&["init"], b"");
    must_ctl(&["unlock"], b"");
    let status = within(Duration::from_secs(20), "both daemons", || {
        Some(ctl(&["status", "--json"], b"").json()).filter(|status| status["gatewayd"]["pid"].is_u64())
    });
    assert_eq!(status["state"], "unlocked", "{status}");
    for (daemon, user) in [("keyd", "strongroom-keyd"), ("gatewayd", "strongroom-gateway")] {
        let pid = status[daemon]["pid"].as_u64().expect("a number");
        assert_eq!(must(Command::new("stat").args(["-c", "%U", &format!("/proc/{pid}")])).trim(), user);
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
        assert!(group.contains(&format!("strongroom-{daemon}.service")), "{group}");
    }
    let owner = must(Command::new("stat").args(["-c", "%U %a", "/var/lib/strongroom", "/var/lib/strongroom/vault"]));
    assert_eq!(owner, "strongroom-keyd 700\nstrongroom-keyd 600\n");

    let host = strongroom_tests::scene::HOST;
    let resolve = format!("listen = [\"127.0.0.1:0\"]\n[resolve]\n\"{host}\" = \"{}\"\n", upstream.address());
    fs::write("/etc/strongroom/gatewayd.toml", resolve).expect("init made the directory");
    fs::write("/run/root.pem", root.pem()).expect("a box of our own");
    assert_eq!(systemctl(&["restart", "strongroom-gatewayd.service"]), "");
    let add = ["credential", "add", "openai", "--host", host, "--bearer", "--ca", "/run/root.pem"];
    must_ctl(&add, b"sk-test-0123456789abcdefghijklmnop");
    must_ctl(&["agent", "add", "worker"], b"");
    must_ctl(&["grant", "add", "openai", "--agent", "worker"], b"").trim().to_owned()
}

/// Nothing is lost that can be kept: what runs ends well, what comes meanwhile waits, the sockets are the same.
fn upgraded_under_a_request(
    package: &str,
    ask: &(dyn Fn(&str) -> Request + Sync),
    upstream: &Upstream,
    release: &mpsc::Sender<()>,
) {
    let since = || systemctl(&["show", "-P", "ActiveEnterTimestampMonotonic", "strongroom-gateway.socket"]);
    let inode = || must(Command::new("stat").args(["-c", "%i", "/run/strongroom/agent.sock"]));
    let journal = || must(Command::new("journalctl").args(["-q", "-o", "cat", "-u", "strongroom-gatewayd.service"]));
    let stops = || journal().lines().filter(|line| line.starts_with("stopping")).count();
    let (active, file, stopped) = (since(), inode(), stops());
    let keyd = systemctl(&["show", "-P", "MainPID", "strongroom-keyd.service"]);
    let seen = upstream.count();
    thread::scope(|scope| {
        let running = scope.spawn(|| ask("/openai/slow").send());
        within(Duration::from_secs(20), "the request at the upstream", || (upstream.count() > seen).then_some(()));
        let upgrade = scope.spawn(|| dpkg(&["-i", package]));
        within(Duration::from_secs(60), "the gateway takes no more connections", || (stops() > stopped).then_some(()));
        let waiting = scope.spawn(|| ask("/openai/quick").send());
        release.send(()).expect("the upstream waits");
        let answer = running.join().expect("an answer");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "slow"), "the request in flight ended well");
        let said = upgrade.join().expect("dpkg ends");
        assert!(said.contains("strongroom unlock"), "{said}");
        // It was not turned away at the socket; the new gateway answers, perhaps before it has spoken with the new keyd.
        let answer = waiting.join().expect("an answer");
        let refusal = answer.refusal().unwrap_or_default();
        assert!(
            ["vault_locked", "keyd_unavailable"].contains(&refusal.as_str()) && answer.status() == 503,
            "{answer:?}"
        );
    });
    assert_eq!((since(), inode()), (active, file), "the socket is the same one");
    assert_ne!(systemctl(&["show", "-P", "MainPID", "strongroom-keyd.service"]), keyd, "keyd is the new one");
    assert_eq!(ctl(&["status", "--json"], b"").json()["state"], "locked");
    must_ctl(&["unlock"], b"");
    assert_eq!(ask("/openai/quick").send().text(), "quick");
}

/// A removal stops everything and keeps configuration and vault; a purge keeps the vault, says so, and how to delete it.
fn removed_and_purged(before: &[String]) {
    systemctl(&["enable", "strongroom-suspend.service"]);
    assert_eq!(systemctl(&["is-enabled", "strongroom-suspend.service"]), "enabled");
    must_ctl(&["slot", "add", "credential"], b"");
    dpkg(&["-r", "strongroom"]);
    for unit in ["strongroom-keyd.service", "strongroom-gatewayd.service", "strongroom-gateway.socket"] {
        assert_ne!(systemctl(&["is-active", unit]), "active", "{unit}");
    }
    assert!(!Path::new("/usr/bin/strongroom").exists());
    assert!(Path::new("/etc/strongroom/keyd.toml").exists() && Path::new("/var/lib/strongroom/vault").exists());
    let said = dpkg(&["--purge", "strongroom"]);
    assert!(said.contains("/var/lib/strongroom") && said.contains("/etc/credstore.encrypted/vault-key"), "{said}");
    assert!(Path::new("/var/lib/strongroom/vault").exists(), "a purge is no reason to lose keys");
    let left = new_in(before);
    let is_told = |line: &String| {
        ["/var/lib/strongroom", "/etc/credstore.encrypted"].iter().any(|path| line.contains(path))
            || line.starts_with("strongroom-")
    };
    let untold: Vec<_> = left
        .iter()
        .filter(|line| !is_told(line) && *line != "f /run/passphrase" && *line != "f /run/root.pem")
        .collect();
    assert_eq!(untold, Vec::<&String>::new(), "what is left is what was said");
    // What it says to do, done.
    let how = said.lines().find_map(|line| line.split_once("for good: ")).expect("how to delete the keys").1;
    must(Command::new("sh").args(["-c", how]));
    // The directory is systemd's.
    let is_others = |line: &String| line.starts_with("f /run/") || line == "d /etc/credstore.encrypted";
    let left: Vec<_> = new_in(before).into_iter().filter(|line| !is_others(line)).collect();
    assert_eq!(left, Vec::<String>::new());
}
