//! The scanner beside serde_json: what one takes the other takes, and pointers lead to the same place.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn string(text: &str, pointer: &str) -> Result<Option<String>, Fault> {
    locate(text, pointer).map(|place| match place {
        Place::String { decoded, span } => {
            let read: String = serde_json::from_str(&text[span]).expect("the span is a string");
            assert_eq!(read, decoded);
            Some(decoded)
        }
        Place::NoString | Place::Nowhere => None,
    })
}

#[test]
fn a_pointer_is_followed_through_objects_and_arrays() {
    let text = r#" {"a": [1, {"b": "x"}, "y"], "c/d": {"~": "z"}, "": {"": "e"}, "n": null, "o": {"p": 5}} "#;
    for (pointer, expected) in [
        ("/a/1/b", Some("x")),
        ("/a/2", Some("y")),
        ("/c~1d/~0", Some("z")),
        ("//", Some("e")),
        ("/a", None),
        ("/a/0", None),
        ("/a/01", None),
        ("/a/-", None),
        ("/a/3", None),
        ("/a/1/b/c", None),
        ("/n", None),
        ("/o", None),
        ("/o/p", None),
        ("/b", None),
    ] {
        assert_eq!(string(text, pointer), Ok(expected.map(ToOwned::to_owned)), "{pointer}");
    }
    assert_eq!(locate(text, "/n"), Ok(Place::NoString));
    assert_eq!(locate(text, "/o"), Ok(Place::NoString));
    assert_eq!(locate(text, "/b"), Ok(Place::Nowhere));
    assert_eq!(locate("\"whole\"", "/a"), Ok(Place::Nowhere));
}

#[test]
fn escapes_in_names_and_values_are_understood() {
    let text = r#"{"\u006bey": "\u0070\ud83d\ude00\n\/"}"#;
    assert_eq!(string(text, "/key"), Ok(Some("p\u{1f600}\n/".to_owned())));
}

#[test]
fn a_member_that_comes_twice_on_the_way_is_refused() {
    for text in [
        r#"{"a": {"b": "x"}, "a": {"b": "y"}}"#,
        r#"{"a": {"b": "x", "b": "y"}}"#,
        r#"{"a": {"b": "x", "\u0062": "y"}}"#,
        r#"{"a": {"b": "x", "B": "y"}}"#,
        r#"{"a": 1, "a": {"b": "y"}}"#,
        r#"{"a": {"b": "x"}, "c": 1, "A": 2}"#,
    ] {
        assert_eq!(locate(text, "/a/b"), Err(Fault::Twice), "{text}");
    }
    for text in [r#"{"a": {"b": "x"}, "c": 1, "c": 2}"#, r#"{"c": {"a": 1, "a": 2}, "a": {"b": "x"}}"#] {
        assert_eq!(string(text, "/a/b"), Ok(Some("x".to_owned())), "elsewhere it is nothing to us: {text}");
    }
    for text in [r#"{"sk": "x", "s\u212a": "y"}"#, "{\"sk\": \"x\", \"\u{17f}K\": \"y\"}"] {
        assert_eq!(locate(text, "/sk"), Err(Fault::Twice), "{text}");
    }
    assert_eq!(string(r#"{"sk": "x", "\u0161k": "y"}"#, "/sk"), Ok(Some("x".to_owned())), "another letter");
}

#[test]
fn what_is_not_json_to_the_letter_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "0x1",
        "NaN",
        "tru",
        "truee",
        "nul",
        "\"a",
        "\"\u{1}\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "1 1",
        "{} {}",
        "/* */ 1",
        "\u{feff}{}",
        "\u{a0}1",
    ] {
        assert_eq!(locate(text, "/a"), Err(Fault::Malformed), "{text:?}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text:?}");
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(locate(&nested(DEEPEST), "/0"), Ok(Place::NoString));
    assert_eq!(locate(&nested(DEEPEST + 1), "/0"), Err(Fault::TooDeep));
    assert_eq!(locate(&"[".repeat(1_000_000), "/0"), Err(Fault::TooDeep));
}

#[test]
fn a_key_is_quoted_so_that_it_reads_back() {
    for text in ["plain", "q\"b\\s/", "\u{e9}\u{1f600}\u{7f}", ""] {
        let mut out = Vec::new();
        quote_into(text, &mut out);
        assert_eq!(out.len(), quoted_length(text));
        assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), text);
    }
}

/// Documents without duplicate members, and numbers that serde_json can hold.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Few enough digits that no reader rounds them.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[ab~/\"\u{e9}]{0,2}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every pointer of a document, by its steps.
fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                all.push(format!("{here}/{index}"));
                pointers(item, &format!("{here}/{index}"), all);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let step = format!("{here}/{}", name.replace('~', "~0").replace('/', "~1"));
                all.push(step.clone());
                pointers(member, &step, all);
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn pointers_lead_where_serde_jsons_do(value in document(), pretty: bool, other in "(/[ab01~-]{0,2}){1,3}") {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let mut all = vec![];
        pointers(&value, "", &mut all);
        if !other.contains('~') {
            all.push(other);
        }
        for pointer in all {
            let expected = value.pointer(&pointer);
            match locate(&text, &pointer) {
                Ok(Place::String { decoded, span }) => {
                    prop_assert_eq!(expected.and_then(Value::as_str), Some(&*decoded));
                    // A splice at the span changes this one string and nothing else.
                    let spliced = format!("{}\"*\"{}", &text[..span.start], &text[span.end..]);
                    let mut changed = value.clone();
                    *changed.pointer_mut(&pointer).unwrap() = "*".into();
                    prop_assert_eq!(serde_json::from_str::<Value>(&spliced).unwrap(), changed);
                }
                Ok(Place::NoString) => prop_assert!(expected.is_some_and(|value| !value.is_string())),
                Ok(Place::Nowhere) => prop_assert!(expected.is_none()),
                Err(fault) => prop_assert!(false, "{:?}", fault),
            }
        }
    }

    #[test]
    fn mutated_documents_are_taken_as_serde_json_takes_them(value in document(), edits in proptest::collection::vec((any::<prop::sample::Index>(), "[]\\[{}\",:0-9eE.+\\\\utrfn \u{0}-\u{1f}-]"), 1..4), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let mut characters: Vec<char> = text.chars().collect();
        for (at, character) in edits {
            let at = at.index(characters.len() + 1);
            let character = character.chars().next().unwrap_or(' ');
            if at == characters.len() || at % 2 == 0 { characters.insert(at, character) } else { characters[at] = character }
        }
        let text: String = characters.into_iter().collect();
        let theirs = serde_json::from_str::<Value>(&text);
        match locate(&text, "/no-such-member") {
            Ok(_) => prop_assert!(theirs.is_ok() || theirs.is_err_and(|error| error.to_string().contains("out of range")), "{}", text),
            Err(_) => prop_assert!(theirs.is_err(), "{}", text),
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", pointer in "(/.{0,4}){1,3}") {
        let _ = locate(&text, &pointer);
    }
}
