//! Whether a rule such as `POST /v1/**` covers a method and a canonical path.
//!
//! `*` stands for any run of characters within a segment, a segment `**` for any number of segments, none among them.
//! Case counts. It never decodes: the path is canonical already. Called by `decide`.

use strongroom_protocol::admin::Rule;

/// Whether the rule covers the request.
#[must_use]
pub fn covers(rule: &Rule, method: &str, path: &str) -> bool {
    (rule.method() == "*" || rule.method() == method) && path_matches(rule.path(), path)
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
    let path: Vec<&str> = path.split('/').skip(1).collect();
    segments_match(&pattern, &path)
}

/// Greedy with one point of return, as for wildcards within a segment: linear in each, never exponential.
fn segments_match(pattern: &[&str], path: &[&str]) -> bool {
    wildcard(pattern, path, |part| *part == "**", |part, segment| segment_matches(part, segment))
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    wildcard(pattern.as_bytes(), segment.as_bytes(), |byte| *byte == b'*', |byte, other| byte == other)
}

fn wildcard<P, T>(pattern: &[P], text: &[T], star: impl Fn(&P) -> bool, equal: impl Fn(&P, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && star(&pattern[p]) {
            back = Some((p, t));
            p += 1;
        } else if p < pattern.len() && equal(&pattern[p], &text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_at, taken)) = back {
            p = star_at + 1;
            t = taken + 1;
            back = Some((star_at, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(star)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().expect("a rule")
    }

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, path) in [
            ("/v1/**", "/v1/chat/completions"),
            ("/v1/**", "/v1/"),
            ("/v1/**", "/v1"),
            ("/v1/*", "/v1/models"),
            ("/v1/*/messages", "/v1/threads/messages"),
            ("/**/messages", "/a/b/messages"),
            ("/**", "/"),
            ("/v1/mod*", "/v1/models"),
            ("/v1/models", "/v1/models"),
            ("/a/**/b/**/c", "/a/x/b/y/b/z/c"),
        ] {
            assert!(covers(&rule(&format!("GET {pattern}")), "GET", path), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_cover_nothing_else() {
        for (pattern, path) in [
            ("/v1/*", "/v1/a/b"),
            ("/v1/models", "/v1/models/"),
            ("/v1/models", "/V1/models"),
            ("/v1/**", "/v10/x"),
            ("/v1/**", "/"),
            ("/v1/mod*", "/v1/x/models"),
            ("/v1/*/messages", "/v1/messages"),
        ] {
            assert!(!covers(&rule(&format!("GET {pattern}")), "GET", path), "{pattern} {path}");
        }
        assert!(!covers(&rule("GET /**"), "POST", "/"));
        assert!(!covers(&rule("GET /**"), "get", "/"));
        assert!(covers(&rule("* /**"), "PURGE", "/"));
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let pattern = format!("GET /{}b", "a*".repeat(200));
        assert!(!covers(&rule(&pattern), "GET", &format!("/{}", "a".repeat(5000))));
    }
}
