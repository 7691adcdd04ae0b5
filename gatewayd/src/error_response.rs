//! A refusal as an HTTP answer: the only place in gatewayd where one becomes a status.
//!
//! The words come from the protocol's list, so nothing that a request or an upstream held can appear in them.
//! It refuses to say more than the code says. Called once for each request that is refused, by whoever refused it.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use strongroom_protocol::refusal::{Refusal, Retry};
use strongroom_protocol::{Authority, channel};

use crate::request_id::RequestId;

/// A refusal on its way to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The code.
    pub refusal: Refusal,
    /// Seconds, where keyd knows better than the default when to come back.
    pub retry_after: Option<u32>,
    /// keyd chose [`Refusal::other_status`].
    pub other_status: bool,
    /// A proxy's request came without credentials: it is told that it may send some.
    pub asks_for_credentials: bool,
    /// The host that a proxy's request is for, to be named in the hint.
    pub host: Option<Authority>,
    /// That request has its host in its target, and is no CONNECT.
    pub in_absolute_form: bool,
    /// What did not come in time, where more is known than that nothing came.
    pub late: Option<Late>,
    /// It is refused as a web page's, and not for its host.
    pub is_a_pages: bool,
}

/// What did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// The rest of the agent's own request.
    Request,
    /// The answer to a request that is on its way, and not to be sent twice.
    OnlyAnswer,
}

impl Rejection {
    /// Of a request in a proxy's form, to this host, with credentials or without.
    #[must_use]
    pub fn of_a_proxy(self, host: &Authority, has_credentials: bool) -> Self {
        Self { asks_for_credentials: !has_credentials, ..self.within(host) }
    }

    /// Of a request whose target names this host in full.
    #[must_use]
    pub fn in_absolute_form(self, host: &Authority) -> Self {
        Self { in_absolute_form: true, ..self.within(host) }
    }

    /// Of a request on a way that leads to this host alone.
    #[must_use]
    pub fn within(self, host: &Authority) -> Self {
        Self { host: Some(host.clone()), ..self }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            retry_after: None,
            other_status: false,
            asks_for_credentials: false,
            host: None,
            in_absolute_form: false,
            late: None,
            is_a_pages: false,
        }
    }
}

/// Writes the answer; the body is JSON.
#[must_use]
pub fn write(rejection: Rejection, id: &RequestId) -> Response<Bytes> {
    let (message, hint) = (message(&rejection), hint(&rejection));
    let Rejection { refusal, retry_after, other_status, asks_for_credentials, late, .. } = rejection;
    let asks = asks_for_credentials && refusal == Refusal::AgentUnknown;
    let own_status =
        if asks { Some(PROXY_AUTHENTICATION_REQUIRED) } else { refusal.other_status().filter(|_| other_status) };
    let status = own_status.unwrap_or_else(|| refusal.status());
    let body = serde_json::json!({
        "error": {
            "type": "strongroom",
            "code": refusal.code(),
            // Half of the clients show this part alone.
            "message": format!("{message} {hint} ({})", refusal.code()),
            "hint": hint,
            "request_id": id.to_string(),
        }
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).expect("every refusal has a valid status");
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"strongroom\""));
    }
    if asks {
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"strongroom\""));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(channel::REFUSAL, HeaderValue::from_static(refusal.code()));
    headers.insert(channel::REQUEST_ID, id.to_header());
    match refusal.retry() {
        Retry::Useless => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Retry::Later => {
            let wait = retry_after.unwrap_or_else(|| default_wait(refusal));
            headers.insert(RETRY_AFTER, wait.into());
            // Some libraries sleep for as long as they are told, and an agent that is silent for an hour seems dead.
            if wait > LONGEST_PAUSE {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        Retry::Possible if late == Some(Late::OnlyAnswer) => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Retry::Possible => {}
    }
    response
}

fn message(rejection: &Rejection) -> &'static str {
    match rejection.late {
        Some(Late::Request) => "The rest of the request's body did not come in time.",
        Some(Late::OnlyAnswer) | None => rejection.refusal.message(),
    }
}

fn hint(rejection: &Rejection) -> Cow<'static, str> {
    let &Rejection { refusal, in_absolute_form, .. } = rejection;
    match rejection.late {
        Some(Late::Request) => {
            return Cow::Borrowed("Send it without long pauses, or raise 'first-byte' in gatewayd.toml.");
        }
        Some(Late::OnlyAnswer) => {
            return Cow::Borrowed(
                "It may still do what it was asked, so look before you ask again; or raise 'first-byte' in gatewayd.toml.",
            );
        }
        None => {}
    }
    if rejection.is_a_pages {
        return Cow::Borrowed(
            "It has an Origin or Sec-Fetch-Site field, as browsers send for pages: leave that out, or use agent.sock.",
        );
    }
    let Some(host) = &rejection.host else { return Cow::Borrowed(refusal.hint()) };
    let name = host.to_host_field();
    match refusal {
        Refusal::HostNotAllowed if in_absolute_form => {
            let plain = if host.port() == Authority::DEFAULT_PORT { format!("{name}:80") } else { name.clone() };
            Cow::Owned(format!(
                "Plain http:// through the proxy goes to the hosts of credentials alone ('strongroom credential list'), and from there on as https://. 'strongroom agent allow AGENT {name}' lets https://{name} pass, and 'strongroom agent allow AGENT {plain}' a CONNECT to {plain}."
            ))
        }
        Refusal::HostNotAllowed => Cow::Owned(format!(
            "Run 'strongroom agent allow AGENT {name}' to let an agent reach it without a key, or 'strongroom credential list' for the hosts that have one."
        )),
        Refusal::AuthorityMismatch => Cow::Owned(format!(
            "Through a proxy, Host and TLS have to name the host that the request is for, here {name}; ask for others on ways of their own."
        )),
        _ => Cow::Borrowed(refusal.hint()),
    }
}

/// The whole answer as bytes of HTTP/1.1, where no HTTP server writes it.
#[must_use]
pub fn to_bytes(rejection: Rejection, id: &RequestId, keep_alive: bool) -> Bytes {
    let (parts, body) = write(rejection, id).into_parts();
    let mut fields = parts.headers;
    fields.insert(CONTENT_LENGTH, body.len().into());
    fields.insert(CONNECTION, HeaderValue::from_static(if keep_alive { "keep-alive" } else { "close" }));
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &fields {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes.into()
}

/// Seconds: soon for what passes by itself, longer for what needs a person.
fn default_wait(refusal: Refusal) -> u32 {
    match refusal {
        Refusal::Overloaded => 1,
        Refusal::KeydUnavailable => 2,
        _ => 5,
    }
}

/// Seconds in which a library may try again by itself; what takes longer the agent hears at once.
const LONGEST_PAUSE: u32 = 60;

const PROXY_AUTHENTICATION_REQUIRED: u16 = 407;

/// OpenAI's and Anthropic's client libraries obey it.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::request_id::RequestIds;

    #[test]
    fn every_refusal_has_its_answer() {
        let id = RequestIds::new(SystemRandom::new()).next();
        for &refusal in Refusal::ALL {
            let response = write(refusal.into(), &id);
            assert_eq!(response.status().as_u16(), refusal.status());
            let headers = response.headers();
            assert_eq!(headers["strongroom-refusal"], refusal.code());
            assert_eq!(headers["strongroom-request-id"], id.to_string());
            assert_eq!(headers.contains_key("x-should-retry"), refusal.retry() == Retry::Useless);
            assert_eq!(headers.contains_key("retry-after"), matches!(refusal.status(), 429 | 503));
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            let error = &body["error"];
            assert_eq!((&error["type"], &error["code"]), (&"strongroom".into(), &refusal.code().into()));
            assert_eq!(error["hint"], refusal.hint());
            let message = error["message"].as_str().unwrap();
            for part in [refusal.message(), refusal.hint(), refusal.code()] {
                assert!(message.contains(part), "{message}");
            }
            assert_eq!(error["request_id"], id.to_string());
        }
    }

    #[test]
    fn two_names_are_told_which_one_counts() {
        let id = RequestIds::new(SystemRandom::new()).next();
        let hint = |rejection| serde_json::from_slice::<serde_json::Value>(write(rejection, &id).body()).unwrap();
        let host: Authority = "api.example:8443".parse().unwrap();
        let within = hint(Rejection::from(Refusal::AuthorityMismatch).within(&host));
        assert!(within["error"]["hint"].as_str().unwrap().contains("api.example:8443"), "{within}");
        let without = hint(Refusal::AuthorityMismatch.into());
        assert_eq!(without["error"]["hint"], Refusal::AuthorityMismatch.hint());
    }

    #[test]
    fn what_came_late_is_named_and_what_is_not_to_be_sent_twice_is_not_asked_for_again() {
        let id = RequestIds::new(SystemRandom::new()).next();
        for (late, message, should_retry) in [
            (None, "The upstream did not answer in time. Try again", None),
            (Some(Late::Request), "The rest of the request's body did not come in time. Send it", None),
            (Some(Late::OnlyAnswer), "The upstream did not answer in time. It may still do", Some("false")),
        ] {
            let response = write(Rejection { late, ..Refusal::UpstreamTimeout.into() }, &id);
            assert_eq!(response.status(), 504);
            let told = response.headers().get("x-should-retry").map(|value| value.to_str().unwrap());
            assert_eq!(told, should_retry, "{late:?}");
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert!(body["error"]["message"].as_str().unwrap().starts_with(message), "{body}");
            assert_eq!(body["error"]["code"], "upstream_timeout");
        }
    }

    #[test]
    fn a_proxys_request_is_told_that_it_may_send_credentials_and_which_command_allows_a_host() {
        let id = RequestIds::new(SystemRandom::new()).next();
        let host: Authority = "pypi.org".parse().unwrap();
        let asked = write(Rejection::from(Refusal::AgentUnknown).of_a_proxy(&host, false), &id);
        assert_eq!((asked.status().as_u16(), asked.headers().contains_key("proxy-authenticate")), (407, true));
        let tried = write(Rejection::from(Refusal::AgentUnknown).of_a_proxy(&host, true), &id);
        assert_eq!((tried.status().as_u16(), tried.headers().contains_key("proxy-authenticate")), (403, false));
        let refused = write(Rejection::from(Refusal::HostNotAllowed).of_a_proxy(&host, false), &id);
        let body: serde_json::Value = serde_json::from_slice(refused.body()).unwrap();
        assert!(body["error"]["hint"].as_str().unwrap().contains("agent allow AGENT pypi.org'"), "{body}");
        assert_eq!(refused.status().as_u16(), 403);
    }

    #[test]
    fn plain_http_to_a_host_that_is_only_allowed_is_told_what_reaches_it() {
        let id = RequestIds::new(SystemRandom::new()).next();
        for (host, plain) in [("pypi.org", "pypi.org:80"), ("pypi.org:8080", "pypi.org:8080")] {
            let rejection = Rejection::from(Refusal::HostNotAllowed).in_absolute_form(&host.parse().unwrap());
            let body: serde_json::Value = serde_json::from_slice(write(rejection, &id).body()).unwrap();
            let hint = body["error"]["hint"].as_str().unwrap();
            assert!(
                hint.contains(&format!("https://{host} ")) && hint.contains(&format!("a CONNECT to {plain}.")),
                "{hint}"
            );
        }
    }

    #[test]
    fn keyds_time_is_kept() {
        let id = RequestIds::new(SystemRandom::new()).next();
        let response = write(Rejection { retry_after: Some(17), ..Refusal::RateLimited.into() }, &id);
        assert_eq!(response.headers()["retry-after"], "17");
        assert!(!response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn a_long_wait_is_left_to_the_agent() {
        let id = RequestIds::new(SystemRandom::new()).next();
        let response = write(Rejection { retry_after: Some(61), ..Refusal::RateLimited.into() }, &id);
        assert_eq!(response.headers()["retry-after"], "61");
        assert_eq!(response.headers()["x-should-retry"], "false");
    }

    #[test]
    fn credentials_are_asked_for_where_keyd_says_so_and_nowhere_else() {
        let id = RequestIds::new(SystemRandom::new()).next();
        for &refusal in Refusal::ALL {
            let usual = write(refusal.into(), &id);
            assert!(!usual.headers().contains_key("www-authenticate"), "{refusal}");
            let other = write(Rejection { other_status: true, ..refusal.into() }, &id);
            assert_eq!(other.status().as_u16(), refusal.other_status().unwrap_or_else(|| refusal.status()));
            assert_eq!(other.headers().contains_key("www-authenticate"), refusal == Refusal::NoPlaceholder);
        }
        let asked = write(Rejection { other_status: true, ..Refusal::NoPlaceholder.into() }, &id);
        assert_eq!(
            (asked.status().as_u16(), asked.headers()["www-authenticate"].to_str().unwrap()),
            (401, "Basic realm=\"strongroom\"")
        );
    }
}
