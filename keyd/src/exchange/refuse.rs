//! A refusal on a channel: a code and nothing else.
//!
//! keyd sends a status, the code and, where there is one, how long to wait; gatewayd writes the words. What becomes of the
//! channel is said with it ([`No`]). Called by `forward` and `underway`.

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

/// Why there is no answer of the upstream's, and what becomes of the channel.
#[derive(Debug, Clone, Copy)]
pub struct No {
    denial: Denial,
    how: How,
}

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
    #[must_use]
    pub fn of(denial: Denial) -> Self {
        if denial.elsewhere { Self::stale() } else { Self { denial, how: How::Usable } }
    }

    /// The channel is not to be used again.
    #[must_use]
    pub fn closing(refusal: Refusal) -> Self {
        Self { denial: refusal.into(), how: How::Closing }
    }

    /// The connection had served before and died before a byte of an answer: the request may be sent once more.
    #[must_use]
    pub fn stale() -> Self {
        Self { denial: Refusal::UpstreamUnreachable.into(), how: How::Stale }
    }

    /// The upstream did not like what was offered and got nothing of the request, or has not looked at it: it may be sent
    /// once more.
    #[must_use]
    pub fn redial(refusal: Refusal) -> Self {
        Self { denial: refusal.into(), how: How::Redial }
    }

    /// Whether the agent is not told of it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.how == How::Stale
    }

    /// What the agent is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        self.denial.refusal
    }

    /// On the channel; `is_bound` where it has served somebody, and serves nobody else.
    #[must_use]
    pub fn answer(self, is_bound: bool) -> Response<Answer> {
        let mut response = answer(self.denial);
        let headers = response.headers_mut();
        match self.how {
            How::Usable if is_bound => {}
            How::Usable => drop(headers.insert(channel::UNBOUND, YES)),
            How::Closing => {}
            How::Stale => drop(headers.insert(channel::STALE, YES)),
            How::Redial => drop(headers.insert(channel::REDIAL, YES)),
        }
        if self.how != How::Usable {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn answer(denial: Denial) -> Response<Answer> {
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

const YES: HeaderValue = HeaderValue::from_static("1");
