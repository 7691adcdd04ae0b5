//! Stand-ins for the daemons: just enough of admin.sock and agent.sock for what is tested here.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use strongroom_protocol::admin::{Failure, Operation, Reply, Request};
use strongroom_protocol::environment::{Environment, EnvironmentGrant};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, HEADER};

/// A home with stand-ins; `folder/home` is STRONGROOM_HOME.
pub struct Stage {
    folder: tempfile::TempDir,
    pub ca: Vec<u8>,
    tcp: TcpListener,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["home", "home/run", "home/data", "user"] {
            let part = folder.path().join(part);
            fs::create_dir(&part).unwrap();
            // Whatever the umask.
            fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { folder, ca: ca.der().to_vec(), tcp: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn home(&self) -> std::path::PathBuf {
        self.folder.path().join("home")
    }

    pub fn listen(&self) -> String {
        self.tcp.local_addr().unwrap().to_string()
    }

    /// gatewayd, which answers each path (with its query) like this; others are a refusal.
    pub fn gatewayd(&self, answer: impl Fn(&str) -> Result<Value, &'static str> + Send + 'static) {
        let health = json!({ "status": "ok", "listen": [self.listen()] });
        let listener = UnixListener::bind(self.home().join("run/agent.sock")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let path = path_of(&mut stream);
                let answer = if path == "/.strongroom/health" { Ok(health.clone()) } else { answer(&path) };
                let (status, body) = match answer {
                    Ok(body) => ("200 OK", body),
                    Err(code) => (
                        "403 Forbidden",
                        json!({ "error": { "type": "strongroom", "code": code, "message": format!("It is so. Do it. ({code})"), "hint": "Do it." } }),
                    ),
                };
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
    }

    /// keyd, which answers an admin's question for an environment like this.
    pub fn keyd(&self, answer: impl Fn(&str, Option<u64>) -> Result<Environment, Failure> + Send + 'static) {
        self.admin(move |operation| match operation {
            Operation::Environment { agent, after } => {
                answer(agent.as_str(), after).map_or_else(Reply::Failed, Reply::Environment)
            }
            _ => Reply::Failed(Failure::NotPermitted),
        });
    }

    /// keyd, which answers an admin like this.
    pub fn admin(&self, answer: impl Fn(Operation) -> Reply + Send + 'static) {
        let listener = UnixListener::bind(self.home().join("run/admin.sock")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Some(request) = request_of(&mut stream) {
                    let reply = answer(request.operation);
                    let _ = stream.write_all(&frame::encode(&reply, ADMIN_LIMIT).unwrap());
                }
            }
        });
    }

    /// A page as keyd gives it.
    pub fn page(&self, grants: Vec<EnvironmentGrant>, more: bool) -> Environment {
        let token = Some("strongroom-agent-t".to_owned());
        Environment { agent: "coder".parse().unwrap(), token, ca: self.ca.clone(), grants, more }
    }

    /// A page as gatewayd gives it.
    pub fn document(&self, agent: &str, grants: &[EnvironmentGrant], more: bool) -> Value {
        json!({
            "agent": agent,
            "ca": strongroom_ctl::certificates::to_pem(&self.ca),
            "listen": [self.listen()],
            "grants": grants,
            "more": more,
        })
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(words).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("STRONGROOM_HOME", self.home());
        command.env("HOME", self.folder.path().join("user"));
        command
    }

    /// As the first program of a session, with these options of `setsid`.
    pub fn in_a_session(&self, options: &[&str], words: &[&str]) -> Command {
        let (plain, mut command) = (self.command(words), Command::new("setsid"));
        command.args(options).arg(plain.get_program()).args(plain.get_args()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        command
    }

    pub fn strongroom(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub fn user(&self) -> &Path {
        self.folder.path()
    }
}

pub fn grant(number: u64, credential: &str, provider: Option<&str>, variables: &[&str]) -> EnvironmentGrant {
    EnvironmentGrant {
        number,
        credential: credential.parse().unwrap(),
        provider: provider.map(|provider| provider.parse().unwrap()),
        route: Some(provider.unwrap_or(credential).parse().unwrap()),
        variables: variables.iter().map(ToString::to_string).collect(),
        placeholder: format!("strongroom-{credential}"),
        named: false,
    }
}

pub fn openai() -> EnvironmentGrant {
    grant(1, "mine", Some("openai"), &["OPENAI_API_KEY"])
}

fn path_of(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().split(' ').nth(1).unwrap_or_default().to_owned()
}

fn request_of(stream: &mut UnixStream) -> Option<Request> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).ok()?;
    let mut payload = vec![0; frame::payload_length(&header, ADMIN_LIMIT).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    Some(frame::decode(&payload).unwrap())
}
