//! Paths and methods written in evasive ways against rules that allow and rules that deny.
//!
//! The judge is the upstream: it decodes what reached it as often and as generously as any server might, and what it
//! then reads must still be allowed.

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
        match part.split(';').next().unwrap_or_default() {
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
    for evasive in ["/v1/chat/..%2f%61dmin", "/v1/chat/%252e%252e/admin", "/v1/chat/..;/admin", "/v1/chat\\..\\admin"] {
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

/// Frameworks take `_method` for the method.
#[test]
fn a_parameter_that_names_another_method_is_refused_where_methods_matter() {
    let siege = Siege::lay();
    siege.scene.strongroom.must(&["agent", "add", "narrow"]);
    let narrow = siege.scene.grant(CREDENTIAL, "narrow", &["--allow", "POST /v1/**"]);
    for query in
        ["_method=DELETE", "a=b;_method=DELETE", "a=b&_METHOD=delete", "%5fmethod=DELETE", "_method", "x&_method=GET&y"]
    {
        let target = format!("/v1/items/7?{query}");
        let heard = siege.dial().ask(&Ask::bearer("POST", &target, &narrow));
        assert_eq!(heard.refusal(), Some(Refusal::RequestNotAllowed), "{query}");
        assert_eq!(siege.dial().ask(&siege.ask(&target)).status(), Some(200), "its twin has no rule");
    }
    for query in ["method=DELETE", "x_method=1", "q=_method"] {
        let heard = siege.dial().ask(&Ask::bearer("POST", &format!("/v1/items/7?{query}"), &narrow));
        assert_eq!(heard.status(), Some(200), "{query}");
    }
    siege.hold();
}

#[test]
fn what_the_catalogue_denies_is_denied_in_every_spelling() {
    let host = "api.openai.com";
    let root = Root::new("The tests' root").unwrap();
    let upstream = Upstream::start(root.server(host).unwrap(), echo).unwrap();
    let strongroom = Strongroom::new().start();
    let ca = strongroom.write("root.pem", root.pem());
    let key = strongroom_tests::strongroom::random_key("sk-");
    let add = ["credential", "add", "openai", "--provider", "openai", "--ca", ca.to_str().unwrap()];
    strongroom.must_with(&add, key.as_bytes());
    strongroom.must(&["agent", "add", AGENT]);
    let grant = ["grant", "add", "openai", "--agent", AGENT, "--rate", "1000000/hour", "--burst", "100000"];
    let placeholder = strongroom.must(&grant).trim().to_owned();
    let loot = Loot::default();
    let gateway = Hostile::connect(&strongroom, &loot);
    let dial = || gateway.dial(host, upstream.address());
    assert_eq!(dial().ask(&Ask::bearer("POST", "/v1/chat/completions", &placeholder)).status(), Some(200));
    let denied = "v1/organization/admin_api_keys";
    for method in ["GET", "POST", "post", "DELETE"] {
        let heard = dial().ask(&Ask::bearer(method, &format!("/{denied}"), &placeholder));
        assert_eq!(heard.refusal(), Some(Refusal::RequestNotAllowed), "{method}");
    }
    let mut channel = dial();
    let inside = evasions("/v1/organization", "organization/admin_api_keys");
    for target in inside.into_iter().chain(evasions("/v1/x", "v1/organization/admin_api_keys")) {
        if !matches!(channel.ask(&Ask::bearer("GET", &target, &placeholder)), Heard::Answer(_)) {
            channel = dial();
        }
    }
    let received = upstream.received();
    assert!(received.len() > 10, "some spellings are harmless: {}", received.len());
    for one in received {
        let read = generous(one.head.target()).to_ascii_lowercase();
        let rest = read.strip_prefix(&format!("/{denied}"));
        let is_denied = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        assert!(!is_denied, "{} is read as {read}", one.head.start_line);
    }
    loot.assert_without(&[&key]);
}
