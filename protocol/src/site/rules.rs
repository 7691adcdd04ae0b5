//! What each kind of site must keep to, whoever wrote it: a person on the command line or a peer on a socket.
//!
//! It refuses every text that a server could read in another way than keyd does. Called by `Site`'s parsers and reader.

use super::{InvalidSite, Site};

impl Site {
    pub(super) fn check(&self) -> Result<(), InvalidSite> {
        let must = |is: bool, otherwise| if is { Ok(()) } else { Err(otherwise) };
        match self {
            Self::Bearer => Ok(()),
            Self::Header { field, before, after } => check_header(field, before, after),
            Self::Basic { user } => {
                must(user.len() <= 128 && user.bytes().all(|byte| is_visible(byte) && byte != b':'), InvalidSite::User)
            }
            Self::Query { name } => {
                let plain = name.bytes().all(|byte| is_unreserved(byte) || b"[]$:@".contains(&byte));
                must((1..=128).contains(&name.len()) && plain, InvalidSite::QueryName)
            }
            Self::PathPrefix { before, after } => {
                let sample = format!("{before}x{after}");
                must(is_plain_path(&sample) && !after.ends_with('/'), InvalidSite::PathTemplate)
            }
            Self::BodyJson { method, path, pointer } => {
                check_request(method, path)?;
                must(is_pointer(pointer), InvalidSite::Pointer)
            }
            Self::BodyForm { method, path, field } => {
                check_request(method, path)?;
                let is_field = (1..=128).contains(&field.len()) && !field.chars().any(char::is_control);
                must(is_field, InvalidSite::FormField)
            }
        }
    }
}

fn check_header(field: &str, before: &str, after: &str) -> Result<(), InvalidSite> {
    if field.is_empty() || field.len() > 128 || !field.bytes().all(is_lower_case_token) {
        return Err(InvalidSite::Field);
    }
    if FRAMING_FIELDS.contains(&field) || field.starts_with("strongroom-") || field.starts_with("proxy-") {
        return Err(InvalidSite::FieldNotAllowed);
    }
    if before.len() + after.len() > 256 || after.contains("{}") || !before.bytes().chain(after.bytes()).all(is_visible)
    {
        return Err(InvalidSite::Template);
    }
    Ok(())
}

fn check_request(method: &str, path: &str) -> Result<(), InvalidSite> {
    let is_method = (1..=32).contains(&method.len())
        && method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
    if !is_method {
        return Err(InvalidSite::Method);
    }
    if is_plain_path(path) { Ok(()) } else { Err(InvalidSite::Path) }
}

/// A path that is canonical and stays so: nothing to decode, no segment to resolve, no parameter to cut off.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() <= 512
        && path.bytes().all(|byte| is_unreserved(byte) || b"!$&'()*+,=:@/".contains(&byte))
        && !path.contains("//")
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// RFC 6901, 3. The empty pointer, which means the whole body, is none here: a body that is nothing but a key is no
/// API's.
fn is_pointer(pointer: &str) -> bool {
    pointer.starts_with('/')
        && pointer.len() <= 256
        && pointer.split('/').count() <= 1 + DEEPEST_POINTER
        && !pointer.chars().any(char::is_control)
        && pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_lower_case_token(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_visible(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte)
}

/// Steps of the longest pointer.
const DEEPEST_POINTER: usize = 32;

/// Fields that frame a message, name its destination or belong to one hop.
const FRAMING_FIELDS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];
