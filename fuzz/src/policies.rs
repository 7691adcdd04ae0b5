//! Paths against rules, and the places in bodies where a key goes.
//! Each function refuses nothing and panics where a property does not hold. Called through [`crate::TARGETS`].

use crate::policy::form;
use crate::policy::json::{self, Place};
use crate::policy::lenient;
use crate::policy::path::Target;
use crate::policy::rule::covers;

/// What is canonical stays as it is, has no dot segment, and hides none.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = lenient::readings(text);
    let Ok(target) = Target::parse(text) else { return };
    assert_eq!(Target::parse(&target.to_origin_form()).as_ref(), Ok(&target));
    let path = target.path();
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path}");
    assert!(!lenient::hides_a_dot_segment(path), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path}");
    for reading in lenient::readings(path) {
        assert!(!reading.split('/').any(|segment| matches!(segment, "." | "..")), "{path} is read as {reading}");
    }
}

/// Text before the first line break is a rule, behind it a path.
pub fn rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((rule, path)) = text.split_once('\n') else { return };
    let Ok(rule) = rule.parse::<strongroom_protocol::admin::Rule>() else { return };
    // Every canonical path does.
    if !path.starts_with('/') {
        return;
    }
    let covered = covers(&rule, rule.method(), path);
    if !rule.path().contains('*') {
        assert_eq!(covered, rule.path() == path, "{} {path}", rule.path());
    }
}

/// What is found is what another parser finds there, and a key put in its place changes nothing else.
pub fn json_body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for pointer in ["/key", "/a/key", "/a/0", "/~1x/~0y", "/"] {
        let Ok(place) = json::locate(text, pointer) else { continue };
        let value: serde_json::Value = match serde_json::from_str(text) {
            Ok(value) => value,
            // Numbers beyond an f64 are JSON, and too much for a value.
            Err(error) if error.to_string().contains("number out of range") => continue,
            Err(error) => panic!("taken, though it is no JSON: {error}"),
        };
        let Place::String { span, decoded } = place else { continue };
        assert_eq!(value.pointer(pointer).and_then(|found| found.as_str()), Some(&*decoded), "{pointer}");
        let mut out = text.as_bytes()[..span.start].to_vec();
        let room = out.len();
        json::quote_into(KEY, &mut out);
        assert_eq!(out.len() - room, json::quoted_length(KEY));
        out.extend_from_slice(&text.as_bytes()[span.end..]);
        let mut spliced: serde_json::Value = serde_json::from_slice(&out).expect("still JSON");
        assert_eq!(spliced.pointer(pointer).and_then(|found| found.as_str()), Some(KEY));
        if let (Some(here), Some(there)) = (spliced.pointer_mut(pointer), value.pointer(pointer)) {
            *here = there.clone();
        }
        assert_eq!(spliced, value, "nothing else changed");
    }
}

/// A field is found once, and its value lies within the text.
pub fn form_body(bytes: &[u8]) {
    for field in ["key", "a b", "x[0]"] {
        if let Ok(Some(value)) = form::locate(bytes, field) {
            let raw = &bytes[value.span.clone()];
            assert!(!raw.contains(&b'&') && raw.len() >= value.decoded.len());
            assert!(value.span.start > 0 && bytes[value.span.start - 1] == b'=');
        }
    }
}

const KEY: &str = "sk-\"\\/\u{e9}\u{1f511}-key";
