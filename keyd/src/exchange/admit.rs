//! A request head is judged, and the decision is written down before anything follows from it.
//!
//! The judgement itself is `policy::decide`; this file gathers what it needs, the body among it where that is wanted,
//! makes the head fit to send, takes the tokens from the buckets, and refuses when the audit log cannot be written.
//! Called by `forward`.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http::request::Parts;
use http_body::Body;
use strongroom_protocol::Refusal;

use super::channel::Channel;
use super::fields::{self, Leave};
use super::link::RequestBody;
use super::record::{self, About, Ending};
use super::refuse::Denial;
use super::upload::Upload;
use super::whole_body::WholeBody;
use crate::policy::decide::{self, Allowed, Asked, Refused, Sent, Verdict};
use crate::policy::find::{Position, Use};
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

/// Judges without taking anything, and reads the body where a key may go into it.
///
/// # Errors
/// The reason; it is on record already.
pub async fn admit(
    channel: &Channel,
    parts: &Parts,
    body: RequestBody,
    about: &About,
) -> Result<(Admitted, Upload), Denial> {
    let sent = if body.is_end_stream() { Sent::Nothing } else { Sent::Unread };
    if let Some(admitted) = judge(channel, parts, sent, about)? {
        return Ok((admitted, Upload::passing(body)));
    }
    let mut body = WholeBody::read(body, &channel.state.body_room).await.map_err(|refusal| {
        let refused = Refused { other_status: refusal == Refusal::TooLarge, ..Refused::nobody(refusal) };
        if let Some(live) = channel.state.live() {
            record::refused(&channel.state, &live, about, &refused);
        }
        Denial { refusal, wait: Duration::ZERO, other_status: refused.other_status, elsewhere: false }
    })?;
    let admitted = judge(channel, parts, Sent::Whole(body.bytes()), about)?.ok_or(Refusal::BadRequest)?;
    let agent = admitted.allowed.binding.agent;
    body.belongs_to(agent, &channel.authority, &channel.state.body_room).map_err(|refusal| {
        refuse(channel, &admitted, about, refusal);
        Denial::until(refusal, MOMENT)
    })?;
    Ok((admitted, Upload::whole(body)))
}

/// Judges once more where the vault has changed since.
///
/// # Errors
/// As [`admit`].
pub fn admit_again(
    channel: &Channel,
    admitted: Admitted,
    parts: &Parts,
    upload: &Upload,
    about: &About,
) -> Result<Admitted, Denial> {
    let is_same = channel.state.live().is_some_and(|live| Rc::ptr_eq(&live, &admitted.live));
    if is_same && !about.has_left() && admitted.allowed.expires.is_none_or(|expires| expires > now()) {
        return Ok(admitted);
    }
    let sent = upload.bytes().map_or(if upload.is_end_stream() { Sent::Nothing } else { Sent::Unread }, Sent::Whole);
    let again = judge(channel, parts, sent, about)?;
    // A place in the body was declared this moment; the next request will be asked for its body.
    again.ok_or(Denial::until(Refusal::Overloaded, MOMENT))
}

/// Nothing where the body is wanted first.
fn judge(channel: &Channel, parts: &Parts, body: Sent<'_>, about: &About) -> Result<Option<Admitted>, Denial> {
    let state = &channel.state;
    // Nothing is recorded of a locked vault: who the placeholder belongs to is not known then.
    let live = state.live().ok_or(Denial::until(Refusal::VaultLocked, LOCKED_WAIT))?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let origin_form = parts.uri.authority().is_none() && parts.uri.scheme().is_none();
    let identity = about.identify(&live).map_err(|refusal| refused(channel, &live, about, Refused::nobody(refusal)))?;
    let now = Instant::now();
    let bound = channel.bound.borrow();
    let asked = Asked {
        authority: &channel.authority,
        method: &parts.method,
        target: if origin_form { target } else { "" },
        headers: &parts.headers,
        body,
        identity: &identity,
        bound: bound.as_ref(),
        now: self::now(),
    };
    match decide::decide(&live, &asked, |grant| state.bucket(grant, now).wait(now)) {
        Ok(Verdict::BodyWanted) => Ok(None),
        Ok(Verdict::Allowed(allowed)) => {
            let credentials = || allowed.binding.credentials.iter().filter_map(|id| live.credential(*id));
            let leave = Leave {
                range: credentials().all(|credential| credential.allow_range),
                cookies: credentials().all(|credential| credential.keep_cookies),
            };
            Ok(Some(Admitted { live: Rc::clone(&live), allowed, leave }))
        }
        Err((no, wait)) => Err(Denial { wait, ..refused(channel, &live, about, no) }),
    }
}

fn refused(channel: &Channel, live: &Rc<Live>, about: &About, refused: Refused) -> Denial {
    // Another channel takes it: nothing was refused yet that would have to be on record.
    if !refused.elsewhere {
        record::refused(&channel.state, live, about, &refused);
    }
    let Refused { refusal, other_status, elsewhere, .. } = refused;
    Denial { refusal, wait: Duration::ZERO, other_status, elsewhere }
}

/// Says no to a request that was judged well: something else is in the way.
pub fn refuse(channel: &Channel, admitted: &Admitted, about: &About, refusal: Refusal) {
    let refused = Refused {
        refusal,
        agent: Some(admitted.allowed.binding.agent),
        credential: admitted.allowed.binding.credentials.first().copied(),
        other_status: false,
        elsewhere: false,
    };
    record::refused(&channel.state, &admitted.live, about, &refused);
}

/// Takes the tokens, binds the channel and writes the use down. From here on the key may be used, and the use has an end.
///
/// # Errors
/// `rate_limited` where another request took the last token meanwhile, `audit_unavailable` where it cannot be written.
pub async fn commit(channel: &Channel, admitted: &Admitted, about: &About) -> Result<Ending, Denial> {
    let state = &channel.state;
    let now = Instant::now();
    let grants = || admitted.allowed.uses.iter().filter_map(|one| admitted.live.grant(one.grant));
    for grant in grants() {
        let wait = state.bucket(grant, now).wait(now);
        if !wait.is_zero() {
            refuse(channel, admitted, about, Refusal::RateLimited);
            return Err(Denial::until(Refusal::RateLimited, wait));
        }
    }
    // Taken before the wait for the disk, in which other requests are judged.
    for grant in grants() {
        state.bucket(grant, now).take(now);
    }
    let unavailable = || {
        give_back(channel, admitted);
        Denial::until(Refusal::AuditUnavailable, AUDIT_WAIT)
    };
    record::allowed(state, &admitted.live, about, &admitted.allowed).map_err(|_| unavailable())?;
    // Before the wait for the disk: whoever hangs up in it leaves a line that says so.
    let mut ending = Ending::new(state, admitted, about);
    if state.logbook.settle().await.is_err() {
        ending.refused(Refusal::AuditUnavailable);
        return Err(unavailable());
    }
    *channel.bound.borrow_mut() = Some(admitted.allowed.binding.clone());
    Ok(ending)
}

/// Gives the tokens back: an upstream that has served others says that it has not looked at the request.
pub fn give_back(channel: &Channel, admitted: &Admitted) {
    let now = Instant::now();
    let grants = admitted.allowed.uses.iter().filter_map(|one| admitted.live.grant(one.grant));
    grants.for_each(|grant| channel.state.bucket(grant, now).give_back());
}

/// Makes the head fit to send.
///
/// # Errors
/// `bad_request`: two servers would read two requests.
pub fn prepare(channel: &Channel, admitted: &Admitted, parts: &mut Parts) -> Result<(), Refusal> {
    fields::prepare_request(&mut parts.headers, &channel.authority, admitted.leave).map_err(|_| Refusal::BadRequest)?;
    // Where a key goes into the target, the target is made with it.
    let in_target = |one: &Use| matches!(one.position, Position::Path | Position::Query(_));
    if !admitted.allowed.uses.iter().any(in_target) {
        let target = admitted.allowed.target.to_origin_form();
        parts.uri = Uri::from_maybe_shared(Bytes::from(target)).map_err(|_| Refusal::BadRequest)?;
    }
    parts.version = http::Version::HTTP_11;
    parts.extensions.clear();
    Ok(())
}

/// Somebody has to type a passphrase.
const LOCKED_WAIT: Duration = Duration::from_secs(5);
/// A change of the vault is over in one.
const MOMENT: Duration = Duration::from_secs(1);
/// A full disk may be emptied.
const AUDIT_WAIT: Duration = Duration::from_secs(5);
