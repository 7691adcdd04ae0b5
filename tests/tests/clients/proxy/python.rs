//! Python: the providers' libraries, and those that only speak HTTP.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::github::GITHUB;
use strongroom_tests::fake_api::openai::OPENAI;

use crate::library::{Errors, Library};
use crate::python::{USE_ANTHROPIC, USE_GEMINI, USE_LANGCHAIN, USE_OPENAI, USE_SLACK, USE_STRIPE};

const USE_GITHUB: Library = Library {
    provider: GITHUB,
    script: |arguments| Builder::python("use_github.py", arguments),
    base_url: None,
    key: "GITHUB_TOKEN",
    calls: &[("user", &["bot"]), ("issues", &["first", "second"])],
    streams: &[],
    errors: Errors {
        unauthorized: "BadCredentialsException",
        forbidden: "GithubException",
        limited: "RateLimitExceededException",
        unavailable: "GithubException",
    },
};

/// One that only speaks HTTP: its two actions.
macro_rules! http {
    ($call:literal, $stream:literal) => {
        Library {
            provider: OPENAI,
            script: |arguments| Builder::python("use_http.py", arguments),
            base_url: None,
            key: "OPENAI_API_KEY",
            calls: &[($call, &["Keys are kept in strong rooms."])],
            streams: &[$stream],
            errors: Errors::OF_OUR_SCRIPTS,
        }
    };
}

library!(openai, USE_OPENAI, streaming);
library!(anthropic, USE_ANTHROPIC, streaming);
library!(gemini, USE_GEMINI, streaming);
library!(stripe, USE_STRIPE);
library!(slack, USE_SLACK);
library!(github, USE_GITHUB);
library!(langchain, USE_LANGCHAIN, streaming);
wordless!(mcp, crate::python::USE_MCP, Proxy, every_event_arrives_before_the_next_is_sent: streams);
wordless!(bedrock, crate::python::USE_BEDROCK, Proxy, every_event_arrives_in_its_time: streams_in_its_time);
library!(requests, http!("requests", "requests_stream"), streaming);
library!(httpx, http!("httpx", "httpx_stream"), streaming);
library!(aiohttp, http!("aiohttp", "aiohttp_stream"), streaming);
library!(urllib, http!("urllib", "urllib_stream"), streaming);
