//! OpenAI: chat completions and responses, whole and streamed, and the list of models.

use std::io;

use serde_json::{Value, json};

use super::{Call, Event, Provider, WORDS, text};

/// OpenAI.
pub const OPENAI: Provider = Provider {
    host: "api.openai.com",
    name: "openai",
    sites: &["--provider", "openai"],
    key_prefix: "sk-proj-",
    positions: &[("authorization", "Bearer ")],
    answer,
    error: |status, words| {
        let code = if status == 401 { "invalid_api_key" } else { "rate_limit_exceeded" };
        json!({ "error": { "message": words, "type": "invalid_request_error", "param": null, "code": code } })
    },
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    let is_stream = call.json()["stream"] == true;
    match (method.as_str(), path.as_str(), is_stream) {
        ("GET", "/v1/models", _) => call.reply(&json!({ "object": "list", "data": [
            { "id": "gpt-fake", "object": "model", "created": 1, "owned_by": "tests" }
        ]})),
        ("POST", "/v1/chat/completions", false) => call.reply(&completion()),
        ("POST", "/v1/chat/completions", true) => call.stream(&chunks()),
        ("POST", "/v1/responses", false) => call.reply(&response("completed", &text())),
        ("POST", "/v1/responses", true) => call.stream(&response_events()),
        _ => call.not_found(),
    }
}

fn completion() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-fake",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": { "role": "assistant", "content": text(), "refusal": null }
        }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11 }
    })
}

fn chunks() -> Vec<Event> {
    let chunk = |delta: Value, finish: Value| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-fake",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }]
        })
    };
    let mut events = vec![Event::data(&chunk(json!({ "role": "assistant", "content": "" }), Value::Null))];
    let words = WORDS.iter().map(|word| Event::data(&chunk(json!({ "content": word }), Value::Null)).then_wait());
    events.extend(words);
    events.push(Event::data(&chunk(json!({}), json!("stop"))));
    events.push(Event::raw("data: [DONE]\n\n"));
    events
}

fn response(status: &str, text: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text, "annotations": [] });
    let item = json!({ "type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": [part] });
    let output = if text.is_empty() { json!([]) } else { json!([item]) };
    json!({
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "gpt-fake",
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true,
        "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "output": output,
        "usage": {
            "input_tokens": 5, "output_tokens": 6, "total_tokens": 11,
            "input_tokens_details": { "cached_tokens": 0 }, "output_tokens_details": { "reasoning_tokens": 0 }
        }
    })
}

fn response_events() -> Vec<Event> {
    let at = |kind: &str, number: usize, more: Value| {
        let mut event = json!({
            "type": kind, "sequence_number": number, "item_id": "msg_1", "output_index": 0, "content_index": 0
        });
        event.as_object_mut().into_iter().for_each(|event| event.extend(more.as_object().cloned().unwrap_or_default()));
        event
    };
    let item = json!({ "type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": [] });
    let part = json!({ "type": "output_text", "text": "", "annotations": [] });
    let mut events = vec![
        Event::named(&at("response.created", 0, json!({ "response": response("in_progress", "") }))),
        Event::named(&at("response.output_item.added", 1, json!({ "item": item }))),
        Event::named(&at("response.content_part.added", 2, json!({ "part": part }))),
    ];
    events.extend(WORDS.iter().zip(3..).map(|(word, number)| {
        Event::named(&at("response.output_text.delta", number, json!({ "delta": word, "logprobs": [] }))).then_wait()
    }));
    let next = 3 + WORDS.len();
    events.push(Event::named(&at("response.output_text.done", next, json!({ "text": text(), "logprobs": [] }))));
    let whole = response("completed", &text());
    // Codex takes its answer from this one.
    let item = json!({ "item": whole["output"][0] });
    events.push(Event::named(&at("response.output_item.done", next + 1, item)));
    events.push(Event::named(&at("response.completed", next + 2, json!({ "response": whole }))));
    events
}
