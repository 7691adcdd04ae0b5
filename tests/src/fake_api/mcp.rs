//! A server of the Model Context Protocol over streamable HTTP: two tools, one of which tells its progress.

use std::io;

use serde_json::{Value, json};

use super::{Call, Event, Provider, WORDS, text};

/// The server, which takes its key in a header field of its own.
pub const MCP: Provider = Provider {
    host: "mcp.tools.example",
    name: "mcp-key",
    sites: &["--host", "mcp.tools.example", "--header", "x-mcp-key: {}"],
    key_prefix: "mcp_",
    positions: &[("x-mcp-key", "")],
    answer,
    error: |status, words| json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000 - i64::from(status), "message": words } }),
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    if path != "/mcp" {
        return call.not_found();
    }
    let request = call.json();
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    match (method.as_str(), request["method"].as_str().unwrap_or_default(), &request["params"]["name"]) {
        // It has nothing to say by itself, and keeps no session.
        ("GET" | "DELETE", ..) => call.exchange.respond("405 Method Not Allowed", &[("allow", "POST")], b""),
        ("POST", "initialize", _) => call.reply(&result(json!({
            "protocolVersion": request["params"]["protocolVersion"], "capabilities": { "tools": {} },
            "serverInfo": { "name": "tools", "version": "1" }
        }))),
        ("POST", "tools/list", _) => {
            let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
            call.reply(&result(json!({ "tools": [tool("where"), tool("tell")] })))
        }
        ("POST", "tools/call", name) => {
            let answer = result(json!({ "content": [{ "type": "text", "text": text() }], "isError": false }));
            if name != "tell" {
                return call.reply(&answer);
            }
            let token = &request["params"]["_meta"]["progressToken"];
            let progress = |(word, number): (&&str, usize)| {
                let params = json!({ "progressToken": token, "progress": number, "message": word });
                let event = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
                Event::raw(&format!("event: message\ndata: {event}\n\n")).then_wait()
            };
            let mut events: Vec<_> = WORDS.iter().zip(1..).map(progress).collect();
            events.push(Event::raw(&format!("event: message\ndata: {answer}\n\n")));
            call.stream(&events)
        }
        // A notification.
        ("POST", ..) if request["id"].is_null() => call.exchange.respond("202 Accepted", &[], b""),
        _ => call.not_found(),
    }
}
