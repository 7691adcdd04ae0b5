//! A refusal on a channel: a code and nothing else.
//!
//! keyd sends a status, the code and, where there is one, how long to wait; gatewayd writes the words. Called by
//! `forward`.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use strongroom_protocol::{Refusal, channel};

use super::answer::Answer;

/// A no, with all that is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub refusal: Refusal,
    /// When trying again makes sense; zero where that is not known.
    pub wait: Duration,
    /// With [`Refusal::other_status`].
    pub other_status: bool,
    /// The channel serves somebody else; a fresh one may be tried.
    pub elsewhere: bool,
}

impl Denial {
    /// To be tried again after this time.
    #[must_use]
    pub fn until(refusal: Refusal, wait: Duration) -> Self {
        Self { refusal, wait, other_status: false, elsewhere: false }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::until(refusal, Duration::ZERO)
    }
}

/// The answer that says no.
#[must_use]
pub fn answer(denial: Denial) -> Response<Answer> {
    let Denial { refusal, wait, other_status, .. } = denial;
    let status = refusal.other_status().filter(|_| other_status).unwrap_or_else(|| refusal.status());
    let mut response = Response::new(Answer::Empty);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(channel::REFUSAL, HeaderValue::from_static(refusal.code()));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    if !wait.is_zero() {
        // Rounded up: who comes back too early is refused again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(channel::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The connection had served before and died before a byte of an answer: the request may be sent once more.
#[must_use]
pub fn stale() -> Response<Answer> {
    let mut response = answer(Refusal::UpstreamUnreachable.into());
    response.headers_mut().insert(channel::STALE, HeaderValue::from_static("1"));
    closing(response)
}

/// The upstream did not like what was offered and got nothing of the request, or has not looked at it: it may be sent once
/// more.
#[must_use]
pub fn redial(denial: Denial) -> Response<Answer> {
    let mut response = answer(denial);
    response.headers_mut().insert(channel::REDIAL, HeaderValue::from_static("1"));
    closing(response)
}

/// The channel has served nobody yet, and may serve anybody.
#[must_use]
pub fn unbound(mut response: Response<Answer>) -> Response<Answer> {
    response.headers_mut().insert(channel::UNBOUND, HeaderValue::from_static("1"));
    response
}

/// The same, and the channel is not to be used again.
#[must_use]
pub fn closing(mut response: Response<Answer>) -> Response<Answer> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
