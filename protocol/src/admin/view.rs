//! What keyd shows an admin of its records and of itself.
//!
//! None of these has room for a key; `reply_room.rs` walks them. Fields are numbered by position: append only. Made by
//! keyd's `admin/`, drawn by ctl.

use serde::{Deserialize, Serialize};

use super::{KeyDerivation, Rate, Rule, VaultFault};
use crate::host_pattern::HostPattern;
use crate::name::Name;
use crate::site::Site;

/// One of our certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct CaView {
    /// Its certificate, as DER.
    pub certificate: Vec<u8>,
    /// When its key was made, in seconds of the Unix epoch.
    pub created: u64,
}

/// Placeholders of one agent that came from another since keyd started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Mismatch {
    /// Whose placeholder it was.
    pub agent: Name,
    /// Who sent it, where that was one agent.
    pub by: Option<Name>,
    /// How often.
    pub count: u64,
    /// When last, in seconds of the Unix epoch.
    pub last: u64,
}

/// The state of keyd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Status {
    /// Cargo package version of keyd.
    pub version: String,
    /// Of the vault.
    pub state: VaultState,
    /// keyd's own process.
    pub keyd_pid: u32,
    /// gatewayd's process, by the kernel's word; none where it is not connected.
    pub gatewayd_pid: Option<u32>,
    /// Exchanges under way.
    pub exchanges: u32,
    /// How to derive the proof; none where there is no readable vault.
    pub unlock: Option<KeyDerivation>,
    /// Generation of the vault file; none while locked.
    pub generation: Option<u64>,
    /// Why the audit log cannot be written, where it cannot.
    pub audit_broken: bool,
    /// Placeholders that came from the wrong agent; at most [`MOST_MISMATCHES`].
    pub mismatches: Vec<Mismatch>,
}

/// What can be said of the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
#[serde(rename_all = "kebab-case")]
pub enum VaultState {
    /// There is a file; its keys are not in memory.
    Locked,
    /// Keys are in memory.
    Unlocked,
    /// There is no file.
    Uninitialised,
    /// There is a file that cannot be opened.
    Unusable(VaultFault),
}

/// A credential, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct CredentialView {
    /// Its name.
    pub name: Name,
    /// The provider it was made from.
    pub provider: Option<Name>,
    /// Where the key may go.
    pub hosts: Vec<HostPattern>,
    /// In which positions.
    pub sites: Vec<Site>,
    /// First path segment of the base-URL way in.
    pub route: Option<Name>,
    /// How many roots of its own it has; 0: the platform's.
    pub roots: u32,
    /// Environment variables in which programs expect this key.
    pub variables: Vec<String>,
    /// Requests that no grant may allow.
    pub deny: Vec<Rule>,
    /// Number of the version in use; the first is 1.
    pub version: u32,
    /// When that was added, in seconds of the Unix epoch.
    pub rotated: u64,
    /// When the credential was added, in seconds of the Unix epoch.
    pub created: u64,
    /// Whether responses are searched for it; false for weak keys.
    pub scrubbed: bool,
    /// Grants that are live.
    pub grants: u32,
    /// HTTP/2 is spoken with the upstream.
    pub http2: bool,
    /// SHA-256 of the public keys of which one must stand in the upstream's chain, where there are any.
    pub pins: Vec<[u8; 32]>,
    /// `Set-Cookie` comes down.
    pub keep_cookies: bool,
    /// `Range` goes up.
    pub allow_range: bool,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct AgentView {
    /// Its name.
    pub name: Name,
    /// When it was added, in seconds of the Unix epoch.
    pub created: u64,
    /// When it was revoked, in seconds of the Unix epoch.
    pub revoked: Option<u64>,
    /// Grants that are live.
    pub grants: u32,
    /// Users whose processes are this agent.
    pub uids: Vec<u32>,
    /// The systemd unit whose processes are this agent.
    pub unit: Option<String>,
    /// It has a token.
    pub token: bool,
    /// Hosts that it may reach without a key.
    pub egress: Vec<HostPattern>,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct GrantView {
    /// Its number; also the place in the list.
    pub number: u64,
    /// Of this credential,
    pub credential: Name,
    /// to this agent.
    pub agent: Name,
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
    /// The placeholder is the variable's own name.
    pub named: bool,
    /// Its agent or its credential was removed: whatever has that name now is another.
    pub removed: bool,
}

/// How far the audit chain holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct AuditVerified {
    /// Lines checked in this stretch.
    pub lines: u64,
    /// Ask again from here, where `end` is false.
    pub next: u64,
    /// The last line was reached.
    pub end: bool,
    /// Sequence number of the first line that does not fit, where one does not.
    pub broken_at: Option<u64>,
    /// Chain value after the last line checked, 64 hex digits: a checkpoint to keep elsewhere.
    pub chain: String,
}
