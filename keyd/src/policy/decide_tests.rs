//! Each reason to refuse, beside a request that is allowed but for that reason.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use strongroom_protocol::{Authority, Refusal, Site};

use super::*;
use crate::policy::find::Position;
use crate::policy::fixture;
use crate::policy::positions::BodyKind;
use crate::vault::contents::Contents;

struct Case {
    contents: Contents,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    has_body: bool,
    authority: Authority,
    identity: Identity,
    bound: Option<Binding>,
    wait: Duration,
}

/// One credential `one` for a.example, one agent, one grant, and its placeholder in the right place.
fn case() -> (Case, String) {
    let mut contents = fixture::contents();
    let credential = fixture::credential(&mut contents, "one", "a.example", &[b"the-key-of-one"]);
    let agent = fixture::agent(&mut contents, "agent");
    let placeholder = fixture::grant(&mut contents, credential, agent);
    let mut headers = HeaderMap::new();
    headers.insert("authorization", bearer(&placeholder));
    let case = Case {
        contents,
        method: Method::POST,
        target: "/v1/chat?x=1".into(),
        headers,
        body: None,
        has_body: true,
        authority: "a.example".parse().unwrap(),
        identity: Identity::UNKNOWN,
        bound: None,
        wait: Duration::ZERO,
    };
    (case, placeholder)
}

fn bearer(text: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Bearer {text}")).unwrap()
}

impl Case {
    fn judge(self) -> Result<Allowed, Refusal> {
        match self.verdict() {
            Ok(Verdict::Allowed(allowed)) => Ok(allowed),
            Ok(Verdict::BodyWanted) => panic!("the body is wanted"),
            Err(refused) => Err(refused.refusal),
        }
    }

    fn verdict(self) -> Result<Verdict, Refused> {
        let live = Live::new(self.contents);
        let asked = Asked {
            authority: &self.authority,
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            body: match &self.body {
                Some(body) => Sent::Whole(body),
                None if self.has_body => Sent::Unread,
                None => Sent::Nothing,
            },
            identity: &self.identity,
            bound: self.bound.as_ref(),
            now: 1000,
        };
        decide(&live, &asked, |_| self.wait).map_err(|(refused, _)| refused)
    }
}

fn refusal(change: impl FnOnce(&mut Case, &str)) -> Refusal {
    let (mut case, placeholder) = case();
    change(&mut case, &placeholder);
    case.judge().expect_err("refused")
}

fn allowed(change: impl FnOnce(&mut Case, &str)) -> Allowed {
    let (mut case, placeholder) = case();
    change(&mut case, &placeholder);
    case.judge().expect("allowed")
}

#[test]
fn a_placeholder_in_its_place_is_allowed() {
    let allowed = allowed(|_, _| {});
    assert_eq!(allowed.uses.len(), 1);
    let position = Position::Field { name: AUTHORIZATION, before: "Bearer ".into(), after: "".into() };
    assert_eq!(allowed.uses[0].position, position);
    assert_eq!(allowed.target.to_origin_form(), "/v1/chat?x=1");
}

#[test]
fn the_bearer_scheme_is_known_in_any_case() {
    allowed(|case, placeholder| {
        case.headers.insert("authorization", HeaderValue::from_str(&format!("bearer {placeholder}")).unwrap());
    });
}

#[test]
fn no_placeholder_is_not_the_same_as_an_unknown_one() {
    assert_eq!(refusal(|case, _| case.headers.clear()), Refusal::NoPlaceholder);
    let unknown = |text: &'static str| {
        refusal(move |case, _| drop(case.headers.insert("authorization", HeaderValue::from_static(text))))
    };
    for text in ["Bearer sk-real-key-of-the-agent", "", "Basic abc", "Bearer ", "Bearer one two"] {
        assert_eq!(unknown(text), Refusal::UnknownPlaceholder, "{text}");
    }
}

#[test]
fn a_placeholder_counts_only_as_the_whole_value_of_its_position() {
    for template in ["Bearer {}x", "Bearer x{}", "Bearer  {}", "{}", "Basic {}", "Bearer {} ", "Bearer {},{}"] {
        let found = refusal(|case, placeholder| {
            let value = template.replace("{}", placeholder);
            case.headers.insert("authorization", HeaderValue::from_str(&value).unwrap());
        });
        let expected = if template == "Bearer {}x" {
            &[Refusal::SiteNotAllowed, Refusal::UnknownPlaceholder][..]
        } else {
            &[Refusal::SiteNotAllowed]
        };
        assert!(expected.contains(&found), "{template}: {found}");
    }
}

#[test]
fn a_placeholder_anywhere_else_in_the_head_is_refused() {
    for field in ["cookie", "user-agent", "x-api-key", "referer"] {
        let found =
            refusal(|case, placeholder| drop(case.headers.insert(field, HeaderValue::from_str(placeholder).unwrap())));
        assert_eq!(found, Refusal::SiteNotAllowed, "{field}");
        let alone = refusal(|case, placeholder| {
            case.headers.clear();
            case.headers.insert(field, HeaderValue::from_str(placeholder).unwrap());
        });
        assert_eq!(alone, Refusal::SiteNotAllowed, "{field} alone");
    }
    for target in ["/v1/{}", "/v1?key={}", "/{}/x"] {
        let found = refusal(|case, placeholder| case.target = target.replace("{}", placeholder));
        assert_eq!(found, Refusal::SiteNotAllowed, "{target}");
    }
    allowed(|case, _| drop(case.headers.insert("user-agent", HeaderValue::from_static("strongroom-test/1.0"))));
}

#[test]
fn a_field_that_comes_twice_is_refused() {
    let found = refusal(|case, placeholder| {
        case.headers.append("authorization", bearer(placeholder));
    });
    assert_eq!(found, Refusal::SiteNotAllowed);
    let found = refusal(|case, _| {
        case.headers.append("authorization", bearer("other"));
    });
    assert_eq!(found, Refusal::SiteNotAllowed);
}

#[test]
fn one_key_in_two_declared_positions_is_refused() {
    let declare =
        |case: &mut Case| case.contents.credentials[0].sites.push(Site::parse_header("x-api-key: {}").unwrap());
    let found = refusal(|case, placeholder| {
        declare(case);
        case.headers.insert("x-api-key", HeaderValue::from_str(placeholder).unwrap());
    });
    assert_eq!(found, Refusal::SiteNotAllowed);
    let either = allowed(|case, placeholder| {
        declare(case);
        case.headers.clear();
        case.headers.insert("x-api-key", HeaderValue::from_str(placeholder).unwrap());
    });
    assert!(matches!(&either.uses[0].position, Position::Field { name, .. } if name == "x-api-key"));
}

#[test]
fn another_host_is_refused() {
    let found = refusal(|case, _| {
        fixture::credential(&mut case.contents, "two", "b.example", &[b"the-key-of-two"]);
        case.authority = "b.example".parse().unwrap();
    });
    assert_eq!(found, Refusal::HostNotAllowed);
    assert_eq!(refusal(|case, _| case.authority = "a.example:8443".parse().unwrap()), Refusal::HostNotAllowed);
}

#[test]
fn another_credentials_position_on_the_same_host_is_refused() {
    let found = refusal(|case, placeholder| {
        fixture::credential(&mut case.contents, "two", "a.example", &[b"the-key-of-two"]);
        case.contents.credentials[1].sites = vec![Site::parse_header("x-two: {}").unwrap()];
        case.headers.clear();
        case.headers.insert("x-two", HeaderValue::from_str(placeholder).unwrap());
    });
    assert_eq!(found, Refusal::SiteNotAllowed);
}

#[test]
fn two_credentials_of_one_agent_may_go_together() {
    let two = |case: &mut Case, agent: Option<u64>| {
        let agent = agent.unwrap_or_else(|| fixture::agent(&mut case.contents, "other"));
        let id = fixture::credential(&mut case.contents, "two", "a.example", &[b"the-key-of-two"]);
        case.contents.credentials[1].sites = vec![Site::parse_header("x-two: {}").unwrap()];
        let second = fixture::grant(&mut case.contents, id, agent);
        case.headers.insert("x-two", HeaderValue::from_str(&second).unwrap());
    };
    let both = allowed(|case, _| {
        let agent = case.contents.agents[0].id;
        two(case, Some(agent));
    });
    assert_eq!((both.uses.len(), both.binding.credentials.len()), (2, 2));
    assert_eq!(refusal(|case, _| two(case, None)), Refusal::AgentMismatch);
}

#[test]
fn what_was_revoked_or_removed_is_refused() {
    assert_eq!(refusal(|case, _| case.contents.grants[0].revoked = Some(1)), Refusal::Revoked);
    assert_eq!(refusal(|case, _| case.contents.agents[0].revoked = Some(1)), Refusal::Revoked);
    assert_eq!(refusal(|case, _| case.contents.agents[0].removed = Some(1)), Refusal::Revoked);
    assert_eq!(refusal(|case, _| case.contents.credentials[0].removed = Some(1)), Refusal::Revoked);
}

#[test]
fn an_expired_grant_is_refused() {
    assert_eq!(refusal(|case, _| case.contents.grants[0].expires = Some(1000)), Refusal::Expired);
    assert_eq!(allowed(|case, _| case.contents.grants[0].expires = Some(1001)).expires, Some(1001));
}

#[test]
fn rules_are_kept() {
    let allow = |rule: &str| vec![rule.parse().unwrap()];
    assert_eq!(refusal(|case, _| case.contents.grants[0].allow = allow("GET /v1/**")), Refusal::RequestNotAllowed);
    assert_eq!(refusal(|case, _| case.contents.grants[0].allow = allow("POST /v2/**")), Refusal::RequestNotAllowed);
    allowed(|case, _| case.contents.grants[0].allow = allow("POST /v1/**"));
    for target in [
        "/v1/chat",
        "/V1/Chat",
        "/v1/chat/",
        "/v1/x/../chat",
        "/v1//chat",
        "/v1/%63hat",
        "/v1%2Fchat",
        "/v1/chat;x",
        "/v1;y/chat",
        "/v1%5cchat",
    ] {
        let found = refusal(|case, _| {
            case.contents.credentials[0].deny = allow("* /v1/chat");
            case.target = target.into();
        });
        assert_eq!(found, Refusal::RequestNotAllowed, "{target}");
    }
    allowed(|case, _| case.contents.credentials[0].deny = allow("* /v1/keys"));
    for method in ["TRACE", "CONNECT", "post", "Post"] {
        let found = refusal(|case, _| case.method = Method::from_bytes(method.as_bytes()).unwrap());
        assert_eq!(found, Refusal::RequestNotAllowed, "{method}");
    }
    allowed(|case, _| case.method = Method::from_bytes(b"M-SEARCH").unwrap());
}

#[test]
fn a_head_that_can_be_read_in_two_ways_is_refused() {
    for target in ["/a/%2e%2e/b", "http://a.example/", "*", "/a%00"] {
        assert_eq!(refusal(|case, _| case.target = target.into()), Refusal::BadRequest, "{target}");
    }
}

#[test]
fn a_channel_serves_one_agent_and_its_credentials() {
    let (case, _) = case();
    let binding = case.judge().unwrap().binding;
    allowed(|case, _| case.bound = Some(binding.clone()));
    let other_agent = Binding { agent: 99, ..binding.clone() };
    assert_eq!(refusal(|case, _| case.bound = Some(other_agent)), Refusal::AgentMismatch);
    let other_key = Binding { credentials: vec![98], ..binding };
    assert_eq!(refusal(|case, _| case.bound = Some(other_key)), Refusal::AgentMismatch);
}

#[test]
fn the_rate_is_asked_last() {
    assert_eq!(refusal(|case, _| case.wait = Duration::from_secs(1)), Refusal::RateLimited);
    let revoked_too = refusal(|case, _| {
        case.wait = Duration::from_secs(1);
        case.contents.grants[0].revoked = Some(1);
    });
    assert_eq!(revoked_too, Refusal::Revoked);
}

#[path = "named_tests.rs"]
mod named;
#[path = "position_tests.rs"]
mod positions;
