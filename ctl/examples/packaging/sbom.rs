//! What the three programs are made of, as CycloneDX 1.5 JSON, from `cargo metadata` and Cargo.lock.
//!
//! The same sources give the same bytes: it holds no time and no random number. Crates that only run while something is
//! compiled are marked `excluded`. It refuses a crate that the lock file does not know. Called by `main`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Writes the document.
pub fn write(file: &Path) -> io::Result<()> {
    let document = document(&metadata()?, &checksums()?)?;
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    fs::write(file, text)
}

/// For the platform that this program was built on, which is the one whose programs it describes.
fn metadata() -> io::Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target]);
    let output = command.current_dir(workspace()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// SHA-256 of each crate's archive, by name and version.
fn checksums() -> io::Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = toml::from_str(&fs::read_to_string(workspace().join("Cargo.lock"))?)
        .map_err(|error| io::Error::other(format!("Cargo.lock: {error}")))?;
    let packages = lock.get("package").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let text = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    Ok(packages
        .iter()
        .filter_map(|one| Some(((text(one, "name")?, text(one, "version")?), text(one, "checksum")?)))
        .collect())
}

fn document(metadata: &Value, checksums: &BTreeMap<(String, String), String>) -> io::Result<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|one| (text(&one["id"]), one)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|one| (text(&one["id"]), one)).collect();
    // What is compiled for a crate; what its tests use is not.
    let edges = |id: &str, with_build: bool| -> Vec<String> {
        list(&nodes[id]["deps"])
            .iter()
            .filter(|one| {
                list(&one["dep_kinds"])
                    .iter()
                    .any(|kind| kind["kind"].is_null() || with_build && kind["kind"] == "build")
            })
            .map(|one| text(&one["pkg"]))
            .collect()
    };
    let is_macro =
        |id: &str| list(&packages[id]["targets"]).iter().any(|one| list(&one["kind"]).contains(&json!("proc-macro")));
    let reached = |with_build: bool| {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<String> = packages
            .iter()
            .filter(|(_, one)| PROGRAMS.contains(&text(&one["name"]).as_str()))
            .map(|(id, _)| id.clone())
            .collect();
        while let Some(id) = waiting.pop() {
            if (with_build || !is_macro(&id)) && seen.insert(id.clone()) {
                waiting.extend(edges(&id, with_build));
            }
        }
        seen
    };
    let (linked, compiled) = (reached(false), reached(true));
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let mut programs = Vec::new();
    for id in &compiled {
        let package = &packages[id];
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let own = package["source"].is_null();
        let mut component = json!({
            "type": if PROGRAMS.contains(&name.as_str()) { "application" } else { "library" },
            "bom-ref": purl(package),
            "name": name,
            "version": version,
            "scope": if linked.contains(id) { "required" } else { "excluded" },
            "purl": purl(package),
        });
        if let Some(license) = package["license"].as_str() {
            // Older crates write the slash that Cargo once understood; SPDX does not.
            component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
        }
        if !own {
            let known = checksums.get(&(name.clone(), version.clone()));
            let known = known.ok_or_else(|| io::Error::other(format!("Cargo.lock does not know {name} {version}")))?;
            component["hashes"] = json!([{ "alg": "SHA-256", "content": known }]);
        }
        if PROGRAMS.contains(&name.as_str()) {
            programs.push(purl(package));
        }
        components.push(component);
        let mut on: Vec<String> = edges(id, true).iter().map(|id| purl(&packages[id])).collect();
        on.sort();
        on.dedup();
        dependencies.push(json!({ "ref": purl(package), "dependsOn": on }));
    }
    // Package ids hold the folder that this was built in; names do not.
    components.sort_by_key(|one| text(&one["purl"]));
    dependencies.sort_by_key(|one| text(&one["ref"]));
    programs.sort();
    let version = env!("CARGO_PKG_VERSION");
    let whole = format!("strongroom@{version}");
    dependencies.insert(0, json!({ "ref": whole, "dependsOn": programs }));
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "bom-ref": whole,
            "name": "strongroom",
            "version": version,
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        } },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// A package's name among all ecosystems; the workspace's own crates are published nowhere.
fn purl(package: &Value) -> String {
    let part = |key: &str| package[key].as_str().unwrap_or_default();
    // The one character of semantic versions that a package URL wants escaped.
    format!("pkg:cargo/{}@{}", part("name"), part("version").replace('+', "%2B"))
}

const PROGRAMS: [&str; 3] = ["strongroom-keyd", "strongroom-gatewayd", "strongroom-ctl"];
