//! The demo's agent: a process of its own that knows a placeholder and a base URL, and nothing else.
//!
//! It sends one plain and one streaming request and says on its standard output, word for word, what came back. Then
//! it stays until its standard input ends, so that it can be looked at. It refuses to know anything about Strongroom:
//! it is what any program with an API key in its environment would be. Begun by `mod.rs` as `demo --role agent`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::http1::{Head, Reader};

/// The variable with the placeholder.
pub const KEY_VARIABLE: &str = "DEMO_API_KEY";
/// The variable with the base URL.
pub const URL_VARIABLE: &str = "DEMO_BASE_URL";
/// The path of the plain request, below the base URL.
pub const PLAIN_PATH: &str = "/v1/echo?from=the-demo-agent";
/// The path of the streaming request.
pub const STREAM_PATH: &str = "/v1/stream?from=the-demo-agent";
/// The last line that the agent prints.
pub const LAST_LINE: &str = "[the agent is done]";

/// Does the agent's part.
///
/// # Errors
/// Where a variable is missing, or the gateway cannot be spoken with.
pub fn run(out: &mut impl Write) -> io::Result<()> {
    let variable = |name| std::env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")));
    let (key, url) = (variable(KEY_VARIABLE)?, variable(URL_VARIABLE)?);
    let (host, prefix) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or(io::ErrorKind::InvalidInput)?;
    let stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = Reader::new(stream);
    for (method, path, body) in [("GET", PLAIN_PATH, ""), ("POST", STREAM_PATH, "{\"stream\":true}")] {
        let request = format!(
            "{method} /{prefix}{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        reader.stream().write_all(request.as_bytes())?;
        let head = reader.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut framing = head.response_framing(method);
        print_head(out, &head)?;
        while let Some(piece) = reader.piece(&mut framing)? {
            out.write_all(&piece)?;
            out.flush()?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{LAST_LINE}")?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn print_head(out: &mut impl Write, head: &Head) -> io::Result<()> {
    writeln!(out, "{}", head.start_line)?;
    for (name, value) in &head.fields {
        writeln!(out, "{name}: {}", String::from_utf8_lossy(value))?;
    }
    writeln!(out)
}
