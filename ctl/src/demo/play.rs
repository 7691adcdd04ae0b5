//! The demo's play, scene by scene.
//!
//! It refuses to go on after a scene that failed: the error says which. Called by `run`.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::agent;
use super::certificate::Root;
use super::error::DemoError;
use super::interrupt::Interrupt;
use super::isolation::{self, Isolation};
use super::memory::{self, MemoryError};
use super::needles::Needles;
use super::report::{Report, files_below};
use super::stage::{AGENT_USER, Daemons, Stage};
use super::upstream::{Exchange, Upstream};

/// Plays it all; what happens is told on `progress`.
///
/// # Errors
/// What kept a scene from being played. What a scene showed is in the report.
pub fn play(progress: &mut impl Write) -> Result<Report, DemoError> {
    let isolation = isolation::enter();
    let interrupt = Interrupt::watch();
    let mut tell = |words: &str| {
        let _ = writeln!(progress, "{words}");
        interrupt.check()
    };

    tell("A vault, a credential, an agent and a grant ...")?;
    let key = random_text("sk-demo-", 40)?;
    let needles = Needles::of(key.as_bytes());
    let root = Root::new("Strongroom demo root")?;
    let (release, released) = channel();
    let upstream = Upstream::start(root.server(HOST)?, answers(released))?;
    let mut stage = Stage::set(isolation == Isolation::Root)?;
    stage.init()?;
    let port = free_port()?;
    configure(&stage, port, &upstream)?;
    let daemons = stage.up()?;
    tell("keyd and gatewayd are up ...")?;
    stage.strongroom(&["unlock"], b"")?;
    let ca = stage.write("root.pem", &root.pem())?;
    let ca = ca.to_string_lossy();
    stage.strongroom(
        &["credential", "add", "demo", "--host", HOST, "--bearer", "--ca", &ca],
        format!("{key}\n").as_bytes(),
    )?;
    stage.strongroom(&["agent", "add", "demo-agent"], b"")?;
    let placeholder = stage.strongroom(&["grant", "add", "demo", "--agent", "demo-agent"], b"")?.trim().to_owned();

    tell("The agent sends a request, and one whose answer is a stream ...")?;
    let mut report = Report::default();
    let mut player = Player::begin(&stage, isolation, port, &placeholder, &interrupt)?;
    player.listen_until(FIRST_EVENT)?;
    tell("In the middle of the stream: a look into gatewayd ...")?;
    let canaries = [placeholder.as_bytes(), b"from=the-demo-agent"];
    let early = look_into_memory(&mut report, "gatewayd's memory, mid-stream", daemons.gatewayd, &needles, &canaries);
    // The upstream's thread may have gone: then the agent says what it got.
    let _ = release.send(());
    player.listen_until(agent::LAST_LINE)?;
    tell("After the stream: a look at everything ...")?;
    let late = look_into_memory(&mut report, "gatewayd's memory, afterwards", daemons.gatewayd, &needles, &canaries);
    look_into_memory(&mut report, "the agent's memory", player.child.id(), &needles, &[placeholder.as_bytes()]);
    look_at_processes(&mut report, &needles, daemons, player.child.id());
    let said = player.end()?;
    report.no_key_in("what the agent was told", said.as_bytes(), &needles);
    look_at_files(&mut report, &stage, &needles)?;
    look_at_the_upstream(&mut report, &upstream, &key);
    fill_table(&mut report, &key, &placeholder, &said, early.or(late));
    Ok(report)
}

/// What the upstream does: it gives back the key that it got, in every place that it has.
fn answers(released: Receiver<()>) -> impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync {
    let released = Mutex::new(released);
    move |exchange| {
        let got = exchange.head().value("authorization").unwrap_or_default();
        if exchange.head().target().starts_with("/v1/echo") {
            let body = serde_json::json!({ "your authorization was": got }).to_string();
            return exchange.respond(
                "200 OK",
                &[("content-type", "application/json"), (ECHO_FIELD, &got)],
                body.as_bytes(),
            );
        }
        exchange.body()?;
        exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
        exchange.chunk(format!("data: {got}\n\n{FIRST_EVENT}\n\n").as_bytes())?;
        let waited = released.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(Duration::from_secs(25));
        waited.map_err(io::Error::other)?;
        exchange.chunk(format!("data: once more, {got}\n\n").as_bytes())?;
        exchange.end(&[])
    }
}

fn configure(stage: &Stage, port: u16, upstream: &Upstream) -> Result<(), DemoError> {
    let file = stage.home().join("config/gatewayd.toml");
    let text = format!("listen = [\"127.0.0.1:{port}\"]\n\n[resolve]\n\"{HOST}\" = \"{}\"\n", upstream.address());
    fs::write(&file, text).map_err(DemoError::file("writing", &file))
}

/// The agent's process, and what it has said so far.
struct Player {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
    interrupt: Interrupt,
}

impl Player {
    fn begin(
        stage: &Stage,
        isolation: Isolation,
        port: u16,
        placeholder: &str,
        interrupt: &Interrupt,
    ) -> Result<Self, DemoError> {
        let mut command = Command::new(stage.program());
        command.args(["demo", "--role", "agent"]).env_clear();
        command.env(agent::KEY_VARIABLE, placeholder).env(agent::URL_VARIABLE, format!("http://127.0.0.1:{port}/demo"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        if isolation == Isolation::Root {
            command.uid(AGENT_USER).gid(AGENT_USER);
        }
        let mut child = command.spawn().map_err(DemoError::file("running", stage.program()))?;
        interrupt.set_agent(child.id().cast_signed());
        let Some(output) = child.stdout.take() else { return Err(DemoError::Agent("no output".to_owned())) };
        Ok(Self { child, output: BufReader::new(output), said: String::new(), interrupt: interrupt.clone() })
    }

    /// Reads until a line is this one.
    fn listen_until(&mut self, last: &str) -> Result<(), DemoError> {
        loop {
            let before = self.said.len();
            let read =
                self.output.read_line(&mut self.said).map_err(DemoError::system("reading what the agent says"))?;
            self.interrupt.check()?;
            if read == 0 {
                return Err(DemoError::Agent(self.said.clone()));
            }
            if self.said[before..].trim_end() == last {
                return Ok(());
            }
        }
    }

    /// Lets it go, and gives all that it said.
    fn end(mut self) -> Result<String, DemoError> {
        drop(self.child.stdin.take());
        self.output.read_to_string(&mut self.said).map_err(DemoError::system("reading what the agent says"))?;
        let status = self.child.wait().map_err(DemoError::system("waiting for the agent"))?;
        if status.success() { Ok(std::mem::take(&mut self.said)) } else { Err(DemoError::Agent(self.said.clone())) }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Ended already in the good case; killing it is for all others.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.interrupt.set_agent(0);
    }
}

/// Reads a process's memory into the report; gives how often a canary was there.
fn look_into_memory(report: &mut Report, what: &str, pid: u32, needles: &Needles, canaries: &[&[u8]]) -> Option<u64> {
    match memory::scan(pid, needles, canaries) {
        Ok(scan) if scan.canaries == 0 => {
            report.promise(
                false,
                &format!("no key in {what}"),
                "the scan read nothing: even the placeholder was not there",
            );
            None
        }
        Ok(scan) => {
            let seen =
                format!("{} MiB read, the placeholder or the request found {} times", scan.bytes >> 20, scan.canaries);
            let detail = if scan.found.is_empty() { seen } else { scan.found.join(", ") };
            report.promise(scan.found.is_empty(), &format!("no key in {what}"), &detail);
            Some(scan.canaries)
        }
        Err(MemoryError::Forbidden(_)) => {
            report.not_looked_at("memory: not looked at (needs root)");
            None
        }
        Err(error) => {
            report.promise(false, &format!("no key in {what}"), &error.to_string());
            None
        }
    }
}

fn look_at_processes(report: &mut Report, needles: &Needles, daemons: Daemons, agent: u32) {
    for (name, pid) in [("keyd", daemons.keyd), ("gatewayd", daemons.gatewayd), ("the agent", agent)] {
        for (file, what) in [("environ", "environment"), ("cmdline", "arguments")] {
            match fs::read(format!("/proc/{pid}/{file}")) {
                // keyd wipes its environment, so there may be nothing left to read.
                Ok(bytes) if file == "environ" && bytes.iter().all(|&byte| byte == 0) => {
                    report.promise(true, &format!("no key in the {what} of {name}"), "it is empty");
                }
                Ok(bytes) => report.no_key_in(&format!("the {what} of {name}"), &bytes, needles),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    report.not_looked_at(&format!("{what} of {name}: not looked at (needs root)"));
                }
                Err(error) => report.promise(false, &format!("no key in the {what} of {name}"), &error.to_string()),
            }
        }
    }
}

fn look_at_files(report: &mut Report, stage: &Stage, needles: &Needles) -> Result<(), DemoError> {
    let home = stage.home();
    let mut audit = Vec::new();
    for file in files_below(&home).map_err(DemoError::file("listing", &home))? {
        let bytes = fs::read(&file).map_err(DemoError::file("reading", &file))?;
        let name = file.strip_prefix(&home).unwrap_or(&file).display().to_string();
        match needles.find(&bytes) {
            None => report.promise(true, &format!("no key in {name}"), &format!("{} bytes", bytes.len())),
            Some(form) => report.promise(false, &format!("no key in {name}"), &format!("found: {form}")),
        }
        if name.starts_with("data/audit/") {
            audit.extend_from_slice(&bytes);
        }
    }
    let lines = String::from_utf8_lossy(&audit);
    let uses = lines.lines().filter(|line| line.contains("\"allowed\"") && line.contains("/v1/")).count();
    report.promise(uses >= 2, "each use of the key is in the audit log", &format!("{uses} uses"));
    Ok(())
}

fn look_at_the_upstream(report: &mut Report, upstream: &Upstream, key: &str) {
    let wanted = format!("Bearer {key}");
    let received = upstream.received();
    let right = received.iter().filter(|request| request.head.values("authorization") == [wanted.as_str()]).count();
    let holds = right == 2 && received.len() == 2;
    report.promise(holds, "the upstream got the real key", &format!("in {right} of {} requests", received.len()));
}

fn fill_table(report: &mut Report, key: &str, placeholder: &str, said: &str, canaries: Option<u64>) {
    let line = |start: &str| {
        said.lines().find(|line| line.to_ascii_lowercase().starts_with(start)).unwrap_or("(nothing)").to_owned()
    };
    let memory = canaries
        .map_or_else(|| "(memory not looked at)".to_owned(), |times| format!("(found in its memory: {times} times)"));
    let sent = format!("Authorization: Bearer {placeholder}");
    report.row("request", &sent, &format!("{sent}\n{memory}"), &format!("authorization: Bearer {key}"));
    let (echo, body) = (line(ECHO_FIELD), line("{"));
    report.row("response field", &echo, "as the agent", &format!("{ECHO_FIELD}: Bearer {key}"));
    report.row("response body", &body, "as the agent", &format!("{{\"your authorization was\":\"Bearer {key}\"}}"));
    report.row("response stream", &line("data: bearer"), "as the agent", &format!("data: Bearer {key}"));
}

/// A port below those that the kernel gives to clients, so that nobody takes it between now and gatewayd's start.
fn free_port() -> Result<u16, DemoError> {
    loop {
        let port = 10_240 + u16::from_le_bytes(random()?) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}

fn random_text(prefix: &str, length: usize) -> Result<String, DemoError> {
    let mut text = prefix.to_owned();
    while text.len() < prefix.len() + length {
        let [byte] = random::<1>()?;
        // 62 letters and digits; what lies above would make some of them likelier.
        if let Some(&character) = ALPHABET.get(usize::from(byte & 63)) {
            text.push(char::from(character));
        }
    }
    Ok(text)
}

fn random<const N: usize>() -> Result<[u8; N], DemoError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| DemoError::System {
        doing: "random bytes",
        path: None,
        source: io::ErrorKind::Other.into(),
    })?;
    Ok(bytes)
}

const HOST: &str = "api.demo.example";
const ECHO_FIELD: &str = "x-your-authorization";
const FIRST_EVENT: &str = "data: that was the first event";
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
