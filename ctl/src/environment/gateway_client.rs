//! Asks gatewayd over agent.sock: an agent about itself, anybody where it listens.
//!
//! HTTP/1.1 over the Unix socket. Who asks is seen by the kernel's evidence, so nothing is sent to prove it. It refuses
//! answers over a limit, and waits for nothing for ever. Called by `source.rs` and
//! `status`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use strongroom_protocol::Refusal;
use strongroom_protocol::home::Home;
use tokio::net::UnixStream;

use crate::error::{CtlError, Outcome};
use crate::output::printable;

/// gatewayd, as an agent reaches it.
#[derive(Debug)]
pub struct GatewayClient {
    socket: PathBuf,
    patience: Duration,
}

impl GatewayClient {
    /// Of this home; connects when something is asked.
    #[must_use]
    pub fn new(home: &Home) -> Self {
        Self { socket: home.agent_socket(), patience: PATIENCE }
    }

    /// Where somebody looks on and gatewayd may hang.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The addresses at which gatewayd listens, with the ports that it got.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn listen(&self) -> Outcome<Vec<String>> {
        self.ask("health").map(|health: Health| health.listen)
    }

    /// Asks for what is at this path below `/.strongroom/`.
    ///
    /// # Errors
    /// 69 where nobody answers, 77 where this user may not connect; gatewayd's refusals with their codes.
    pub fn ask<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let (status, body) = self.fetch(path)?;
        if status != StatusCode::OK {
            return Err(refused(status, &body));
        }
        serde_json::from_slice(&body).map_err(|_| {
            CtlError::fault("gatewayd's answer is not understood. Install programs of one release and restart them.")
        })
    }

    fn fetch(&self, path: &str) -> Outcome<(StatusCode, Bytes)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CtlError::fault(format!("no connection can be made: {error}. Try again.")))?;
        runtime.block_on(async {
            tokio::time::timeout(self.patience, exchange(&self.socket, path))
                .await
                .unwrap_or_else(|_| Err(lost("it did not answer in time")))
        })
    }
}

async fn exchange(socket: &Path, path: &str) -> Outcome<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket).await.map_err(|error| connect_error(socket, &error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    // It ends with the runtime.
    tokio::spawn(connection);
    let request = Request::get(format!("/.strongroom/{path}"))
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| CtlError::fault(format!("the request cannot be written: {error}. Report it.")))?;
    let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| lost(&error))?;
    Ok((status, body.to_bytes()))
}

/// `/.strongroom/health`
#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    listen: Vec<String>,
}

/// gatewayd's refusals, as its error documents say them.
#[derive(Deserialize)]
struct Document {
    error: Refused,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
    message: String,
    hint: String,
}

fn refused(status: StatusCode, body: &[u8]) -> CtlError {
    let Ok(Document { error }) = serde_json::from_slice(body) else {
        return CtlError::fault(format!(
            "gatewayd refused with {status} and said no more. Install programs of one release and restart them."
        ));
    };
    // The message of today's gatewayd holds the hint, for clients that show nothing else.
    let hint = if error.message.contains(error.hint.trim()) { "" } else { error.hint.trim() };
    let words = printable(format!("{} {hint}", error.message.trim()).trim());
    match error.code.parse() {
        Ok(Refusal::VaultLocked) => CtlError::locked(words),
        Ok(Refusal::KeydUnavailable) => CtlError::unreachable(words),
        // Only an admin may see which it is.
        Ok(Refusal::AgentUnknown) => CtlError::not_permitted(format!("{words} {SHARED}")),
        Ok(Refusal::AgentMismatch) => CtlError::not_permitted(words),
        _ => CtlError::failed(words),
    }
}

fn connect_error(path: &Path, error: &io::Error) -> CtlError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => CtlError::not_permitted(format!(
            "this user may not connect to {}. Use the account that the agent is bound to.",
            path.display()
        )),
        _ => CtlError::unreachable(format!(
            "gatewayd does not answer at {}. Run 'strongroom up', or start strongroom-gatewayd.service.",
            path.display()
        )),
    }
}

fn lost(reason: &(impl ToString + ?Sized)) -> CtlError {
    CtlError::unreachable(format!(
        "gatewayd was lost in the middle of the request ({}). Run 'strongroom status' and try again.",
        reason.to_string()
    ))
}

/// What it is where the agent is registered.
const SHARED: &str = "Where several agents are bound to this user, it tells none of them apart: an admin sees them in 'strongroom agent list'.";
/// gatewayd asks keyd, which may be at work on the vault.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page is at most some tens of KiB.
const LARGEST_ANSWER: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_words_and_get_their_codes() {
        for (code, exit) in
            [("vault_locked", 75), ("keyd_unavailable", 69), ("agent_mismatch", 77), ("revoked", 1), ("new_one", 1)]
        {
            let body = format!(
                r#"{{"error":{{"type":"strongroom","code":"{code}","message":"It is so.","hint":"Do.\u001b[2J","request_id":"x"}}}}"#
            );
            let error = refused(StatusCode::FORBIDDEN, body.as_bytes());
            assert_eq!((error.code(), error.to_string().as_str()), (exit, "It is so. Do.\u{fffd}[2J"), "{code}");
        }
        let body =
            r#"{"error":{"code":"agent_mismatch","message":"It is so. Do it. (agent_mismatch)","hint":"Do it."}}"#;
        let error = refused(StatusCode::FORBIDDEN, body.as_bytes());
        assert_eq!(error.to_string(), "It is so. Do it. (agent_mismatch)");
        assert_eq!(refused(StatusCode::BAD_GATEWAY, b"<html>").code(), 70);
        let body = r#"{"error":{"code":"agent_unknown","message":"It is so.","hint":"Do it."}}"#;
        let error = refused(StatusCode::FORBIDDEN, body.as_bytes());
        assert!(
            error.code() == 77 && error.to_string().starts_with("It is so. Do it. Where several agents"),
            "{error}"
        );
    }

    #[test]
    fn nobody_there_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let error = GatewayClient::new(&Home::under(folder.path())).ask::<serde_json::Value>("health").unwrap_err();
        assert!(error.code() == 69 && error.to_string().contains("agent.sock"), "{error}");
    }
}
