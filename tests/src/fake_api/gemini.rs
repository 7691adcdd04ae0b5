//! Google Gemini: `generateContent` and `streamGenerateContent`.

use std::io;

use serde_json::{Value, json};

use super::{Call, Event, Provider, WORDS, text};

/// Gemini.
pub const GEMINI: Provider = Provider {
    host: "generativelanguage.googleapis.com",
    name: "google",
    sites: &["--provider", "google"],
    key_prefix: "AIzaSy",
    positions: &[("x-goog-api-key", "")],
    answer,
    error: |status, words| {
        let name = if status == 401 { "UNAUTHENTICATED" } else { "RESOURCE_EXHAUSTED" };
        json!({ "error": { "code": status, "message": words, "status": name } })
    },
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    match (method.as_str(), path.rsplit(':').next().unwrap_or_default()) {
        ("POST", "generateContent") => call.reply(&part(&text(), true)),
        ("POST", "streamGenerateContent") => {
            let words = WORDS.iter().map(|word| Event::data(&part(word, false)).then_wait());
            let events: Vec<_> = words.chain([Event::data(&part("", true))]).collect();
            call.stream(&events)
        }
        _ => call.not_found(),
    }
}

fn part(text: &str, is_last: bool) -> Value {
    let mut candidate = json!({ "content": { "role": "model", "parts": [{ "text": text }] }, "index": 0 });
    if is_last {
        candidate["finishReason"] = json!("STOP");
    }
    json!({
        "candidates": [candidate], "modelVersion": "gemini-fake",
        "usageMetadata": { "promptTokenCount": 5, "candidatesTokenCount": 6, "totalTokenCount": 11 }
    })
}
