//! One request on its way: a channel out of the pool or a new one, the answer back, and a second try where the pooled
//! channel was stale or keyd wants another socket.
//!
//! It refuses nothing by itself but what cannot be carried: whether the request is allowed is keyd's answer. A dial
//! that failed still opens a channel, so that keyd can refuse first and has the request on record.
//! Called by the gateway for each request that names a route.

pub mod expect;
pub mod relay;
pub mod replay;

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri, Version};
use hyper::ext::ReasonPhrase;
use strongroom_protocol::channel::head::RequestHead;
use strongroom_protocol::{Authority, Refusal, channel as wire};

use self::relay::{Lease, Relay};
use self::replay::Source;
use crate::channel::{Channel, Download, NoAnswer};
use crate::config::Config;
use crate::connection::Connection;
use crate::dial::{self, NoSocket};
use crate::error_response::{Late, Rejection};
use crate::gateway::Gateway;
use crate::ingress::fields;
use crate::pool::Key;
use crate::request_id::RequestId;
use crate::visitor::Party;

/// A request, ready to be sent as often as needed.
pub struct Outbound {
    /// Where it goes.
    pub authority: Authority,
    /// Which channels may take it; none but one of its own where that is not known.
    pub key: Option<Key>,
    /// Its method, whatever it is called.
    pub method: Method,
    /// Its target in origin form.
    pub target: Uri,
    /// Its fields, without those of the agent's hop.
    pub headers: HeaderMap,
    /// Its body.
    pub source: Source,
    /// The agent's HTTP version.
    pub version: Version,
    /// The number of the agent's session, where there is one.
    pub session: Option<u64>,
    /// Who asks, for the count of channels.
    pub party: Party,
}

/// Sends a request and gives back the head of its answer, with the body to come.
///
/// # Errors
/// keyd's refusal, or ours where there is no answer.
pub async fn forward(
    gateway: &Rc<Gateway>,
    mut outbound: Outbound,
    id: &RequestId,
    connection: &Rc<Connection>,
) -> Result<Response<Relay>, Rejection> {
    let config = gateway.config();
    let is_repeatable = wire::is_repeatable(&outbound.method, &outbound.headers);
    fields::clean_request(&mut outbound.headers)?;
    // The upstream may have given up a connection on which nobody has said a word: only what can be sent again tries it.
    let is_small = outbound.source.is_small();
    let mut pooled = outbound
        .key
        .as_ref()
        .and_then(|key| if is_small { gateway.pool.take(key) } else { gateway.pool.take_own(key) });
    if pooled.is_some() && !is_small {
        // It may have given up one that served, too: what can be sent once alone waits until keyd has one for it.
        outbound.source.wait();
    }
    let head = outbound.head(id)?;
    let mut redials = 0;
    loop {
        let (mut channel, is_reused, key) = match pooled.take() {
            Some(channel) => (channel, true, outbound.key.clone()),
            None => open(gateway, &config, &outbound).await?,
        };
        channel.clock().start(&config.timeouts);
        let body = outbound.source.send(channel.clock().clone());
        let sent = channel.send(head.clone(), body).await;
        let may_try_again = is_reused && outbound.source.can_be_sent_again();
        let response = match sent {
            Ok(response) if may_try_again && is_stale(&response) => continue,
            Ok(response)
                if redials < MOST_REDIALS && wants_redial(&response) && outbound.source.can_be_sent_again() =>
            {
                redials += 1;
                continue;
            }
            Ok(response) => response,
            Err(_) if channel.clock().has_run_out() => {
                let is_only = outbound.source.has_ended() && !is_repeatable;
                let late = if outbound.source.awaits_agent() {
                    Some(Late::Request)
                } else {
                    is_only.then_some(Late::OnlyAnswer)
                };
                return Err(Rejection { late, ..Refusal::UpstreamTimeout.into() });
            }
            Err(_) if outbound.source.broke() => return Err(Refusal::BadRequest.into()),
            Err(NoAnswer::Retired) if may_try_again => continue,
            Err(NoAnswer::Dead) if may_try_again && is_repeatable => continue,
            Err(_) => return Err(gateway.keyd.why_channels_die().await.into()),
        };
        channel.clock().head_arrived(&config.timeouts);
        let source = outbound.source.clone();
        let key = key.filter(|_| leaves_the_channel_fit(&response, &source, &channel));
        let key = if is_unbound(&response) { key.map(Key::of_anybody) } else { key };
        let lease = Lease { gateway: gateway.clone(), channel, key, source, connection: connection.clone() };
        return answer(response, lease, outbound.version, id);
    }
}

impl Outbound {
    /// Its head for a channel, encoded once however often it is sent.
    fn head(&mut self, id: &RequestId) -> Result<Bytes, Refusal> {
        let mut fields = std::mem::take(&mut self.headers);
        if self.source.waits() {
            fields.insert(header::EXPECT, HeaderValue::from_static(expect::CONTINUE));
        }
        let host = HeaderValue::try_from(self.authority.to_host_field()).map_err(|_| Refusal::BadRequest)?;
        fields.insert(header::HOST, host);
        fields.insert(wire::REQUEST_ID, id.to_header());
        if let Some(session) = self.session {
            fields.insert(wire::SESSION, session.into());
        }
        let (method, target) = (self.method.clone(), self.target.clone());
        Ok(RequestHead { has_body: !self.source.is_empty(), method, target, fields }.encode())
    }
}

/// A channel of its own for this request; with a key if another request may use it later.
async fn open(
    gateway: &Gateway,
    config: &Config,
    outbound: &Outbound,
) -> Result<(Channel, bool, Option<Key>), Refusal> {
    let most = config.limits.channels.get();
    let permit = gateway.pool.reserve(outbound.party.clone(), &outbound.authority, most).ok_or(Refusal::Overloaded)?;
    let upstream = match dial::dial(&outbound.authority, config, &gateway.dials).await {
        Ok(socket) => Ok(socket),
        Err(NoSocket::Upstream(failure)) => Err(failure),
        Err(NoSocket::NoRoom) => return Err(Refusal::Overloaded),
    };
    let key = outbound.key.clone().filter(|_| upstream.is_ok());
    let ours = gateway.keyd.open_channel(&outbound.authority, upstream).await?;
    Ok((Channel::start(ours, permit)?, false, key))
}

fn is_stale(response: &Response<Download>) -> bool {
    response.headers().contains_key(wire::REFUSAL) && response.headers().contains_key(wire::STALE)
}

/// The upstream got nothing of the request, or has not looked at it: keyd will offer another protocol, or tries again.
fn wants_redial(response: &Response<Download>) -> bool {
    response.headers().contains_key(wire::REFUSAL) && response.headers().contains_key(wire::REDIAL)
}

/// keyd refused before it bound the channel to anybody.
fn is_unbound(response: &Response<Download>) -> bool {
    response.headers().contains_key(wire::REFUSAL) && response.headers().contains_key(wire::UNBOUND)
}

/// After a refusal that came before the body was sent, the rest of it may still fill the pair. An upstream's error within
/// an upload says that it does not want the rest: it may read no more, and close a moment later.
fn leaves_the_channel_fit(response: &Response<Download>, source: &Source, channel: &Channel) -> bool {
    let is_refusal = response.headers().contains_key(wire::REFUSAL);
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let is_early = !source.has_ended() || channel.is_uploading();
    let has_a_rest = is_refusal && !source.is_empty() || is_error && is_early;
    !is_stale(response) && !has_a_rest
}

fn answer(
    response: Response<Download>,
    lease: Lease,
    version: Version,
    id: &RequestId,
) -> Result<Response<Relay>, Rejection> {
    let (mut head, body) = response.into_parts();
    if let Some(code) = head.headers.get(wire::REFUSAL) {
        let refusal = code.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(Refusal::UpstreamProtocol);
        let retry_after = head.headers.get(wire::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        drop(Relay::new(body, lease, false));
        let other_status = refusal.other_status() == Some(head.status.as_u16());
        return Err(Rejection { retry_after, other_status, ..refusal.into() });
    }
    // Upgrades are not offered, so none can be accepted.
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::UpstreamProtocol.into());
    }
    let trailers = fields::declared_trailers(&head.headers);
    fields::clean_response(&mut head.headers);
    if let Some(names) = trailers {
        head.headers.insert(header::TRAILER, names);
    }
    head.headers.insert(wire::REQUEST_ID, id.to_header());
    let without_length = version == Version::HTTP_10 && !head.headers.contains_key(header::CONTENT_LENGTH);
    let mut answer = Response::new(Relay::new(body, lease, without_length));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    if let Some(reason) = head.extensions.remove::<ReasonPhrase>() {
        answer.extensions_mut().insert(reason);
    }
    Ok(answer)
}

/// For one request: for the protocol, and where an upstream turns it away unread.
const MOST_REDIALS: u32 = 2;
