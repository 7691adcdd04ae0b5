//! keyd holds the keys, so every crate in it has been looked at: none joins or leaves without this list being changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The names on the list, each of which must come with its reason.
fn reviewed(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, why) =
                line.split_once(char::is_whitespace).unwrap_or_else(|| panic!("{line}: a name without a reason"));
            assert!(why.trim().len() >= 8, "{line}: that is no reason");
            name.to_owned()
        })
        .collect()
}

/// The names in the output of `cargo tree`: of this platform, for what others link is not there to be read.
fn linked(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn keyd_is_made_with_the_reviewed_crates_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "tree",
        "--offline",
        "--locked",
        "-p",
        "strongroom-keyd",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let output = cargo.current_dir(root).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let linked = linked(&String::from_utf8_lossy(&output.stdout));
    assert!(linked.contains("strongroom-keyd") && linked.contains("rustls"), "{linked:?}");
    let reviewed = reviewed(&fs::read_to_string(root.join("keyd/dependencies.txt")).expect("keyd/dependencies.txt"));
    let joined: Vec<_> = linked.difference(&reviewed).collect();
    let left: Vec<_> = reviewed.difference(&linked).collect();
    assert!(joined.is_empty(), "not on keyd/dependencies.txt; look at each, then add it with the reason: {joined:?}");
    assert!(left.is_empty(), "no longer linked; take them off keyd/dependencies.txt: {left:?}");
}

#[test]
fn a_crate_that_joins_is_seen() {
    let list = reviewed("# comment\nbytes  shared buffers of hyper\n");
    assert_eq!(linked("bytes v1.0.0\nevil v0.1.0 (*)\n").difference(&list).collect::<Vec<_>>(), ["evil"]);
}
