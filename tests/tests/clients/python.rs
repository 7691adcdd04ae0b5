//! Python: `openai`, `anthropic`, `google-genai`, `stripe`, `slack_sdk`, `langchain-openai`, `mcp`, `boto3`.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::anthropic::ANTHROPIC;
use strongroom_tests::fake_api::bedrock::BEDROCK;
use strongroom_tests::fake_api::gemini::GEMINI;
use strongroom_tests::fake_api::mcp::MCP;
use strongroom_tests::fake_api::openai::OPENAI;
use strongroom_tests::fake_api::slack::SLACK;
use strongroom_tests::fake_api::stripe::STRIPE;

use crate::library::{Errors, Library};

pub const USE_OPENAI: Library = Library {
    provider: OPENAI,
    script: |arguments| Builder::python("use_openai.py", arguments),
    base_url: Some(("OPENAI_BASE_URL", "/v1")),
    key: "OPENAI_API_KEY",
    calls: &[
        ("chat", &["Keys are kept in strong rooms."]),
        ("responses", &["Keys are kept in strong rooms."]),
        ("models", &["gpt-fake"]),
    ],
    streams: &["chat_stream", "chat_stream_async", "responses_stream"],
    errors: Errors::OF_OPENAI,
};

pub const USE_ANTHROPIC: Library = Library {
    provider: ANTHROPIC,
    script: |arguments| Builder::python("use_anthropic.py", arguments),
    base_url: Some(("ANTHROPIC_BASE_URL", "")),
    key: "ANTHROPIC_API_KEY",
    calls: &[("messages", &["Keys are kept in strong rooms."]), ("count", &["5"])],
    streams: &["messages_stream"],
    errors: Errors::OF_ANTHROPIC,
};

pub const USE_GEMINI: Library = Library {
    provider: GEMINI,
    script: |arguments| Builder::python("use_gemini.py", arguments),
    base_url: Some(("GOOGLE_GEMINI_BASE_URL", "")),
    // It takes this one where both of the provider's are set.
    key: "GOOGLE_API_KEY",
    calls: &[("generate", &["Keys are kept in strong rooms."])],
    streams: &["generate_stream"],
    errors: Errors {
        unauthorized: "ClientError",
        forbidden: "ClientError",
        limited: "ClientError",
        unavailable: "ServerError",
    },
};

pub const USE_STRIPE: Library = Library {
    provider: STRIPE,
    script: |arguments| Builder::python("use_stripe.py", arguments),
    base_url: Some(("STRIPE_API_BASE", "")),
    key: "STRIPE_API_KEY",
    calls: &[("create", &["a@example.com"]), ("pages", &["cus_1", "cus_2", "cus_3"])],
    streams: &[],
    errors: Errors {
        unauthorized: "AuthenticationError",
        forbidden: "PermissionError",
        limited: "RateLimitError",
        unavailable: "APIError",
    },
};

pub const USE_SLACK: Library = Library {
    provider: SLACK,
    script: |arguments| Builder::python("use_slack.py", arguments),
    base_url: Some(("SLACK_BASE_URL", "/api/")),
    key: "SLACK_BOT_TOKEN",
    calls: &[("test", &["bot"]), ("post", &["Keys are kept."]), ("pages", &["first", "second"])],
    streams: &[],
    errors: Errors {
        unauthorized: "SlackApiError",
        forbidden: "SlackApiError",
        limited: "SlackApiError",
        unavailable: "SlackApiError",
    },
};

pub const USE_LANGCHAIN: Library = Library {
    provider: OPENAI,
    script: |arguments| Builder::python("use_langchain.py", arguments),
    base_url: Some(("OPENAI_BASE_URL", "/v1")),
    key: "OPENAI_API_KEY",
    calls: &[("chat", &["Keys are kept in strong rooms."])],
    streams: &["chat_stream"],
    errors: Errors {
        unauthorized: "OpenAIAuthenticationError",
        forbidden: "OpenAIPermissionDeniedError",
        limited: "OpenAIRateLimitError",
        unavailable: "OpenAIAPIError",
    },
};

pub const USE_MCP: Library = Library {
    provider: MCP,
    script: |arguments| Builder::python("use_mcp.py", arguments),
    base_url: Some(("MCP_URL", "")),
    key: "MCP_KEY",
    calls: &[("tools", &["where", "tell"]), ("call", &["Keys are kept in strong rooms."])],
    streams: &["call_stream"],
    errors: Errors { unauthorized: "MCPError", forbidden: "MCPError", limited: "MCPError", unavailable: "MCPError" },
};

/// With a bearer token. It refuses such a token on `http://`, so there is no base URL.
pub const USE_BEDROCK: Library = Library {
    provider: BEDROCK,
    script: |arguments| Builder::python("use_bedrock.py", arguments),
    base_url: None,
    key: "AWS_BEARER_TOKEN_BEDROCK",
    calls: &[("converse", &["Keys are kept in strong rooms."]), ("invoke", &["Keys are kept in strong rooms."])],
    streams: &["converse_stream"],
    errors: Errors {
        unauthorized: "ClientError",
        forbidden: "ClientError",
        limited: "ClientError",
        unavailable: "ClientError",
    },
};

library!(openai, USE_OPENAI, streaming);
library!(anthropic, USE_ANTHROPIC, streaming);
library!(gemini, USE_GEMINI, streaming);
library!(stripe, USE_STRIPE);
library!(slack, USE_SLACK);
library!(langchain, USE_LANGCHAIN, streaming);
wordless!(mcp, super::USE_MCP, BaseUrl, every_event_arrives_before_the_next_is_sent: streams);
