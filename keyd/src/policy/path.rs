//! One canonical path: what rules are matched on is what is sent.
//!
//! Dot segments and double slashes are resolved and percent-encoded unreserved characters decoded (RFC 3986, 5.2.4 and
//! 6.2.2). `%2F` stays as it is. It refuses a path that some server could read as a dot segment after decoding: a rule
//! for `/v1/chat` must not be walked around with `/v1/chat/%2e%2e/admin`. Called by `decide`.

/// A request target in origin form, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: String,
    query: Option<String>,
}

impl Target {
    /// Canonicalises `path?query`.
    ///
    /// # Errors
    /// Where the target is not in origin form, holds bytes that no URI has, or yields a dot segment under any decoding.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        if text.len() > LONGEST_TARGET || !path.starts_with('/') || !text.bytes().all(is_target_byte) {
            return Err(BadTarget);
        }
        if !percent_encodings_are_whole(path) || hides_a_dot_segment(path) {
            return Err(BadTarget);
        }
        let path = resolve(&decode_unreserved(path));
        Ok(Self { path, query: query.map(ToOwned::to_owned) })
    }

    /// The path, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path and query, as they go upstream.
    #[must_use]
    pub fn to_origin_form(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// A target that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadTarget;

/// Visible ASCII but what RFC 3986 leaves out of every component and servers treat as a separator or worse.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#')
}

fn percent_encodings_are_whole(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        // An encoded NUL or other control character ends names in some servers.
        hex_pair(bytes, at).is_some_and(|value| value >= 0x20 && value != 0x7f)
    })
}

/// Whether some server could read a dot segment that is not one as written: after decoding once or more often, behind
/// another kind of slash, or in front of a parameter.
fn hides_a_dot_segment(path: &str) -> bool {
    // Literal dot segments are resolved and are no secret; only others are judged.
    let literal = path.split('/').filter(|segment| matches!(*segment, "." | "..")).count();
    let mut current = path.as_bytes().to_vec();
    for _ in 0..MOST_DECODINGS {
        let segments = current.split(|byte| matches!(byte, b'/' | b'\\'));
        let names = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or(segment));
        if names.filter(|name| matches!(*name, b"." | b"..")).count() > literal {
            return true;
        }
        let next = decode_all(&current);
        if next == current {
            return false;
        }
        current = next;
    }
    // Still changing: nobody honest encodes so often, and each pass costs time.
    true
}

/// A path as the most lenient server might read it: decoded, lower case, without parameters, one slash at a time. For
/// denials, which must hold in every spelling.
#[must_use]
pub fn most_lenient(path: &str) -> String {
    let mut current = path.as_bytes().to_vec();
    for _ in 0..MOST_DECODINGS {
        current = decode_all(&current);
    }
    let text = String::from_utf8_lossy(&current).to_ascii_lowercase().replace('\\', "/");
    let segments =
        text.split('/').map(|segment| segment.split(';').next().unwrap_or(segment).trim_end_matches(['.', ' ']));
    let kept: Vec<&str> = segments.filter(|segment| !segment.is_empty()).collect();
    format!("/{}", kept.join("/"))
}

fn decode_all(bytes: &[u8]) -> Vec<u8> {
    decode_where(bytes, |_| true)
}

fn decode_unreserved(path: &str) -> String {
    let decoded = decode_where(path.as_bytes(), |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    // Encodings that stay are written in upper case (RFC 3986, 6.2.2.1), so that rules see one spelling.
    let mut text = String::with_capacity(decoded.len());
    let mut upper = 0;
    for byte in decoded {
        let byte = if upper > 0 { byte.to_ascii_uppercase() } else { byte };
        upper = if byte == b'%' { 2 } else { upper.max(1) - 1 };
        text.push(char::from(byte));
    }
    text
}

fn decode_where(bytes: &[u8], decode: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match hex_pair(bytes, at).filter(|value| decode(*value)) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// The value of a percent-encoding at this place.
fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = bytes.get(at..at + 3)? else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Longest target, in bytes. gatewayd's limit is no higher by default.
const LONGEST_TARGET: usize = 64 * 1024;
/// Encodings on top of each other that are followed.
const MOST_DECODINGS: usize = 4;

/// Removes dot segments and empty ones; a trailing slash stays.
fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in &segments {
        text.push('/');
        text.push_str(segment);
    }
    if open || segments.is_empty() {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Option<String> {
        Target::parse(text).ok().map(|target| target.path().to_owned())
    }

    #[test]
    fn literal_dot_segments_and_double_slashes_are_resolved() {
        for (sent, canonical) in [
            ("/", "/"),
            ("/v1/chat", "/v1/chat"),
            ("/v1//chat", "/v1/chat"),
            ("//v1", "/v1"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/", "/a/"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(path(sent).as_deref(), Some(canonical), "{sent}");
        }
    }

    #[test]
    fn unreserved_characters_are_decoded_and_others_stay() {
        assert_eq!(path("/%41%62%2D%7e").as_deref(), Some("/Ab-~"));
        assert_eq!(path("/a%2fb%3f%c3%a9").as_deref(), Some("/a%2Fb%3F%C3%A9"));
        assert_eq!(path("/%2541").as_deref(), Some("/%2541"));
    }

    #[test]
    fn hidden_dot_segments_are_refused() {
        for text in [
            "/a/%2e%2e/b",
            "/a/%2E/b",
            "/a/.%2e/b",
            "/a/..%2fb",
            "/a%2f..%2fb",
            "/a%2f../b",
            "/a/..%5cb",
            "/a%5c..%5cb",
            "/a/%252e%252e/b",
            "/a/%25252e%25252e/b",
            "/a/..%252fb",
            "/a/..;%2f",
            "/a/%2e%2e;x/b",
            "/%2e",
            "/a%2f.%2fb",
        ] {
            assert_eq!(path(text), None, "{text}");
        }
    }

    #[test]
    fn dot_segments_with_parameters_are_refused_without_any_encoding() {
        for text in ["/a/..;/b", "/a/.;x=1/b", "/v1/chat/..;/admin", "/..;"] {
            assert_eq!(path(text), None, "{text}");
        }
        assert_eq!(path("/a/b;x=..;y/c").as_deref(), Some("/a/b;x=..;y/c"), "the positive twin");
    }

    #[test]
    fn encodings_on_top_of_each_other_are_refused_quickly() {
        let deep = format!("/%25{}41", "25".repeat(20_000));
        let begin = std::time::Instant::now();
        assert_eq!(path(&deep), None);
        assert!(begin.elapsed().as_secs() < 1, "{:?}", begin.elapsed());
        assert_eq!(path("/%2525").as_deref(), Some("/%2525"), "the positive twin");
        assert_eq!(path(&format!("/{}", "a".repeat(LONGEST_TARGET))), None);
    }

    #[test]
    fn the_most_lenient_reading_sees_through_every_spelling() {
        for text in [
            "/v1/Admin/keys",
            "/v1%2Fadmin%2fkeys",
            "/v1/admin;x/keys;y=1",
            "//v1/admin//keys/",
            "/v1%255cadmin/keys",
            "/v1/admin./keys",
        ] {
            assert_eq!(most_lenient(text), "/v1/admin/keys", "{text}");
        }
    }

    #[test]
    fn bytes_that_servers_disagree_about_are_refused() {
        for text in
            ["", "a", "/a\\b", "/a b", "/a#b", "/a%", "/a%2", "/a%zz", "/a%00", "/a%0d%0a", "/\u{e9}", "*", "http://x/"]
        {
            assert_eq!(path(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_query_is_kept_as_it_is() {
        let target = Target::parse("/a/../b?x=../%2e%2e&y=//").expect("a target");
        assert_eq!(target.to_origin_form(), "/b?x=../%2e%2e&y=//");
    }

    proptest! {
        #[test]
        fn canonical_paths_are_fixed_points(text in "/[a-zA-Z0-9%./;~_-]{0,40}") {
            if let Ok(target) = Target::parse(&text) {
                let again = Target::parse(&target.to_origin_form());
                prop_assert_eq!(again, Ok(target.clone()));
                let segments: Vec<_> = target.path().split('/').collect();
                prop_assert!(!segments.iter().any(|segment| matches!(*segment, "." | "..")));
                prop_assert!(!target.path().contains("//"));
            }
        }
    }
}
