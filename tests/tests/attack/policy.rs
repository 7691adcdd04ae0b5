//! Paths and methods written in evasive ways against rules that allow and rules that deny.
//!
//! The judge is the upstream: it decodes what reached it as often and as generously as any server might, and what it
//! then reads must still be allowed.

use strongroom_ctl::catalogue;
use strongroom_protocol::Site;
use strongroom_protocol::admin::Rule;

use super::*;

/// Ways to write a path that is to be read as `inside` by the rule and as `outside` by a server.
fn evasions(inside: &str, outside: &str) -> Vec<String> {
    let up = [
        "..",
        "%2e%2e",
        "%2E%2E",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "%25%32%65%25%32%65",
        "..;",
        "..;x=y",
        "%2e%2e;",
        "..%3f",
        "..%3Fx",
        "%2e%2e%3f",
        "..%23",
        "..%00",
        "..%20",
        "..\t",
        "..%09",
        "\u{ff0e}\u{ff0e}",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%uff0e%uff0e",
    ];
    let slash =
        ["/", "%2f", "%2F", "%5c", "%5C", "\\", "%252f", "%255c", "//", "/./", "/%2e/", ";/", "%c0%af", "\u{2215}"];
    let mut all = Vec::new();
    for up in up {
        all.extend(slash.map(|slash| format!("{inside}{slash}{up}{slash}{outside}")));
    }
    for end in ["?", "#", "%3f", "%23", ";", "%00", "%0a", "%20", "/.", "/..", "/", ".json", "%2f", "*", "\u{0}"] {
        all.push(format!("{inside}{end}"));
        all.push(format!("{inside}{end}/../{outside}"));
        all.push(format!("/{outside}{end}"));
    }
    for prefix in ["/", "//", "/./", "/%2e/", "/x/..", "/%2f", "/;/", "\\", "/\\", "/%5c", "/http:/", "/https://h"] {
        all.push(format!("{prefix}/{outside}"));
        all.push(format!("{prefix}{outside}"));
    }
    all.push(format!("/{}", outside.to_uppercase()));
    all.push(format!("/{}", outside.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>()));
    all.push(format!("/{}", outside.bytes().map(|byte| format!("%25{byte:02x}")).collect::<String>()));
    all
}

/// A path as the most generous of servers would read it.
fn generous(target: &str) -> String {
    let mut path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
    for _ in 0..4 {
        path = decoded(&path);
        path = path.replace('\\', "/").replace(['\0', '\t', ' ', '\n', '\r'], "");
        path = path.replace(['\u{ff0e}'], ".").replace('\u{2215}', "/");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part.split([';', '?', '#']).next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    // Overlong UTF-8 for the dot and the slash, as old decoders took it.
    let text = out;
    let replaced = [(&b"\xc0\xae"[..], &b"."[..]), (b"\xe0\x80\xae", b"."), (b"\xc0\xaf", b"/")]
        .iter()
        .fold(text, |text, (from, to)| replace(&text, from, to));
    String::from_utf8_lossy(&replaced).into_owned()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    [&out[..], rest].concat()
}

#[test]
fn the_generous_reader_reads_generously() {
    for evasive in [
        "/v1/chat/..%2f%61dmin",
        "/v1/chat/%252e%252e/admin",
        "/v1/chat/..;/admin",
        "/v1/chat/..%3fx/admin%23",
        "/v1/chat\\..\\admin",
    ] {
        assert_eq!(generous(evasive), "/v1/admin", "{evasive}");
    }
    assert_eq!(generous("/v1/models?x=/../admin"), "/v1/models");
}

#[test]
fn what_is_allowed_is_not_left_in_any_spelling() {
    let siege = Siege::lay();
    siege.scene.strongroom.must(&["agent", "add", "narrow"]);
    let rules =
        ["--allow", "GET /v1/chat/**", "--allow", "POST /v1/models", "--rate", "1000000/hour", "--burst", "100000"];
    let narrow = siege.scene.grant(CREDENTIAL, "narrow", &rules);
    let before = siege.scene.upstream.count();
    assert_eq!(siege.dial().ask(&Ask::bearer("GET", "/v1/chat/x", &narrow)).status(), Some(200));
    assert_eq!(siege.dial().ask(&Ask::bearer("POST", "/v1/models", &narrow)).status(), Some(200));
    let (mut tried, mut refused) = (0, 0);
    let mut channel = siege.dial();
    for target in evasions("/v1/chat", "admin/keys").into_iter().chain(evasions("/v1/models", "v1/files")) {
        for method in ["GET", "POST"] {
            tried += 1;
            let heard = channel.ask(&Ask::bearer(method, &target, &narrow));
            if !matches!(heard, Heard::Answer(_)) {
                refused += 1;
                channel = siege.dial();
            }
        }
    }
    for method in ["get", "Get", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "QUERY", "*", "GETS", "PROPFIND"] {
        for target in ["/v1/models", "/v1/admin", "/v1/chat/x"] {
            let heard = siege.dial().ask(&Ask::bearer(method, target, &narrow));
            assert_eq!(heard.status(), None, "{method} {target}: {heard:?}");
        }
    }
    assert!(tried > 1000 && refused > tried / 2, "{refused} of {tried} refused");
    for one in &siege.scene.upstream.received()[before..] {
        let read = generous(one.head.target());
        let allowed = match one.head.method() {
            "GET" => read == "/v1/chat" || read.starts_with("/v1/chat/"),
            "POST" => read == "/v1/models",
            _ => false,
        };
        assert!(allowed, "{} is read as {read}", one.head.start_line);
    }
    siege.hold();
}

/// Frameworks take `_method` for the method, and other servers other parameters.
#[test]
fn a_parameter_that_names_another_method_is_refused_where_methods_matter() {
    let siege = Siege::lay();
    siege.scene.strongroom.must(&["agent", "add", "narrow"]);
    let narrow = siege.scene.grant(CREDENTIAL, "narrow", &["--allow", "POST /v1/**"]);
    let names =
        ["_HttpMethod", "httpMethod", "http_method", "x-http-method", "X-HTTP-Method-Override", "x-method-override"];
    let names = names.map(|name| format!("{name}=DELETE"));
    let spelled = [
        "_method=DELETE",
        "a=b;_method=DELETE",
        "a=b&_METHOD=delete",
        "%5fmethod=DELETE",
        "_method",
        "x&_method=GET&y",
        "$httpMethod=DELETE",
        "%24httpMethod=DELETE",
        "method=DELETE",
        "a=b&Method=%64elete",
    ];
    for query in spelled.into_iter().chain(names.iter().map(String::as_str)) {
        let target = format!("/v1/items/7?{query}");
        let heard = siege.dial().ask(&Ask::bearer("POST", &target, &narrow));
        assert_eq!(heard.refusal(), Some(Refusal::RequestNotAllowed), "{query}");
        assert_eq!(siege.dial().ask(&siege.ask(&target)).status(), Some(200), "its twin has no rule");
    }
    for query in ["method=flickr.photos.search", "x_method=1", "q=_method", "methods=DELETE"] {
        let heard = siege.dial().ask(&Ask::bearer("POST", &format!("/v1/items/7?{query}"), &narrow));
        assert_eq!(heard.status(), Some(200), "{query}");
    }
    siege.hold();
}

/// Whether a path, segment by segment and in lower case, is of a pattern: `*` within a segment, `**` for any number.
fn is_of(pattern: &[&str], path: &[&str]) -> bool {
    let within = |pattern: &str, text: &str| match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        }
    };
    match pattern {
        [] => path.is_empty(),
        ["**", rest @ ..] => (0..=path.len()).any(|taken| is_of(rest, &path[taken..])),
        [first, rest @ ..] => path.first().is_some_and(|segment| within(first, segment)) && is_of(rest, &path[1..]),
    }
}

fn denies(rule: &Rule, method: &str, read: &str) -> bool {
    let (pattern, path) = (rule.path().to_ascii_lowercase(), read.to_ascii_lowercase());
    (rule.method() == "*" || rule.method() == method)
        && is_of(&pattern.split('/').skip(1).collect::<Vec<_>>(), &path.split('/').skip(1).collect::<Vec<_>>())
}

/// For each provider and each of its rules: the path itself in its way, and sixty and more spellings that a generous server
/// reads as that path.
#[test]
fn what_the_catalogue_denies_is_denied_in_every_spelling() {
    let (mut rules, mut spellings) = (0, 0);
    for provider in catalogue::all().unwrap().into_iter().filter(|provider| !provider.deny.is_empty()) {
        let id = provider.id.as_str();
        let host = provider.hosts[0].to_string();
        let root = Root::new("The tests' root").unwrap();
        let upstream = Upstream::start(root.server(&host).unwrap(), echo).unwrap();
        let strongroom = Strongroom::new().start();
        let ca = strongroom.write("root.pem", root.pem());
        let key = strongroom_tests::strongroom::random_key(&provider.key_prefix);
        let add = ["credential", "add", id, "--provider", id, "--ca", ca.to_str().unwrap()];
        strongroom.must_with(&add, key.as_bytes());
        strongroom.must(&["agent", "add", AGENT]);
        let grant = ["grant", "add", id, "--agent", AGENT, "--rate", "1000000/hour", "--burst", "100000"];
        let placeholder = strongroom.must(&grant).trim().to_owned();
        let loot = Loot::default();
        let gateway = Hostile::connect(&strongroom, &loot);
        let ask = |method: &str, target: &str| {
            let ask = Ask { flags: 0, method: method.into(), target: target.into(), fields: Vec::new() };
            match &provider.sites[0] {
                Site::Header { field, .. } => ask.field(field, &placeholder),
                _ => ask.field("authorization", format!("Bearer {placeholder}")),
            }
        };
        let mut channel = gateway.dial(&host, upstream.address());
        assert_eq!(channel.ask(&ask("GET", "/harmless/path")).status(), Some(200), "{id}: the positive twin");
        for rule in &provider.deny {
            rules += 1;
            let denied =
                rule.path().replace("/**", "/deep/down").replace('*', "any").trim_start_matches('/').to_owned();
            let method = if rule.method() == "*" { "POST" } else { rule.method() };
            assert!(denies(rule, method, &format!("/{denied}")), "{rule}");
            let heard = channel.ask(&ask(method, &format!("/{denied}")));
            assert_eq!(heard.refusal(), Some(Refusal::RequestNotAllowed), "{id}: {rule}");
            let parent = denied.split('/').next().unwrap_or_default();
            let all = evasions(&format!("/{parent}/x"), &format!("../{denied}")).into_iter();
            let all = all.chain(evasions("/v0", &denied)).filter(|one| denies(rule, method, &generous(one)));
            let all: Vec<String> = all.collect();
            assert!(all.len() >= 60, "{id}: {rule}: {} spellings", all.len());
            for target in all.iter().step_by(rounds(all.len() / 60, 1)) {
                spellings += 1;
                if matches!(channel.ask(&ask(method, target)), Heard::Nothing | Heard::Stale) {
                    channel = gateway.dial(&host, upstream.address());
                }
            }
        }
        for one in upstream.received() {
            let read = generous(one.head.target());
            let denied = provider.deny.iter().find(|rule| denies(rule, one.head.method(), &read));
            assert!(denied.is_none(), "{id}: {} is read as {read}: {denied:?}", one.head.start_line);
        }
        loot.assert_without(&[&key]);
    }
    assert!(rules >= 40 && spellings >= 60 * rules, "{spellings} spellings of {rules} rules");
}
