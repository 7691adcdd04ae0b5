//! The judgement over one request head: whose request is it, and which keys go where?
//!
//! In this order: is the head one that can be read in only one way; which placeholders stand where; do the grants
//! stand; does the credential name this host and this position; is there one agent, and is it the channel's; is the
//! request allowed; is the rate left. It takes nothing from any bucket and writes nothing: the caller does, if it goes
//! on. It refuses a request that carries no placeholder at all, for a request without a key has no business here.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use strongroom_protocol::{Authority, Refusal, Site};

use super::live::Live;
use super::path::{self, Target};
use super::{placeholder, rule};
use crate::vault::contents::{Credential, Grant};

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
    /// Whom the channel serves already, where it served before.
    pub bound: Option<&'a Binding>,
    /// Seconds of the Unix epoch.
    pub now: u64,
}

/// What a channel is bound to by its first request: nothing of one agent ever follows another's on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Id of the agent.
    pub agent: u64,
    /// Ids of the credentials, ascending.
    pub credentials: Vec<u64>,
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

/// One key in one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Id of the grant.
    pub grant: u64,
    /// Id of the credential.
    pub credential: u64,
    /// The header field whose value is replaced.
    pub field: HeaderName,
    /// Text before the key.
    pub before: String,
    /// Text after the key.
    pub after: String,
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
}

/// Judges the request. `wait` says how long a grant's bucket makes one wait.
///
/// # Errors
/// The first reason that is found, in the order above.
pub fn decide(
    live: &Live,
    asked: &Asked<'_>,
    mut wait: impl FnMut(&Grant) -> Duration,
) -> Result<Allowed, (Refused, Duration)> {
    let refuse = |refusal| Err((Refused { refusal, agent: None, credential: None }, Duration::ZERO));
    let Ok(target) = Target::parse(asked.target) else { return refuse(Refusal::BadRequest) };
    // Methods are told apart by case (RFC 9110, 9.1), but some frameworks fold it: a rule for POST must hold for "post".
    let folded = asked.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase());
    if folded || matches!(*asked.method, Method::TRACE | Method::CONNECT) {
        return refuse(Refusal::RequestNotAllowed);
    }
    let found = match find(live, asked) {
        Ok(found) => found,
        Err(refused) => return Err((refused, Duration::ZERO)),
    };
    let first = found[0].0;
    let because = |refusal, grant: &Grant, wait| {
        Err((Refused { refusal, agent: Some(grant.agent), credential: Some(grant.credential) }, wait))
    };
    for (grant, _) in &found {
        if !live.stands(grant) {
            return because(Refusal::Revoked, grant, Duration::ZERO);
        }
        if grant.expires.is_some_and(|expires| expires <= asked.now) {
            return because(Refusal::Expired, grant, Duration::ZERO);
        }
    }
    if found.iter().any(|(grant, _)| grant.agent != first.agent) {
        return because(Refusal::AgentMismatch, first, Duration::ZERO);
    }
    let mut credentials: Vec<u64> = found.iter().map(|(grant, _)| grant.credential).collect();
    credentials.sort_unstable();
    credentials.dedup();
    // "Once": one key in two positions of a request is a way to make an upstream echo one of them.
    if credentials.len() != found.len() {
        return because(Refusal::SiteNotAllowed, first, Duration::ZERO);
    }
    let binding = Binding { agent: first.agent, credentials };
    if asked.bound.is_some_and(|bound| *bound != binding) {
        return because(Refusal::AgentMismatch, first, Duration::ZERO);
    }
    for (grant, _) in &found {
        let covered = |rules: &[_]| rules.iter().any(|one| rule::covers(one, asked.method.as_str(), target.path()));
        let denied =
            live.credential(grant.credential).is_some_and(|credential| is_denied(credential, asked.method, &target));
        if denied || !grant.allow.is_empty() && !covered(&grant.allow) {
            return because(Refusal::RequestNotAllowed, grant, Duration::ZERO);
        }
    }
    for (grant, _) in &found {
        let time = wait(grant);
        if !time.is_zero() {
            return because(Refusal::RateLimited, grant, time);
        }
    }
    let expires = found.iter().filter_map(|(grant, _)| grant.expires).min();
    let uses = found.into_iter().map(|(_, one)| one).collect();
    Ok(Allowed { binding, uses, target, expires })
}

/// Denials are matched on the path as the most lenient server might read it: what mints keys must not be reached in
/// another spelling.
fn is_denied(credential: &Credential, method: &Method, target: &Target) -> bool {
    let lenient = path::most_lenient(target.path());
    credential.deny.iter().any(|denied| {
        let lower = format!("{} {}", denied.method(), denied.path().to_ascii_lowercase());
        lower.parse().is_ok_and(|denied| rule::covers(&denied, method.as_str(), &lenient))
    })
}

/// Which grants' placeholders stand in declared positions; never an empty list.
fn find<'a>(live: &'a Live, asked: &Asked<'_>) -> Result<Vec<(&'a Grant, Use)>, Refused> {
    let mut found: Vec<(&Grant, Use)> = Vec::new();
    let mut stranger = false;
    let fields = declared_fields(live, asked.authority);
    for (field, templates) in &fields {
        let mut values = asked.headers.get_all(field).iter();
        let Some(value) = values.next() else { continue };
        let inside = templates.iter().find_map(|(before, after)| {
            let inner = strip(value.as_bytes(), before, after)?;
            let grant = live.grant_by_placeholder(inner)?;
            Some((grant, before, after))
        });
        match inside {
            Some((grant, before, after)) => {
                let refused =
                    |refusal| Refused { refusal, agent: Some(grant.agent), credential: Some(grant.credential) };
                if values.next().is_some() {
                    return Err(refused(Refusal::SiteNotAllowed));
                }
                if live.stands(grant) {
                    position_is_declared(live, asked.authority, grant, field, before, after).map_err(refused)?;
                }
                let (before, after) = ((*before).to_owned(), (*after).to_owned());
                found.push((
                    grant,
                    Use { grant: grant.id, credential: grant.credential, field: field.clone(), before, after },
                ));
            }
            None => stranger = true,
        }
    }
    misplaced(live, asked, &found)?;
    let nobody = |refusal| Refused { refusal, agent: None, credential: None };
    if stranger {
        return Err(nobody(Refusal::UnknownPlaceholder));
    }
    if found.is_empty() { Err(nobody(Refusal::NoPlaceholder)) } else { Ok(found) }
}

/// Every header field in which some credential of this authority takes its key, with the text around it.
fn declared_fields<'a>(live: &'a Live, authority: &'a Authority) -> Vec<(HeaderName, Vec<(&'a str, &'a str)>)> {
    let mut fields: Vec<(HeaderName, Vec<(&str, &str)>)> = Vec::new();
    let sites = live.credentials_naming(authority).filter(|one| one.removed.is_none()).flat_map(|one| &one.sites);
    // A removed credential's positions stay declared where nothing else does, so that its placeholders are "revoked".
    let removed = live.credentials_naming(authority).filter(|one| one.removed.is_some()).flat_map(|one| &one.sites);
    for site in sites.chain(removed) {
        let (Some(field), Some(around)) = (site.header_field(), template(site)) else { continue };
        let Ok(field) = HeaderName::from_bytes(field.as_bytes()) else { continue };
        match fields.iter_mut().find(|(name, _)| *name == field) {
            Some((_, templates)) if !templates.contains(&around) => templates.push(around),
            Some(_) => {}
            None => fields.push((field, vec![around])),
        }
    }
    fields
}

fn template(site: &Site) -> Option<(&str, &str)> {
    match site {
        Site::Bearer => Some((BEARER, "")),
        Site::Header { before, after, .. } => Some((before, after)),
        _ => None,
    }
}

/// The scheme of `Authorization` is matched without regard to case (RFC 9110, 11.1), all else as it is.
fn strip<'a>(value: &'a [u8], before: &str, after: &str) -> Option<&'a [u8]> {
    let head = value.get(..before.len())?;
    let same = if before == BEARER { head.eq_ignore_ascii_case(before.as_bytes()) } else { head == before.as_bytes() };
    if same { value[before.len()..].strip_suffix(after.as_bytes()) } else { None }
}

fn position_is_declared(
    live: &Live,
    authority: &Authority,
    grant: &Grant,
    field: &HeaderName,
    before: &str,
    after: &str,
) -> Result<(), Refusal> {
    let credential = live.credential(grant.credential).ok_or(Refusal::Revoked)?;
    if !credential.hosts.iter().any(|host| host.matches(authority)) {
        return Err(Refusal::HostNotAllowed);
    }
    let declared = credential
        .sites
        .iter()
        .any(|site| site.header_field() == Some(field.as_str()) && template(site) == Some((before, after)));
    if declared { Ok(()) } else { Err(Refusal::SiteNotAllowed) }
}

/// A placeholder anywhere else in the head: in another field, in the path, in the query, glued to other text.
fn misplaced(live: &Live, asked: &Asked<'_>, found: &[(&Grant, Use)]) -> Result<(), Refused> {
    let refused = |grant: &Grant| {
        let named = live
            .credential(grant.credential)
            .is_some_and(|one| one.hosts.iter().any(|host| host.matches(asked.authority)));
        let refusal = if !live.stands(grant) {
            Refusal::Revoked
        } else if named {
            Refusal::SiteNotAllowed
        } else {
            Refusal::HostNotAllowed
        };
        Err(Refused { refusal, agent: Some(grant.agent), credential: Some(grant.credential) })
    };
    for (name, value) in asked.headers {
        for tail in placeholder::tails(value.as_bytes()) {
            let Some(grant) = live.grant_by_tail(tail) else { continue };
            if !found.iter().any(|(known, one)| known.id == grant.id && one.field == *name) {
                return refused(grant);
            }
        }
    }
    match placeholder::tails(asked.target.as_bytes()).find_map(|tail| live.grant_by_tail(tail)) {
        Some(grant) => refused(grant),
        None => Ok(()),
    }
}

const BEARER: &str = "Bearer ";

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
