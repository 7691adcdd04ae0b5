//! What is shipped beside the programs: the package, `make install`, manual pages, completions, the list of parts.
//!
//! Everything is made by the scripts in packaging/ from the programs that the tests are run with, so no other build is
//! needed. It refuses to install anything on this machine: what needs an installed package happens in a box.

mod contents;
mod in_a_box;
mod install;
mod pages;
mod parts;
mod reproducible;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Where Cargo put the programs, and the example that makes pages.
#[track_caller]
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let built = test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps").to_owned();
    for name in ["strongroom", "strongroom-keyd", "strongroom-gatewayd", "examples/packaging"] {
        assert!(
            built.join(name).is_file(),
            "{} is not there; run 'cargo build -p strongroom-keyd -p strongroom-gatewayd -p strongroom-ctl --bins --example packaging' first",
            built.join(name).display()
        );
    }
    built
}

/// Runs a command, which has to succeed; gives its standard output.
#[track_caller]
fn must(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("a program that is there");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout
}

/// Makes the package, in this version where one is given.
#[track_caller]
fn package(into: &Path, version: Option<&str>) -> PathBuf {
    let mut command = Command::new(workspace().join("packaging/deb"));
    command.arg("--programs").arg(programs()).arg("--output").arg(into);
    if let Some(version) = version {
        command.args(["--version", version]);
    }
    PathBuf::from(must(quickly(&mut command)).trim())
}

/// Hardly compressed: the tests look at what is in it.
fn quickly(command: &mut Command) -> &mut Command {
    command.env("DPKG_DEB_COMPRESSOR_LEVEL", "0")
}

/// Unpacks a package's files.
#[track_caller]
fn unpacked(package: &Path, into: &Path) {
    must(Command::new("dpkg-deb").arg("-x").arg(package).arg(into));
}

/// Every path below a folder, files and directories, sorted; with what it is.
fn tree(folder: &Path) -> Vec<String> {
    let listed = must(Command::new("find").arg(folder).args(["-mindepth", "1", "-printf", "%y %P\n"]));
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
