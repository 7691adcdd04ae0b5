//! What the vault holds: credentials, agents, grants, the CA keys ever used, the audit key.
//!
//! These records are the body of the vault file, in postcard, and the only place where keys live. Every record carries
//! the generation in which it last changed, so that hosts can later exchange what is newer. Keys are [`Secret`]: they
//! sit in locked pages from the moment they are decoded. It refuses no request and knows no policy; see `policy/`.
//!
//! The file format is this order of fields. A change of it counts `file_format::VERSION` up, and what the version before
//! had stays readable: see `contents_v2.rs` and `contents_v1.rs`; version 3 had the same fields and never a slot.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use strongroom_protocol::admin::{Rate, Rule};
use strongroom_protocol::{HostPattern, Name, Site};

use crate::secret::Secret;

/// The decrypted body. A copy of it shares the keys: a change is made on a copy, and taking access away must never fail
/// for want of locked memory. A key is wiped when the last copy that has it is gone.
#[derive(Clone, Serialize, Deserialize)]
pub struct Contents {
    /// Counts every write of the file; also in the audit log, so that a rolled-back file shows.
    pub generation: u64,
    /// The next unused id, for credentials, agents and grants alike. Never 0.
    pub next_id: u64,
    /// HMAC-SHA256 key of the audit chain, 32 bytes.
    pub audit_key: Rc<Secret>,
    /// Every CA key this vault ever had, newest last. Chains that hold one of them are refused.
    pub ca_keys: Vec<CaKey>,
    /// What is known of the slots that were added, so that a new data key can be wrapped for them.
    pub slots: Vec<SlotRecord>,
    /// By id.
    pub credentials: Vec<Credential>,
    /// By id.
    pub agents: Vec<Agent>,
    /// By id.
    pub grants: Vec<Grant>,
}

/// A P-256 key of our own certificate authority.
#[derive(Clone, Serialize, Deserialize)]
pub struct CaKey {
    /// PKCS #8 document (RFC 5958).
    pub pkcs8: Rc<Secret>,
    /// Uncompressed public point, 65 bytes (SEC 1, 2.3.3).
    pub public_point: Vec<u8>,
    /// When it was made, in seconds of the Unix epoch.
    pub created: u64,
    /// Its own certificate, DER; empty where an older release made the key, until it is wanted.
    pub certificate: Vec<u8>,
}

/// What is known of a slot. The passphrase that the vault was made with has no such record while it is the only one.
#[derive(Clone, Serialize, Deserialize)]
pub struct SlotRecord {
    /// The slot's id in the header.
    pub slot: u32,
    /// When it was added, in seconds of the Unix epoch, where it was not made with the vault.
    pub added: Option<u64>,
    /// The admin who added it.
    pub by: Option<u32>,
    /// Its wrapping key, 32 bytes; none where it is the only passphrase's, which each change of slots brings along.
    pub key: Option<Rc<Secret>>,
}

/// A named secret and where it may go.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credential {
    /// Unique among everything in the vault.
    pub id: u64,
    /// Generation of the last change.
    pub changed: u64,
    /// Unique among credentials that were not removed.
    pub name: Name,
    /// The provider it was made from.
    pub provider: Option<Name>,
    /// Where the key may go.
    pub hosts: Vec<HostPattern>,
    /// In which positions.
    pub sites: Vec<Site>,
    /// First path segment of the base-URL way in.
    pub route: Option<Name>,
    /// DER certificates that are trusted for it in place of the platform's, where there are any.
    pub roots: Vec<Vec<u8>>,
    /// Environment variables in which programs expect this key.
    pub variables: Vec<String>,
    /// How the provider's keys begin; the public part of every key.
    pub key_prefix: String,
    /// Requests that no grant may allow.
    pub deny: Vec<Rule>,
    /// Pass `Set-Cookie` on.
    pub keep_cookies: bool,
    /// Pass `Range` on.
    pub allow_range: bool,
    /// When it was added, in seconds of the Unix epoch.
    pub created: u64,
    /// When it was removed; a tombstone keeps its versions for the scrubber until it is purged.
    pub removed: Option<u64>,
    /// Its last values, oldest first; the last is in use. Never empty unless purged.
    pub versions: Vec<Version>,
    /// Speak HTTP/2 with the upstream.
    pub http2: bool,
    /// SHA-256 of the public keys of which one must stand in the upstream's chain, where there are any.
    pub pins: Vec<[u8; 32]>,
}

/// One value of a credential.
#[derive(Clone, Serialize, Deserialize)]
pub struct Version {
    /// Counts from 1.
    pub number: u32,
    /// When it was added, in seconds of the Unix epoch.
    pub added: u64,
    /// Too short or too guessable to be searched for; taken with `--allow-weak`.
    pub weak: bool,
    /// The key.
    pub value: Rc<Secret>,
}

/// Who may use credentials.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Agent {
    /// Unique among everything in the vault.
    pub id: u64,
    /// Generation of the last change.
    pub changed: u64,
    /// Unique among agents that were not removed.
    pub name: Name,
    /// When it was added, in seconds of the Unix epoch.
    pub created: u64,
    /// When it was revoked.
    pub revoked: Option<u64>,
    /// When it was removed.
    pub removed: Option<u64>,
    /// Users whose processes are this agent.
    pub uids: Vec<u32>,
    /// The systemd unit whose processes are this agent.
    pub unit: Option<String>,
    /// What proves that somebody is this agent. No key of anything else; it is shown again to admins.
    pub token: Option<String>,
    /// Hosts that it may reach without a key.
    pub egress: Vec<HostPattern>,
}

impl Agent {
    /// Whether it is known by something else than its placeholders.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        !self.uids.is_empty() || self.unit.is_some() || self.token.is_some()
    }
}

/// Agent × credential, with limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// Unique among everything in the vault.
    pub id: u64,
    /// Generation of the last change.
    pub changed: u64,
    /// Id of the credential.
    pub credential: u64,
    /// Id of the agent.
    pub agent: u64,
    /// What the agent holds.
    pub placeholder: String,
    /// How often.
    pub rate: Rate,
    /// Only these requests; all, where empty.
    pub allow: Vec<Rule>,
    /// When it was made, in seconds of the Unix epoch.
    pub created: u64,
    /// When it ends by itself.
    pub expires: Option<u64>,
    /// When it was revoked.
    pub revoked: Option<u64>,
    /// The placeholder is the variable's own name, which many may have: it says nothing of who sends it.
    pub named: bool,
}
