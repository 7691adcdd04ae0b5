//! What is in the package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{must, package, tree, unpacked, workspace};

/// One field of the package's control file.
fn field(package: &Path, name: &str) -> String {
    must(Command::new("dpkg-deb").arg("-f").arg(package).arg(name)).trim().to_owned()
}

#[test]
fn programs_units_users_pages_and_documents_are_where_a_system_looks() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let package = package(folder.path(), None);
    let root = folder.path().join("root");
    unpacked(&package, &root);
    let files = tree(&root);
    let has = |path: &str| assert!(files.contains(&format!("f {path}")), "{path} is missing in {files:#?}");
    for path in [
        "usr/bin/strongroom",
        "usr/lib/strongroom/strongroom-keyd",
        "usr/lib/strongroom/strongroom-gatewayd",
        "usr/lib/sysusers.d/strongroom.conf",
        "usr/lib/tmpfiles.d/strongroom.conf",
        "usr/share/man/man1/strongroom-credential-add.1.gz",
        "usr/share/man/man5/keyd.toml.5.gz",
        "usr/share/man/man8/strongroom-gatewayd.8.gz",
        "usr/share/bash-completion/completions/strongroom",
        "usr/share/zsh/vendor-completions/_strongroom",
        "usr/share/fish/vendor_completions.d/strongroom.fish",
        "usr/share/doc/strongroom/copyright",
        "usr/share/doc/strongroom/changelog.Debian.gz",
        "usr/share/doc/strongroom/strongroom.cdx.json",
        "usr/lib/systemd/system/strongroom-keyd.service.d/apparmor.conf",
        "etc/apparmor.d/strongroom-keyd",
    ] {
        has(path);
    }
    // By pattern: whatever is in systemd/ comes along.
    for unit in fs::read_dir(workspace().join("systemd")).expect("systemd/") {
        let unit = unit.expect("an entry");
        if unit.file_type().expect("a type").is_file() {
            has(&format!("usr/lib/systemd/system/{}", unit.file_name().to_string_lossy()));
        }
    }
    // Where a unit looks for its program.
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/strongroom-keyd.service")).expect("a unit");
    let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a program");
    let program = program.split(' ').next().and_then(|path| path.strip_prefix('/')).expect("an absolute path");
    let mode = fs::metadata(root.join(program)).expect("the unit's program").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    // Nothing of a machine's own, nothing that others could write to.
    assert!(!files.iter().any(|line| line.contains("etc/strongroom") || line.contains("var/lib")), "{files:#?}");
    let listing = must(Command::new("dpkg-deb").arg("-c").arg(&package));
    for line in listing.lines() {
        assert!(line.contains(" root/root "), "{line}");
        let mode = line.split(' ').next().expect("a mode");
        assert!(["-rwxr-xr-x", "-rw-r--r--", "drwxr-xr-x", "lrwxrwxrwx"].contains(&mode), "{line}");
    }
    let needed = field(&package, "Depends");
    assert!(needed.contains("libc6 (>= ") && needed.contains("systemd"), "{needed}");
    assert!(field(&package, "Version").starts_with(concat!(env!("CARGO_PKG_VERSION"), "-")), "the changelog's version");
    let conffiles = must(Command::new("dpkg-deb").args(["--info"]).arg(&package).arg("conffiles"));
    assert!(conffiles.lines().eq(["/etc/apparmor.d/strongroom-gatewayd", "/etc/apparmor.d/strongroom-keyd"]));
    // What starts by itself was found in the units and written into the scripts.
    for script in ["postinst", "prerm", "postrm"] {
        let text = must(Command::new("dpkg-deb").arg("--info").arg(&package).arg(script));
        assert!(!text.contains("@SOCKETS@") && !text.contains("@SERVICES@"), "{script}: {text}");
    }
    let text = must(Command::new("dpkg-deb").arg("--info").arg(&package).arg("postinst"));
    assert!(text.contains("strongroom-admin.socket") && text.contains("strongroom-gatewayd.service"), "{text}");
}

#[test]
#[ignore = "needs root: the runner installs lintian as root"]
fn lintian_has_nothing_to_say() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let package = package(folder.path(), None);
    let lintian = |package: &Path, only: &[&str]| {
        let mut command = Command::new("lintian");
        let output = command.arg("--allow-root").args(only).arg(package).output().expect("lintian");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let said: Vec<String> =
        lintian(&package, &[]).lines().filter(|line| !line.starts_with("N:")).map(str::to_owned).collect();
    assert!(said.is_empty(), "{said:#?}");

    // The twin: a package that lacks something is not passed over.
    let root = folder.path().join("root");
    must(Command::new("dpkg-deb").arg("-R").arg(&package).arg(&root));
    fs::remove_file(root.join("usr/share/doc/strongroom/copyright")).expect("it is there");
    let broken = folder.path().join("broken.deb");
    must(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-b"]).arg(&root).arg(&broken));
    let text = lintian(&broken, &["--tags", "no-copyright-file"]);
    assert!(text.contains("no-copyright-file"), "{text}");
}

#[test]
#[ignore = "needs root: the runner installs apparmor as root"]
fn the_profiles_are_understood_by_apparmor() {
    let parse = |path: &Path| {
        Command::new("apparmor_parser")
            .args(["--skip-kernel-load", "--skip-cache"])
            .arg(path)
            .output()
            .expect("apparmor")
    };
    for name in ["strongroom-keyd", "strongroom-gatewayd"] {
        let path = workspace().join("packaging/apparmor").join(name);
        let output = parse(&path);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // It holds the packages' own paths, and the gateway is kept from the vault whatever else is let through.
        let text = fs::read_to_string(&path).expect("a profile");
        assert!(text.contains(&format!("/usr/lib/strongroom/{name} mr,")));
        let broken = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(broken.path(), text.replace("audit deny ptrace,", "audit deny ptraze,")).expect("our own file");
        assert!(!parse(broken.path()).status.success(), "a mistake is seen");
    }
    let gatewayd = fs::read_to_string(workspace().join("packaging/apparmor/strongroom-gatewayd")).expect("a profile");
    assert!(gatewayd.contains("audit deny /var/lib/strongroom/"));
}
