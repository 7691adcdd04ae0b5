//! What `strongroom` says, held as files in `tests/text/`, errors included.
//!
//! Runs the built program without daemons in a temporary home. `UPDATE_TEXTS=1` writes the files anew, for a reviewer to
//! read as a difference; a file that no case writes any more is a failure.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::CommandFactory;
use strongroom_ctl::args::Args;

#[test]
fn help_is_as_in_the_files() {
    let mut paths = Vec::new();
    walk(&Args::command(), &mut Vec::new(), &mut paths);
    assert!(paths.len() > 25, "the walk found {} commands", paths.len());
    for path in &paths {
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        check(&name(path), &said(&folder(), &words));
    }
    let mut known: Vec<String> = paths.iter().map(|path| name(path)).collect();
    known.extend(["errors.txt", "failures.txt"].map(str::to_owned));
    for entry in fs::read_dir(texts()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&file), "{file} belongs to no command");
    }
}

#[test]
fn errors_are_as_in_the_file() {
    let home = folder();
    let mut text = String::new();
    for words in [
        &[][..],
        &["frobnicate"],
        &["status"],
        &["unlock"],
        &["lock"],
        &["up"],
        &["down"],
        &["doctor"],
        &["credential", "list"],
        &["credential", "add", "x", "--provider", "nobody"],
        &["credential", "add", "x", "--bearer"],
        &["credential", "add", "x", "--host", "a.example"],
        &["credential", "add", "x", "--host", "*.co.uk", "--bearer"],
        &["credential", "add", "x", "--host", "*.com", "--bearer"],
        &["credential", "add", "x", "--host", "https://a.example/", "--bearer"],
        &["credential", "add", "x", "--host", "a@b.example", "--bearer"],
        &["credential", "add", "x", "--host", "a.example", "--header", "x-api-key: sk-1"],
        &["credential", "add", "x", "--host", "a.example", "--bearer", "sk-1"],
        &["credential", "add", "x", "--host", "a.example", "--bearer", "--ca", "/no/such/file"],
        &["credential", "add", "../x", "--bearer"],
        &["credential", "add", "x", "--basic", "u"],
        &["grant", "add", "x", "--agent", "a", "--rate", "0/hour"],
        &["grant", "add", "x", "--agent", "a", "--rate", "often"],
        &["grant", "add", "x", "--agent", "a", "--allow", "post /v1"],
        &["grant", "add", "x", "--agent", "a", "--expires", "-3d"],
        &["agent", "add", "a", "--uid", "no-such-user"],
        &["agent", "add", "a", "--unit", "a.slice"],
        &["agent", "allow", "a"],
        &["agent", "allow", "a", "*.co.uk"],
        &["agent", "allow", "a", "--profile", "nothing"],
        &["agent", "allow", "a", "--profile", "codex"],
        &["agent", "disallow", "a", "pypi.org"],
        &["env"],
        &["env", "--agent", "a"],
        &["env", "--agent", "a", "--json", "--format", "shell"],
        &["run", "--agent", "a"],
        &["run", "--agent", "a", "--", "true"],
        &["ca", "show"],
        &["unlock", "--keychain"],
        &["slot", "add", "credential"],
        &["slot", "add", "credential", "--output", "/no/such/folder/key"],
        &["up", "--keyd-user", "k"],
        &["init", "--passphrase-file", "/no/such/file"],
        &["init", "--passphrase-file", "/dev/null"],
        &["credential", "add", "x", "--host", "a.example", "--bearer=sk-1"],
        &["grant", "add", "x", "--agent", "a", "--burst", "0"],
        &["slot", "remove", "x"],
        &["agent", "allow", "a", "*"],
    ] {
        text += &format!("$ strongroom {}\n{}\n", words.join(" "), said(&home, words));
    }
    check("errors.txt", &text);
}

#[test]
fn without_a_home_the_variable_is_named() {
    let output =
        command(&["status"]).env_remove("STRONGROOM_HOME").env("STRONGROOM_HOME", "relative").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8(output.stderr).unwrap().contains("STRONGROOM_HOME is the relative path"));
}

#[test]
fn an_empty_variable_is_as_good_as_none_and_an_empty_option_is_not() {
    let said = |words: &[&str]| {
        let home = folder();
        let mut command = command(words);
        command.env("STRONGROOM_HOME", home.path()).env("STRONGROOM_PASSPHRASE_FILE", "").output().unwrap()
    };
    assert_eq!(said(&["down"]).status.code(), Some(0));
    assert_eq!(said(&["down", "--passphrase-file", ""]).status.code(), Some(64));
    let file = said(&["init", "--passphrase-file", "/no/such/file"]);
    assert!(String::from_utf8(file.stderr).unwrap().contains("the passphrase file /no/such/file"));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = command(&["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("passphrase-file"), "{shell}");
    }
}

fn walk(command: &clap::Command, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    found.push(path.clone());
    for below in command.get_subcommands().filter(|one| one.get_name() != "help") {
        path.push(below.get_name().to_owned());
        walk(below, path, found);
        path.pop();
    }
}

fn name(path: &[String]) -> String {
    if path.is_empty() { "help.txt".to_owned() } else { format!("help-{}.txt", path.join("-")) }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(words).env_remove("STRONGROOM_PASSPHRASE_FILE").env("COLUMNS", "100").stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error, with the home's path taken out.
fn said(home: &tempfile::TempDir, words: &[&str]) -> String {
    let output = command(words).env("STRONGROOM_HOME", home.path()).output().unwrap();
    let mut text = format!("exit {}\n", output.status.code().unwrap());
    for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        if !bytes.is_empty() {
            text += &format!("--- {name}\n{}", String::from_utf8(bytes).unwrap());
        }
    }
    text.replace(home.path().to_str().unwrap(), "HOME")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn texts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text")
}

fn check(file: &str, text: &str) {
    let path = texts().join(file);
    if std::env::var_os("UPDATE_TEXTS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, held, "{file}: UPDATE_TEXTS=1 writes it anew");
}
