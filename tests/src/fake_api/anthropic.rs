//! Anthropic: messages, whole and streamed, counting tokens, and the `HEAD /` with which Claude Code begins.

use std::io;

use serde_json::{Value, json};

use super::{Call, Event, Provider, WORDS, text};

/// Anthropic.
pub const ANTHROPIC: Provider = Provider {
    host: "api.anthropic.com",
    name: "anthropic",
    sites: &["--provider", "anthropic"],
    key_prefix: "sk-ant-api03-",
    positions: &[("x-api-key", ""), ("authorization", "Bearer ")],
    answer,
    error: |status, words| {
        let kind = if status == 401 { "authentication_error" } else { "rate_limit_error" };
        json!({ "type": "error", "error": { "type": kind, "message": words }, "request_id": "req_fake" })
    },
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    let request = call.json();
    let model = request["model"].as_str().unwrap_or("claude-fake").to_owned();
    match (method.as_str(), path.as_str(), request["stream"] == true) {
        ("HEAD", "/", _) => call.exchange.respond("200 OK", &[], b""),
        ("POST", "/v1/messages/count_tokens", _) => call.reply(&json!({ "input_tokens": 5 })),
        ("POST", "/v1/messages", false) => {
            let content = json!([{ "type": "text", "text": text() }]);
            call.reply(&message(&model, &content, json!("end_turn")))
        }
        ("POST", "/v1/messages", true) => call.stream(&events(&model)),
        _ => call.not_found(),
    }
}

fn message(model: &str, content: &Value, stop: Value) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop, "stop_sequence": null, "usage": { "input_tokens": 5, "output_tokens": 6 }
    })
}

fn events(model: &str) -> Vec<Event> {
    let mut events = vec![
        Event::named(&json!({ "type": "message_start", "message": message(model, &json!([]), Value::Null) })),
        Event::named(&json!({
            "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" }
        })),
        Event::named(&json!({ "type": "ping" })),
    ];
    events.extend(WORDS.iter().map(|word| {
        let delta = json!({ "type": "text_delta", "text": word });
        Event::named(&json!({ "type": "content_block_delta", "index": 0, "delta": delta })).then_wait()
    }));
    events.push(Event::named(&json!({ "type": "content_block_stop", "index": 0 })));
    events.push(Event::named(&json!({
        "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null },
        "usage": { "output_tokens": 6 }
    })));
    events.push(Event::named(&json!({ "type": "message_stop" })));
    events
}
