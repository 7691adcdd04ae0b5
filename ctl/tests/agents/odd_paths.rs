//! A home whose path is no UTF-8: shown as well as it can be, and served.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use strongroom_protocol::admin::Failure;

use crate::daemons::Stage;
use crate::{code, for_agents, json, stderr};

/// A command of this stage, whose home has got such a name.
fn said(stage: &Stage, words: &[&str]) -> Output {
    let odd = stage.user().join(OsStr::from_bytes(b"h\xff"));
    if !odd.exists() {
        fs::rename(stage.home(), &odd).unwrap();
    }
    stage.command(words).env("STRONGROOM_HOME", odd).output().unwrap()
}

#[test]
fn it_is_shown_as_well_as_it_can_be() {
    let stage = Stage::new();
    let status = said(&stage, &["status", "--json"]);
    assert_eq!(code(&status), 69, "{}", stderr(&status));
    let shown: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    for (name, end) in [("config", "h\u{fffd}/config"), ("data", "h\u{fffd}/data"), ("log", "h\u{fffd}/log")] {
        assert!(shown["home"][name].as_str().unwrap().ends_with(end), "{name}: {shown}");
    }
    let files = json(&said(&stage, &["config", "check", "--json"]));
    assert!(files[0]["file"].as_str().unwrap().ends_with("h\u{fffd}/config/keyd.toml"), "{files}");
}

#[test]
fn an_agents_variables_name_a_file_elsewhere_and_only_that_place_is_blamed() {
    let stage = for_agents();
    stage.keyd(|_, _| Err(Failure::NotPermitted));
    let variables = json(&said(&stage, &["env", "--agent", "coder", "--format", "json"]));
    let bundle = stage.user().join("user/.cache/strongroom/ca-bundle.pem");
    assert_eq!(variables["SSL_CERT_FILE"], bundle.to_str().unwrap());
    let odd = OsStr::from_bytes(b"c\xff");
    fs::create_dir(stage.user().join(odd)).unwrap();
    let home = stage.user().join(OsStr::from_bytes(b"h\xff"));
    let mut command = stage.command(&["env", "--agent", "coder"]);
    let refused = command.env("STRONGROOM_HOME", home).env("XDG_CACHE_HOME", stage.user().join(odd)).output().unwrap();
    assert!(code(&refused) == 1 && stderr(&refused).contains("XDG_CACHE_HOME"), "{}", stderr(&refused));
}
