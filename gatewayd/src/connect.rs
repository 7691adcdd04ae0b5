//! An agent's CONNECT, from its head to the end of the tunnel.
//!
//! ```text
//!   head ──▶ whose? ──▶ keyd: may it go there? ──┬─▶ intercept: our leaf, then requests for that one host
//!                                                ├─▶ tunnel: dialled, and nobody looks behind the TLS hello
//!                                                └─▶ refused, before any 200
//! ```
//!
//! CONNECT is taken as the first thing on a connection, and again after it was refused. The name of the CONNECT decides
//! everything; another one in Host, in the TLS handshake or in a request is refused. It refuses bodies. Called by
//! `serve` for each connection, before the HTTP server gets it.

pub mod client_hello;
pub mod head;
pub mod hello_gate;
pub mod intercept;
pub mod leaves;
pub mod tunnel;

use std::io;
use std::rc::Rc;

use bytes::BytesMut;
use http::Version;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use strongroom_protocol::{Authority, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::head::Head;
use crate::config;
use crate::connection::{AgentIo, Busy, Connection};
use crate::dial::NoSocket;
use crate::error_response::{self, Rejection};
use crate::gateway::Gateway;
use crate::ingress::{full_name, proxy_auth};
use crate::key_client::{Tunnel, Way};
use crate::request_id::RequestId;
use crate::visitor::{Token, Visitor};

/// How a connection begins.
pub enum Beginning {
    /// With something else than CONNECT: it is the HTTP server's.
    Http,
    /// With a CONNECT.
    Connect(Box<Head>),
    /// With a CONNECT whose head cannot be read.
    Bad(Refusal),
}

/// Reads as far as it takes to tell; whatever was read is read again by the next reader.
///
/// # Errors
/// The connection's.
pub async fn begin(io: &mut AgentIo, limits: &head::Limits) -> io::Result<Beginning> {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    loop {
        let known = bytes.len().min(METHOD.len());
        if bytes[..known] != METHOD[..known] {
            io.rewind(bytes.freeze());
            return Ok(Beginning::Http);
        }
        if known == METHOD.len() {
            match head::parse(&bytes, limits) {
                Ok(Some((head, length))) => {
                    io.rewind(bytes.split_off(length).freeze());
                    return Ok(Beginning::Connect(Box::new(head)));
                }
                Ok(None) => {}
                Err(refusal) => return Ok(Beginning::Bad(refusal)),
            }
        }
        if io.read_buf(&mut bytes).await? == 0 {
            // An empty connection is nobody's; half a head is the HTTP server's to complain about.
            io.rewind(bytes.freeze());
            return Ok(Beginning::Http);
        }
    }
}

impl From<&config::Limits> for head::Limits {
    fn from(limits: &config::Limits) -> Self {
        Self { bytes: limits.header_bytes.get() + limits.uri_bytes.get(), fields: limits.header_count.get() }
    }
}

/// A CONNECT that may be answered with 200.
pub struct Granted {
    /// Where it leads.
    pub authority: Authority,
    /// What it proved its agent with.
    pub token: Option<Token>,
    /// How it goes on.
    pub way: Granting,
    /// It lasts as long as the tunnel.
    pub busy: Busy,
}

/// How a tunnel goes on.
pub enum Granting {
    /// TLS ends here.
    Intercept(intercept::Ready),
    /// Nobody looks behind its beginning.
    Tunnel(Tunnel, std::net::TcpStream),
}

/// What became of a CONNECT.
pub enum Outcome {
    /// 200 was written.
    Granted(Box<Granted>),
    /// It was refused, and the agent may try again on the same connection.
    MayTryAgain,
    /// It was refused, and the connection is to end.
    Refused,
}

/// Judges a CONNECT and answers it.
///
/// # Errors
/// The connection's.
pub async fn answer(
    gateway: &Rc<Gateway>,
    connection: &Rc<Connection>,
    visitor: &Visitor,
    io: &mut AgentIo,
    head: Result<Head, Refusal>,
) -> io::Result<Outcome> {
    let version = head.as_ref().map_or(Version::HTTP_11, |head| head.version);
    let busy = connection.begin(version);
    let id = gateway.ids.next();
    let granted = match head {
        Ok(head) => judge(gateway, visitor, &head, &id).await,
        Err(refusal) => Err(refusal.into()),
    };
    match granted {
        Ok((authority, token, way)) => {
            io.write_all(ESTABLISHED).await?;
            Ok(Outcome::Granted(Box::new(Granted { authority, token, way, busy })))
        }
        Err(rejection) => {
            gateway.note_refusal(rejection.refusal, &id);
            // Who is asked for credentials sends them on the same connection (RFC 9110, 11.7.1).
            let may_try_again = rejection.asks_for_credentials
                && rejection.refusal == Refusal::AgentUnknown
                && version == Version::HTTP_11;
            io.write_all(&error_response::to_bytes(rejection, &id, may_try_again)).await?;
            if may_try_again {
                return Ok(Outcome::MayTryAgain);
            }
            connection.leave_body_unread();
            io.shutdown().await?;
            Ok(Outcome::Refused)
        }
    }
}

async fn judge(
    gateway: &Rc<Gateway>,
    visitor: &Visitor,
    head: &Head,
    id: &RequestId,
) -> Result<(Authority, Option<Token>, Granting), Rejection> {
    let authority = target(head)?;
    names_no_other(head, &authority).map_err(|refusal| Rejection::from(refusal).within(&authority))?;
    let has_body = head.fields.contains_key(TRANSFER_ENCODING)
        || head.fields.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_body {
        return Err(Refusal::BadRequest.into());
    }
    // Before any 200, so that a client knows it for what it is.
    gateway.keyd.standing().routes()?;
    let token = proxy_auth::token(&head.fields)?;
    let told = |refusal: Refusal| Rejection::from(refusal).of_a_proxy(&authority, token.is_some());
    let session = visitor.any_session(token.as_ref()).await.map_err(told)?;
    let ready = gateway.leaves.get(&authority, gateway.keyd.told());
    let wanted = if ready.is_some() { None } else { Some(gateway.leaves.wanted().ok_or(Refusal::Overloaded)?) };
    let point = wanted.as_ref().map(leaves::Wanted::point);
    let keyd_told = gateway.keyd.told();
    let way = gateway.keyd.connect(session, &authority, point, id.to_string(), true).await;
    let (way, wanted) = match (way, wanted) {
        (Ok(way @ Way::Intercept { .. }), wanted) => (way, wanted),
        (way, wanted) => {
            wanted.into_iter().for_each(|wanted| gateway.leaves.spare(wanted));
            (way.map_err(told)?, None)
        }
    };
    let granting = match way {
        Way::Intercept { leaf, positions } => {
            let config = match (ready, wanted, leaf) {
                (Some(config), ..) => config,
                (None, Some(wanted), Some(leaf)) => {
                    gateway.leaves.put(&authority, keyd_told, wanted, leaf).ok_or(Refusal::KeydUnavailable)?
                }
                _ => return Err(Refusal::KeydUnavailable.into()),
            };
            Granting::Intercept(intercept::Ready { config, positions: Rc::new(positions) })
        }
        Way::Tunnel(tunnel) => match tunnel::dial(gateway, &authority).await {
            Ok(upstream) => Granting::Tunnel(tunnel, upstream),
            Err(no) => {
                if let NoSocket::Upstream(failure) = no {
                    tunnel.failed(failure.into());
                }
                return Err(tunnel::refusal(no).into());
            }
        },
    };
    Ok((authority, token, granting))
}

/// The name of the CONNECT.
fn target(head: &Head) -> Result<Authority, Refusal> {
    // The port is not optional here (RFC 9110, 9.3.6).
    let (_, port) = head.target.rsplit_once(':').ok_or(Refusal::BadRequest)?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::BadRequest);
    }
    head.target.parse().map_err(|_| Refusal::BadRequest)
}

/// There is one name.
fn names_no_other(head: &Head, authority: &Authority) -> Result<(), Refusal> {
    let mut hosts = head.fields.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_10 => Ok(()),
        (Some(host), None) => {
            let named = host.to_str().ok().and_then(|host| full_name::parse(host, authority.port()));
            let wanted = (authority.host().clone(), authority.port());
            if named == Some(wanted) { Ok(()) } else { Err(Refusal::AuthorityMismatch) }
        }
        _ => Err(Refusal::AuthorityMismatch),
    }
}

const METHOD: &[u8] = b"CONNECT ";
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// A head of the usual size, and the handshake that an eager client sends behind it.
const FIRST_READ: usize = 4096;
