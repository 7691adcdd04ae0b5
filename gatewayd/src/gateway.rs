//! What all connections share, and the answer to one request.
//!
//! It refuses early what is malformed or has no route; everything else is keyd's answer. Every answer carries the
//! request's id. Called by the HTTP server of each connection.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use ring::rand::SystemRandom;
use strongroom_protocol::{Name, Refusal, channel as wire};

use crate::config::Config;
use crate::connection::{Busy, Connection};
use crate::error_response::{self, Rejection};
use crate::forward::relay::{AgentBody, Relay};
use crate::forward::replay::Source;
use crate::forward::{Outbound, forward};
use crate::ingress::{self, Door, Entry};
use crate::key_client::KeyClient;
use crate::log::Brake;
use crate::pool::Pool;
use crate::request_id::{RequestId, RequestIds};

/// What all connections share.
pub struct Gateway {
    /// The conversation with keyd.
    pub keyd: KeyClient,
    /// Idle channels.
    pub pool: Pool,
    /// Brake on lines about dials that failed.
    pub dials: Brake,
    config: RefCell<Rc<Config>>,
    ids: RequestIds,
    refusals: Brake,
}

impl Gateway {
    /// A gateway without connections.
    #[must_use]
    pub fn new(config: Config, keyd: KeyClient) -> Rc<Self> {
        let random = SystemRandom::new();
        let pool = Pool::new(&random);
        let config = RefCell::new(Rc::new(config));
        Rc::new(Self { keyd, pool, dials: Brake::new(), config, ids: RequestIds::new(random), refusals: Brake::new() })
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
    pub async fn answer(self: &Rc<Self>, request: Request<Incoming>, door: Door, busy: Busy) -> Response<AgentBody> {
        let id = self.ids.next();
        let (head, body) = request.into_parts();
        let (is_head, is_http2) = (head.method == Method::HEAD, head.version == Version::HTTP_2);
        let source = Source::new(body);
        let response = match self.handle(head, source.clone(), door, &id, busy.connection()).await {
            Ok(Reply::Health) => {
                let mut response = Response::new(AgentBody::whole(Bytes::from_static(b"{\"status\":\"ok\"}"), busy));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response.headers_mut().insert(wire::REQUEST_ID, id.to_header());
                response
            }
            Ok(Reply::Upstream(response)) => response.map(|relay| AgentBody::relay(relay, busy)),
            Err(rejection) => {
                if !source.has_ended() {
                    busy.connection().leave_body_unread();
                }
                self.refuse(rejection, &id, is_head, busy)
            }
        };
        if is_http2 { response.map(|body| body.holding(source)) } else { response }
    }

    /// Answers a request on a connection too many.
    pub fn turn_away(&self, request: Request<Incoming>, busy: Busy) -> Response<AgentBody> {
        let id = self.ids.next();
        if !request.body().is_end_stream() {
            busy.connection().leave_body_unread();
        }
        let (is_head, is_http2) = (request.method() == Method::HEAD, request.version() == Version::HTTP_2);
        let response = self.refuse(Refusal::Overloaded.into(), &id, is_head, busy);
        if is_http2 { response.map(|body| body.holding(Source::new(request.into_body()))) } else { response }
    }

    fn refuse(&self, rejection: Rejection, id: &RequestId, is_head: bool, busy: Busy) -> Response<AgentBody> {
        if let Some(held) = self.refusals.pass() {
            tracing::info!(code = %rejection.refusal, request_id = %id, held, "refused");
        }
        let body = |bytes| AgentBody::whole(if is_head { Bytes::new() } else { bytes }, busy);
        error_response::write(rejection, id).map(body)
    }

    async fn handle(
        self: &Rc<Self>,
        head: Parts,
        source: Source,
        door: Door,
        id: &RequestId,
        connection: &Rc<Connection>,
    ) -> Result<Reply, Rejection> {
        if connection.has_double_framing() {
            return Err(Refusal::BadRequest.into());
        }
        match ingress::read(&head, door, &self.config().limits)? {
            Entry::Health => Ok(Reply::Health),
            Entry::Route { name, target } => {
                let outbound = self.outbound(&name, target, head, source)?;
                forward(self, outbound, id, connection).await.map(|answer| Reply::Upstream(Box::new(answer)))
            }
        }
    }

    fn outbound(&self, name: &Name, target: http::Uri, head: Parts, source: Source) -> Result<Outbound, Refusal> {
        let routes = self.keyd.standing().routes()?;
        let authority = routes.authority(name).ok_or(Refusal::HostNotAllowed)?.clone();
        let Parts { method, headers, version, .. } = head;
        let written = target.path_and_query().map_or("", |target| target.as_str());
        let key = (!routes.may_be_in_body(&authority, &method, written))
            .then(|| self.pool.key(&authority, routes.fields(&authority), &headers, written));
        Ok(Outbound { authority, key, method, target, headers, source, version })
    }
}

enum Reply {
    Health,
    Upstream(Box<Response<Relay>>),
}
