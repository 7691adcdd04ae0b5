//! The units that are shipped, read by systemd's own tools: they parse, and they hold what they are to hold.
//!
//! No systemd runs for it. The scores are `systemd-analyze security`'s, in tenths: a line that is lost shows here before
//! it shows to an attacker; what the lines do is tried in `box.rs`. It refuses warnings as well as errors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

fn units(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut units: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    units.sort();
    units
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Copies of the units in a root where their programs are, beside systemd's own units.
fn stage(kind: &str, sources: &[PathBuf]) -> (TempDir, Vec<PathBuf>) {
    let root = TempDir::new().unwrap();
    let folder = root.path().join(format!("usr/lib/systemd/{kind}"));
    fs::create_dir_all(&folder).unwrap();
    for own in fs::read_dir(format!("/usr/lib/systemd/{kind}")).expect("systemd is installed") {
        let own = own.unwrap();
        // Copies, for some kinds may not be links; what links lead to nowhere, or are folders, is not needed.
        if own.path().is_file() {
            fs::copy(own.path(), folder.join(own.file_name())).unwrap();
        }
    }
    for program in PROGRAMS {
        let path = root.path().join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let copy = |source: &PathBuf| {
        let mut text = fs::read_to_string(source).unwrap();
        if kind == "user" {
            // For users' units there is no --root.
            for program in PROGRAMS {
                text = text.replace(&format!("=/{program}"), &format!("={}/{program}", root.path().display()));
            }
        }
        let copy = folder.join(source.file_name().unwrap());
        fs::write(&copy, text).unwrap();
        copy
    };
    let staged = sources.iter().map(copy).collect();
    (root, staged)
}

fn verify(kind: &str, sources: &[PathBuf]) -> Output {
    let (root, staged) = stage(kind, sources);
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]);
    if kind == "user" {
        command.arg("--user").env("XDG_RUNTIME_DIR", root.path());
    } else {
        command.arg(format!("--root={}", root.path().display()));
    }
    for path in staged {
        let path = if kind == "user" { path } else { Path::new("/").join(path.strip_prefix(root.path()).unwrap()) };
        // A template is looked at as one of its instances.
        command.arg(path.to_str().unwrap().replace("@.service", "@coder.service"));
    }
    command.output().expect("systemd is installed")
}

/// What the units start.
const PROGRAMS: [&str; 4] = [
    "usr/lib/strongroom/strongroom-keyd",
    "usr/lib/strongroom/strongroom-gatewayd",
    "usr/bin/strongroom",
    "usr/bin/kill",
];

#[test]
fn the_daemons_units_keep_their_scores() {
    for (unit, threshold, low) in [("keyd", 5, 3), ("gatewayd", 14, 11)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../systemd/strongroom-{unit}.service"));
        let security = |threshold: i32| {
            let mut command = Command::new("systemd-analyze");
            command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={threshold}")]);
            command.arg(&path).output().expect("systemd is installed")
        };
        let output = security(threshold);
        assert!(output.status.success(), "{unit}: {}", words(&output));
        // The same question with an answer that cannot be.
        assert!(!security(low).status.success(), "{unit} is better than it can be: the score was not computed");
    }
}

#[test]
fn every_unit_is_understood_to_the_last_word() {
    for (kind, folder) in [("system", "systemd"), ("user", "systemd/user")] {
        let sources = units(folder);
        assert!(sources.len() >= 6, "{sources:?}");
        let output = verify(kind, &sources);
        assert!(output.status.success() && words(&output).trim().is_empty(), "{kind}: {}", words(&output));
    }
}

#[test]
fn a_unit_with_a_mistake_is_found_out() {
    for (kind, folder) in [("system", "systemd"), ("user", "systemd/user")] {
        let folder = TempDir::with_prefix(folder.replace('/', "-")).unwrap();
        let path = folder.path().join("strongroom-mistake.service");
        for (text, found) in [
            ("[Service]\nExecStart=/usr/bin/strongroom\nNoNewPriviliges=yes\n", "'NoNewPriviliges'"),
            ("[Service]\nExecStart=/usr/lib/strongroom/none\n", "/none is not executable"),
        ] {
            fs::write(&path, text).unwrap();
            let words = words(&verify(kind, std::slice::from_ref(&path)));
            assert!(words.contains(found), "{kind}: {words}");
        }
    }
}

/// A line that nobody can explain is a line that nobody dares to change.
#[test]
fn every_unit_opens_with_what_it_is() {
    for path in units("systemd").into_iter().chain(units("systemd/user")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}", path.display());
        assert!(text.contains("\n[Install]\n"), "{} can be enabled", path.display());
    }
}

/// Where a daemon's exit is not followed by a restart, whoever waits at its socket starts it again at once: tried with
/// systemd 252, eight times as often, until `trigger-limit-hit` closed the socket.
#[test]
fn every_end_of_a_daemon_is_followed_by_a_restart_at_its_pace() {
    for folder in ["systemd", "systemd/user"] {
        for daemon in ["keyd", "gatewayd"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{folder}/strongroom-{daemon}.service"));
            let text = fs::read_to_string(&path).unwrap();
            let has = |setting: &str| text.lines().any(|line| line.starts_with(setting));
            assert!(has("Restart=on-failure") && has("RestartSec="), "{}", path.display());
            assert!(!has("RestartPreventExitStatus="), "{}", path.display());
        }
    }
}
