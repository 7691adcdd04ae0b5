//! What all connections share, and the answer to one request.
//!
//! It refuses early what is malformed or has no route; everything else is keyd's answer. Every answer carries the
//! request's id. Called by the HTTP server of each connection.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use ring::rand::SystemRandom;
use serde_json::json;
use strongroom_protocol::log::Brake;
use strongroom_protocol::{Authority, Refusal, channel as wire};

use crate::config::Config;
use crate::connect::leaves::{self, Leaves};
use crate::connection::{Busy, Connection, Received};
use crate::dial::Dials;
use crate::error_response::{self, Rejection};
use crate::forward::relay::{AgentBody, Relay};
use crate::forward::replay::Source;
use crate::forward::{Outbound, expect, forward};
use crate::ingress::{self, Door, Entry, own_paths};
use crate::key_client::{KeyClient, Positions, Way};
use crate::pool::Pool;
use crate::request_id::{RequestId, RequestIds};
use crate::visitor::{Token, Visitor};

/// What all connections share.
pub struct Gateway {
    /// The conversation with keyd.
    pub keyd: KeyClient,
    /// Idle channels.
    pub pool: Pool,
    /// Certificates for hosts that agents reach through us.
    pub leaves: Leaves,
    /// Addresses that are really listened on.
    pub listening: RefCell<Vec<SocketAddr>>,
    /// Lookups, and the brake on lines about dials that failed.
    pub dials: Dials,
    config: RefCell<Rc<Config>>,
    /// Names of requests.
    pub ids: RequestIds,
    refusals: Brake,
}

impl Gateway {
    /// A gateway without connections.
    #[must_use]
    pub fn new(config: Config, keyd: KeyClient) -> Rc<Self> {
        let random = SystemRandom::new();
        let pool = Pool::new(&random);
        Rc::new(Self {
            keyd,
            pool,
            leaves: Leaves::default(),
            listening: RefCell::default(),
            dials: Dials::default(),
            config: RefCell::new(Rc::new(config)),
            ids: RequestIds::new(random),
            refusals: Brake::new(),
        })
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn config(&self) -> Rc<Config> {
        self.config.borrow().clone()
    }

    /// Takes a new configuration for what begins from now on. Idle channels lead where the old one said, so they are
    /// closed.
    pub fn reconfigure(&self, config: Config) {
        *self.config.borrow_mut() = Rc::new(config);
        self.pool.clear();
    }

    /// Answers a request.
    pub async fn answer(
        self: &Rc<Self>,
        request: Request<Received>,
        door: Door,
        visitor: Rc<Visitor>,
        busy: Busy,
    ) -> Response<AgentBody> {
        let id = self.ids.next();
        let (head, body) = request.into_parts();
        let (is_head, is_http2) = (head.method == Method::HEAD, head.version == Version::HTTP_2);
        let source = Source::new(body);
        let is_expected = expect::is_expected(&head.headers, head.version);
        if is_expected {
            source.wait();
        }
        let connection = busy.connection().clone();
        let asked = Asked { door, visitor, source: source.clone(), id: id.clone(), connection: connection.clone() };
        let reply = self.handle(head, asked).await;
        if !is_expected {
            source.wait_no_more();
        }
        if !matches!(reply, Ok(Reply::Upstream(_))) {
            read_on(&source, &connection, is_http2).await;
        }
        let mut response = match reply {
            Ok(Reply::Own(value)) => own_answer(&value, &id, is_head, busy),
            Ok(Reply::Upstream(response)) => response.map(|relay| AgentBody::relay(relay, busy)),
            Err(rejection) => self.refuse(rejection, &id, is_head, busy),
        };
        if is_http2 {
            return response.map(|body| body.holding(source));
        }
        // Where a request is not read to its end, hyper closes the connection behind the answer; it does not say so.
        if !source.has_ended() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Answers a request on a connection too many.
    pub fn turn_away(&self, request: Request<Received>, busy: Busy) -> Response<AgentBody> {
        let id = self.ids.next();
        if !request.body().is_end_stream() {
            busy.connection().leave_body_unread();
        }
        let (is_head, is_http2) = (request.method() == Method::HEAD, request.version() == Version::HTTP_2);
        let response = self.refuse(Refusal::Overloaded.into(), &id, is_head, busy);
        if is_http2 { response.map(|body| body.holding(Source::new(request.into_body()))) } else { response }
    }

    /// A refusal in the log; not each of a flood.
    pub fn note_refusal(&self, refusal: Refusal, id: &RequestId) {
        if let Some(held) = self.refusals.pass(Instant::now()) {
            tracing::info!(code = %refusal, request_id = %id, held, "refused");
        }
    }

    /// The answer to what could not be read as a request, as bytes of HTTP/1.1. The connection ends behind it.
    pub fn refusal_bytes(&self, refusal: Refusal) -> Bytes {
        let id = self.ids.next();
        self.note_refusal(refusal, &id);
        error_response::to_bytes(refusal.into(), &id, false)
    }

    fn refuse(&self, rejection: Rejection, id: &RequestId, is_head: bool, busy: Busy) -> Response<AgentBody> {
        self.note_refusal(rejection.refusal, id);
        let body = |bytes| AgentBody::whole(if is_head { Bytes::new() } else { bytes }, busy);
        error_response::write(rejection, id).map(body)
    }

    async fn handle(self: &Rc<Self>, head: Parts, asked: Asked) -> Result<Reply, Rejection> {
        if asked.connection.has_double_framing() {
            return Err(Refusal::BadRequest.into());
        }
        let entry = ingress::read(&head, &asked.door, &self.config().limits);
        let entry = entry.map_err(|refusal| match (&asked.door, ingress::proxied_host(&head, &asked.door)) {
            (Door::Inside(inside), _) => Rejection::from(refusal).within(&inside.authority),
            (_, Some(host)) => Rejection::from(refusal).in_absolute_form(&host),
            (door, None) => {
                let is_a_pages = refusal == Refusal::AuthorityMismatch && ingress::is_a_pages(&head, door);
                Rejection { is_a_pages, ..refusal.into() }
            }
        })?;
        match entry {
            Entry::Health => Ok(Reply::Own(json!({ "status": "ok", "listen": self.addresses() }))),
            Entry::Environment(query) => Ok(Reply::Own(self.environment(&head, query, &asked).await?)),
            Entry::Route { name, target, token } => {
                let routes = self.keyd.standing().routes()?;
                let authority = routes.authority(&name).ok_or(Refusal::HostNotAllowed)?.clone();
                let session = asked.visitor.session(token.as_ref()).await?;
                let to = To { positions: routes.positions(&authority), authority, target, token, session };
                self.send(head, to, asked).await
            }
            Entry::Host { authority, target, token } => {
                let has_credentials = token.is_some();
                let to = self.to_host(authority.clone(), target, token, &asked).await;
                let to = match (to, &asked.door) {
                    (Ok(to), _) => to,
                    // Inside a tunnel there is no proxy any more to log in to.
                    (Err(refusal), Door::Inside(_)) => return Err(refusal.into()),
                    (Err(refusal), _) => {
                        let rejection = Rejection::from(refusal).in_absolute_form(&authority);
                        return Err(rejection.of_a_proxy(&authority, has_credentials));
                    }
                };
                let is_inside = matches!(asked.door, Door::Inside(_));
                // Where others need no credentials for this host, it is the placeholder that says whose are missing.
                self.send(head, to, asked).await.map_err(|rejection| match rejection.refusal {
                    Refusal::AgentUnknown if !is_inside => rejection.of_a_proxy(&authority, has_credentials),
                    _ => rejection,
                })
            }
        }
    }

    async fn to_host(
        &self,
        authority: Authority,
        target: Uri,
        token: Option<Token>,
        asked: &Asked,
    ) -> Result<To, Refusal> {
        self.keyd.standing().routes()?;
        if let Door::Inside(inside) = &asked.door {
            let session = asked.visitor.session(token.as_ref()).await?;
            return Ok(To { positions: inside.positions.clone(), authority, target, token, session });
        }
        let session = asked.visitor.any_session(token.as_ref()).await?;
        let positions = match asked.visitor.known_host(&authority) {
            Some(positions) => positions,
            None => {
                let told = self.keyd.told();
                let Way::Intercept { positions, .. } =
                    self.keyd.connect(session, &authority, None, asked.id.to_string(), false).await?
                else {
                    return Err(Refusal::HostNotAllowed);
                };
                let positions = Rc::new(positions);
                asked.visitor.learn_host(authority.clone(), told, positions.clone());
                positions
            }
        };
        Ok(To { positions, authority, target, token, session: Some(session) })
    }

    async fn send(self: &Rc<Self>, head: Parts, to: To, asked: Asked) -> Result<Reply, Rejection> {
        let To { authority, positions, target, token, session } = to;
        let Parts { method, headers, version, .. } = head;
        let written = target.path_and_query().map_or("", |target| target.as_str());
        let key = (!positions.may_be_in_body(&method, written)).then(|| {
            let identity = asked.visitor.identity(token.as_ref());
            self.pool.key(&authority, positions.fields(), &headers, written, identity)
        });
        let (source, party) = (asked.source, asked.visitor.party(token.as_ref()));
        let outbound = Outbound { authority, key, method, target, headers, source, version, session, party };
        forward(self, outbound, &asked.id, &asked.connection).await.map(|answer| Reply::Upstream(Box::new(answer)))
    }

    /// What the agent's environment is made of, as it may know it: nothing in it is worth anything elsewhere.
    async fn environment(
        &self,
        head: &Parts,
        query: own_paths::Query,
        asked: &Asked,
    ) -> Result<serde_json::Value, Refusal> {
        let placeholder = own_paths::presented(&head.headers);
        if placeholder.as_ref().is_some_and(|text| text.len() > LONGEST_PLACEHOLDER) {
            return Err(Refusal::UnknownPlaceholder);
        }
        self.keyd.standing().routes()?;
        let session = asked.visitor.any_session(query.token.as_ref()).await?;
        let page = self.keyd.environment(session, placeholder, query.after).await?;
        if query.agent.is_some_and(|agent| agent != page.agent) {
            return Err(Refusal::AgentMismatch);
        }
        let grants: Vec<_> = page
            .grants
            .iter()
            .map(|grant| {
                json!({
                    "number": grant.number,
                    "credential": grant.credential,
                    "provider": grant.provider,
                    "route": grant.route,
                    "variables": grant.variables,
                    "placeholder": grant.placeholder,
                    "named": grant.named,
                })
            })
            .collect();
        let (ca, listen) = (leaves::pem(&page.ca), self.addresses());
        Ok(json!({ "agent": page.agent, "ca": ca, "listen": listen, "grants": grants, "more": page.more }))
    }

    fn addresses(&self) -> Vec<String> {
        self.listening.borrow().iter().map(ToString::to_string).collect()
    }
}

/// A request and where it came from.
struct Asked {
    door: Door,
    visitor: Rc<Visitor>,
    source: Source,
    id: RequestId,
    connection: Rc<Connection>,
}

/// Where a request goes, and for whom.
struct To {
    authority: Authority,
    positions: Rc<Positions>,
    target: Uri,
    token: Option<Token>,
    session: Option<u64>,
}

/// What is left of the body of a request that did not go out, or not all of it. Over HTTP/1 the next request stands behind
/// it; HTTP/2 has time until the answer is out.
async fn read_on(source: &Source, connection: &Connection, is_http2: bool) {
    if !is_http2 && !source.has_ended() && !connection.has_double_framing() {
        source.clone().forget(SHORT_REST, SMALL_REST).await;
    }
    if !source.has_ended() {
        connection.leave_body_unread();
    } else if !is_http2 {
        connection.body_was_read();
    }
}

fn own_answer(value: &serde_json::Value, id: &RequestId, is_head: bool, busy: Busy) -> Response<AgentBody> {
    let text = if is_head { Bytes::new() } else { Bytes::from(value.to_string()) };
    let mut response = Response::new(AgentBody::whole(text, busy));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(wire::REQUEST_ID, id.to_header());
    response
}

/// A provider's prefix, the mark and the tail have room.
const LONGEST_PLACEHOLDER: usize = 256;

/// What a client sends right behind the head is there by then; a refusal must not seem slow.
const SHORT_REST: Duration = Duration::from_millis(100);
/// To make a new connection costs less than to read more.
const SMALL_REST: u64 = 64 * 1024;

enum Reply {
    Own(serde_json::Value),
    Upstream(Box<Response<Relay>>),
}
