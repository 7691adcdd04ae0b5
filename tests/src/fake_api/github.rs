//! GitHub: who the token belongs to, and a list of issues in pages.

use std::io;

use serde_json::{Value, json};

use super::{Call, Provider};

/// GitHub.
pub const GITHUB: Provider = Provider {
    host: "api.github.com",
    name: "github",
    sites: &["--provider", "github"],
    key_prefix: "github_pat_",
    positions: &[("authorization", "Bearer "), ("authorization", "token ")],
    answer,
    error: |_, words| json!({ "message": words, "documentation_url": "https://docs.github.com/rest" }),
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    let target = call.exchange.head().target().to_owned();
    match (method.as_str(), path.as_str()) {
        ("GET", "/user") => call.reply(&json!({ "login": "bot", "id": 1, "url": "https://api.github.com/users/bot" })),
        ("GET", "/repos/agent/lib/issues") if target.contains("page=2") => call.reply(&json!([issue(2, "second")])),
        ("GET", "/repos/agent/lib/issues") => {
            let next = "<https://api.github.com/repos/agent/lib/issues?page=2>; rel=\"next\"";
            let fields = [("content-type", "application/json"), ("link", next)];
            call.exchange.respond("200 OK", &fields, json!([issue(1, "first")]).to_string().as_bytes())
        }
        _ => call.not_found(),
    }
}

fn issue(number: u64, title: &str) -> Value {
    let url = format!("https://api.github.com/repos/agent/lib/issues/{number}");
    json!({ "number": number, "id": number, "title": title, "state": "open", "url": url })
}
