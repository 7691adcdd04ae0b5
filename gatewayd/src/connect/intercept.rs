//! TLS with the agent, by a leaf for the host of its CONNECT.
//!
//! The handshake's own name (SNI) has to be that host too, where there is one: the handshake is finished in any case, so
//! that a client which does not check gets the refusal in words. What is no TLS at all is answered in the clear, with a
//! refusal and nothing else. Called by `serve`, behind a CONNECT that was granted.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;
use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, Refusal};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use crate::config::Timeouts;
use crate::connection::{AgentIo, Connection, Stream};
use crate::ingress::Inside;
use crate::key_client::Positions;
use crate::visitor::Token;

/// What a host is intercepted with.
pub struct Ready {
    /// Its leaf.
    pub config: Arc<ServerConfig>,
    /// Where placeholders may stand there.
    pub positions: Rc<Positions>,
}

/// The connection inside, and what its requests are for.
pub struct Opened {
    /// What HTTP is spoken on.
    pub io: AgentIo,
    /// The same, for the clocks.
    pub connection: Rc<Connection>,
    /// Its host.
    pub inside: Rc<Inside>,
}

/// Shakes hands.
///
/// # Errors
/// The connection's, and where the handshake fails or takes too long.
pub async fn open(
    mut io: AgentIo,
    outer: &Rc<Connection>,
    timeouts: &Timeouts,
    authority: Authority,
    token: Option<Token>,
    ready: Ready,
) -> io::Result<Opened> {
    let mut first = [0];
    let waited = timeout(timeouts.idle.get(), io.read(&mut first)).await;
    if waited.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let is_tls = first[0] == HANDSHAKE;
    io.rewind(Bytes::copy_from_slice(&first));
    let inside = |refusal| Rc::new(Inside { authority: authority.clone(), positions: ready.positions, token, refusal });
    if !is_tls {
        // Whoever sends its request in the clear here would send it so anywhere.
        return Ok(Opened { io, connection: outer.clone(), inside: inside(Some(Refusal::BadRequest)) });
    }
    let handshake = async {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), io).await?;
        let fits = start.client_hello().server_name().is_none_or(|name| is_named(&authority, name));
        start.into_stream(ready.config).await.map(|tls| (tls, fits))
    };
    let (tls, fits) = timeout(timeouts.slow_headers.get(), handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let stream = Stream::Tls(std::cell::RefCell::new(Box::new(tls)), outer.clone());
    let connection = Connection::new(stream, *timeouts);
    let refusal = (!fits).then_some(Refusal::AuthorityMismatch);
    Ok(Opened { io: AgentIo::new(connection.clone()), connection, inside: inside(refusal) })
}

fn is_named(authority: &Authority, name: &str) -> bool {
    name.parse::<Host>().is_ok_and(|host| host == *authority.host())
}

/// Content type of a TLS record with a handshake in it (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
