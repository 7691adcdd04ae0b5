//! Node: the providers' libraries, and those that only speak HTTP.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::openai::OPENAI;

use crate::library::{Errors, Library};
use crate::node::{USE_ANTHROPIC, USE_GEMINI, USE_OPENAI};

/// One that only speaks HTTP: its two actions.
macro_rules! http {
    ($call:literal, $stream:literal) => {
        Library {
            provider: OPENAI,
            script: |arguments| Builder::node("use_http.cjs", arguments),
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
library!(fetch, http!("fetch", "fetch_stream"), streaming);
library!(https, http!("https", "https_stream"), streaming);
library!(undici, http!("undici", "undici_stream"), streaming);
library!(axios, http!("axios", "axios_stream"), streaming);
