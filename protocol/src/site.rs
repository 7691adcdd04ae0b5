//! The position in a request where a key goes.
//!
//! A site is declared on a credential; a placeholder counts only as the whole value of a declared site. This type
//! refuses fields that frame a message or steer a proxy: a key has no business there, and keyd writes them itself. It
//! refuses texts with two readings too: a path that canonicalising changes, a query name that has to be encoded.
//! Called by ctl (to parse), keyd (to find and substitute).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

mod rules;

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
    /// `Authorization: Basic`, the key being the password (RFC 7617).
    Basic {
        /// The user name that is sent, whatever the agent wrote.
        user: String,
    },
    /// A query parameter's value.
    Query {
        /// Its name, which needs no encoding.
        name: String,
    },
    /// Part of the path's beginning.
    PathPrefix {
        /// Text before the key, from the first `/` on.
        before: String,
        /// Text after it; the path ends there or goes on with a `/`.
        after: String,
    },
    /// A string in a JSON body.
    BodyJson {
        /// Of a request with this method
        method: String,
        /// and this canonical path,
        path: String,
        /// at this JSON pointer (RFC 6901).
        pointer: String,
    },
    /// A field of an `application/x-www-form-urlencoded` body.
    BodyForm {
        /// Of a request with this method
        method: String,
        /// and this canonical path,
        path: String,
        /// the field of this decoded name.
        field: String,
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
        Self::Header { field: field.to_ascii_lowercase(), before: before.to_owned(), after: after.to_owned() }.checked()
    }

    /// Takes a user name for Basic; the key is the password.
    ///
    /// # Errors
    /// Where no user can be called so.
    pub fn parse_basic(user: &str) -> Result<Self, InvalidSite> {
        Self::Basic { user: user.to_owned() }.checked()
    }

    /// Takes the name of a query parameter.
    ///
    /// # Errors
    /// Where it is empty, or would have to be encoded.
    pub fn parse_query(name: &str) -> Result<Self, InvalidSite> {
        Self::Query { name: name.to_owned() }.checked()
    }

    /// Parses `/bot{}`.
    ///
    /// # Errors
    /// Where there is not exactly one `{}`, the rest is not the beginning of a canonical path, or looks like a pattern.
    pub fn parse_path_prefix(template: &str) -> Result<Self, InvalidSite> {
        refuse_pattern(template)?;
        let (before, after) = template.split_once("{}").ok_or(InvalidSite::PathTemplate)?;
        Self::PathPrefix { before: before.to_owned(), after: after.to_owned() }.checked()
    }

    /// Parses `POST /path#/pointer`.
    ///
    /// # Errors
    /// Where one of the three is missing or malformed, or the path looks like a pattern.
    pub fn parse_body_json(text: &str) -> Result<Self, InvalidSite> {
        let (method, path, pointer) = in_body(text)?;
        Self::BodyJson { method, path, pointer }.checked()
    }

    /// Parses `POST /path#field`.
    ///
    /// # Errors
    /// Where one of the three is missing or malformed, or the path looks like a pattern.
    pub fn parse_body_form(text: &str) -> Result<Self, InvalidSite> {
        let (method, path, field) = in_body(text)?;
        Self::BodyForm { method, path, field }.checked()
    }

    /// The header field in which this site stands, in lower case, where it stands in one.
    #[must_use]
    pub fn header_field(&self) -> Option<&str> {
        match self {
            Self::Bearer | Self::Basic { .. } => Some("authorization"),
            Self::Header { field, .. } => Some(field),
            Self::Query { .. } | Self::PathPrefix { .. } | Self::BodyJson { .. } | Self::BodyForm { .. } => None,
        }
    }

    /// Method and canonical path of the requests whose body is looked into, where the site stands in a body.
    #[must_use]
    pub fn body_request(&self) -> Option<(&str, &str)> {
        match self {
            Self::BodyJson { method, path, .. } | Self::BodyForm { method, path, .. } => Some((method, path)),
            _ => None,
        }
    }

    fn checked(self) -> Result<Self, InvalidSite> {
        self.check()?;
        Ok(self)
    }
}

fn in_body(text: &str) -> Result<(String, String, String), InvalidSite> {
    let (request, place) = text.split_once('#').ok_or(InvalidSite::Body)?;
    let (method, path) = request.split_once(' ').ok_or(InvalidSite::Body)?;
    refuse_pattern(path)?;
    Ok((method.to_owned(), path.to_owned(), place.to_owned()))
}

/// Rules of grants have patterns, so people write them here too, where they would wait for a literal `*`. It is for the
/// parsers alone: a site that is in a vault stays readable.
fn refuse_pattern(path: &str) -> Result<(), InvalidSite> {
    if path.contains('*') { Err(InvalidSite::Pattern) } else { Ok(()) }
}

/// As the command line writes it, but for the two that are written as the header field that is sent.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("authorization: Bearer {}"),
            Self::Header { field, before, after } => write!(f, "{field}: {before}{{}}{after}"),
            Self::Basic { user } => write!(f, "basic {user}"),
            Self::Query { name } => write!(f, "query {name}"),
            Self::PathPrefix { before, after } => write!(f, "path-prefix {before}{{}}{after}"),
            Self::BodyJson { method, path, pointer } => write!(f, "body-json {method} {path}#{pointer}"),
            Self::BodyForm { method, path, field } => write!(f, "body-form {method} {path}#{field}"),
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
            Basic { user: String },
            Query { name: String },
            PathPrefix { before: String, after: String },
            BodyJson { method: String, path: String, pointer: String },
            BodyForm { method: String, path: String, field: String },
        }
        let site = match Wire::deserialize(deserializer)? {
            Wire::Bearer => Self::Bearer,
            Wire::Header { field, before, after } => Self::Header { field, before, after },
            Wire::Basic { user } => Self::Basic { user },
            Wire::Query { name } => Self::Query { name },
            Wire::PathPrefix { before, after } => Self::PathPrefix { before, after },
            Wire::BodyJson { method, path, pointer } => Self::BodyJson { method, path, pointer },
            Wire::BodyForm { method, path, field } => Self::BodyForm { method, path, field },
        };
        site.checked().map_err(serde::de::Error::custom)
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
    /// A user name that Basic cannot carry.
    User,
    /// A query name that is empty, too long, or would have to be encoded.
    QueryName,
    /// No beginning of a canonical path with one `{}`.
    PathTemplate,
    /// Not a method, a path, `#` and a place.
    Body,
    /// The method is not one in capitals.
    Method,
    /// The path has something in it that canonicalising changes.
    Path,
    /// A `*` in the path, written as if it were a pattern.
    Pattern,
    /// No JSON pointer, or the one to the whole body.
    Pointer,
    /// The form field's name is empty, too long, or has control characters.
    FormField,
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
            Self::User => {
                "the user name must be visible ASCII without ':', at most 128 characters; the key is the password"
            }
            Self::QueryName => {
                "the parameter's name must be 1 to 128 of letters, digits and '-._~[]$:@'; the key is its value"
            }
            Self::PathTemplate => {
                "the template is no beginning of a path with '{}' once; write it like '/bot{}', without '//', '.' or '..' segments, '%', '?' and a slash at its end"
            }
            Self::Body => {
                "the site is not a method, a path and a place in the body; write it like 'POST /path#/pointer' or 'POST /path#field'"
            }
            Self::Method => "the method must be in capitals, like 'POST'",
            Self::Path => {
                "the path must begin with '/' and be written plainly, without '//', '.' or '..' segments, '%', ';' and '?'"
            }
            Self::Pattern => "the path is exact, and '*' stands for nothing in it; write the whole path, once for each",
            Self::Pointer => {
                "the place is no JSON pointer to something inside the body; write it like '/auth/key', with '~0' for '~' and '~1' for '/'"
            }
            Self::FormField => "the form field's name must be 1 to 128 characters, none of them a control character",
        })
    }
}

impl std::error::Error for InvalidSite {}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
