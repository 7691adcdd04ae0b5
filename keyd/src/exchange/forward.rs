//! From an agent's request to the first byte of the answer.
//!
//! judge → shake hands where it is the first → judge again, for the vault may have changed meanwhile → write down →
//! put the key in → send → wait for the head, or for a cut → scrub the head → stream. It refuses answers that cannot
//! be searched, and follows no redirect: a 3xx is an answer like any other. Called by `channel`, once a request.

use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response};
use strongroom_protocol::{Refusal, channel as wire};

use super::admit::{self, Admitted};
use super::answer::passage::Passage;
use super::answer::{self, Answer, Streaming};
use super::channel::{Channel, UpstreamState};
use super::connect::{self, NoConnection};
use super::connection::{Connection, exchange_refusal, is_of_the_body, is_unprocessed};
use super::download::Download;
use super::link::RequestBody;
use super::protocol::{self, Offer};
use super::record::{self, About};
use super::refuse::{self, Denial};
use super::running::{Deadline, Ticket};
use super::scrub::patterns::Patterns;
use super::substitute::substitute;
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
            return refused(&channel, refusal.into());
        }
    };
    let about = About::new(&channel.authority, &parts, session);
    match admitted(&channel, parts, body, about).await {
        Ok(response) => response,
        Err(No { denial, how: How::Usable }) => refused(&channel, denial),
        Err(No { denial, how: How::Closing }) => refuse::closing(refuse::answer(denial)),
        Err(No { how: How::Stale, .. }) => refuse::stale(),
        Err(No { denial, how: How::Redial }) => refuse::redial(denial),
    }
}

/// The channel serves on: whomever, where it has served nobody yet.
fn refused(channel: &Channel, denial: Denial) -> Response<Answer> {
    let response = refuse::answer(denial);
    if channel.bound.borrow().is_none() { refuse::unbound(response) } else { response }
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
    let state = &channel.state;
    let grants = admitted.allowed.uses.iter().map(|one| one.grant).collect();
    let deadline = Deadline::of(admitted.allowed.expires, now());
    let ticket = state.running.enter(
        admitted.allowed.binding.clone(),
        grants,
        about.session(),
        channel.closed.clone(),
        deadline,
    );
    let served_before = matches!(&*channel.upstream.borrow(), UpstreamState::Ready(_) | UpstreamState::Gone);
    let is_grpc = protocol::is_grpc(&parts.headers);
    let is_repeatable = wire::is_repeatable(&parts.method, &parts.headers);
    let mut upstream = connection(channel, &admitted, is_grpc, is_repeatable, &ticket).await.inspect_err(|no| {
        if no.how != How::Stale {
            admit::refuse(channel, &admitted, &about, no.denial.refusal);
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
    let is_head = parts.method == Method::HEAD;
    ending.count_upload(upload.count());
    let (received, sent) = (upstream.received(), upstream.sent());
    let response = upstream.send(Request::from_parts(parts, upload));
    // The cut first: with access a purge takes away what an answer would be searched for.
    let response = tokio::select! {
        biased;
        reason = ticket.cut() => {
            ending.cut(reason);
            return Err(No::closing(reason));
        }
        response = response => response,
    };
    let mut response = response.map_err(|error| {
        // The agent's body broke off, or was not what was announced.
        if is_of_the_body(&error) {
            ending.hung_up();
            return No::closing(Refusal::BadRequest);
        }
        let refusal = exchange_refusal(&error);
        ending.refused(refusal);
        *channel.upstream.borrow_mut() = UpstreamState::Gone;
        // Once: on a connection that is new it would have no end, with two lines of the log and a handshake each time.
        if served_before && is_unprocessed(&error) {
            admit::give_back(channel, &admitted);
        }
        // Where nothing went out, nobody has it. Where it did, and nothing came back, the upstream may have it.
        let is_unsent = upstream.sent() == sent;
        let is_silent = upstream.received() == received && refusal == Refusal::UpstreamUnreachable;
        if served_before && is_silent {
            channel.upstream_left();
        }
        let may_repeat = is_silent && (is_unsent || is_repeatable) || is_unprocessed(&error);
        match (served_before, is_unprocessed(&error)) {
            (true, _) if may_repeat => No::stale(),
            // A new connection is worth one more try, where the upstream says itself that it has not looked.
            (false, true) => No { denial: refusal.into(), how: How::Redial },
            _ => No::closing(refusal),
        }
    })?;
    ending.status(response.status());
    // A key that was added while the upstream thought may be in this answer too.
    let newest = state.live().unwrap_or_else(|| Rc::clone(&admitted.live));
    let patterns = state.patterns(&newest, &channel.authority, admitted.allowed.binding.agent);
    let one_length = answer::head::one_length(response.headers_mut());
    let checked = one_length.and_then(|()| answer::head::check(&response, is_head)).and_then(|shape| {
        let passage = Passage::new(&shape, Rc::clone(&patterns), &state.decoding.of(&channel.authority));
        Ok((shape, passage.map_err(|_| Refusal::Overloaded)?))
    });
    let (shape, passage) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            ending.refused(refusal);
            return Err(No::closing(refusal));
        }
    };
    let masked = answer::head::scrub(&mut response, &shape, &patterns, admitted.leave);
    ending.scrubbed(masked);
    let is_http2 = upstream.is_http2();
    *channel.upstream.borrow_mut() = UpstreamState::Ready(upstream);
    ticket.answering();
    let (head, body) = response.into_parts();
    let body = Download::new(body, is_http2);
    ending.hold(ticket);
    let source = Rc::clone(channel);
    let agent = admitted.allowed.binding.agent;
    let newest = move |known: &Rc<Patterns>| {
        let live = source.state.live()?;
        (!known.are_of(&live)).then(|| source.state.patterns(&live, &source.authority, agent))
    };
    let answer = Answer::Streaming(Box::new(Streaming::new(body, passage, patterns, newest, ending)));
    Ok(Response::from_parts(head, answer))
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
                NoConnection::WantsHttp2 => {
                    state.want_http2.learn(&channel.authority);
                    No::redial()
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
            // Where that is known to be likely, it is not tried.
            let is_fleeting = || channel.state.close_at_once.has_lately(&channel.authority, FLEETING);
            if !is_repeatable && !connection.is_http2() && is_fleeting() {
                *channel.upstream.borrow_mut() = UpstreamState::Gone;
                return Err(No::stale());
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

/// Why there is no answer of the upstream's.
struct No {
    denial: Denial,
    how: How,
}

/// What becomes of the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It can serve on.
    Usable,
    /// It is done.
    Closing,
    /// It was done before this request reached anybody.
    Stale,
    /// It was done before this request reached anybody, and another one will fare better.
    Redial,
}

impl No {
    /// Of a judgement: where the channel alone stands in the way, another one may be tried.
    fn of(denial: Denial) -> Self {
        if denial.elsewhere { Self::stale() } else { Self { denial, how: How::Usable } }
    }

    fn closing(refusal: Refusal) -> Self {
        Self { denial: refusal.into(), how: How::Closing }
    }

    fn redial() -> Self {
        Self { denial: Refusal::UpstreamProtocol.into(), how: How::Redial }
    }

    fn stale() -> Self {
        Self { denial: Refusal::UpstreamUnreachable.into(), how: How::Stale }
    }
}

/// In which a connection that served before has to be ready again.
/// For so long an upstream that closed a connection behind an answer is thought to do so.
const FLEETING: Duration = Duration::from_secs(600);
const READY_TIME: Duration = Duration::from_secs(5);
