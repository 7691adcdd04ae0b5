//! `audit` and `audit verify`: who used what, and whether the record was touched.

use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use strongroom_protocol::admin::{Operation, Reply};

use super::Context;
use crate::admin_client::{AdminClient, unexpected};
use crate::args::{Audit, AuditCommand, Verify};
use crate::checkpoint::Checkpoint;
use crate::error::{CtlError, FAILED, Outcome};
use crate::output::{self, Reader};

pub fn run(context: &Context, audit: Audit) -> Outcome<u8> {
    let chooses = audit.agent.is_some() || audit.credential.is_some() || audit.since.is_some() || audit.follow;
    match audit.command {
        Some(AuditCommand::Verify(_)) if chooses => Err(CtlError::usage(
            "'audit verify' looks at every line: --agent, --credential, --since and --follow are for 'strongroom audit' alone.",
        )),
        Some(AuditCommand::Verify(mut verify)) => {
            verify.json.json |= audit.json.json;
            check(context, &verify)
        }
        None => show(context, audit).map(|()| 0),
    }
}

fn show(context: &Context, audit: Audit) -> Outcome<()> {
    let mut client = context.connect()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = audit.since.map(|ago| now.saturating_sub(ago).as_secs());
    let (mut from, mut nothing) = (0, true);
    loop {
        let operation =
            Operation::AuditRead { from, since, agent: audit.agent.clone(), credential: audit.credential.clone() };
        let Reply::Audit { lines, next, end } = client.ask(operation)? else { return Err(unexpected()) };
        nothing &= lines.is_empty();
        for line in &lines {
            let shown = if audit.json.json { output::escaped(line) } else { output::printable(&readable(line)) };
            if output::one_of_many(&shown)? == Reader::Gone {
                return Ok(());
            }
        }
        if end && !audit.follow {
            if nothing {
                output::note("No line matches.");
            }
            return Ok(());
        }
        if (end || next == from) && output::wait_while_read(POLL) == Reader::Gone {
            return Ok(());
        }
        from = next;
    }
}

fn check(context: &Context, verify: &Verify) -> Outcome<u8> {
    let mut client = context.connect()?;
    let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let (mut lines, mut from) = (0, 0);
    let last = loop {
        let Reply::AuditVerified(verified) = client.ask(Operation::AuditVerify { from })? else {
            return Err(unexpected());
        };
        lines += verified.lines;
        bar.set_message(format!("{lines} lines"));
        bar.tick();
        if verified.end || verified.broken_at.is_some() || verified.next <= from {
            break verified;
        }
        from = verified.next;
    };
    bar.finish_and_clear();
    let reached = Checkpoint { seq: last.next.saturating_sub(1), chain: last.chain };
    let goes_on = match &verify.checkpoint {
        Some(kept) if last.broken_at.is_none() => Some(goes_on_from(&mut client, kept, &reached)?),
        _ => None,
    };
    if verify.json.json {
        // Nobody is to keep one of a log that does not hold.
        let checkpoint = last.broken_at.is_none().then(|| to_json(&reached, last.next));
        let mut shown = json!({ "lines": lines, "broken_at": last.broken_at, "checkpoint": checkpoint });
        if verify.checkpoint.is_some() {
            shown["goes_on_from_checkpoint"] = json!(goes_on);
        }
        output::json(&shown)?;
    }
    if let Some(seq) = last.broken_at {
        // With another key no line fits the one before it, and the first has none before it.
        let other = if seq <= 2 {
            " Where a vault was made anew over the log of an older one, which only that one fits, it is that."
        } else {
            ""
        };
        output::note(&format!(
            "strongroom: the audit log does not fit its chain from line {seq} on: somebody changed it, or the disk did.{other} Lines before it hold; keep the files and find out who."
        ));
        return Ok(FAILED);
    }
    if goes_on == Some(false) {
        output::note(&format!(
            "strongroom: the audit log is not the one of this checkpoint: its {} lines hold, but what was line {} is not among them. Lines were cut off, or an older log was put in its place; keep the files and find out who.",
            reached.seq,
            verify.checkpoint.as_ref().map_or(0, |kept| kept.seq)
        ));
        return Ok(FAILED);
    }
    if !verify.json.json {
        output::line(&format!("{lines} lines hold. Checkpoint, to be kept elsewhere: {reached}"))?;
    }
    Ok(0)
}

/// `next` is the number that the line after it will have; `text` is what `--checkpoint` takes.
fn to_json(reached: &Checkpoint, next: u64) -> Value {
    json!({ "seq": reached.seq, "next": next, "chain": reached.chain, "text": reached.to_string() })
}

/// Whether the log, which holds up to `reached`, has the line of the checkpoint: the next line carries the chain's value.
fn goes_on_from(client: &mut AdminClient, kept: &Checkpoint, reached: &Checkpoint) -> Outcome<bool> {
    if kept.seq >= reached.seq {
        return Ok(kept == reached);
    }
    let operation = Operation::AuditRead { from: kept.seq + 1, since: None, agent: None, credential: None };
    let Reply::Audit { lines, .. } = client.ask(operation)? else { return Err(unexpected()) };
    let next: Option<Value> = lines.first().and_then(|line| serde_json::from_str(line).ok());
    Ok(next.is_some_and(|next| next["seq"] == kept.seq + 1 && next["chain"] == *kept.chain))
}

/// A record in one line for people.
fn readable(line: &str) -> String {
    let Ok(record) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let text = |name: &str| match &record[name] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    if let Value::String(event) = &record["event"] {
        let about = if record.get("credential").is_some() {
            format!("{} -> {}", text("agent"), text("credential"))
        } else {
            text("name")
        };
        return format!("{}  {event}  {about}", text("time"));
    }
    if record.get("status").is_some() {
        let id = text("request_id");
        let failure = record["failure"].as_str().map(|code| format!("  broken: {code}")).unwrap_or_default();
        return format!(
            "{}  {}  ended  {}  {} ms  {} bytes{}",
            text("time"),
            id,
            text("status"),
            text("duration_ms"),
            text("bytes_out"),
            failure
        );
    }
    if let Some(count) = record["count"].as_u64() {
        return format!("{}  {}  {count} times more  {}", text("time"), text("decision"), text("agent"));
    }
    // A tunnel has no path.
    let what = format!("{} {}{}", text("method"), text("host"), record["path"].as_str().unwrap_or_default());
    format!(
        "{}  {}  {}  {} -> {}  {}",
        text("time"),
        text("request_id"),
        text("decision"),
        text("agent"),
        text("credential"),
        what
    )
}

/// How often `--follow` looks.
const POLL: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_in_json_has_the_text_that_is_taken_back() {
        let reached = Checkpoint { seq: 309, chain: "0f".repeat(32) };
        let shown = to_json(&reached, 310);
        assert_eq!(shown["text"].as_str().unwrap().parse(), Ok(reached.clone()));
        assert_eq!((&shown["seq"], &shown["next"], &shown["chain"]), (&json!(309), &json!(310), &json!(reached.chain)));
    }

    #[test]
    fn records_are_readable_and_garbage_is_shown_as_it_is() {
        let line = r#"{"time":"T","request_id":"r","decision":"allowed","agent":"a","credential":"c","method":"GET","host":"h","path":"/p"}"#;
        assert_eq!(readable(line), "T  r  allowed  a -> c  GET h/p");
        assert_eq!(readable(r#"{"time":"T","event":"vault.unlock"}"#), "T  vault.unlock  -");
        let grant = r#"{"time":"T","event":"grant.add","credential":"c","agent":"a"}"#;
        assert_eq!(readable(grant), "T  grant.add  a -> c");
        let ended =
            r#"{"time":"T","request_id":"r","status":200,"failure":"upstream_protocol","bytes_out":3,"duration_ms":1}"#;
        assert_eq!(readable(ended), "T  r  ended  200  1 ms  3 bytes  broken: upstream_protocol");
        assert_eq!(
            readable(r#"{"time":"T","decision":"bad_request","count":7,"agent":null}"#),
            "T  bad_request  7 times more  -"
        );
        let tunnel = r#"{"time":"T","request_id":"r","decision":"allowed","agent":"a","credential":null,"method":"CONNECT","host":"h","path":null}"#;
        assert_eq!(readable(tunnel), "T  r  allowed  a -> -  CONNECT h");
        assert_eq!(readable("not json"), "not json");
    }
}
