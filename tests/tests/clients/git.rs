//! git over smart HTTP: it asks without a password first, is told 401, and then sends its token as the password of Basic.
//!
//! The other end is git's own `http-backend`, behind the tests' TLS.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding};
use strongroom_tests::client::Builder;
use strongroom_tests::network;
use strongroom_tests::prelude::*;
use tempfile::TempDir;

const USER: &str = "x-access-token";

/// A Strongroom in front of a server with one empty repository.
pub struct Forge {
    /// The daemons, and the server.
    pub scene: Scene,
    /// What the server takes.
    pub key: String,
    /// What stands for it.
    pub placeholder: String,
    repositories: TempDir,
}

impl Forge {
    /// On a machine alone.
    pub fn new() -> Self {
        network::cut_off();
        let repositories = TempDir::new().unwrap();
        git_here(repositories.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "lib.git"]);
        git_here(&repositories.path().join("lib.git"), &["config", "http.receivepack", "true"]);
        let root = repositories.path().to_owned();
        let scene = Scene::with(move |exchange| backend(&root, exchange));
        let key = scene.add_credential("hub", &["--host", HOST, "--basic", USER]);
        let placeholder = scene.grant("hub", AGENT, &[]);
        Self { scene, key, placeholder, repositories }
    }

    /// What was pushed last is called so, and every request that came had the key and nothing else.
    #[track_caller]
    pub fn assert_pushed(&self, title: &str) {
        let pushed = git_here(&self.repositories.path().join("lib.git"), &["log", "--format=%s", "main"]);
        assert_eq!(pushed.trim(), title);
        let blob = Base64::encode_string(format!("{USER}:{}", self.key).as_bytes());
        let received = self.scene.upstream.received();
        assert!(received.len() >= 6, "{}", received.len());
        for request in &received {
            assert_eq!(request.head.values("authorization"), [format!("Basic {blob}")], "the key and nothing else");
        }
    }

    /// A remote's address with this as the password.
    fn remote(&self, password: &str) -> String {
        format!("http://anybody:{password}@{}/hub/lib.git", self.scene.strongroom.address())
    }
}

fn git_here(directory: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new("git").args(arguments).current_dir(directory).env_clear().env("PATH", PATH).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// git with nothing of the machine's configuration.
pub fn git(arguments: &[&str]) -> Builder {
    let builder = Builder::new("git", arguments).env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
    ["AUTHOR", "COMMITTER"].iter().fold(builder, |builder, role| {
        builder.env(&format!("GIT_{role}_NAME"), "Agent").env(&format!("GIT_{role}_EMAIL"), "agent@example.com")
    })
}

/// One request as CGI (RFC 3875).
fn backend(root: &Path, exchange: &mut Exchange<'_>) -> io::Result<()> {
    let head = exchange.head().clone();
    let body = exchange.body()?;
    let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
    let program = git_here(root, &["--exec-path"]);
    let mut command = Command::new(Path::new(program.trim()).join("git-http-backend"));
    command.env_clear().env("PATH", PATH).env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("REMOTE_USER", USER).env("REQUEST_METHOD", head.method()).env("PATH_INFO", path);
    // The repository is another user's where the test runs as root.
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    command.env("QUERY_STRING", query).env("CONTENT_LENGTH", body.len().to_string());
    for (variable, field) in [
        ("CONTENT_TYPE", "content-type"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
        ("HTTP_GIT_PROTOCOL", "git-protocol"),
    ] {
        if let Some(value) = head.value(field) {
            command.env(variable, value);
        }
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("a pipe");
    let writing = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output()?;
    // It may end before it has read all.
    let _ = writing.join();
    let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let fields: Vec<(String, String)> = String::from_utf8_lossy(&output.stdout[..end])
        .lines()
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let status = fields.iter().find(|(name, _)| name == "Status").map_or("200 OK", |(_, status)| status);
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .filter(|(name, _)| name != "Status")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    exchange.respond(status, &fields, &output.stdout[end + 4..])
}

#[test]
#[ignore = "needs the real clients: git"]
fn it_clones_and_pushes_with_the_placeholder_as_password() {
    let forge = Forge::new();
    let work = TempDir::new().unwrap();
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let remote = forge.remote(&forge.placeholder);
    git(&["clone", "--quiet", &remote, &at("one")]).run().assert_code(0);
    std::fs::write(work.path().join("one/notes"), "lines\n".repeat(20_000)).unwrap();
    git(&["-C", &at("one"), "add", "notes"]).run().assert_code(0);
    git(&["-C", &at("one"), "commit", "--quiet", "-m", "Notes"]).run().assert_code(0);
    git(&["-C", &at("one"), "push", "--quiet", "origin", "HEAD:main"]).run().assert_code(0);
    git(&["clone", "--quiet", &remote, &at("two")]).run().assert_code(0);
    assert_eq!(std::fs::read(work.path().join("two/notes")).unwrap(), "lines\n".repeat(20_000).into_bytes());
    forge.assert_pushed("Notes");
    let refused: Vec<_> =
        forge.scene.strongroom.audit().into_iter().filter(|line| line["decision"] == "no_placeholder").collect();
    assert!(!refused.is_empty(), "it asked without a password first");
    let needles = Needles::of(forge.key.as_bytes());
    for file in strongroom_tests::strongroom::files_below(work.path()) {
        assert_eq!(needles.find(&std::fs::read(&file).unwrap()), None, "{}", file.display());
    }
}

#[test]
#[ignore = "needs the real clients: git"]
fn a_wrong_password_fails_and_says_so() {
    let forge = Forge::new();
    let work = TempDir::new().unwrap();
    let to = work.path().join("one");
    let output = git(&["clone", "--quiet", &forge.remote("worthless"), to.to_str().unwrap()]).run();
    assert_eq!(output.code, Some(128), "{output:?}");
    assert!(output.stderr.contains("403"), "{output:?}");
    assert_eq!(forge.scene.upstream.count(), 0);
}

/// Programs of the system alone.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
