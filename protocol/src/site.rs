//! The position in a request where a key goes.
//!
//! A site is declared on a credential; a placeholder counts only as the whole value of a declared site. This type
//! refuses fields that frame a message or steer a proxy: a key has no business there, and keyd writes them itself.
//! Called by ctl (to parse), keyd (to find and substitute).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Where a credential's key may stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Site {
    /// `Authorization: Bearer KEY` (RFC 6750, 2.1).
    Bearer,
    /// A header field, with text before and after the key.
    Header {
        /// Field name in lower case.
        field: String,
        /// Text before the key; may be empty.
        before: String,
        /// Text after the key; may be empty.
        after: String,
    },
}

impl Site {
    /// Parses `x-api-key: {}` or `authorization: token {}`.
    ///
    /// # Errors
    /// Where there is no colon, not exactly one `{}`, or the field is not one that may carry a key.
    pub fn parse_header(text: &str) -> Result<Self, InvalidSite> {
        let (field, value) = text.split_once(':').ok_or(InvalidSite::NoColon)?;
        let value = value.trim_matches(' ');
        let (before, after) = value.split_once("{}").ok_or(InvalidSite::NoBraces)?;
        let site =
            Self::Header { field: field.to_ascii_lowercase(), before: before.to_owned(), after: after.to_owned() };
        site.check()?;
        Ok(site)
    }

    /// The header field in which this site stands, in lower case.
    #[must_use]
    pub fn header_field(&self) -> &str {
        match self {
            Self::Bearer => "authorization",
            Self::Header { field, .. } => field,
        }
    }

    fn check(&self) -> Result<(), InvalidSite> {
        let Self::Header { field, before, after } = self else { return Ok(()) };
        if field.is_empty() || field.len() > 128 || !field.bytes().all(is_lower_case_token) {
            return Err(InvalidSite::Field);
        }
        if FRAMING_FIELDS.contains(&field.as_str()) || field.starts_with("strongroom-") || field.starts_with("proxy-") {
            return Err(InvalidSite::FieldNotAllowed);
        }
        if before.len() + after.len() > 256
            || after.contains("{}")
            || !before.bytes().chain(after.bytes()).all(is_visible)
        {
            return Err(InvalidSite::Template);
        }
        Ok(())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("authorization: Bearer {}"),
            Self::Header { field, before, after } => write!(f, "{field}: {before}{{}}{after}"),
        }
    }
}

impl<'de> Deserialize<'de> for Site {
    /// Checks what a peer sent, so that a value of this type is always a usable site.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The same variants in the same order: postcard numbers them by position.
        #[derive(Deserialize)]
        enum Wire {
            Bearer,
            Header { field: String, before: String, after: String },
        }
        let site = match Wire::deserialize(deserializer)? {
            Wire::Bearer => Self::Bearer,
            Wire::Header { field, before, after } => Self::Header { field, before, after },
        };
        site.check().map_err(serde::de::Error::custom)?;
        Ok(site)
    }
}

/// Why a text is no site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidSite {
    /// No `:` between field and value.
    NoColon,
    /// Not exactly one `{}` in the value.
    NoBraces,
    /// The field name is no token (RFC 9110, 5.6.2), or too long.
    Field,
    /// A field that frames the message or that keyd writes itself.
    FieldNotAllowed,
    /// The text around the key is too long or has other than visible ASCII and spaces.
    Template,
}

impl fmt::Display for InvalidSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoColon => "the site has no ':'; write it like 'x-api-key: {}'",
            Self::NoBraces => "the site has no '{}' that says where the key goes; write it like 'x-api-key: {}'",
            Self::Field => "the site's field name is not one that HTTP knows; use letters, digits and '-'",
            Self::FieldNotAllowed => {
                "a key cannot go into this header field, for it steers the connection and not the request"
            }
            Self::Template => "the text around '{}' must be visible ASCII, at most 256 characters, with '{}' once",
        })
    }
}

impl std::error::Error for InvalidSite {}

fn is_lower_case_token(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_visible(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_sites_are_parsed_with_their_surroundings() {
        let site = Site::parse_header("Authorization: token {}").expect("a site");
        assert_eq!(site, Site::Header { field: "authorization".into(), before: "token ".into(), after: String::new() });
        assert_eq!(site.to_string(), "authorization: token {}");
    }

    #[test]
    fn fields_that_steer_a_connection_are_refused() {
        for text in
            ["host: {}", "Content-Length: {}", "strongroom-request-id: {}", "proxy-authorization: {}", "Connection: {}"]
        {
            assert_eq!(Site::parse_header(text), Err(InvalidSite::FieldNotAllowed), "{text}");
        }
    }

    #[test]
    fn malformed_sites_are_refused() {
        assert_eq!(Site::parse_header("x-api-key"), Err(InvalidSite::NoColon));
        assert_eq!(Site::parse_header("x-api-key: key"), Err(InvalidSite::NoBraces));
        assert_eq!(Site::parse_header("x-api-key: {}{}"), Err(InvalidSite::Template));
        assert_eq!(Site::parse_header(": {}"), Err(InvalidSite::Field));
        assert_eq!(Site::parse_header("x y: {}"), Err(InvalidSite::Field));
        assert_eq!(Site::parse_header("x: a\r\nb{}"), Err(InvalidSite::Template));
    }

    #[test]
    fn a_peer_cannot_send_a_site_that_steers_the_connection() {
        let site = Site::Header { field: "host".into(), before: String::new(), after: String::new() };
        let bytes = postcard::to_stdvec(&site).expect("encodes");
        assert!(postcard::from_bytes::<Site>(&bytes).is_err());
    }
}
