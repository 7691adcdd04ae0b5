//! `ca ...`: the certificate authority that signs for hosts whose connections are intercepted. Its key stays in keyd.

use serde_json::{Value, json};
use strongroom_protocol::admin::{CaView, Operation, Reply};

use super::Context;
use crate::admin_client::unexpected;
use crate::args::Ca;
use crate::error::Outcome;
use crate::{certificates, output};

pub fn run(context: &Context, command: &Ca) -> Outcome<()> {
    let mut client = context.connect()?;
    match command {
        Ca::Show(json) => {
            let Reply::Authorities(all) = client.ask(Operation::CaShow)? else { return Err(unexpected()) };
            if json.json {
                return output::json(&to_json(&all));
            }
            // The last one signs.
            let newest = all.last().ok_or_else(unexpected)?;
            output::line(certificates::to_pem(&newest.certificate).trim_end())
        }
        Ca::Rotate => {
            context.confirm(
                "Make a new certificate authority, so that programs that run now trust the gateway no more?",
            )?;
            context.widen(&mut client, Operation::CaRotate)?;
            output::note(
                "Programs that were started before have to be started again with 'strongroom run', or with what 'strongroom env' prints now.",
            );
            Ok(())
        }
    }
}

fn to_json(all: &[CaView]) -> Value {
    let one = |(index, ca): (usize, &CaView)| {
        json!({
            "created": output::time(ca.created),
            "sha256": certificates::fingerprint(&ca.certificate),
            "signs": index + 1 == all.len(),
            "pem": certificates::to_pem(&ca.certificate),
        })
    };
    all.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_shown_and_the_last_signs() {
        let all = [(1, 10), (2, 20)].map(|(byte, created)| CaView { certificate: vec![byte; 60], created });
        let value = to_json(&all);
        assert_eq!((&value[0]["signs"], &value[1]["signs"]), (&json!(false), &json!(true)));
        assert_eq!(value[1]["created"], "1970-01-01T00:00:20Z");
        assert_eq!(value[1]["sha256"].as_str().unwrap().len(), 64);
        assert!(value[1]["pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    }
}
