//! Slack: `auth.test`, `chat.postMessage`, and history in pages.

use std::io;

use serde_json::json;

use super::{Call, Provider};

/// Slack.
pub const SLACK: Provider = Provider {
    host: "slack.com",
    name: "slack",
    sites: &["--provider", "slack"],
    key_prefix: "xoxb-",
    positions: &[("authorization", "Bearer ")],
    answer,
    error: |status, words| {
        let code = if status == 401 { "invalid_auth" } else { "ratelimited" };
        json!({ "ok": false, "error": code, "detail": words })
    },
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (_, path) = call.endpoint();
    let request = format!("{} {}", call.exchange.head().target(), String::from_utf8_lossy(&call.body));
    match path.as_str() {
        "/api/auth.test" => call.reply(&json!({ "ok": true, "user": "bot", "team": "tests" })),
        "/api/chat.postMessage" => {
            let text = call.json()["text"].clone();
            call.reply(&json!({ "ok": true, "channel": "C1", "ts": "1.1", "message": { "text": text } }))
        }
        "/api/conversations.history" => {
            let (text, next) = if request.contains("page2") { ("second", "") } else { ("first", "page2") };
            let metadata = json!({ "next_cursor": next });
            call.reply(&json!({ "ok": true, "messages": [{ "text": text }], "response_metadata": metadata }))
        }
        _ => call.not_found(),
    }
}
