//! git by the server's name, with the placeholder from a credential helper, as docs/agents.md shows it.

use strongroom_tests::prelude::*;
use tempfile::TempDir;

use crate::git::{Forge, git};
use crate::stage::speaks;
use crate::table::http;

/// The credential is called `hub`, so that is its variable.
const HELPER: &str = r#"credential.helper=!f() { echo username=x; echo "password=$HUB"; }; f"#;

fn run(forge: &Forge, arguments: &[&str], over: &[(&str, &str)]) -> Output {
    git(&[&["-c", HELPER], arguments].concat()).run_as(&forge.scene.strongroom, AGENT, over).run()
}

#[test]
#[ignore = "needs the real clients: git"]
fn it_clones_and_pushes() {
    let forge = Forge::new();
    let work = TempDir::new().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let remote = format!("https://{HOST}/lib.git");
    run(&forge, &["clone", "--quiet", &remote, &at("one")], &[]).assert_code(0);
    std::fs::write(work.path().join("one/notes"), "lines\n".repeat(20_000)).unwrap();
    run(&forge, &["-C", &at("one"), "add", "notes"], &[]).assert_code(0);
    run(&forge, &["-C", &at("one"), "commit", "--quiet", "-m", "Notes"], &[]).assert_code(0);
    run(&forge, &["-C", &at("one"), "push", "--quiet", "origin", "HEAD:main"], &[]).assert_code(0);
    run(&forge, &["clone", "--quiet", &remote, &at("two")], &[]).assert_code(0);
    assert_eq!(std::fs::read(work.path().join("two/notes")).unwrap(), "lines\n".repeat(20_000).into_bytes());
    forge.assert_pushed("Notes");
    let needles = Needles::of(forge.key.as_bytes());
    for file in strongroom_tests::strongroom::files_below(work.path()) {
        assert_eq!(needles.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

#[test]
#[ignore = "needs the real clients: git"]
fn a_refusal_says_its_status() {
    let forge = Forge::new();
    let to = TempDir::new().unwrap();
    let to = to.path().join("one");
    let to = to.to_str().unwrap();
    let output = speaks(&forge.scene.strongroom, AGENT, http(module_path!()), |over| {
        let remote = format!("https://{HOST}/lib.git");
        run(&forge, &["clone", "--quiet", &remote, to], &[over, &[("HUB", "worthless")]].concat())
    });
    assert_eq!(output.code, Some(128), "{output:?}");
    assert!(output.stderr.contains("403"), "{output:?}");
    let output = run(&forge, &["clone", "--quiet", "https://elsewhere.example/lib.git", to], &[]);
    assert_eq!(output.code, Some(128), "{output:?}");
    assert!(output.stderr.contains("CONNECT tunnel failed, response 403"), "{output:?}");
    assert_eq!(forge.scene.upstream.count(), 0);
}
