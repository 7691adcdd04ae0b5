//! The judgement over one request: whose is it, and which keys go where?
//!
//! In this order: is the head one that can be read in only one way; which placeholders stand where; do the grants
//! stand; does the credential name this host and this position; is there one agent, the one that sent it and the
//! channel's; is the request allowed; is the rate left. It takes nothing from any bucket and writes nothing: the caller
//! does, if it goes on. It refuses a request that carries no placeholder at all, for a request without a key has no
//! business here. A body is asked for where a credential names a place in it, and only when nothing in the head stands
//! in the way.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use strongroom_protocol::{Authority, Refusal};

use super::body::{self, Body};
use super::find::{self, Found, Use};
use super::form;
use super::identity::Identity;
use super::lenient;
use super::live::Live;
use super::path::Target;
use super::positions::Declared;
use super::rule;
use crate::vault::contents::Grant;

/// What is asked.
pub struct Asked<'a> {
    /// Where the channel leads.
    pub authority: &'a Authority,
    /// The method.
    pub method: &'a Method,
    /// The request target, in origin form.
    pub target: &'a str,
    /// Header fields as the agent sent them.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: Sent<'a>,
    /// Who sent it, by other evidence than its placeholders.
    pub identity: &'a Identity,
    /// Whom the channel serves already, where it served before.
    pub bound: Option<&'a Binding>,
    /// Seconds of the Unix epoch.
    pub now: u64,
}

impl Asked<'_> {
    /// Whether a browser says that another site's page made it.
    #[must_use]
    pub fn is_from_a_page(&self) -> bool {
        let same_site = |value: &HeaderValue| matches!(value.as_bytes(), b"none" | b"same-origin");
        self.headers.contains_key(header::ORIGIN) || !self.headers.get_all("sec-fetch-site").iter().all(same_site)
    }
}

/// What is known of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent<'a> {
    /// There is none.
    Nothing,
    /// It was not read.
    Unread,
    /// It was asked for, and this is all of it.
    Whole(&'a [u8]),
}

/// What a channel is bound to by its first request: nothing of one agent ever follows another's on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Id of the agent.
    pub agent: u64,
    /// Ids of the credentials, ascending.
    pub credentials: Vec<u64>,
}

/// A request that was not refused.
#[derive(Debug)]
pub enum Verdict {
    /// It may be made.
    Allowed(Allowed),
    /// It may be made so far: ask again with its whole body.
    BodyWanted,
}

/// A request that may be made.
#[derive(Debug)]
pub struct Allowed {
    /// Whom the channel serves from now on.
    pub binding: Binding,
    /// Which key goes where.
    pub uses: Vec<Use>,
    /// What is sent.
    pub target: Target,
    /// The earliest expiry among the grants, in seconds of the Unix epoch.
    pub expires: Option<u64>,
}

/// A request that may not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// Id of the agent whose placeholder it carried, where it carried one.
    pub agent: Option<u64>,
    /// Id of the credential of that placeholder.
    pub credential: Option<u64>,
    /// Answered with [`Refusal::other_status`].
    pub other_status: bool,
    /// On a fresh channel the same request could be allowed.
    pub elsewhere: bool,
}

impl Refused {
    /// Because of a grant.
    #[must_use]
    pub fn of(grant: &Grant, refusal: Refusal) -> Self {
        Self {
            refusal,
            agent: Some(grant.agent),
            credential: Some(grant.credential),
            other_status: false,
            elsewhere: false,
        }
    }

    /// It carried nobody's placeholder, or that is not known.
    #[must_use]
    pub fn nobody(refusal: Refusal) -> Self {
        Self { refusal, agent: None, credential: None, other_status: false, elsewhere: false }
    }
}

/// Judges the request. `wait` says how long a grant's bucket makes one wait.
///
/// # Errors
/// The first reason that is found, in the order above.
pub fn decide(
    live: &Live,
    asked: &Asked<'_>,
    mut wait: impl FnMut(&Grant) -> Duration,
) -> Result<Verdict, (Refused, Duration)> {
    let at_once = |refused| (refused, Duration::ZERO);
    let Ok(mut target) = Target::parse(asked.target) else {
        return Err(at_once(Refused::nobody(Refusal::BadRequest)));
    };
    // Methods are told apart by case (RFC 9110, 9.1), but some frameworks fold it: a rule for POST must hold for "post".
    let folded = asked.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase());
    if folded || matches!(*asked.method, Method::TRACE | Method::CONNECT) {
        return Err(at_once(Refused::nobody(Refusal::RequestNotAllowed)));
    }
    let declared = live.declared(asked.authority);
    let (Found { uses, .. }, is_whole) = find(live, &declared, asked, &mut target).map_err(at_once)?;
    if uses.is_empty() {
        return Ok(Verdict::BodyWanted);
    }
    let binding = stand_together(live, asked, &uses, is_whole).map_err(at_once)?;
    for (grant, _) in &uses {
        if !is_allowed(live, grant, asked.method, &target) {
            return Err(at_once(Refused::of(grant, Refusal::RequestNotAllowed)));
        }
    }
    for (grant, _) in &uses {
        let time = wait(grant);
        if !time.is_zero() {
            return Err((Refused::of(grant, Refusal::RateLimited), time));
        }
    }
    if !is_whole {
        return Ok(Verdict::BodyWanted);
    }
    let expires = uses.iter().filter_map(|(grant, _)| grant.expires).min();
    let uses = uses.into_iter().map(|(_, one)| one).collect();
    Ok(Verdict::Allowed(Allowed { binding, uses, target, expires }))
}

/// Which placeholders stand in declared positions, and whether that is all; only before the body is read can it be none.
fn find<'a>(
    live: &'a Live,
    declared: &Declared,
    asked: &Asked<'_>,
    target: &mut Target,
) -> Result<(Found<'a>, bool), Refused> {
    let mut found = find::in_head(live, declared, asked, target)?;
    let body = body::of(declared, asked, target);
    if let (Body::Wanted(kind), Sent::Whole(bytes)) = (body, asked.body) {
        body::find(live, declared, asked, target, (kind, bytes), &mut found)?;
    }
    if found.stranger {
        let unknown = if found.name { without_proof(asked.identity) } else { Refusal::UnknownPlaceholder };
        return Err(Refused::nobody(unknown));
    }
    let is_whole = !matches!(body, Body::Wanted(_)) || matches!(asked.body, Sent::Whole(_));
    if is_whole && found.uses.is_empty() {
        return Err(without_placeholder(declared, asked, body, (found.strange_path, found.name)));
    }
    Ok((found, is_whole))
}

/// A variable's name in place of a placeholder, from somebody to whom it means nothing.
fn without_proof(identity: &Identity) -> Refusal {
    if identity.proved().is_empty() || identity.only().is_none() {
        Refusal::AgentUnknown
    } else {
        Refusal::AgentMismatch
    }
}

fn without_placeholder(
    declared: &Declared,
    asked: &Asked<'_>,
    body: Body,
    (strange_path, is_name): (bool, bool),
) -> Refused {
    if body == Body::Unreadable {
        return Refused::nobody(Refusal::BadRequest);
    }
    if strange_path {
        return Refused::nobody(if is_name { without_proof(asked.identity) } else { Refusal::UnknownPlaceholder });
    }
    // git sends credentials only where it was asked for them.
    let asks = declared.takes_basic && !asked.headers.contains_key(header::AUTHORIZATION);
    Refused { other_status: asks, ..Refused::nobody(Refusal::NoPlaceholder) }
}

/// Whether the grants stand, are one agent's, each of another credential, and the channel's.
fn stand_together(live: &Live, asked: &Asked<'_>, uses: &[(&Grant, Use)], is_whole: bool) -> Result<Binding, Refused> {
    let first = uses[0].0;
    for (grant, _) in uses {
        let agent = live.agent(grant.agent).ok_or(Refused::of(grant, Refusal::Revoked))?;
        asked.identity.permits(agent).map_err(|refusal| Refused::of(grant, refusal))?;
        if !live.stands(grant) {
            return Err(Refused::of(grant, Refusal::Revoked));
        }
        if grant.expires.is_some_and(|expires| expires <= asked.now) {
            return Err(Refused::of(grant, Refusal::Expired));
        }
    }
    if uses.iter().any(|(grant, _)| grant.agent != first.agent) {
        return Err(Refused::of(first, Refusal::AgentMismatch));
    }
    let mut credentials: Vec<u64> = uses.iter().map(|(grant, _)| grant.credential).collect();
    credentials.sort_unstable();
    credentials.dedup();
    // "Once": one key in two positions of a request is a way to make an upstream echo one of them.
    if credentials.len() != uses.len() {
        return Err(Refused::of(first, Refusal::SiteNotAllowed));
    }
    let binding = Binding { agent: first.agent, credentials };
    // The body may name more credentials.
    if is_whole && asked.bound.is_some_and(|bound| *bound != binding) {
        return Err(Refused { elsewhere: true, ..Refused::of(first, Refusal::AgentMismatch) });
    }
    Ok(binding)
}

/// Frameworks take the method from the first of these parameters where they find it, whatever the request line says;
/// some servers do so with the others.
const METHOD_PARAMETERS: [&str; 8] = [
    "_method",
    "$httpmethod",
    "_httpmethod",
    "httpmethod",
    "http_method",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Some take it from this one as well, which has many other meanings.
const PERHAPS_METHOD: &str = "method";

/// Values that it has then.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Whether a server could read another method out of this part of a query.
fn names_a_method(part: &[u8]) -> bool {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let is = |text: &[u8], names: &[&str]| names.iter().any(|one| form::same_name(text, one));
    is(name, &METHOD_PARAMETERS) || form::same_name(name, PERHAPS_METHOD) && is(value, &METHODS)
}

/// Denials are matched on the path as lenient servers might read it: what mints keys must not be reached in
/// another spelling.
fn is_allowed(live: &Live, grant: &Grant, method: &Method, target: &Target) -> bool {
    let covered = |rules: &[_], path: &str| rules.iter().any(|one| rule::covers(one, method.as_str(), path));
    let denials = live.denials(grant.credential);
    let query = target.query().unwrap_or_default().as_bytes();
    // Some servers take `;` for `&`.
    let overrides = || query.split(|byte| matches!(byte, b'&' | b';')).any(names_a_method);
    if !(denials.is_empty() && grant.allow.is_empty()) && overrides() {
        return false;
    }
    let denied = !denials.is_empty() && lenient::readings(target.path()).iter().any(|path| covered(denials, path));
    !denied && (grant.allow.is_empty() || covered(&grant.allow, target.path()))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
