//! From an agent's request to the use of a key.
//!
//! judge → shake hands where it is the first → judge again, for the vault may have changed meanwhile → write down → put the
//! key in. What follows is [`super::underway`]'s: send → wait for the head, or for a cut → scrub the head → stream. It
//! refuses whom `admit` refuses, and a connection that is not ready. Called by `channel`, once a request.

use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response};
use strongroom_protocol::{Refusal, channel as wire};

use super::admit::{self, Admitted};
use super::answer::Answer;
use super::channel::{Channel, UpstreamState};
use super::connect::{self, NoConnection};
use super::connection::Connection;
use super::link::RequestBody;
use super::protocol::{self, Offer};
use super::record::{self, About};
use super::refuse::{Denial, No};
use super::running::{Deadline, Ticket};
use super::substitute::substitute;
use super::underway::Underway;
use crate::gateway::sessions::Session;
use crate::policy::decide::Refused;
use crate::state::now;

/// Answers one request of the channel.
pub async fn handle(channel: Rc<Channel>, request: Request<RequestBody>) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    let session = match session(&channel, &parts) {
        Ok(session) => session,
        Err(refusal) => {
            let about = About::new(&channel.authority, &parts, None);
            if let Some(live) = channel.state.live() {
                record::refused(&channel.state, &live, &about, &Refused::nobody(refusal));
            }
            return No::of(refusal.into()).answer(channel.bound.borrow().is_some());
        }
    };
    let about = About::new(&channel.authority, &parts, session);
    admitted(&channel, parts, body, about).await.unwrap_or_else(|no| no.answer(channel.bound.borrow().is_some()))
}

/// The agent's connection that gatewayd names; one that has ended is none any more.
fn session(channel: &Channel, parts: &http::request::Parts) -> Result<Option<Rc<Session>>, Refusal> {
    let Some(number) = parts.headers.get(wire::SESSION) else { return Ok(None) };
    let number = number.to_str().ok().and_then(|number| number.parse().ok()).ok_or(Refusal::BadRequest)?;
    channel.sessions.get(number).map(Some).ok_or(Refusal::AgentUnknown)
}

async fn admitted(
    channel: &Rc<Channel>,
    mut parts: http::request::Parts,
    body: RequestBody,
    about: About,
) -> Result<Response<Answer>, No> {
    let (mut admitted, mut upload) = admit::admit(channel, &parts, body, &about).await.map_err(No::of)?;
    if let UpstreamState::Failed(failure) = &*channel.upstream.borrow() {
        let refusal = (*failure).into();
        admit::refuse(channel, &admitted, &about, refusal);
        return Err(No::closing(refusal));
    }
    let grants = admitted.allowed.uses.iter().map(|one| one.grant).collect();
    let deadline = Deadline::of(admitted.allowed.expires, now());
    let ticket = channel.state.running.enter(
        admitted.allowed.binding.clone(),
        grants,
        about.session(),
        channel.closed.clone(),
        deadline,
    );
    let served_before = matches!(&*channel.upstream.borrow(), UpstreamState::Ready(_) | UpstreamState::Gone);
    let is_grpc = protocol::is_grpc(&parts.headers);
    let is_repeatable = wire::is_repeatable(&parts.method, &parts.headers);
    let upstream = connection(channel, &admitted, is_grpc, is_repeatable, &ticket).await.inspect_err(|no| {
        if !no.is_stale() {
            admit::refuse(channel, &admitted, &about, no.refusal());
        }
    })?;
    // The handshake took time, and access may have been taken away in it.
    admitted = match admit::admit_again(channel, admitted, &parts, &upload, &about) {
        Ok(admitted) => admitted,
        Err(refused) => return Err(put_back(channel, upstream, refused)),
    };
    admit::prepare(channel, &admitted, &mut parts).map_err(|refusal| {
        admit::refuse(channel, &admitted, &about, refusal);
        No::closing(refusal)
    })?;
    let mut ending = match admit::commit(channel, &admitted, &about).await {
        Ok(ending) => ending,
        Err(refused) => return Err(put_back(channel, upstream, refused)),
    };
    if substitute(&mut parts, &mut upload, &admitted.live, &admitted.allowed).is_err() {
        ending.refused(Refusal::Revoked);
        return Err(No::closing(Refusal::Revoked));
    }
    upstream.shape(&mut parts, &upload).map_err(|refusal| {
        ending.refused(refusal);
        No::closing(refusal)
    })?;
    ending.count_upload(upload.count());
    let is_head = parts.method == Method::HEAD;
    // What an exchange takes of the room for channels counts it from here on.
    channel.head.take();
    Underway { channel, admitted, ending, upstream, ticket, served_before, is_repeatable, is_head }
        .run(Request::from_parts(parts, upload))
        .await
}

/// The channel's connection, ready for a request; made by the first.
async fn connection(
    channel: &Rc<Channel>,
    admitted: &Admitted,
    is_grpc: bool,
    is_repeatable: bool,
    ticket: &Ticket,
) -> Result<Connection, No> {
    let taken = channel.upstream.replace(UpstreamState::Busy);
    match taken {
        UpstreamState::Dialled(socket) => {
            let (state, credentials) = (&channel.state, &admitted.allowed.binding.credentials);
            let offer = Offer::of(&admitted.live, credentials, &channel.authority, is_grpc, &state.want_http2);
            if let Err(refused) = channel.room.begin(offer.has_http2()) {
                *channel.upstream.borrow_mut() = UpstreamState::Dialled(socket);
                return Err(No::of(refused));
            }
            // The handshake proves the host to these credentials alone: no other may ever use this connection, whatever
            // becomes of this request.
            *channel.bound.borrow_mut() = Some(admitted.allowed.binding.clone());
            let config = state
                .trust
                .client_config(&admitted.live, credentials, offer)
                .map_err(|_| No::closing(Refusal::UpstreamUntrusted))?;
            let opened = connect::open(socket, &channel.authority, config, offer, channel.upstream_gone.clone());
            let opened = tokio::select! {
                opened = opened => opened,
                reason = ticket.cut() => return Err(No::closing(reason)),
            };
            let connection = opened.map_err(|why| match why {
                // It has hung up since it was dialled for another request, and got nothing of this one.
                NoConnection::Refused(Refusal::UpstreamUnreachable) if channel.has_waited.get() => No::stale(),
                NoConnection::Refused(refusal) => No::closing(refusal),
                NoConnection::Untrusted(why) => {
                    state.trust.note(&channel.authority, why);
                    No::closing(Refusal::UpstreamUntrusted)
                }
                NoConnection::WantsHttp2 => {
                    state.want_http2.learn(&channel.authority);
                    No::redial(Refusal::UpstreamProtocol)
                }
            })?;
            // The upstream may have chosen what takes less.
            channel.room.begin(connection.is_http2()).map_err(No::of)?;
            Ok(connection)
        }
        UpstreamState::Ready(connection) if is_grpc && !connection.is_http2() => {
            Err(No::closing(Refusal::UpstreamProtocol))
        }
        UpstreamState::Ready(mut connection) => {
            if let Err(refused) = channel.room.begin(connection.is_http2()) {
                return Err(put_back(channel, connection, refused));
            }
            // Where that is known to be likely, it is given the time to; where it did so, nobody waits for it again.
            let (known, authority) = (&channel.state.close_at_once, &channel.authority);
            if !is_repeatable && !connection.is_http2() && known.has_lately(authority, FLEETING) {
                let seen = &channel.state.seen_to_close;
                let mut is_gone = seen.has_lately(authority, FLEETING);
                if !is_gone {
                    tokio::select! {
                        biased;
                        () = channel.upstream_gone.cancelled() => {
                            is_gone = true;
                            known.learn(authority);
                            seen.learn(authority);
                        }
                        reason = ticket.cut() => return Err(No::closing(reason)),
                        () = channel.settles() => known.forget_one(authority),
                    }
                }
                if is_gone {
                    *channel.upstream.borrow_mut() = UpstreamState::Gone;
                    return Err(No::stale());
                }
            }
            // It may have been closed since the last answer, and the news of it be on its way to us: a request that must
            // not be sent twice waits for what the kernel knows.
            if !is_repeatable {
                tokio::task::yield_now().await;
            }
            let ready = tokio::select! {
                biased;
                ready = connection.ready() => ready.is_ok(),
                // It still takes the rest of an upload whose answer came early.
                () = tokio::time::sleep(READY_TIME) => false,
                reason = ticket.cut() => return Err(No::closing(reason)),
            };
            if ready {
                return Ok(connection);
            }
            channel.upstream_left();
            *channel.upstream.borrow_mut() = UpstreamState::Gone;
            Err(No::stale())
        }
        UpstreamState::Failed(failure) => Err(No::closing(failure.into())),
        UpstreamState::Busy | UpstreamState::Gone => {
            *channel.upstream.borrow_mut() = UpstreamState::Gone;
            Err(No::stale())
        }
    }
}

/// The request is refused and the connection is as good as before.
fn put_back(channel: &Channel, connection: Connection, refused: Denial) -> No {
    *channel.upstream.borrow_mut() = UpstreamState::Ready(connection);
    No::of(refused)
}

/// For so long an upstream that closed a connection behind an answer is thought to do so.
const FLEETING: Duration = Duration::from_secs(600);
/// In which a connection that served before has to be ready again.
const READY_TIME: Duration = Duration::from_secs(5);
