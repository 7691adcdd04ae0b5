//! One request: the placeholder replaced, sent on a kept connection, the answer streamed back.
//!
//! Fields of one hop do not cross, as in any proxy. It refuses a request whose `Authorization` is not the placeholder.
//! Called by `main`, once a request.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use crate::record::{Book, Entry};
use crate::upstream::Upstreams;

/// All that a request needs.
pub struct Proxy {
    /// Connections.
    pub upstreams: Upstreams,
    /// The log.
    pub book: Rc<Book>,
    /// For `Host`.
    pub host: HeaderValue,
    /// What `Authorization` must be.
    pub placeholder: Vec<u8>,
    /// What it becomes.
    pub key: HeaderValue,
}

/// What ends an exchange without an answer: its connection is closed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A value that no compression may remember.
pub fn sensitive(text: &str) -> Result<HeaderValue, Failure> {
    let mut value: HeaderValue = text.parse()?;
    value.set_sensitive(true);
    Ok(value)
}

/// Answers a request.
pub async fn answer(proxy: Rc<Proxy>, request: Request<Incoming>) -> Result<Response<Answer>, Failure> {
    let (mut head, body) = request.into_parts();
    match head.headers.get_mut(header::AUTHORIZATION) {
        Some(value) if value.as_bytes() == proxy.placeholder => *value = proxy.key.clone(),
        _ => return Ok(refusal(StatusCode::FORBIDDEN)),
    }
    drop_hop_by_hop(&mut head.headers);
    head.headers.insert(header::HOST, proxy.host.clone());
    head.version = Version::HTTP_11;
    let uploaded = body.size_hint().exact().unwrap_or(0);
    let mut entry = proxy.book.allowed(&head, uploaded)?;
    let mut sender = proxy.upstreams.take().await?;
    let mut response = sender.send_request(Request::from_parts(head, body)).await?;
    entry.line.status = Some(response.status().as_u16());
    let closes = closes(response.headers());
    drop_hop_by_hop(response.headers_mut());
    let mut under_way = Some(UnderWay { proxy, entry, sender: (!closes).then_some(sender) });
    Ok(response.map(|body| {
        if body.is_end_stream() {
            finish(&mut under_way);
        }
        Answer { body: Some(body), under_way }
    }))
}

fn refusal(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer { body: None, under_way: None });
    *response.status_mut() = status;
    response
}

/// What waits for the answer's last byte.
struct UnderWay {
    proxy: Rc<Proxy>,
    entry: Entry,
    sender: Option<SendRequest<Incoming>>,
}

/// The answer's body. Where it is dropped early, its connection is closed.
pub struct Answer {
    body: Option<Incoming>,
    under_way: Option<UnderWay>,
}

/// The connection may serve the next request, and the second line is written.
fn finish(under_way: &mut Option<UnderWay>) {
    if let Some(UnderWay { proxy, sender, entry: _ }) = under_way.take()
        && let Some(sender) = sender
    {
        proxy.upstreams.give_back(sender);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let ended = frame.is_none() || body.is_end_stream();
        if let (Some(Ok(frame)), Some(under_way)) = (&frame, &mut self.under_way)
            && let Some(data) = frame.data_ref()
        {
            under_way.entry.line.bytes_out += data.len() as u64;
        }
        if ended {
            finish(&mut self.under_way);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

fn closes(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
