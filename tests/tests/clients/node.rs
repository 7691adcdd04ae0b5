//! Node: `openai`, `@anthropic-ai/sdk`.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::anthropic::ANTHROPIC;
use strongroom_tests::fake_api::openai::OPENAI;

use crate::library::{Errors, Library};

pub const USE_OPENAI: Library = Library {
    provider: OPENAI,
    script: |arguments| Builder::node("use_openai.cjs", arguments),
    base_url: Some(("OPENAI_BASE_URL", "/v1")),
    key: "OPENAI_API_KEY",
    calls: &[("chat", &["Keys are kept in strong rooms."]), ("responses", &["Keys are kept in strong rooms."])],
    streams: &["chat_stream", "responses_stream"],
    errors: Errors::OF_OPENAI,
};

pub const USE_ANTHROPIC: Library = Library {
    provider: ANTHROPIC,
    script: |arguments| Builder::node("use_anthropic.cjs", arguments),
    base_url: Some(("ANTHROPIC_BASE_URL", "")),
    key: "ANTHROPIC_API_KEY",
    calls: &[("messages", &["Keys are kept in strong rooms."])],
    streams: &["messages_stream"],
    errors: Errors::OF_ANTHROPIC,
};

library!(openai, USE_OPENAI, streaming);
library!(anthropic, USE_ANTHROPIC, streaming);
