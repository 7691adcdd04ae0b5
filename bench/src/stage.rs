//! All that is measured, set up side by side in a temporary directory: one upstream, and what stands before it.
//!
//! It refuses to leave anything behind: what it started ends with it. As root the daemons run under users of their own,
//! as they do in a system installation. Called by `main.rs`.

mod child;
mod nginx;
mod strongroom;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use self::child::Child;
pub use self::strongroom::Strongroom;
use crate::error::{BenchError, Outcome, While};
use crate::load::Target;
use crate::process;
use crate::scenario::Scenario;
use crate::upstream::HOST;

/// Who stands between the client and the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// Nobody.
    Direct,
    /// The plain proxy of this crate.
    OneProcess,
    /// nginx that adds a header.
    Nginx,
    /// keyd and gatewayd, by base URL.
    Strongroom,
    /// The same two, by CONNECT, HTTP/1.1 inside.
    Connect,
    /// The same, HTTP/2 inside.
    ConnectHttp2,
}

impl SubjectKind {
    /// In the order of the tables.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::OneProcess, Self::Nginx, Self::Strongroom, Self::Connect, Self::ConnectHttp2];

    /// As it is asked for and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::OneProcess => "one-process",
            Self::Nginx => "nginx",
            Self::Strongroom => "strongroom",
            Self::Connect => "connect",
            Self::ConnectHttp2 => "connect-h2",
        }
    }

    /// Whether it is measured in this scenario: of the two inside a tunnel, what the tunnel changes.
    #[must_use]
    pub fn takes_part_in(self, scenario: &Scenario) -> bool {
        match self {
            Self::Connect | Self::ConnectHttp2 => ["json-1", "json-16", "cold"].contains(&scenario.name),
            _ => true,
        }
    }
}

/// One of them, running.
pub struct Subject {
    /// Which.
    pub kind: SubjectKind,
    /// Where to ask.
    pub target: Target,
    /// Its processes by name.
    pub processes: Vec<(&'static str, u32)>,
    /// From start until it answers.
    pub start_up: Duration,
    /// Resident memory before the first request, in bytes.
    pub idle: u64,
}

/// Everything that runs.
pub struct Stage {
    /// The upstream itself.
    pub upstream: Target,
    /// The subjects.
    pub subjects: Vec<Subject>,
    /// What is not there, and why.
    pub missing: Vec<String>,
    /// nginx's version.
    pub nginx: Option<String>,
    /// To start it again.
    pub strongroom: Option<Strongroom>,
    // In the order of their end.
    _children: Vec<Child>,
    _directory: TempDir,
}

/// What every part needs to be set up.
pub struct Setting {
    directory: PathBuf,
    programs: PathBuf,
    upstream: u16,
    root: PathBuf,
    key: String,
    limits: String,
}

impl Stage {
    /// Starts these subjects and their upstream; `limits` are lines of gatewayd's `[limits]`.
    ///
    /// # Errors
    /// Where one of them does not start, but for nginx, which may be missing.
    pub fn set(kinds: &[SubjectKind], limits: &str) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("sr-bench-").tempdir().during("a temporary directory")?;
        // Other users pass through on the way to what is theirs.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).during("our own directory")?;
        let own = std::env::current_exe().during("the path of this program")?;
        let programs = own.parent().ok_or_else(|| BenchError::new("this program has no directory"))?.to_owned();
        let root = directory.path().join("root.pem");
        let (upstream, port) = Child::with_port(Command::new(&own).arg("upstream").arg(&root), b"", "upstream")?;
        let setting = Setting {
            directory: directory.path().to_owned(),
            programs,
            upstream: port,
            root,
            key: random("sk-")?,
            limits: limits.to_owned(),
        };
        let upstream_target = direct(&setting)?.target;
        let mut stage = Self {
            upstream: upstream_target,
            subjects: Vec::new(),
            missing: Vec::new(),
            nginx: None,
            strongroom: None,
            _children: vec![upstream],
            _directory: directory,
        };
        for kind in kinds {
            match kind {
                SubjectKind::Direct => stage.subjects.push(direct(&setting)?),
                SubjectKind::OneProcess => stage.one_process(&setting)?,
                SubjectKind::Nginx => match nginx::start(&setting)? {
                    nginx::Started::Runs(subject, child, version) => {
                        stage.subjects.push(*subject);
                        stage._children.push(child);
                        stage.nginx = Some(version);
                    }
                    nginx::Started::Missing(words) => stage.missing.push(words),
                },
                SubjectKind::Strongroom | SubjectKind::Connect | SubjectKind::ConnectHttp2 => {
                    if stage.strongroom.is_none() {
                        stage.strongroom = Some(Strongroom::start(&setting)?);
                    }
                    let strongroom = stage.strongroom.iter().map(|strongroom| strongroom.subject(*kind));
                    stage.subjects.extend(strongroom.collect::<Outcome<Vec<_>>>()?);
                }
            }
        }
        Ok(stage)
    }

    fn one_process(&mut self, setting: &Setting) -> Outcome<()> {
        let placeholder = random("sk-strongroom-")?;
        let mut command = Command::new(setting.programs.join("one-process"));
        command.arg(format!("127.0.0.1:{}", setting.upstream)).arg(HOST).arg(&setting.root);
        command.arg(setting.directory.join("one-process-audit"));
        let began = Instant::now();
        let words = format!("{}\n{placeholder}\n", setting.key);
        let (child, port) = Child::with_port(&mut command, words.as_bytes(), "one-process")?;
        let start_up = began.elapsed();
        let target = plain(port, "", &placeholder);
        let processes = vec![("one-process", child.pid())];
        self.subjects.push(Subject::new(SubjectKind::OneProcess, target, processes, start_up));
        self._children.push(child);
        Ok(())
    }
}

impl Subject {
    fn new(kind: SubjectKind, target: Target, processes: Vec<(&'static str, u32)>, start_up: Duration) -> Self {
        let idle = processes.iter().map(|(_, pid)| process::resident(*pid)).sum();
        Self { kind, target, processes, start_up, idle }
    }

    /// Whether it has processes of its own; the ways in share theirs.
    #[must_use]
    pub fn is_at_rest_by_itself(&self) -> bool {
        !self.processes.is_empty() && !matches!(self.kind, SubjectKind::Connect | SubjectKind::ConnectHttp2)
    }

    /// CPU time of each of its processes so far.
    #[must_use]
    pub fn cpu(&self) -> Vec<Duration> {
        self.processes.iter().map(|(_, pid)| process::cpu_time(*pid)).collect()
    }
}

fn direct(setting: &Setting) -> Outcome<Subject> {
    let text = fs::read(&setting.root).during("the root's certificate")?;
    let target =
        Target { tls: Some(tls(&text, &[])?), host: HOST.to_owned(), ..plain(setting.upstream, "", &setting.key) };
    Ok(Subject::new(SubjectKind::Direct, target, Vec::new(), Duration::ZERO))
}

/// TLS with the upstream's name, believing these certificates (PEM), offering these protocols.
fn tls(text: &[u8], alpn: &[&[u8]]) -> Outcome<(TlsConnector, ServerName<'static>)> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        roots.add(certificate.during("the root's certificate")?).during("the root's certificate")?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .during("TLS versions")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(HOST).during("the upstream's name")?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn plain(port: u16, prefix: &str, bearer: &str) -> Target {
    Target {
        address: ([127, 0, 0, 1], port).into(),
        tls: None,
        host: format!("127.0.0.1:{port}"),
        through: None,
        is_http2: false,
        prefix: prefix.to_owned(),
        bearer: bearer.to_owned(),
    }
}

/// 40 letters and digits behind a prefix.
fn random(prefix: &str) -> Outcome<String> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = [0; 40];
    SystemRandom::new().fill(&mut bytes).during("random bytes")?;
    let text = bytes.iter().map(|&byte| char::from(alphabet[usize::from(byte) % alphabet.len()]));
    Ok(prefix.chars().chain(text).collect())
}
