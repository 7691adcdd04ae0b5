//! A request head is judged, and the decision is written down before anything follows from it.
//!
//! The judgement itself is `policy::decide`; this file gathers what it needs, makes the head fit to send, takes the
//! tokens from the buckets, and refuses when the audit log cannot be written. Called by `forward`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::request::Parts;
use strongroom_protocol::Refusal;

use super::channel::Channel;
use super::fields::{self, Leave};
use super::record::{self, About};
use crate::policy::decide::{self, Allowed, Asked, Refused};
use crate::policy::live::Live;
use crate::state::now;

/// An admitted request.
pub struct Admitted {
    /// The generation of the vault under which it was admitted.
    pub live: Rc<Live>,
    /// What may be done.
    pub allowed: Allowed,
    /// What its credentials leave to pass.
    pub leave: Leave,
}

/// Judges without taking anything.
///
/// # Errors
/// The reason, and how long to wait; it is on record already.
pub fn judge(channel: &Channel, parts: &Parts, about: &About) -> Result<Admitted, (Refusal, Duration)> {
    let state = &channel.state;
    // Nothing is recorded of a locked vault: who the placeholder belongs to is not known then.
    let Some(live) = state.live() else { return Err((Refusal::VaultLocked, LOCKED_WAIT)) };
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let origin_form = parts.uri.authority().is_none() && parts.uri.scheme().is_none();
    let now = Instant::now();
    let bound = channel.bound.borrow();
    let asked = Asked {
        authority: &channel.authority,
        method: &parts.method,
        target: if origin_form { target } else { "" },
        headers: &parts.headers,
        bound: bound.as_ref(),
        now: self::now(),
    };
    match decide::decide(&live, &asked, |grant| state.bucket(grant, now).wait(now)) {
        Ok(allowed) => {
            let credentials = || allowed.binding.credentials.iter().filter_map(|id| live.credential(*id));
            let leave = Leave {
                range: credentials().all(|credential| credential.allow_range),
                cookies: credentials().all(|credential| credential.keep_cookies),
            };
            Ok(Admitted { live: Rc::clone(&live), allowed, leave })
        }
        Err((refused, wait)) => {
            record::refused(state, &live, about, &refused);
            Err((refused.refusal, wait))
        }
    }
}

/// Says no to a request that was judged well: something else is in the way.
pub fn refuse(channel: &Channel, admitted: &Admitted, about: &About, refusal: Refusal) {
    let refused = Refused {
        refusal,
        agent: Some(admitted.allowed.binding.agent),
        credential: admitted.allowed.binding.credentials.first().copied(),
    };
    record::refused(&channel.state, &admitted.live, about, &refused);
}

/// Takes the tokens, binds the channel and writes the use down. From here on the key may be used.
///
/// # Errors
/// `rate_limited` where another request took the last token meanwhile, `audit_unavailable` where it cannot be written.
pub async fn commit(channel: &Channel, admitted: &Admitted, about: &About) -> Result<(), (Refusal, Duration)> {
    let state = &channel.state;
    let now = Instant::now();
    let grants = || {
        admitted
            .allowed
            .uses
            .iter()
            .filter_map(|one| admitted.live.contents().grants.iter().find(|grant| grant.id == one.grant))
    };
    for grant in grants() {
        let wait = state.bucket(grant, now).wait(now);
        if !wait.is_zero() {
            refuse(channel, admitted, about, Refusal::RateLimited);
            return Err((Refusal::RateLimited, wait));
        }
    }
    // Taken before the wait for the disk, in which other requests are judged.
    for grant in grants() {
        state.bucket(grant, now).take(now);
    }
    if record::allowed(state, &admitted.live, about, &admitted.allowed).await.is_err() {
        for grant in grants() {
            state.bucket(grant, now).give_back();
        }
        return Err((Refusal::AuditUnavailable, AUDIT_WAIT));
    }
    *channel.bound.borrow_mut() = Some(admitted.allowed.binding.clone());
    Ok(())
}

/// Makes the head fit to send.
///
/// # Errors
/// `bad_request`: two servers would read two requests.
pub fn prepare(channel: &Channel, admitted: &Admitted, parts: &mut Parts) -> Result<(), Refusal> {
    fields::prepare_request(&mut parts.headers, &channel.authority, admitted.leave).map_err(|_| Refusal::BadRequest)?;
    parts.uri = admitted.allowed.target.to_origin_form().parse().map_err(|_| Refusal::BadRequest)?;
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    Ok(())
}

/// Somebody has to type a passphrase.
const LOCKED_WAIT: Duration = Duration::from_secs(5);
/// A full disk may be emptied.
const AUDIT_WAIT: Duration = Duration::from_secs(5);
