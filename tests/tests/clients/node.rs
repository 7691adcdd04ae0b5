//! Node: `openai`, `@anthropic-ai/sdk`, `@google/genai`.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::anthropic::ANTHROPIC;
use strongroom_tests::fake_api::gemini::GEMINI;
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

pub const USE_GEMINI: Library = Library {
    provider: GEMINI,
    script: |arguments| Builder::node("use_gemini.cjs", arguments),
    base_url: Some(("GOOGLE_GEMINI_BASE_URL", "")),
    // It takes this one where both of the provider's are set.
    key: "GOOGLE_API_KEY",
    calls: &[("generate", &["Keys are kept in strong rooms."])],
    streams: &["generate_stream"],
    errors: Errors { unauthorized: "ApiError", forbidden: "ApiError", limited: "ApiError", unavailable: "ApiError" },
};

library!(openai, USE_OPENAI, streaming);
library!(anthropic, USE_ANTHROPIC, streaming);
library!(gemini, USE_GEMINI, streaming);
