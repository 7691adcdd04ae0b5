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
    wildcard(
        pattern.split('/').skip(1),
        path.split('/').skip(1),
        |part| *part == "**",
        |part, segment| wildcard(part.bytes(), segment.bytes(), |byte| *byte == b'*', |byte, other| byte == other),
    )
}

/// Greedy with one point of return: linear in each of the two, never exponential, and without taking memory.
fn wildcard<I: Iterator + Clone>(
    pattern: I,
    text: I,
    star: impl Fn(&I::Item) -> bool,
    equal: impl Fn(&I::Item, &I::Item) -> bool,
) -> bool
where
    I::Item: Clone,
{
    let (mut pattern, mut text) = (pattern.peekable(), text.peekable());
    // What follows the last star, and what it has not taken yet.
    let mut back = None;
    while let Some(item) = text.peek() {
        match pattern.peek() {
            Some(part) if star(part) => {
                pattern.next();
                back = Some((pattern.clone(), text.clone()));
            }
            Some(part) if equal(part, item) => {
                pattern.next();
                text.next();
            }
            _ => {
                let Some((after, taken)) = &mut back else { return false };
                taken.next();
                pattern = after.clone();
                text = taken.clone();
            }
        }
    }
    pattern.all(|part| star(&part))
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
