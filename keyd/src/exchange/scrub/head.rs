//! Reason phrase, header fields and trailers: whole texts, so nothing is held back.
//!
//! Values are searched as they are, names without regard to case, for HTTP changes it. A name that holds a key is
//! masked too; `*` is a token character. Called by `exchange/answer.rs`, and
//! by `exchange/record.rs` for what the log says of a request.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::form::Case;
use super::patterns::Patterns;
use super::stream::MASK;

/// Masks keys in every name and value, in place; says how many there were.
pub fn scrub_fields(fields: &mut HeaderMap, patterns: &Patterns) -> u64 {
    let mut found = 0;
    for value in fields.values_mut() {
        if let Some((clean, count)) = scrub_text(value.as_bytes(), patterns) {
            // Masking leaves a valid value valid; were it not, nothing of it may pass.
            *value = HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static("*"));
            found += count;
        }
    }
    let tainted: Vec<HeaderName> = fields.keys().filter(|name| scrub_name(name, patterns).is_some()).cloned().collect();
    for name in tainted {
        let clean = scrub_name(&name, patterns).and_then(|text| HeaderName::from_bytes(&text).ok());
        let values: Vec<HeaderValue> = fields.get_all(&name).iter().cloned().collect();
        fields.remove(&name);
        found += 1;
        if let Some(clean) = clean {
            values.into_iter().for_each(|value| {
                fields.append(clean.clone(), value);
            });
        }
    }
    found
}

/// A text with keys masked and how many there were; nothing where there is none.
#[must_use]
pub fn scrub_text(text: &[u8], patterns: &Patterns) -> Option<(Vec<u8>, u64)> {
    masked(text, patterns, Case::Kept)
}

/// A text with `{}` where keys stood, for the log; nothing where there is none.
#[must_use]
pub fn without_keys(text: &str, patterns: &Patterns) -> Option<String> {
    let mut is_key: Option<Vec<bool>> = None;
    patterns.each(text.as_bytes(), Case::Kept, 0, |range| {
        is_key.get_or_insert_with(|| vec![false; text.len()])[range].fill(true);
    });
    let is_key = is_key?;
    let mut kept = Vec::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        if !is_key[at] {
            kept.push(byte);
        } else if at == 0 || !is_key[at - 1] {
            kept.extend_from_slice(b"{}");
        }
    }
    Some(String::from_utf8_lossy(&kept).into_owned())
}

/// Header names arrive in lower case, so a key in one has lost its case.
fn scrub_name(name: &HeaderName, patterns: &Patterns) -> Option<Vec<u8>> {
    masked(name.as_str().as_bytes(), patterns, Case::Lost).map(|(clean, _)| clean)
}

fn masked(text: &[u8], patterns: &Patterns, case: Case) -> Option<(Vec<u8>, u64)> {
    let mut clean: Option<Vec<u8>> = None;
    let mut count = 0;
    patterns.each(text, case, 0, |range| {
        clean.get_or_insert_with(|| text.to_vec())[range].fill(MASK);
        count += 1;
    });
    clean.map(|clean| (clean, count))
}

#[cfg(test)]
mod tests {
    use super::super::patterns::fixture::patterns;
    use super::*;

    const KEY: &str = "sk-Test-4f8a9b2c1d0e7f6a5b4c3d2e";

    #[test]
    fn values_and_names_are_masked_and_order_is_kept() {
        let patterns = patterns(&[KEY.as_bytes()], "sk-");
        let mut fields = HeaderMap::new();
        fields.append("x-echo", HeaderValue::from_str(&format!("a {KEY} b {KEY}")).expect("a value"));
        fields.append("x-echo", HeaderValue::from_static("second"));
        let name = HeaderName::from_bytes(format!("x-{KEY}-y").as_bytes()).expect("a name");
        fields.append(name, HeaderValue::from_static("v"));
        assert_eq!(scrub_fields(&mut fields, &patterns), 3);
        let mask = "*".repeat(KEY.len());
        let echoes: Vec<_> = fields.get_all("x-echo").iter().map(|value| value.to_str().expect("text")).collect();
        assert_eq!(echoes, [format!("a {mask} b {mask}").as_str(), "second"]);
        assert_eq!(fields.get(format!("x-{mask}-y").as_str()).map(HeaderValue::as_bytes), Some(&b"v"[..]));
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn the_log_has_braces_where_keys_stood() {
        let patterns = patterns(&[KEY.as_bytes()], "sk-");
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("/v1/{KEY}/a{KEY}{KEY}/{hex}");
        let kept = without_keys(&text, &patterns).expect("there are keys");
        assert!(kept.starts_with("/v1/{}/a{}") && kept.ends_with("/{}") && kept.len() < 20, "{kept}");
        assert_eq!(without_keys("/v1/models/sk-Test", &patterns), None);
    }

    #[test]
    fn other_fields_are_left_alone() {
        let patterns = patterns(&[KEY.as_bytes()], "sk-");
        let mut fields = HeaderMap::new();
        fields.insert("x-other", HeaderValue::from_static("sk-Test-4f8a9b2c1d0e7f6a5b4c3d2"));
        let before = fields.clone();
        assert_eq!(scrub_fields(&mut fields, &patterns), 0);
        assert_eq!(fields, before);
    }
}
