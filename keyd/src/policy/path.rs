//! One canonical path: what rules are matched on is what is sent.
//!
//! Dot segments and double slashes are resolved and percent-encoded unreserved characters decoded (RFC 3986, 5.2.4 and
//! 6.2.2). `%2F` stays as it is. What no URI has and clients send all the same, such as `{`, `|` and letters beyond ASCII, is
//! percent-encoded. It refuses a path that some server could read as a dot segment after decoding: a rule
//! for `/v1/chat` must not be walked around with `/v1/chat/%2e%2e/admin`. Called by `decide`, and by the exchange, which
//! puts keys in.

use std::ops::Range;

use super::form::Parts;
use super::lenient::hides_a_dot_segment;
use super::percent;

/// A request target in origin form, canonical. `{}`, which no agent can send, stands where a key goes.
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
        let encoded;
        let text = if text.bytes().all(is_target_byte) {
            text
        } else {
            encoded = encode(text)?;
            &encoded
        };
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        if text.len() > LONGEST_TARGET || !path.starts_with('/') {
            return Err(BadTarget);
        }
        if !percent_encodings_are_whole(path) || hides_a_dot_segment(path) {
            return Err(BadTarget);
        }
        let path = if is_plain(path) { path.to_owned() } else { resolve(&decode_unreserved(path)) };
        Ok(Self { path, query: query.map(ToOwned::to_owned) })
    }

    /// The path, beginning with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query, as the agent sent it.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// A key goes into this part of the path.
    pub fn mark_path(&mut self, range: Range<usize>) {
        self.path.replace_range(range, MARK);
    }

    /// A key is the value of this parameter, which comes once.
    pub fn mark_query(&mut self, name: &str) {
        if let Some(query) = &mut self.query
            && let Some(range) = value_of(query, name)
        {
            query.replace_range(range, MARK);
        }
    }

    /// Path and query, as they go upstream where no key goes into them.
    #[must_use]
    pub fn to_origin_form(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Path and query with the keys in them: of the path, and of each parameter by its name. A key becomes one segment
    /// or one value whatever is in it.
    ///
    /// # Errors
    /// Where the key would make a dot segment of what it stands in.
    pub fn with_keys(&self, in_path: Option<&[u8]>, in_query: &[(&str, &[u8])]) -> Result<Vec<u8>, BadTarget> {
        let encoded = |key: &[u8]| key.len() * 3;
        let keys = in_path.map_or(0, encoded) + in_query.iter().map(|(_, key)| encoded(key)).sum::<usize>();
        let mut out = Vec::with_capacity(self.path.len() + 1 + self.query.as_ref().map_or(0, String::len) + keys);
        match in_path.zip(self.path.split_once(MARK)) {
            Some((key, (before, after))) => {
                out.extend_from_slice(before.as_bytes());
                percent::encode_into(key, percent::stays_in_a_segment, &mut out);
                out.extend_from_slice(after.as_bytes());
                if out.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")) {
                    return Err(BadTarget);
                }
            }
            None => out.extend_from_slice(self.path.as_bytes()),
        }
        let Some(query) = &self.query else { return Ok(out) };
        out.push(b'?');
        let mut rest = query.as_str();
        for (name, key) in in_order(query, in_query) {
            let Some(range) = value_of(rest, name).filter(|range| &rest[range.clone()] == MARK) else {
                return Err(BadTarget);
            };
            out.extend_from_slice(&rest.as_bytes()[..range.start]);
            percent::encode_into(key, percent::is_unreserved, &mut out);
            rest = &rest[range.end..];
        }
        out.extend_from_slice(rest.as_bytes());
        Ok(out)
    }
}

/// Where the value of the first parameter of this name stands.
fn value_of(query: &str, name: &str) -> Option<Range<usize>> {
    Parts::of(query.as_bytes()).find_map(|part| {
        let value = value_in(&query[part.clone()], name)?;
        Some(part.end - value.len()..part.end)
    })
}

/// The value in a part of a query that is of this name, as it is written. The name is one that needs no encoding, and many
/// clients encode all the same what is reserved in it, such as `[`; nobody encodes more (RFC 3986, 2.3).
pub fn value_in<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    let (written, value) = part.split_once('=')?;
    let read = percent::decode_where(written.as_bytes(), |byte| !percent::is_unreserved(byte));
    (read == name.as_bytes()).then_some(value)
}

/// The keys of a query in the order of their parameters.
fn in_order<'a>(query: &str, keys: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    let mut sorted = keys.to_vec();
    sorted.sort_by_key(|(name, _)| value_of(query, name).map(|range| range.start));
    sorted
}

/// A target that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadTarget;

/// Whether canonicalising would change nothing.
fn is_plain(path: &str) -> bool {
    !path.contains('%') && !path.contains("//") && !path.contains("/.")
}

/// Visible ASCII but what RFC 3986 leaves out of every component. Without braces no agent can write [`MARK`].
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !is_encoded(byte) && !matches!(byte, b'\\' | b'#')
}

/// Browsers' rules leave some of these as they are in a query (WHATWG URL, 1.3), and other clients any of them.
fn is_encoded(byte: u8) -> bool {
    !byte.is_ascii() || matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// The same target with nothing in it that no URI has.
///
/// # Errors
/// For a blank, a control character, `#`, and in a path `\`, which servers take for a separator.
fn encode(text: &str) -> Result<String, BadTarget> {
    let path = text.find('?').unwrap_or(text.len());
    let is_welcome = |(at, byte): (usize, u8)| is_target_byte(byte) || is_encoded(byte) || byte == b'\\' && at > path;
    if text.len() > LONGEST_TARGET || !text.bytes().enumerate().all(is_welcome) {
        return Err(BadTarget);
    }
    let mut encoded = Vec::with_capacity(text.len() * 3);
    percent::encode_into(text.as_bytes(), is_target_byte, &mut encoded);
    String::from_utf8(encoded).map_err(|_| BadTarget)
}

fn percent_encodings_are_whole(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        // An encoded NUL or other control character ends names in some servers.
        percent::pair_at(bytes, at).is_some_and(|value| value >= 0x20 && value != 0x7f)
    })
}

fn decode_unreserved(path: &str) -> String {
    let decoded = percent::decode_where(path.as_bytes(), percent::is_unreserved);
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

/// Stands where a key goes, or a placeholder stood.
pub const MARK: &str = "{}";
/// Longest target, in bytes. gatewayd's limit is no higher by default.
const LONGEST_TARGET: usize = 64 * 1024;

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
            "/v1/x/..%3fy",
            "/a/%2e%2e%23/b",
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
    fn bytes_that_servers_disagree_about_are_refused() {
        for text in
            ["", "a", "/a\\b", "/a b", "/a#b", "/a%", "/a%2", "/a%zz", "/a%00", "/a%0d%0a", "/?a\tb", "*", "http://x/"]
        {
            assert_eq!(path(text), None, "{text:?}");
        }
        for text in ["/{}\\..\\b", "/|\\b", "/..|\\?x"] {
            assert_eq!(path(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_no_uri_has_is_encoded_so_that_no_agent_writes_our_mark() {
        let target = |text: &str| Target::parse(text).expect("a target").to_origin_form();
        assert_eq!(target("/a{}|b^`\"<>/\u{e9}"), "/a%7B%7D%7Cb%5E%60%22%3C%3E/%C3%A9");
        assert_eq!(target("/?q={}&r=A|B^`\"\\<>\u{e9}%zz"), "/?q=%7B%7D&r=A%7CB%5E%60%22%5C%3C%3E%C3%A9%zz");
        assert_eq!(target("/{}/../b?{}"), "/b?%7B%7D");
        let mut target = Target::parse("/{}/P/x?k={}&key=PQ").expect("a target");
        let at = target.path().find('P').expect("it is there");
        target.mark_path(at..at + 1);
        target.mark_query("key");
        let keys = [("key", &b"one"[..])];
        assert_eq!(target.with_keys(Some(b"two"), &keys).expect("a target"), b"/%7B%7D/two/x?k=%7B%7D&key=one");
        let longest = format!("/{}", "{".repeat(LONGEST_TARGET / 3));
        assert_eq!((path(&longest).is_some(), path(&format!("{longest}{{"))), (true, None));
    }

    #[test]
    fn keys_stay_one_segment_and_one_value() {
        let mut target = Target::parse("/a/botPH/x?k=1&key=PQ&m=PQ&z").expect("a target");
        target.mark_path(6..8);
        target.mark_query("key");
        assert_eq!((target.path(), target.query()), ("/a/bot{}/x", Some("k=1&key={}&m=PQ&z")));
        let with = |path: &[u8], query: &[(&str, &[u8])]| target.with_keys(Some(path), query).expect("a target");
        assert_eq!(
            with(b"1:a/b?c#d%e f", &[("key", b"+&=;#/\xff")]),
            b"/a/bot1:a%2Fb%3Fc%23d%25e%20f/x?k=1&key=%2B%26%3D%3B%23%2F%FF&m=PQ&z"
        );
        target.mark_query("m");
        let both: [(&str, &[u8]); 2] = [("m", b"two"), ("key", b"one")];
        assert_eq!(with_both(&target, &both), "/a/bot{}/x?k=1&key=one&m=two&z");
        assert_eq!(target.with_keys(None, &[("other", b"x")]), Err(BadTarget));
        // Clients that encode what needs no encoding.
        let mut target = Target::parse("/?auth%5Bkey%5D=PH&auth[kez]=1").expect("a target");
        target.mark_query("auth[key]");
        let keys = [("auth[key]", &b"one"[..])];
        assert_eq!(with_both(&target, &keys), "/?auth%5Bkey%5D=one&auth[kez]=1");
    }

    fn with_both(target: &Target, keys: &[(&str, &[u8])]) -> String {
        String::from_utf8(target.with_keys(None, keys).expect("a target")).expect("ASCII")
    }

    #[test]
    fn a_key_cannot_climb_out_of_its_path() {
        let mut target = Target::parse("/a/P/b").expect("a target");
        target.mark_path(3..4);
        for key in [&b".."[..], b"."] {
            assert_eq!(target.with_keys(Some(key), &[]), Err(BadTarget));
        }
        assert_eq!(target.with_keys(Some(b"../x"), &[]).expect("one segment"), b"/a/..%2Fx/b");
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
