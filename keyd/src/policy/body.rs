//! Placeholders in the body of the one request whose body a credential names.
//!
//! Only for a declared method and path is a body looked at, and in it only the declared places: a placeholder in a
//! prompt is a worthless string and passes on as one. A body that two servers could read in two ways is refused. Called
//! by `decide`.

use http::{HeaderMap, header};
use strongroom_protocol::Refusal;

use super::decide::{Asked, Refused, Sent};
use super::find::{self, Found, Position};
use super::live::Live;
use super::path::Target;
use super::positions::{BodyKind, Declared};
use super::{form, json};

/// What a request's body is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing: it is passed on.
    Opaque,
    /// There are positions in it.
    Wanted(BodyKind),
    /// There would be, but it is of another kind than they, or encoded.
    Unreadable,
}

/// Says from the head what the body is to us.
pub fn of(declared: &Declared, asked: &Asked<'_>, target: &Target) -> Body {
    let mut here = declared
        .bodies
        .iter()
        .map(|spot| &spot.place)
        .filter(|place| place.method == *asked.method && *place.path == *target.path())
        .peekable();
    if here.peek().is_none() || asked.body == Sent::Nothing {
        return Body::Opaque;
    }
    match kind(asked.headers) {
        Some(kind) if here.any(|place| place.kind == kind) => Body::Wanted(kind),
        _ => Body::Unreadable,
    }
}

/// Looks at the declared places.
///
/// # Errors
/// `bad_request` where the body is not what it says it is, `site_not_allowed` where a place comes twice or a placeholder
/// is not the whole of it.
pub fn find<'a>(
    live: &'a Live,
    declared: &Declared,
    asked: &Asked<'_>,
    target: &Target,
    (kind, bytes): (BodyKind, &[u8]),
    found: &mut Found<'a>,
) -> Result<(), Refused> {
    let malformed = || Refused::nobody(Refusal::BadRequest);
    let twice = || Refused::nobody(Refusal::SiteNotAllowed);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    for spot in &declared.bodies {
        let place = &spot.place;
        if place.kind != kind || place.method != *asked.method || *place.path != *target.path() {
            continue;
        }
        let value = match kind {
            BodyKind::Json => match json::locate(text, &place.at) {
                Ok(json::Place::String { span, decoded }) => Some((span, decoded.into_bytes())),
                Ok(json::Place::NoString | json::Place::Nowhere) => None,
                Err(json::Fault::Twice) => return Err(twice()),
                Err(json::Fault::Malformed | json::Fault::TooDeep) => return Err(malformed()),
            },
            BodyKind::Form => match form::locate(bytes, &place.at) {
                Ok(value) => value.map(|value| (value.span, value.decoded)),
                Err(form::Fault::Twice) => return Err(twice()),
                Err(form::Fault::Malformed) => return Err(malformed()),
            },
        };
        let Some((span, decoded)) = value else { continue };
        match find::grant_of(live, asked, &spot.by, &decoded) {
            Some(grant) => found.take(live, declared, grant, &spot.by, Position::Body(kind, span))?,
            None => match find::hidden_in(live, &decoded) {
                Some(grant) => return Err(find::misplaced(live, declared, grant)),
                None => {
                    found.stranger = true;
                    found.name |= live.grants_by_name(&decoded).next().is_some();
                }
            },
        }
    }
    Ok(())
}

/// The kind that the head says it is, where it is one of ours and plain.
fn kind(headers: &HeaderMap) -> Option<BodyKind> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (only, more) = (types.next()?.to_str().ok()?, types.next());
    let is_encoded = headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding.as_bytes() != b"identity");
    if more.is_some() || is_encoded {
        return None;
    }
    let mut parts = only.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    // JSON is UTF-8 (RFC 8259, 8.1), and a form is ASCII: a charset that says otherwise is a second reading.
    let is_plain = parts.all(|parameter| {
        let parameter = parameter.to_ascii_lowercase();
        let charset = parameter.strip_prefix("charset=").map(|charset| charset.trim_matches('"'));
        charset.is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"))
    });
    match kind.strip_prefix("application/") {
        Some("json") if is_plain => Some(BodyKind::Json),
        Some(other) if is_plain && other.ends_with("+json") => Some(BodyKind::Json),
        Some("x-www-form-urlencoded") if is_plain => Some(BodyKind::Form),
        _ => None,
    }
}
