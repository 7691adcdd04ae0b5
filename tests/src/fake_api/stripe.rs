//! Stripe: a form in, an object out, and a list in pages, which is what its clients stream.

use std::io;

use serde_json::{Value, json};

use super::{Call, Provider};

/// Stripe.
pub const STRIPE: Provider = Provider {
    host: "api.stripe.com",
    name: "stripe",
    sites: &["--provider", "stripe"],
    key_prefix: "sk_test_",
    positions: &[("authorization", "Bearer ")],
    answer,
    error: |status, words| {
        let kind = if status == 401 { "invalid_request_error" } else { "api_error" };
        json!({ "error": { "type": kind, "message": words } })
    },
};

fn answer(call: &mut Call<'_, '_>) -> io::Result<()> {
    let (method, path) = call.endpoint();
    let target = call.exchange.head().target().to_owned();
    match (method.as_str(), path.as_str()) {
        ("POST", "/v1/customers") => {
            let form = String::from_utf8_lossy(&call.body).into_owned();
            let email = form.strip_prefix("email=").unwrap_or(&form).replace("%40", "@");
            call.reply(&customer("cus_1", &email))
        }
        ("GET", "/v1/customers") => {
            let is_second = target.contains("starting_after=cus_2");
            let ids: &[&str] = if is_second { &["cus_3"] } else { &["cus_1", "cus_2"] };
            let data: Vec<_> = ids.iter().map(|id| customer(id, "a@example.com")).collect();
            call.reply(&json!({ "object": "list", "url": "/v1/customers", "has_more": !is_second, "data": data }))
        }
        _ => call.not_found(),
    }
}

fn customer(id: &str, email: &str) -> Value {
    json!({ "id": id, "object": "customer", "email": email, "livemode": false, "metadata": {} })
}
