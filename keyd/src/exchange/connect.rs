//! TLS with the upstream, over the socket that gatewayd dialled.
//!
//! The name in SNI and in the certificate is the channel's authority, the roots are the credentials', the clock is
//! keyd's own: nothing that gatewayd says is believed. Which HTTP versions are offered is `protocol`'s to say. It
//! refuses to go on with an upstream that does not prove itself. Called by `forward`, with a request that was admitted
//! already.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, OtherError};
use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, Refusal};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Socket};
use super::protocol::{HTTP2, Offer};
use crate::sys::PassedSocket;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConnection {
    /// As the agent is told.
    Refused(Refusal),
    /// `upstream_untrusted`, and why, for the log: the agent could do nothing with it.
    Untrusted(&'static str),
    /// HTTP/1.1 was offered alone and is not what the upstream speaks.
    WantsHttp2,
}

/// Shakes hands. `gone` is cancelled when the upstream ends the connection.
///
/// # Errors
/// `upstream_untrusted`, `upstream_protocol`, `upstream_unreachable` or `upstream_timeout`; or another offer is wanted.
pub async fn open(
    socket: PassedSocket,
    authority: &Authority,
    config: Arc<ClientConfig>,
    offer: Offer,
    gone: CancellationToken,
) -> Result<Connection, NoConnection> {
    let name = match authority.host() {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Refusal::UpstreamUntrusted)?,
        Host::V4(address) => ServerName::IpAddress((*address).into()),
        Host::V6(address) => ServerName::IpAddress((*address).into()),
    };
    let handshake = TlsConnector::from(config).connect(name, Socket::new(socket));
    let stream = match tokio::time::timeout(HANDSHAKE_TIME, handshake).await {
        Err(_) => return Err(Refusal::UpstreamTimeout.into()),
        Ok(Err(error)) => return Err(handshake_failure(&error, offer)),
        Ok(Ok(stream)) => stream,
    };
    // Without a word about it HTTP/1.1 is meant, as it always was.
    let connection = match stream.get_ref().1.alpn_protocol() {
        Some(HTTP2) => Connection::http2(stream, authority, gone).await?,
        _ if offer == Offer::Http2 => return Err(Refusal::UpstreamProtocol.into()),
        _ => Connection::http1(stream, gone).await?,
    };
    Ok(connection)
}

fn handshake_failure(error: &io::Error, offer: Offer) -> NoConnection {
    use rustls::Error as Tls;
    let refusal = match error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) {
        Some(Tls::AlertReceived(AlertDescription::NoApplicationProtocol)) if !offer.has_http2() => {
            return NoConnection::WantsHttp2;
        }
        Some(Tls::InvalidCertificate(error)) => return NoConnection::Untrusted(why(error)),
        Some(Tls::NoCertificatesPresented) => return NoConnection::Untrusted("it shows no certificate"),
        Some(_) => Refusal::UpstreamProtocol,
        None if error.kind() == io::ErrorKind::InvalidData => Refusal::UpstreamProtocol,
        None => Refusal::UpstreamUnreachable,
    };
    refusal.into()
}

/// In words of ours: a certificate's own could be of any length, and say anything.
fn why(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "its certificate has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "its certificate is not valid yet",
        E::NotValidForName | E::NotValidForNameContext { .. } => "its certificate is for another name",
        E::UnknownIssuer => "no root that the credential trusts vouches for its certificate",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "its certificate is not for servers",
        E::ApplicationVerificationFailure => {
            "no pinned key stands in its chain, or a certificate of Strongroom's own authority does"
        }
        E::Other(OtherError(other)) if other.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) => {
            "its own certificate is an authority's (basicConstraints CA:TRUE): it needs one that is not"
        }
        _ => "its certificate is none that can be checked",
    }
}

impl From<Refusal> for NoConnection {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A handshake takes two round trips; ten seconds are generous.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
