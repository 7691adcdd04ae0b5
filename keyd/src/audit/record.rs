//! What one line of the audit log says, as types; the JSON is made here and nowhere else.
//!
//! Three kinds: a request's decision (written before anything is done), its end, and an event of the administration.
//! It refuses free text, but for method, host and path, which the caller has made canonical: the path without its query,
//! and with `{}` where a placeholder or a key stood. Called by `exchange/` and `admin/` (to make records) and
//! `writer.rs` (to encode them).

use std::time::SystemTime;

use serde::Serialize;
use strongroom_protocol::admin::SlotKind;
use strongroom_protocol::{Name, Refusal};

use super::chain::Link;

/// One line, without what the log itself adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// A request came and was decided.
    Request(Request),
    /// An allowed request ended.
    Ended(Ended),
    /// Something was administered, or happened to the log.
    Event(Event),
}

/// The decision on one request; `None` is written as `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Under which gatewayd and the agent know it.
    pub request_id: Option<String>,
    /// Who asked, as far as it is known.
    pub agent: Option<Name>,
    /// What says so.
    pub evidence: Option<Evidence>,
    /// The credential that was used or wanted.
    pub credential: Option<Name>,
    /// Further credentials that the same request used; left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more_credentials: Vec<Name>,
    /// As sent.
    pub method: Option<String>,
    /// Host and port.
    pub host: Option<String>,
    /// Canonical, without the query.
    pub path: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// How many requests this line stands for, where it is not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Request {
    /// A line that stands for several refusals of one agent with one code.
    #[must_use]
    pub fn repeated(agent: Option<Name>, refusal: Refusal, count: u64) -> Self {
        Self {
            request_id: None,
            agent,
            evidence: None,
            credential: None,
            more_credentials: Vec::new(),
            method: None,
            host: None,
            path: None,
            decision: Decision::Refused(refusal),
            count: Some(count),
        }
    }
}

/// How a request's agent is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// The kernel's word on agent.sock.
    Socket,
    /// A token that keyd checked.
    Token,
    /// The placeholder alone.
    Placeholder,
    /// gatewayd's word.
    Claimed,
}

/// What was decided on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The key is about to be used.
    Allowed,
    /// It is not.
    Refused(Refusal),
}

impl Serialize for Decision {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Allowed => "allowed",
            Self::Refused(refusal) => refusal.code(),
        })
    }
}

/// Why an allowed request did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The agent got this in place of an answer, or its answer was cut for it.
    Refused(Refusal),
    /// The agent, or gatewayd for it, hung up before the end.
    HungUp,
}

impl Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Refused(refusal) => refusal.code(),
            Self::HungUp => "hung_up",
        })
    }
}

/// How an allowed request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// The same as in its decision.
    pub request_id: String,
    /// The same as in its decision.
    pub agent: Option<Name>,
    /// The same as in its decision.
    pub credential: Option<Name>,
    /// The same as in its decision.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more_credentials: Vec<Name>,
    /// The upstream's status; none where it did not answer.
    pub status: Option<u16>,
    /// Why it ended without an answer or before its end, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Body bytes from the agent.
    pub bytes_in: u64,
    /// Body bytes to the agent.
    pub bytes_out: u64,
    /// From decision to end.
    pub duration_ms: u64,
    /// How many times a key was masked in the answer.
    pub scrubbed: u64,
    /// What the provider counted; none where nothing is known.
    pub usage: Option<Usage>,
}

/// What a provider counted, by gatewayd's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[allow(dead_code, reason = "filled by metering")]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// Something that was administered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What.
    pub event: EventKind,
    /// By whom, where somebody did it: the admin's uid by the kernel's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The credential or agent that was added, changed or taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// Of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Name>,
    /// The vault's generation after it. One that falls shows a rolled-back vault file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Bytes of a torn line that were cut off, in `audit.recovered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_cut: Option<u64>,
    /// Of a change of the ways to unlock: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// What kind that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_kind: Option<SlotKind>,
    /// What the change of a passphrase was proved with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<SlotKind>,
    /// Lines that are missing, in `audit.gap` and `audit.cut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines_lost: Option<u64>,
    /// The newest generation that the log knew of, in `audit.cut`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_generation: Option<u64>,
}

impl Event {
    /// An event with nothing but its kind.
    #[must_use]
    pub fn new(event: EventKind) -> Self {
        Self {
            event,
            uid: None,
            name: None,
            agent: None,
            credential: None,
            generation: None,
            bytes_cut: None,
            slot: None,
            slot_kind: None,
            proof: None,
            lines_lost: None,
            log_generation: None,
        }
    }

    /// An event that an admin brought about.
    #[must_use]
    pub fn by(event: EventKind, uid: u32) -> Self {
        Self { uid: Some(uid), ..Self::new(event) }
    }

    /// With the vault's generation after it.
    #[must_use]
    pub fn at_generation(self, generation: u64) -> Self {
        Self { generation: Some(generation), ..self }
    }

    /// With the credential or agent that it is about.
    #[must_use]
    pub fn named(self, name: Name) -> Self {
        Self { name: Some(name), ..self }
    }

    /// With the grant that it is about.
    #[must_use]
    pub fn of_grant(self, credential: Name, agent: Name) -> Self {
        Self { credential: Some(credential), agent: Some(agent), ..self }
    }
}

macro_rules! event_kinds {
    ($($variant:ident $text:literal $meaning:literal)*) => {
        /// What can happen beside requests. The texts are part of the outside contract: add, never rename.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventKind {
            $(#[doc = $meaning] $variant,)*
        }

        impl EventKind {
            /// Every kind there is.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it is written.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

event_kinds! {
    VaultUnlock "vault.unlock" "The vault was unlocked."
    VaultLock "vault.lock" "The vault was locked."
    VaultRolledBack "vault.rolled-back" "The vault that was unlocked is older than one that the log knows of."
    VaultGeneration "vault.generation" "Changes that were announced at one time, or one that took two writes, ended with this generation."
    VaultRestore "vault.restore" "A backup took the vault's place."
    SlotAdd "slot.add" "A way to unlock was added."
    SlotRemove "slot.remove" "A way to unlock was removed."
    PassphraseChange "passphrase.change" "A passphrase was changed."
    WrongPassphrase "vault.wrong-passphrase" "A passphrase or other proof did not fit; at a locked vault the line waits for its unlocking."
    CredentialAdd "credential.add" "A credential was added."
    CredentialRotate "credential.rotate" "A credential got a new version."
    CredentialRemove "credential.remove" "A credential was removed and its grants revoked."
    CredentialPurge "credential.purge" "A credential was removed and its values erased."
    AgentAdd "agent.add" "An agent was added."
    AgentRevoke "agent.revoke" "Everything was taken from an agent."
    AgentRemove "agent.remove" "An agent was removed."
    AgentAllow "agent.allow" "An agent may reach further hosts without a key."
    AgentDisallow "agent.disallow" "An agent may reach fewer hosts without a key."
    CaRotate "ca.rotate" "A new certificate authority signs for hosts that agents reach through us."
    GrantAdd "grant.add" "A grant was made."
    GrantRevoke "grant.revoke" "A grant was revoked."
    AuditRecovered "audit.recovered" "A torn line at the end of the log was cut off; what it announced was never done."
    AuditGap "audit.gap" "From here on the log could not be written for a while; lines about what happened meanwhile follow late."
    AuditCut "audit.cut" "Lines that were here are missing: the log ends before the vault, or before where keyd left it."
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

/// Appends a record as one line, newline included.
pub fn encode(record: &Record, seq: u64, time: SystemTime, before: &Link, lines: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a> {
        seq: u64,
        time: String,
        chain: String,
        #[serde(flatten)]
        record: &'a Record,
    }
    let time = humantime::format_rfc3339_millis(time).to_string();
    let line = Line { seq, time, chain: before.to_hex(), record };
    // JSON escapes all that is below a space, so no value can break the line.
    serde_json::to_writer(&mut *lines, &line).expect("records have text keys and plain values");
    lines.push(b'\n');
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    pub fn request(id: &str, agent: &str, credential: &str) -> Record {
        Record::Request(Request {
            request_id: Some(id.to_owned()),
            agent: Some(agent.parse().unwrap()),
            evidence: Some(Evidence::Placeholder),
            credential: Some(credential.parse().unwrap()),
            more_credentials: Vec::new(),
            method: Some("POST".to_owned()),
            host: Some("api.example:443".to_owned()),
            path: Some("/v1/chat".to_owned()),
            decision: Decision::Allowed,
            count: None,
        })
    }

    pub fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds) + Duration::from_millis(42)
    }

    fn line(record: &Record) -> String {
        let mut lines = Vec::new();
        encode(record, 7, at(0), &Link::FIRST, &mut lines);
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_decision_has_the_fields_of_the_contract() {
        let zeros = "0".repeat(64);
        assert_eq!(
            line(&request("01J9abcdef", "coder", "openai")),
            format!(
                "{{\"seq\":7,\"time\":\"2023-11-14T22:13:20.042Z\",\"chain\":\"{zeros}\",\"request_id\":\"01J9abcdef\",\
                 \"agent\":\"coder\",\"evidence\":\"placeholder\",\"credential\":\"openai\",\"method\":\"POST\",\
                 \"host\":\"api.example:443\",\"path\":\"/v1/chat\",\"decision\":\"allowed\"}}\n"
            )
        );
    }

    #[test]
    fn a_refusal_without_agent_says_null() {
        let mut record = Request::repeated(None, Refusal::UnknownPlaceholder, 12);
        record.path = Some("/\n\"".to_owned());
        let text = line(&Record::Request(record));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["agent"], serde_json::Value::Null);
        assert_eq!(
            (&json["decision"], &json["count"], &json["path"]),
            (&"unknown_placeholder".into(), &12.into(), &"/\n\"".into())
        );
        assert_eq!(text.matches('\n').count(), 1, "a value cannot break the line");
    }

    #[test]
    fn an_end_and_an_event_are_records_too() {
        let ended = Record::Ended(Ended {
            request_id: "01J9abcdef".to_owned(),
            agent: None,
            credential: None,
            more_credentials: Vec::new(),
            status: Some(200),
            failure: None,
            bytes_in: 1,
            bytes_out: 2,
            duration_ms: 3,
            scrubbed: 4,
            usage: Some(Usage { input_tokens: 5, output_tokens: 6 }),
        });
        let json: serde_json::Value = serde_json::from_str(&line(&ended)).unwrap();
        for (field, value) in [("status", 200), ("bytes_in", 1), ("bytes_out", 2), ("duration_ms", 3), ("scrubbed", 4)]
        {
            assert_eq!(json[field], value, "{field}");
        }
        assert_eq!(json["usage"]["output_tokens"], 6);
        assert!(json.get("failure").is_none());

        let event = Event::by(EventKind::GrantAdd, 1000)
            .of_grant("openai".parse().unwrap(), "coder".parse().unwrap())
            .at_generation(9);
        let json: serde_json::Value = serde_json::from_str(&line(&Record::Event(event))).unwrap();
        assert_eq!((&json["event"], &json["uid"], &json["generation"]), (&"grant.add".into(), &1000.into(), &9.into()));
        assert_eq!((&json["credential"], &json["agent"]), (&"openai".into(), &"coder".into()));
        assert!(json.get("name").is_none());
    }

    #[test]
    fn event_texts_are_distinct() {
        for (index, kind) in EventKind::ALL.iter().enumerate() {
            assert!(EventKind::ALL[..index].iter().all(|other| other.text() != kind.text()));
            assert!(kind.text().contains('.'));
        }
    }
}
