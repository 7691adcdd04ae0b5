//! A real client program - an SDK's script, `claude`, curl, git - as a process that a test talks with.
//!
//! It gets an environment of its own, or the one that `strongroom run` makes: what the machine sets (roots, proxies, keys
//! of its user) would decide a test for the wrong reason. Its lines come as they are printed, so that a test sees whether an event arrived before the next was
//! sent. It refuses to wait for ever, and leaves no process behind. Installed by `tests/clients/install`; used by the
//! tests of real clients.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use strongroom_ctl::demo::memory;
use strongroom_ctl::demo::needles::Needles;
use tempfile::TempDir;

use crate::deadline::within;
use crate::strongroom::{Output, Strongroom};

/// A client that is to be started.
pub struct Builder {
    command: Command,
    home: TempDir,
}

/// A client that runs. Dropped, it is killed.
pub struct Client {
    child: Child,
    lines: Receiver<String>,
    seen: String,
    errors: Option<JoinHandle<String>>,
    _home: TempDir,
}

impl Builder {
    /// A program with these arguments, an empty home and nothing else in its environment.
    ///
    /// # Panics
    /// Where there is no temporary directory.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("client-").tempdir().expect("a temporary directory");
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir(home.path());
        command.env("HOME", home.path()).env("PATH", PATH).env("LANG", "C.UTF-8");
        Self { command, home }
    }

    /// A Python script of `tests/clients/python`.
    ///
    /// # Panics
    /// Where the clients are not installed.
    #[must_use]
    pub fn python(script: &str, arguments: &[&str]) -> Self {
        let mut builder = Self::new(installed("python/bin/python"), &[]);
        builder.command.arg("-B").arg(sources().join("python").join(script)).args(arguments);
        builder
    }

    /// A Node script of `tests/clients/node`.
    ///
    /// # Panics
    /// Where the clients are not installed.
    #[must_use]
    pub fn node(script: &str, arguments: &[&str]) -> Self {
        let mut builder = Self::new(installed("node/node_modules/.bin/node"), &[]);
        builder.command.arg(sources().join("node").join(script)).args(arguments);
        builder.env("NODE_PATH", installed("node/node_modules"))
    }

    /// `claude`, from the package of this machine's kind.
    ///
    /// # Panics
    /// Where it is not installed.
    #[must_use]
    pub fn claude(arguments: &[&str]) -> Self {
        let packages = installed("node/node_modules/@anthropic-ai");
        let mut found = fs::read_dir(packages).expect("a directory").flatten().map(|entry| entry.path().join("claude"));
        Self::new(found.find(|path| path.is_file()).expect("a package with the program"), arguments)
    }

    /// `codex`, from the package of this machine's kind. It looks for its key in a variable of its own, so it is told.
    ///
    /// # Panics
    /// Where it is not installed.
    #[must_use]
    pub fn codex(arguments: &[&str]) -> Self {
        let packages = installed("node/node_modules/@openai");
        let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut kinds = below(packages).flat_map(|package| below(package.join("vendor")));
        let program = kinds.find_map(|kind| Some(kind.join("bin/codex")).filter(|path| path.is_file()));
        let mut builder = Self::new("sh", &["-c", r#"CODEX_API_KEY=$OPENAI_API_KEY exec "$0" "$@""#]);
        builder.command.arg(program.expect("a package with the program")).args(arguments);
        builder
    }

    /// Lets `strongroom run` start it as this agent: its environment is what the product makes of this one. `over` is set
    /// behind that, as by a program's user who knows better.
    #[must_use]
    pub fn run_as(mut self, strongroom: &Strongroom, agent: &str, over: &[(&str, &str)]) -> Self {
        let mut run = strongroom.command(&["run", "--agent", agent, "--"]);
        run.env_remove("STRONGROOM_PASSPHRASE_FILE").current_dir(self.home.path());
        run.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if !over.is_empty() {
            run.arg("env").args(over.iter().map(|(name, value)| format!("{name}={value}")));
        }
        run.arg(self.command.get_program()).args(self.command.get_args());
        self.command = run;
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Its home, which is also its working directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn start(mut self) -> Client {
        let command = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let (out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok()
        });
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Client { child, lines, seen: String::new(), errors: Some(errors), _home: self.home }
    }

    /// Runs it to its end, with nothing on its standard input.
    ///
    /// # Panics
    /// Where it cannot be started or does not end.
    #[track_caller]
    #[must_use]
    pub fn run(self) -> Output {
        self.start().finish()
    }
}

impl Client {
    /// The next line.
    ///
    /// # Panics
    /// Where it ends, or says nothing for too long.
    #[track_caller]
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push_str(&line);
                self.seen.push('\n');
                line
            }
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().ok();
                let errors = self.errors();
                panic!("the client says nothing more after {:?}; its errors: {errors}", self.seen)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let errors = self.errors();
                panic!("the client ended after {:?}; its errors: {errors}", self.seen)
            }
        }
    }

    /// The next line as JSON.
    ///
    /// # Panics
    /// As [`Client::line`], and where it is none.
    #[track_caller]
    pub fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Checks that neither its environment nor its memory nor what it printed holds the key; the placeholder is in its
    /// memory, so that the search can find.
    ///
    /// # Panics
    /// Where the key is found, or nothing could be searched.
    #[track_caller]
    pub fn assert_never_held(&self, key: &str, placeholder: &str) {
        let needles = Needles::of(key.as_bytes());
        let environment = fs::read(format!("/proc/{}/environ", self.child.id())).expect("our own child's");
        assert_eq!(needles.find(&environment), None, "the client's environment");
        assert!(memchr::memmem::find(&environment, placeholder.as_bytes()).is_some(), "it was looked at");
        assert_eq!(needles.find(self.seen.as_bytes()), None, "the client's output");
        let scan = memory::scan(self.child.id(), &needles, &[placeholder.as_bytes()]).expect("our own child");
        assert!(scan.canaries > 0, "the scan read nothing: {scan:?}");
        assert_eq!(scan.found, Vec::<String>::new(), "the client's memory");
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        drop(self.child.stdin.take());
        let child = &mut self.child;
        let status = within(PATIENCE, "the client ends", || child.try_wait().expect("our own child"));
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        let stderr = self.errors();
        Output { code: status.code(), stdout: std::mem::take(&mut self.seen), stderr }
    }

    /// Tells it something.
    ///
    /// # Panics
    /// Where it does not listen any more.
    pub fn tell(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("not closed before the end");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("it listens");
    }

    fn errors(&mut self) -> String {
        self.errors.take().and_then(|reading| reading.join().ok()).unwrap_or_default()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Something below `target/clients`.
///
/// # Panics
/// Where it is not there.
#[track_caller]
#[must_use]
pub fn installed(path: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/TEST
    let target = test.ancestors().nth(3).expect("a test lies in target/PROFILE/deps");
    let path = target.join("clients").join(path);
    assert!(path.exists(), "{} is not there; run 'tests/clients/install' first", path.display());
    path
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Programs of the system alone.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A cold start of an interpreter on a busy machine takes seconds; so do the pauses before a client tries again.
const PATIENCE: Duration = Duration::from_secs(60);
