//! Manual pages and completions: one page for every command, and every key of the configuration files in its page.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{must, programs, workspace};

/// What packaging makes of the parser.
fn made(folder: &Path) {
    must(Command::new(programs().join("examples/packaging")).arg("pages").arg(folder));
}

/// The commands that help lists below this one, by their help alone.
fn below(words: &[String]) -> Vec<String> {
    let help = must(Command::new(programs().join("strongroom")).args(words).arg("--help"));
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A word that stands two in is a command; what stands further in goes on with a description.
    lines
        .filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn all_commands(words: &[String], into: &mut Vec<Vec<String>>) {
    into.push(words.to_vec());
    for name in below(words) {
        all_commands(&[words, &[name]].concat(), into);
    }
}

#[test]
fn every_command_has_a_page_and_completions() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    made(folder.path());
    let mut commands = Vec::new();
    all_commands(&[], &mut commands);
    assert!(commands.len() > 25 && commands.contains(&vec!["credential".to_owned(), "add".to_owned()]), "{commands:?}");
    let expected: BTreeSet<String> = commands
        .iter()
        .map(|words| format!("{}.1", [&["strongroom".to_owned()], &words[..]].concat().join("-")))
        .collect();
    let entries = fs::read_dir(folder.path().join("man1")).expect("man1");
    let there: BTreeSet<String> =
        entries.map(|one| one.expect("an entry").file_name().into_string().expect("a name")).collect();
    assert_eq!(there, expected);
    // With what the command takes, too.
    let page = fs::read_to_string(folder.path().join("man1/strongroom-credential-add.1")).expect("a page");
    assert!(page.contains("\\-\\-provider") && page.contains("EXIT STATUS"), "{page}");
    assert!(page.contains("\\-\\-provider\\fR \\fIPROVIDER") && page.contains("STRONGROOM_PASSPHRASE_FILE"), "{page}");
    let run = fs::read_to_string(folder.path().join("man1/strongroom-run.1")).expect("a page");
    assert!(run.contains("127 where there is none; else:") && !page.contains("127"), "{run}");
    for page in &there {
        let text = fs::read_to_string(folder.path().join("man1").join(page)).expect("a page").replace("\\-", "-");
        let names = text.lines().filter(|line| line.starts_with("strongroom"));
        for name in names.filter_map(|line| line.strip_suffix("(1)")) {
            assert!(there.contains(&format!("{name}.1")), "{page} refers to {name}(1)");
        }
    }
    for (file, word) in [
        ("strongroom.bash", "_strongroom"),
        ("_strongroom", "#compdef strongroom"),
        ("strongroom.fish", "complete -c strongroom"),
    ] {
        let text = fs::read_to_string(folder.path().join("completions").join(file)).expect("completions");
        assert!(text.contains(word) && text.contains("credential"), "{file}");
    }
}

/// The keys that a daemon's own parser knows in a table, by its refusal of one that it does not know.
fn keys(daemon: &str, table: &str, folder: &Path) -> Vec<String> {
    let file = folder.join("x.toml");
    fs::write(&file, format!("{table}\nno-such-key = 1\n")).expect("our own file");
    let output = Command::new(programs().join(daemon)).arg("--check-config").arg(&file).output().expect("a daemon");
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let Some((_, list)) = words.split_once("unknown field `no-such-key`, expected ") else { return Vec::new() };
    list.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Keys of the file and of its tables, the tables' own names left out.
fn every_key(daemon: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut found = BTreeSet::new();
    let top = keys(daemon, "", folder.path());
    assert!(top.len() >= 5, "{top:?}");
    for key in top {
        let inner = keys(daemon, &format!("[{key}]"), folder.path());
        match inner.is_empty() {
            // [resolve] takes any name.
            true if key == "resolve" => {}
            true => drop(found.insert(key)),
            false => found.extend(inner),
        }
    }
    found
}

#[test]
fn every_key_of_the_configuration_is_in_its_page_and_no_other() {
    for (daemon, page) in [("strongroom-keyd", "keyd.toml.5"), ("strongroom-gatewayd", "gatewayd.toml.5")] {
        let text = fs::read_to_string(workspace().join("packaging/man").join(page)).expect("a page");
        let described: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix(".It Cm "))
            .filter_map(|line| line.split_once(" No = "))
            .map(|(key, _)| key.to_owned())
            .collect();
        assert_eq!(described, every_key(daemon), "{page} and the parser");
        // The example has to be one.
        let example =
            text.split_once(".Bd -literal\n").and_then(|(_, rest)| rest.split_once(".Ed")).expect("an example").0;
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("x.toml");
        fs::write(&file, example).expect("our own file");
        must(Command::new(programs().join(daemon)).arg("--check-config").arg(&file));
    }
}

#[test]
#[ignore = "needs root: the runner installs man and mandoc as root"]
fn the_pages_are_good_roff() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    made(folder.path());
    let written = workspace().join("packaging/man");
    let mut pages: Vec<PathBuf> = Vec::new();
    for place in [&folder.path().join("man1"), &written] {
        pages.extend(fs::read_dir(place).expect("pages").map(|one| one.expect("an entry").path()));
    }
    assert!(pages.len() > 30);
    let warnings = |page: &Path| {
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(page)
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "100");
        let man = man.output().expect("man");
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page).output().expect("mandoc");
        format!("{}{}", String::from_utf8_lossy(&man.stderr), String::from_utf8_lossy(&lint.stdout))
    };
    for page in pages {
        assert_eq!(warnings(&page), "", "{}", page.display());
    }
    let broken = folder.path().join("broken.8");
    fs::write(&broken, ".Dd x\n.Dt BROKEN 8\n.Os\n.Sh NAME\n.Bl -tag\n").expect("our own file");
    assert_ne!(warnings(&broken), "", "a mistake is seen");
}
