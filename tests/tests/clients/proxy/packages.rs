//! pip and npm through a blind tunnel: their registries are allowed by the profiles, by their real names, and nobody looks
//! inside.
//!
//! Outside, a registry's certificate has a public root. Here it has the tests', which is a public root to `run` by the
//! variable that names the caller's.

use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use strongroom_tests::client::{Builder, installed};
use strongroom_tests::network;
use strongroom_tests::prelude::*;
use tempfile::TempDir;

/// A registry on a machine alone, and an agent that may use it once it is allowed to.
struct Registry {
    strongroom: Strongroom,
    upstream: Upstream,
    roots: String,
}

impl Registry {
    fn new(host: &str, script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        network::cut_off();
        let root = Root::new("The tests' root").unwrap();
        let upstream = Upstream::start(root.server(host).unwrap(), script).unwrap();
        let strongroom = Strongroom::new().resolving(host, upstream.address()).start();
        let roots = strongroom.write("root.pem", root.pem()).to_str().unwrap().to_owned();
        // An agent without credentials has no placeholder to be known by.
        strongroom.must(&["agent", "add", AGENT, "--token"]);
        Self { strongroom, upstream, roots }
    }

    /// Nothing came, and that is on record.
    #[track_caller]
    fn assert_refused(&self, host: &str) {
        assert_eq!(self.upstream.connections(), 0);
        let lines = self.strongroom.audit();
        let refused = |line: &&serde_json::Value| line["host"] == host && line["decision"] == "host_not_allowed";
        assert!(lines.iter().find(refused).is_some_and(|line| line["agent"] == AGENT), "{lines:?}");
    }

    fn run(&self, builder: Builder) -> Output {
        builder.env("SSL_CERT_FILE", &self.roots).run_as(&self.strongroom, AGENT, &[]).run()
    }
}

mod pip {
    use super::*;

    #[test]
    #[ignore = "needs the real clients: tests/clients/install"]
    fn it_downloads_once_the_profile_is_allowed() {
        let folder = TempDir::new().unwrap();
        let wheel = wheel(folder.path());
        let registry = Registry::new("pypi.org", move |exchange| match exchange.head().target() {
            "/simple/tiny/" => {
                let page = format!("<a href=\"/files/{WHEEL}\">{WHEEL}</a>");
                exchange.respond("200 OK", &[("content-type", "text/html")], page.as_bytes())
            }
            _ => exchange.respond("200 OK", &[("content-type", "application/octet-stream")], &wheel),
        });
        let to = folder.path().join("to");
        let usual = ["-m", "pip", "--disable-pip-version-check", "download", "--no-cache-dir", "--retries", "0"];
        let download = [&usual, &["--no-deps", "-d", to.to_str().unwrap(), "tiny"][..]].concat();
        let pip = || registry.run(Builder::new(installed("python/bin/python"), &download));

        let output = pip();
        assert_eq!(output.code, Some(1), "{output:?}");
        registry.assert_refused("pypi.org");
        registry.strongroom.must(&["agent", "allow", AGENT, "--profile", "pip"]);
        pip().assert_code(0);
        assert!(to.join(WHEEL).is_file());
    }

    const WHEEL: &str = "tiny-1.0-py3-none-any.whl";

    fn wheel(folder: &Path) -> Vec<u8> {
        let path = folder.join(WHEEL);
        let script = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as file:
    file.writestr("tiny.py", "")
    file.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    file.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    file.writestr("tiny-1.0.dist-info/RECORD", "")
"#;
        Builder::new(installed("python/bin/python"), &["-c", script, path.to_str().unwrap()]).run().assert_code(0);
        std::fs::read(path).unwrap()
    }
}

mod npm {
    use super::*;

    #[test]
    #[ignore = "needs the real clients: tests/clients/install"]
    fn it_installs_once_the_profile_is_allowed() {
        let folder = TempDir::new().unwrap();
        let package = package(folder.path());
        let registry = Registry::new("registry.npmjs.org", move |exchange| match exchange.head().target() {
            "/tiny" => {
                let dist = json!({ "tarball": "https://registry.npmjs.org/tiny/-/tiny-1.0.0.tgz" });
                let version = json!({ "name": "tiny", "version": "1.0.0", "dist": dist });
                let page =
                    json!({ "name": "tiny", "dist-tags": { "latest": "1.0.0" }, "versions": { "1.0.0": version } });
                exchange.respond("200 OK", &[("content-type", "application/json")], page.to_string().as_bytes())
            }
            _ => exchange.respond("200 OK", &[("content-type", "application/octet-stream")], &package),
        });
        let to = folder.path().join("to");
        std::fs::create_dir(&to).unwrap();
        let to_text = to.to_str().unwrap();
        let install = ["install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", to_text, "tiny"];
        let npm = || registry.run(Builder::new("npm", &install));

        let output = npm();
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains("403"), "{output:?}");
        registry.assert_refused("registry.npmjs.org");
        registry.strongroom.must(&["agent", "allow", AGENT, "--profile", "npm"]);
        npm().assert_code(0);
        assert!(to.join("node_modules/tiny/package.json").is_file());
    }

    fn package(folder: &Path) -> Vec<u8> {
        std::fs::create_dir(folder.join("package")).unwrap();
        std::fs::write(folder.join("package/package.json"), r#"{"name":"tiny","version":"1.0.0"}"#).unwrap();
        let path = folder.join("tiny.tgz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&path).arg("-C").arg(folder).arg("package");
        process::run(&mut tar, b"").assert_code(0);
        std::fs::read(path).unwrap()
    }
}
