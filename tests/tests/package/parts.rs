//! The list of what the programs are made of (CycloneDX).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{must, programs, workspace};

#[test]
fn the_list_of_parts_is_whole_and_names_what_keyd_links() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("parts.json");
    let make = || {
        must(Command::new(programs().join("examples/packaging")).arg("sbom").arg(&file));
        fs::read_to_string(&file).expect("it was written")
    };
    let text = make();
    assert_eq!(text, make(), "twice the same");
    assert!(!text.contains(workspace().to_str().expect("a plain path")), "no path of this machine");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["bomFormat"], "CycloneDX");
    assert_eq!((list["specVersion"].as_str(), list["version"].as_u64()), (Some("1.5"), Some(1)));
    let components = list["components"].as_array().expect("components");
    let mut by_reference = BTreeMap::new();
    for one in components {
        let text =
            |key: &str| one[key].as_str().filter(|text| !text.is_empty()).unwrap_or_else(|| panic!("{key}: {one}"));
        assert!(["application", "library"].contains(&text("type")), "{one}");
        assert!(["required", "excluded"].contains(&text("scope")), "{one}");
        assert_eq!(text("purl"), format!("pkg:cargo/{}@{}", text("name"), text("version").replace('+', "%2B")));
        assert!(one["licenses"][0]["expression"].as_str().is_some_and(|license| !license.contains('/')), "{one}");
        let ours = text("name").starts_with("strongroom-");
        let hash = one["hashes"][0]["content"].as_str();
        assert!(ours || hash.is_some_and(|hash| hash.len() == 64), "{one}");
        assert!(by_reference.insert(text("bom-ref").to_owned(), one).is_none(), "twice: {one}");
    }
    let mut depends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in list["dependencies"].as_array().expect("dependencies") {
        let on: Vec<&str> =
            one["dependsOn"].as_array().expect("a list").iter().map(|on| on.as_str().expect("a reference")).collect();
        for on in &on {
            assert!(by_reference.contains_key(*on), "{on} is named and not described");
        }
        depends.insert(one["ref"].as_str().expect("a reference"), on);
    }
    for reference in by_reference.keys() {
        assert!(depends.contains_key(reference.as_str()), "{reference} has no line");
    }
    let whole = list["metadata"]["component"]["bom-ref"].as_str().expect("a reference");
    assert_eq!(depends[whole].len(), 3, "three programs");

    // The reviewed list of keyd's crates is looked after by another test; this one has to agree with it.
    let reviewed = fs::read_to_string(workspace().join("keyd/dependencies.txt")).expect("keyd/dependencies.txt");
    let reviewed: BTreeSet<&str> = reviewed
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let keyd = by_reference.keys().find(|one| one.starts_with("pkg:cargo/strongroom-keyd@")).expect("keyd");
    let (mut below, mut waiting) = (BTreeSet::new(), vec![keyd.as_str()]);
    while let Some(one) = waiting.pop() {
        if below.insert(one) {
            waiting.extend(&depends[one]);
        }
    }
    let names: BTreeSet<&str> = below.iter().map(|one| by_reference[*one]["name"].as_str().expect("a name")).collect();
    let missing: Vec<_> = reviewed.difference(&names).collect();
    assert!(missing.is_empty() && names.len() > 50, "keyd links them, and the list does not say so: {missing:?}");
}
