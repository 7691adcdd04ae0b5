//! Amazon Bedrock: `Converse`, `ConverseStream` and `InvokeModel`, with a bearer token.

use std::io;

use serde_json::{Value, json};

use super::{Call, Event, Provider, WORDS, text};

/// Bedrock. There is no provider of this name; the credential is named like the variable in which clients look.
pub const BEDROCK: Provider = Provider {
    host: "bedrock-runtime.us-east-1.amazonaws.com",
    name: "aws-bearer-token-bedrock",
    sites: &["--host", "bedrock-runtime.us-east-1.amazonaws.com", "--bearer"],
    key_prefix: "ABSK",
    positions: &[("authorization", "Bearer ")],
    answer,
    error: |_, words| json!({ "message": words }),
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    match (method.as_str(), path.as_str()) {
        ("POST", "/model/fake.model/converse") => call.reply(&json!({
            "output": { "message": { "role": "assistant", "content": [{ "text": text() }] } },
            "stopReason": "end_turn", "metrics": { "latencyMs": 1 },
            "usage": { "inputTokens": 5, "outputTokens": 6, "totalTokens": 11 }
        })),
        ("POST", "/model/fake.model/converse-stream") => {
            let delta = |word: &&str| json!({ "contentBlockIndex": 0, "delta": { "text": word } });
            let words = WORDS.iter().map(|word| message("contentBlockDelta", &delta(word)).then_wait());
            let mut events = vec![message("messageStart", &json!({ "role": "assistant" }))];
            events.extend(words);
            events.push(message("contentBlockStop", &json!({ "contentBlockIndex": 0 })));
            events.push(message("messageStop", &json!({ "stopReason": "end_turn" })));
            call.stream_as("application/vnd.amazon.eventstream", &events)
        }
        ("POST", "/model/fake.model/invoke") => call.reply(&json!({ "completion": text() })),
        _ => call.not_found(),
    }
}

/// A message of Amazon's event streams: lengths, header fields and payload, and checksums over them.
fn message(kind: &str, payload: &Value) -> Event {
    let payload = payload.to_string();
    let mut fields = Vec::new();
    for (name, value) in [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")] {
        fields.push(u8::try_from(name.len()).expect("short"));
        fields.extend_from_slice(name.as_bytes());
        // A string.
        fields.push(7);
        fields.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        fields.extend_from_slice(value.as_bytes());
    }
    let number = |length: usize| u32::try_from(length).expect("short").to_be_bytes();
    let mut bytes = [number(16 + fields.len() + payload.len()), number(fields.len())].concat();
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes.extend_from_slice(&fields);
    bytes.extend_from_slice(payload.as_bytes());
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    Event::bytes(bytes)
}

/// As in gzip (RFC 1952, 8).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        // The check value of every table of checksums.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
