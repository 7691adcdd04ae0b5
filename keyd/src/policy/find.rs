//! Which placeholders stand where in a request's head.
//!
//! A placeholder counts as the whole value of a declared position, once, written as it is. Anywhere else it is refused:
//! in another field, glued to other text, twice, and in every encoding that somebody could undo behind us. What stands
//! in a declared position and is no placeholder makes the request a stranger's. Called by `decide`; `body` goes on with
//! what it found.

use std::ops::Range;
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use http::{HeaderName, HeaderValue, header};
use strongroom_protocol::{Refusal, Site};

use super::decide::{Asked, Refused};
use super::form::{self, Parts};
use super::live::Live;
use super::path::{self, Target};
use super::positions::{BEARER, BodyKind, Declared, Prefix, Shape, Spot};
use super::{percent, placeholder};
use crate::vault::contents::Grant;

/// One key in one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Id of the grant.
    pub grant: u64,
    /// Id of the credential.
    pub credential: u64,
    /// Where its key goes.
    pub position: Position,
}

/// Where a key goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Into a header field, with this text before and after it.
    Field {
        /// The field.
        name: HeaderName,
        /// Text before the key.
        before: Rc<str>,
        /// Text after it.
        after: Rc<str>,
    },
    /// Into `Authorization: Basic` as the password of this user.
    Basic(String),
    /// Into the query, as the value of this parameter.
    Query(Rc<str>),
    /// Into the path, where the target is marked.
    Path,
    /// Into the body, in place of this stretch of it.
    Body(BodyKind, Range<usize>),
}

/// What was found.
pub struct Found<'a> {
    /// Grants whose placeholders stand in declared positions.
    pub uses: Vec<(&'a Grant, Use)>,
    /// A declared position holds something else.
    pub stranger: bool,
    /// That is the name of a variable, which counts only from an agent that has proved who it is.
    pub name: bool,
    /// The path begins like a declared one, with something else in it. Other paths may begin so by chance.
    pub strange_path: bool,
}

impl<'a> Found<'a> {
    /// A placeholder stands in a position that these credentials declare.
    ///
    /// # Errors
    /// Where its own credential is not one of them.
    pub fn take(
        &mut self,
        live: &Live,
        declared: &Declared,
        grant: &'a Grant,
        by: &[u64],
        position: Position,
    ) -> Result<(), Refused> {
        // What was revoked is refused as that, later on.
        if live.stands(grant) && !by.contains(&grant.credential) {
            return Err(misplaced(live, declared, grant));
        }
        self.uses.push((grant, Use { grant: grant.id, credential: grant.credential, position }));
        Ok(())
    }
}

/// Looks through the head. Where a key goes into the target, the target is marked.
///
/// # Errors
/// Where a placeholder stands in a wrong place.
pub fn in_head<'a>(
    live: &'a Live,
    declared: &Declared,
    asked: &Asked<'_>,
    target: &mut Target,
) -> Result<Found<'a>, Refused> {
    let mut found = Found { uses: Vec::with_capacity(1), stranger: false, name: false, strange_path: false };
    in_fields(live, declared, asked, &mut found)?;
    let in_fields = found.uses.len();
    in_query(live, declared, asked, target, &mut found)?;
    let path = in_path(live, declared, asked, target, &mut found)?;
    if let Some(grant) = misplaced_in_fields(live, asked, &found) {
        return Err(misplaced(live, declared, grant));
    }
    // A name is no secret: it may stand anywhere else too.
    let claimed = found.uses[in_fields..].iter().map(|(grant, _)| *grant).filter(|grant| !grant.named).collect();
    if let Some(grant) = misplaced_in_target(live, asked.target, claimed) {
        return Err(misplaced(live, declared, grant));
    }
    for (_, one) in &found.uses[in_fields..] {
        if let Position::Query(name) = &one.position {
            target.mark_query(name);
        }
    }
    if let Some(range) = path {
        target.mark_path(range);
    }
    Ok(found)
}

/// The refusal for a placeholder in a wrong place.
pub fn misplaced(live: &Live, declared: &Declared, grant: &Grant) -> Refused {
    let refusal = if !live.stands(grant) {
        Refusal::Revoked
    } else if declared.credentials.contains(&grant.credential) {
        Refusal::SiteNotAllowed
    } else {
        Refusal::HostNotAllowed
    };
    Refused::of(grant, refusal)
}

/// A grant whose placeholder is somewhere in the bytes, in whatever encoding.
pub fn hidden_in<'a>(live: &'a Live, bytes: &[u8]) -> Option<&'a Grant> {
    let known = |bytes: &[u8]| placeholder::tails(bytes).find_map(|tail| live.grant_by_tail(tail));
    known(bytes)
        .or_else(|| percent::decode_fully(bytes).and_then(|decoded| known(&decoded)))
        .or_else(|| looks_like_basic(bytes).and_then(|blob| hidden_in_basic(live, blob)))
}

fn hidden_in_basic<'a>(live: &'a Live, blob: &[u8]) -> Option<&'a Grant> {
    let blob = percent::decode(blob);
    let decoded = lenient_base64(&blob);
    let known = |bytes: &[u8]| placeholder::tails(bytes).find_map(|tail| live.grant_by_tail(tail));
    known(&decoded).or_else(|| percent::decode_fully(&decoded).and_then(|decoded| known(&decoded)))
}

fn in_fields<'a>(live: &'a Live, declared: &Declared, asked: &Asked<'_>, found: &mut Found<'a>) -> Result<(), Refused> {
    for field in &declared.fields {
        let mut values = asked.headers.get_all(&field.name).iter();
        let Some(value) = values.next() else { continue };
        let inside = field.shapes.iter().find_map(|spot| Some((grant_in_shape(live, asked, spot, value)?, spot)));
        let Some((grant, spot)) = inside else {
            found.stranger |= field.shapes.iter().any(|spot| spot.in_use);
            found.name |= field.shapes.iter().any(|spot| is_a_name(live, &spot.place, value));
            continue;
        };
        if values.next().is_some() {
            return Err(Refused::of(grant, Refusal::SiteNotAllowed));
        }
        let position = match &spot.place {
            Shape::Around(before, after) => {
                Position::Field { name: field.name.clone(), before: Rc::clone(before), after: Rc::clone(after) }
            }
            Shape::BasicPassword => Position::Basic(basic_user(live, grant, value)),
        };
        found.take(live, declared, grant, &spot.by, position)?;
    }
    Ok(())
}

fn grant_in_shape<'a>(live: &'a Live, asked: &Asked<'_>, spot: &Spot<Shape>, value: &HeaderValue) -> Option<&'a Grant> {
    match &spot.place {
        Shape::Around(before, after) => grant_of(live, asked, &spot.by, strip(value.as_bytes(), before, after)?),
        Shape::BasicPassword => {
            let (user, password) = basic(value)?;
            grant_of(live, asked, &spot.by, &password).filter(|_| hidden_in(live, &user).is_none())
        }
    }
}

/// The grant whose placeholder this is: a random one, or the name of a variable where the agent has proved who it is.
pub fn grant_of<'a>(live: &'a Live, asked: &Asked<'_>, by: &[u64], text: &[u8]) -> Option<&'a Grant> {
    live.grant_by_placeholder(text).or_else(|| {
        let proved = asked.identity.proved();
        let fits = |grant: &&Grant| proved.contains(&grant.agent) && by.contains(&grant.credential);
        let named = || live.grants_by_name(text).filter(fits);
        let standing = || named().filter(|grant| live.stands(grant));
        let first = standing().next();
        // A name does not tell two agents of one user apart, and a page in a browser knows it too.
        if first.is_some_and(|first| standing().any(|grant| grant.agent != first.agent) || asked.is_from_a_page()) {
            return None;
        }
        // One that was given under this name goes before one that has it beside its own. A revoked one is found last, so
        // that it is refused as that.
        standing().find(|grant| grant.placeholder.as_bytes() == text).or(first).or_else(|| named().next())
    })
}

/// Whether what stands there is a variable's name that some grant has for a placeholder.
fn is_a_name(live: &Live, shape: &Shape, value: &HeaderValue) -> bool {
    let known = |text: &[u8]| live.grants_by_name(text).next().is_some();
    match shape {
        Shape::Around(before, after) => strip(value.as_bytes(), before, after).is_some_and(known),
        Shape::BasicPassword => basic(value).is_some_and(|(_, password)| known(&password)),
    }
}

/// The scheme of `Authorization` is matched without regard to case (RFC 9110, 11.1), all else as it is.
fn strip<'a>(value: &'a [u8], before: &str, after: &str) -> Option<&'a [u8]> {
    let head = value.get(..before.len())?;
    let same = if before == BEARER { head.eq_ignore_ascii_case(before.as_bytes()) } else { head == before.as_bytes() };
    if same { value[before.len()..].strip_suffix(after.as_bytes()) } else { None }
}

/// User and password of Basic credentials (RFC 7617, 2).
fn basic(value: &HeaderValue) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut user = Base64::decode_vec(std::str::from_utf8(after_basic(value.as_bytes())?).ok()?).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    Some((user, password))
}

/// What follows the scheme and one space.
fn after_basic(value: &[u8]) -> Option<&[u8]> {
    looks_like_basic(value)?.strip_prefix(b" ")
}

/// What follows the scheme, whatever it is.
fn looks_like_basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, blob) = value.trim_ascii_start().split_at_checked(BASIC.len())?;
    scheme.eq_ignore_ascii_case(BASIC).then_some(blob)
}

/// The user that is sent: the credential's; of several the one that the agent named.
fn basic_user(live: &Live, grant: &Grant, value: &HeaderValue) -> String {
    let sent = basic(value).map(|(user, _)| user).unwrap_or_default();
    let sites = live.credential(grant.credential).map_or(&[][..], |credential| &credential.sites);
    let users = || sites.iter().filter_map(|site| if let Site::Basic { user } = site { Some(user) } else { None });
    users().find(|user| user.as_bytes() == sent).or_else(|| users().next()).cloned().unwrap_or_default()
}

fn in_query<'a>(
    live: &'a Live,
    declared: &Declared,
    asked: &Asked<'_>,
    target: &Target,
    found: &mut Found<'a>,
) -> Result<(), Refused> {
    let Some(query) = target.query().filter(|_| !declared.queries.is_empty()) else { return Ok(()) };
    for spot in &declared.queries {
        let name = &*spot.place;
        let mut count = 0;
        let (mut inside, mut is_name) = (None, false);
        for part in Parts::of(query.as_bytes()) {
            let part = &query[part];
            // Some servers take ';' for '&': what they would read as this parameter counts as it.
            for piece in part.split(';') {
                count += usize::from(form::same_name(piece.split('=').next().unwrap_or(piece).as_bytes(), name));
            }
            if let Some(value) = path::value_in(part, name) {
                inside = grant_of(live, asked, &spot.by, value.as_bytes()).or(inside);
                is_name |= live.grants_by_name(value.as_bytes()).next().is_some();
            }
        }
        match inside {
            Some(grant) if count > 1 => return Err(Refused::of(grant, Refusal::SiteNotAllowed)),
            Some(grant) => found.take(live, declared, grant, &spot.by, Position::Query(Rc::clone(&spot.place)))?,
            None => {
                found.stranger |= spot.in_use && count > 0;
                found.name |= is_name;
            }
        }
    }
    Ok(())
}

/// Gives where in the canonical path the placeholder stands.
fn in_path<'a>(
    live: &'a Live,
    declared: &Declared,
    asked: &Asked<'_>,
    target: &Target,
    found: &mut Found<'a>,
) -> Result<Option<Range<usize>>, Refused> {
    for spot in &declared.prefixes {
        let Some(range) = key_in(target.path(), &spot.place) else { continue };
        if let Some(grant) = grant_of(live, asked, &spot.by, &target.path().as_bytes()[range.clone()]) {
            found.take(live, declared, grant, &spot.by, Position::Path)?;
            return Ok(Some(range));
        }
        found.name |= live.grants_by_name(&target.path().as_bytes()[range]).next().is_some();
        let Prefix { before, after } = &spot.place;
        let is_distinct = !before.ends_with('/') || !after.is_empty();
        found.strange_path |= spot.in_use && is_distinct;
    }
    Ok(None)
}

/// Where the key stands in a path that begins like this: all of a segment that the template does not say.
fn key_in(path: &str, prefix: &Prefix) -> Option<Range<usize>> {
    let rest = path.strip_prefix(&*prefix.before)?;
    let segment = &rest[..rest.find('/').unwrap_or(rest.len())];
    let (in_segment, beyond) = prefix.after.split_at(prefix.after.find('/').unwrap_or(prefix.after.len()));
    let key = segment.strip_suffix(in_segment)?;
    let left = rest[segment.len()..].strip_prefix(beyond)?;
    let start = prefix.before.len();
    (left.is_empty() || left.starts_with('/')).then(|| start..start + key.len())
}

fn misplaced_in_fields<'a>(live: &'a Live, asked: &Asked<'_>, found: &Found<'_>) -> Option<&'a Grant> {
    // A position's field has one value, and the placeholder is all of it.
    let is_position = |name: &HeaderName| {
        found.uses.iter().any(|(_, one)| match &one.position {
            Position::Field { name: field, .. } => field == name,
            Position::Basic(_) => *name == header::AUTHORIZATION,
            _ => false,
        })
    };
    let others = asked.headers.iter().filter(|(name, _)| !is_position(name));
    others.into_iter().find_map(|(_, value)| hidden_in(live, value.as_bytes()))
}

/// A placeholder in the target beyond the claimed ones, or a claimed one that is not written as it is. The whole target
/// is looked at as it was sent: resolving dot segments makes parts of it disappear.
fn misplaced_in_target<'a>(live: &'a Live, target: &str, claimed: Vec<&'a Grant>) -> Option<&'a Grant> {
    let beyond = |bytes: &[u8], mut claimed: Vec<&'a Grant>| {
        for grant in placeholder::tails(bytes).filter_map(|tail| live.grant_by_tail(tail)) {
            match claimed.iter().position(|one| one.id == grant.id) {
                Some(at) => drop(claimed.swap_remove(at)),
                None => return Some(grant),
            }
        }
        claimed.pop()
    };
    let decoded = percent::decode_fully(target.as_bytes());
    beyond(target.as_bytes(), claimed.clone()).or_else(|| decoded.and_then(|decoded| beyond(&decoded, claimed)))
}

/// Base64 as the most tolerant reader takes it: either alphabet, with anything in between.
fn lenient_base64(text: &[u8]) -> Vec<u8> {
    let sextets = text.iter().filter_map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    });
    let (mut bits, mut count) = (0u16, 0);
    let mut out = Vec::with_capacity(text.len());
    for sextet in sextets {
        bits = bits << 6 | u16::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

const BASIC: &[u8] = b"basic";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_have_one_spelling() {
        let read = |blob: &str| basic(&HeaderValue::from_str(&format!("Basic {blob}")).expect("a value"));
        assert_eq!(read("dTpw"), Some((b"u".to_vec(), b"p".to_vec())), "the positive twin");
        assert_eq!(read("dTpwcA=="), Some((b"u".to_vec(), b"pp".to_vec())), "the positive twin");
        for blob in ["dTpwcA", "dTpwcA=", "dTpwcB==", "dTpwcA==dTpw", "dTpw cA==", "dTpw-_-_", "====", "", "dXA="] {
            assert_eq!(read(blob), None, "{blob:?}");
        }
    }
}
