//! nginx as a proxy that adds a header: one worker, kept connections, access log, the upstream's certificate checked.
//!
//! It refuses to hold up the benchmark: where nginx is not installed, that is said and the others are measured. It
//! streams as the other subjects do: events and uploads are not collected, large answers do not go to disk.
//! Called by `stage`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::child::Child;
use super::{Setting, Subject, SubjectKind, plain};
use crate::error::{BenchError, Outcome, While};
use crate::process;
use crate::upstream::HOST;

/// What came of it.
pub enum Started {
    /// It answers; with its version.
    Runs(Box<Subject>, Child, String),
    /// It does not, for this reason.
    Missing(String),
}

/// Starts it where it is installed.
pub fn start(setting: &Setting) -> Outcome<Started> {
    let Some(program) = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
    else {
        return Ok(Started::Missing("nginx is not installed, and is left out.".to_owned()));
    };
    let version = Command::new(program).arg("-v").output().during("asking nginx for its version")?;
    let version = String::from_utf8_lossy(&version.stderr).trim().rsplit('/').next().unwrap_or_default().to_owned();
    let directory = setting.directory.join("nginx");
    fs::create_dir(&directory).during("nginx's directory")?;
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).during("a port")?.port();
    let config = directory.join("nginx.conf");
    fs::write(&config, configuration(setting, &directory, port)).during("nginx's configuration")?;
    let began = Instant::now();
    let mut command = Command::new(program);
    command.arg("-c").arg(&config).arg("-p").arg(&directory).arg("-e").arg(directory.join("error.log"));
    let mut child = Child::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()), "nginx")?;
    let end = began + Duration::from_secs(10);
    // One worker beside the master, and a port that answers.
    while process::family(child.pid()).len() < 2 || TcpStream::connect(("127.0.0.1", port)).is_err() {
        if child.ended() || Instant::now() > end {
            let log = fs::read_to_string(directory.join("error.log")).unwrap_or_default();
            return Err(BenchError::new(format!("nginx does not start: {log}")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let start_up = began.elapsed();
    let processes = process::family(child.pid()).into_iter().map(|pid| ("nginx", pid)).collect();
    let subject = Subject::new(SubjectKind::Nginx, plain(port, "", "placeholder"), processes, start_up);
    Ok(Started::Runs(Box::new(subject), child, version))
}

fn configuration(setting: &Setting, directory: &Path, port: u16) -> String {
    let (directory, root) = (directory.display(), setting.root.display());
    let (upstream, key) = (setting.upstream, &setting.key);
    // Only root can and needs to choose whom the worker runs as.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off; worker_processes 1; pid {directory}/pid; {user}
events {{ worker_connections 2048; }}
http {{
  access_log {directory}/access.log;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;
  uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  tcp_nodelay on; keepalive_requests 100000000; client_max_body_size 0;
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass https://api;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host {HOST};
      proxy_set_header Authorization \"Bearer {key}\";
      proxy_ssl_server_name on; proxy_ssl_name {HOST};
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {root};
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      location /sse {{ proxy_buffering off; proxy_pass https://api; }}
    }}
  }}
}}
"
    )
}
