//! `make install` and `make uninstall`, by the script that both are.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{must, programs, tree, workspace};

fn script(prefix: &str, destination: &Path, home: &str) -> Command {
    let mut command = Command::new(workspace().join("packaging/install"));
    command.args(["--prefix", prefix, "--destdir"]).arg(destination).env("HOME", home);
    command
}

fn install(prefix: &str, destination: &Path, home: &str) {
    must(script(prefix, destination, home).arg("--programs").arg(programs()));
}

#[test]
fn what_install_puts_there_uninstall_takes_away_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let root = folder.path().join("root");
    // Things of others, some in directories that install uses too.
    fs::create_dir_all(root.join("usr/local/bin")).expect("our own directory");
    fs::create_dir_all(root.join("usr/local/share/empty")).expect("our own directory");
    fs::write(root.join("usr/local/bin/other"), "x").expect("our own file");
    let before = tree(&root);

    install("/usr/local", &root, "/home/somebody");
    let after = tree(&root);
    let has = |line: &str| assert!(after.contains(&line.to_owned()), "{line}: {after:#?}");
    has("f usr/local/bin/strongroom");
    has("f usr/local/lib/strongroom/strongroom-keyd");
    has("l usr/local/bin/strongroom-gatewayd");
    has("f usr/local/lib/sysusers.d/strongroom.conf");
    has("f usr/local/lib/tmpfiles.d/strongroom.conf");
    has("f usr/local/share/man/man8/strongroom-keyd.8.gz");
    has("f usr/local/share/man/man1/strongroom.1.gz");
    has("f usr/local/share/bash-completion/completions/strongroom");
    has("f usr/local/share/zsh/site-functions/_strongroom");
    has("f usr/local/share/fish/vendor_completions.d/strongroom.fish");
    let unit = fs::read_to_string(root.join("usr/local/lib/systemd/system/strongroom-keyd.service")).expect("a unit");
    assert!(unit.contains("ExecStart=/usr/local/lib/strongroom/strongroom-keyd"), "{unit}");
    assert!(unit.contains("ExecPaths=/usr/local/lib/strongroom "), "{unit}");
    assert!(!unit.contains("/usr/lib/strongroom"), "{unit}");

    // A second time changes nothing, and a file that an earlier version had goes.
    let list = root.join("usr/local/lib/strongroom/installed");
    let stale = root.join("usr/local/share/man/man1/strongroom-gone.1.gz");
    fs::write(&stale, "x").expect("our own file");
    let noted =
        format!("{}f /usr/local/share/man/man1/strongroom-gone.1.gz\n", fs::read_to_string(&list).expect("a list"));
    fs::write(&list, noted).expect("our own file");
    install("/usr/local", &root, "/home/somebody");
    assert_eq!(tree(&root), after);

    must(script("/usr/local", &root, "/home/somebody").arg("--uninstall"));
    assert_eq!(tree(&root), before);
    let again = script("/usr/local", &root, "/home/somebody").arg("--uninstall").output().expect("a shell");
    assert!(!again.status.success(), "there is nothing to take away");
}

#[test]
fn a_list_that_leads_elsewhere_removes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let root = folder.path().join("root");
    install("/usr/local", &root, "/home/somebody");
    fs::write(root.join("precious"), "x").expect("our own file");
    let list = root.join("usr/local/lib/strongroom/installed");
    let good = fs::read_to_string(&list).expect("a list");
    let installed = tree(&root);
    for line in ["f /precious", "f /usr/local/../../precious", "d /elsewhere", "precious", "f /usr/localprecious"] {
        fs::write(&list, format!("{good}{line}\n")).expect("our own file");
        let output = script("/usr/local", &root, "/home/somebody").arg("--uninstall").output().expect("a shell");
        assert!(!output.status.success(), "{line}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("leads elsewhere"), "{line}");
        assert_eq!(tree(&root), installed, "{line}");
    }
}

#[test]
fn in_a_home_only_what_a_user_can_use_is_installed_and_it_works() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let home = folder.path().to_str().expect("a plain path");
    let prefix = format!("{home}/.local");
    install(&prefix, Path::new(""), home);
    let there = tree(folder.path());
    assert!(there.iter().any(|line| line == "f .local/bin/strongroom"), "{there:#?}");
    assert!(!there.iter().any(|line| line.contains("sysusers") || line.contains("systemd/system")), "{there:#?}");

    // The daemons are found in the prefix's lib folder, and beside strongroom.
    let strongroom = |arguments: &[&str]| {
        let mut command = Command::new(format!("{prefix}/bin/strongroom"));
        fs::write(folder.path().join("passphrase"), "correct horse battery staple").expect("our own file");
        command.args(arguments).env_clear().env("STRONGROOM_HOME", folder.path().join("h"));
        command.env("STRONGROOM_PASSPHRASE_FILE", folder.path().join("passphrase"));
        command
    };
    must(&mut strongroom(&["init"]));
    for name in ["strongroom-keyd", "strongroom-gatewayd"] {
        fs::remove_file(format!("{prefix}/bin/{name}")).expect("a link");
    }
    let configured = folder.path().join("h/config/gatewayd.toml");
    fs::write(configured, "listen = [\"127.0.0.1:0\"]\n").expect("init made it");
    must(&mut strongroom(&["up"]));
    let unlocked = strongroom(&["unlock"]).status().is_ok_and(|status| status.success());
    let status = strongroom(&["status", "--json"]).output().expect("strongroom");
    must(&mut strongroom(&["down"]));
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert!(unlocked && status["state"] == "unlocked", "{status}");
    fs::remove_dir_all(folder.path().join("h")).expect("our own directory");
    fs::remove_file(folder.path().join("passphrase")).expect("our own file");
    must(script(&prefix, Path::new(""), home).arg("--uninstall"));
    assert_eq!(tree(folder.path()), Vec::<String>::new());
}
