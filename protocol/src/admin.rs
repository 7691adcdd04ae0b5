//! ctl ↔ keyd over `admin.sock`: one request, one reply.
//!
//! What widens access carries a *proof*: the key that Argon2id derives from the passphrase with the parameters of
//! [`Status::unlock`], computed in ctl. keyd tries it on the vault's slot. What narrows access, and what only shows,
//! needs none. No reply has room for a key: `reply_room.rs` walks the types.
//!
//! Variants and fields are numbered by position: append only.

mod derivation;
mod failure;
mod rule;
mod view;

use serde::{Deserialize, Serialize};

pub use self::derivation::KeyDerivation;
pub use self::failure::{BadHost, BadKey, Failure, Field, Thing, VaultFault};
pub use self::rule::{InvalidRule, Rate, Rule};
pub use self::view::{AgentView, AuditVerified, CaView, CredentialView, GrantView, Mismatch, Status, VaultState};
use crate::check::Check;
use crate::environment::Environment;
use crate::host_pattern::HostPattern;
use crate::name::Name;
use crate::secret_bytes::SecretBytes;
use crate::site::Site;
pub use crate::slot::{MOST_CHANGES, RestoreChange, RestoreKind, RestoreView, SlotKind, SlotView};

/// One request. Neither `Clone` nor `PartialEq`: it may hold secrets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The derived key, 32 bytes, where the operation widens access.
    pub proof: Option<SecretBytes>,
    /// What is asked.
    pub operation: Operation,
}

/// What can be asked. keyd's `admin/dispatch.rs` is the permission table over these.
#[derive(Debug, Serialize, Deserialize)]
pub enum Operation {
    /// Answered by [`Reply::Status`].
    Status,
    /// Open the vault; the proof is the key. Done already is done.
    Unlock,
    /// Wipe keys, cut exchanges.
    Lock,
    /// A new credential.
    CredentialAdd(NewCredential),
    /// Credentials by name, from the first after this one.
    CredentialList {
        /// The last name of the page before.
        after: Option<Name>,
    },
    /// One credential, as a list of one.
    CredentialShow {
        /// Which.
        name: Name,
    },
    /// A new version of a credential's value. Running exchanges keep the old one.
    CredentialRotate {
        /// Which.
        name: Name,
        /// The new value.
        value: SecretBytes,
        /// Take a value that cannot be scrubbed.
        allow_weak: bool,
    },
    /// Tombstone a credential and revoke its grants.
    CredentialRemove {
        /// Which.
        name: Name,
        /// Erase the value too; this cannot be undone and needs the proof.
        purge: bool,
    },
    /// A new agent.
    AgentAdd {
        /// Its name.
        name: Name,
        /// Users whose processes are this agent; at most [`MOST_UIDS`].
        uids: Vec<u32>,
        /// The systemd unit whose processes are this agent.
        unit: Option<String>,
        /// Make a token for it: answered by [`Reply::Token`], else by `Done`.
        token: bool,
    },
    /// Agents by name, from the first after this one.
    AgentList {
        /// The last name of the page before.
        after: Option<Name>,
    },
    /// One agent, as a list of one.
    AgentShow {
        /// Which.
        name: Name,
    },
    /// Take everything from an agent, now.
    AgentRevoke {
        /// Which.
        name: Name,
    },
    /// Revoke and tombstone an agent.
    AgentRemove {
        /// Which.
        name: Name,
    },
    /// A new grant; answered by [`Reply::Placeholder`].
    GrantAdd(NewGrant),
    /// Grants in the order in which they were made, from the first after this number.
    GrantList {
        /// The last number of the page before.
        after: Option<u64>,
    },
    /// Revoke a grant and cut its exchanges.
    GrantRevoke {
        /// Of this credential,
        credential: Name,
        /// to this agent.
        agent: Name,
    },
    /// Audit lines; answered by [`Reply::Audit`].
    AuditRead {
        /// From this sequence number on.
        from: u64,
        /// Not before this time, in seconds of the Unix epoch.
        since: Option<u64>,
        /// Only of this agent.
        agent: Option<Name>,
        /// Only of this credential.
        credential: Option<Name>,
    },
    /// Recompute the audit chain; answered by [`Reply::AuditVerified`] a stretch at a time.
    AuditVerify {
        /// From this sequence number on; 0 at first, then [`AuditVerified::next`].
        from: u64,
    },
    /// Both daemons' account of their cages.
    Doctor,
    /// Hosts that the agent may reach without a key, through a tunnel; added to those it has.
    AgentAllow {
        /// Which agent.
        name: Name,
        /// Which hosts.
        hosts: Vec<HostPattern>,
    },
    /// Take such hosts away and cut tunnels to them.
    AgentDisallow {
        /// Which agent.
        name: Name,
        /// Which hosts, as they were allowed.
        hosts: Vec<HostPattern>,
    },
    /// What the agent's environment is made of; answered by [`Reply::Environment`].
    Environment {
        /// Which agent.
        agent: Name,
        /// Number of the last grant of the page before.
        after: Option<u64>,
    },
    /// The certificates of our certificate authorities; answered by [`Reply::Authorities`].
    CaShow,
    /// Make a new certificate authority; the old ones stay refused for ever.
    CaRotate,
    /// The ways to unlock; answered by [`Reply::Slots`].
    SlotList,
    /// One way more; answered by [`Reply::SlotAdded`].
    SlotAdd {
        /// Where its key comes from. A passphrase's is derived as [`Status::unlock`] says.
        kind: SlotKind,
        /// 32 bytes.
        key: SecretBytes,
    },
    /// One way less; never the last passphrase.
    SlotRemove {
        /// Its number.
        id: u32,
    },
    /// Another passphrase in the place of the one that is the proof, or of all where the proof is a recovery code.
    PassphraseChange {
        /// How the new key was derived; as [`Status::unlock`] says where other passphrases stay.
        derivation: KeyDerivation,
        /// The new derived key, 32 bytes.
        key: SecretBytes,
    },
    /// The vault file as it is, encrypted; answered by [`Reply::VaultFile`].
    Backup,
    /// What restoring this file would change; with the proof, and the key that opens the file. Answered by
    /// [`Reply::Restore`].
    RestoreLook {
        /// A vault file.
        file: Vec<u8>,
        /// The key of one of its slots.
        key: SecretBytes,
    },
    /// Put this file in the vault's place, and lock. Where there is no vault the file's key is proof enough.
    Restore {
        /// A vault file.
        file: Vec<u8>,
        /// The key of one of its slots.
        key: SecretBytes,
    },
    /// How the key of this vault file is derived; answered by [`Reply::Derivation`].
    BackupDerivation {
        /// A vault file.
        file: Vec<u8>,
    },
}

/// A credential to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewCredential {
    /// Its name, unused so far.
    pub name: Name,
    /// The provider it was made from, for people and for `run`.
    pub provider: Option<Name>,
    /// Where the key may go; 1 to [`MOST_HOSTS`].
    pub hosts: Vec<HostPattern>,
    /// In which positions; 1 to [`MOST_SITES`].
    pub sites: Vec<Site>,
    /// First path segment of the base-URL way in; leads to the first exact host.
    pub route: Option<Name>,
    /// Roots for this credential alone, as DER certificates, in place of the platform's; at most [`MOST_ROOTS`].
    pub roots: Vec<Vec<u8>>,
    /// Environment variables in which programs expect this key.
    pub variables: Vec<String>,
    /// How this provider's keys begin, so that a placeholder can begin alike; visible ASCII, at most 32 bytes.
    pub key_prefix: String,
    /// Requests that no grant may allow: endpoints that mint keys.
    pub deny: Vec<Rule>,
    /// Pass `Set-Cookie` on.
    pub keep_cookies: bool,
    /// Pass `Range` on.
    pub allow_range: bool,
    /// The key itself.
    pub value: SecretBytes,
    /// Take a value that cannot be scrubbed.
    pub allow_weak: bool,
    /// Speak HTTP/2 with the upstream.
    pub http2: bool,
    /// SHA-256 of the SubjectPublicKeyInfos of which one must stand in the upstream's chain, where there are any; at most
    /// [`MOST_PINS`].
    pub pins: Vec<[u8; 32]>,
}

/// A grant to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewGrant {
    /// Of this credential,
    pub credential: Name,
    /// to this agent.
    pub agent: Name,
    /// How often; the default where none is given.
    pub rate: Option<Rate>,
    /// Only these requests; all, where empty.
    pub allow: Vec<Rule>,
    /// Seconds from now until it ends by itself.
    pub expires_in: Option<u64>,
    /// The placeholder is the variable's own name in place of a random text; it counts only with agent.sock or a token.
    pub named: bool,
}

/// What `strongroom-keyd create-vault` reads on its standard input, as one frame.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewVault {
    /// How the key was derived.
    pub derivation: KeyDerivation,
    /// The derived key, 32 bytes.
    pub key: SecretBytes,
}

/// What keyd answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Reply {
    /// It was done.
    Done,
    /// It was not done.
    Failed(Failure),
    /// To `Status`.
    Status(Status),
    /// To `CredentialList` and `CredentialShow`.
    Credentials {
        /// By name.
        items: Vec<CredentialView>,
        /// Ask again, after the last.
        more: bool,
    },
    /// To `AgentList` and `AgentShow`.
    Agents {
        /// By name.
        items: Vec<AgentView>,
        /// Ask again, after the last.
        more: bool,
    },
    /// To `GrantList`.
    Grants {
        /// By number.
        items: Vec<GrantView>,
        /// Ask again, after the last.
        more: bool,
    },
    /// To `GrantAdd`: what the agent holds; made by keyd from random bytes, worth nothing elsewhere.
    Placeholder(String),
    /// To `AuditRead`.
    Audit {
        /// JSON objects, one each.
        lines: Vec<String>,
        /// Ask again from here; equal to what was asked where there is nothing new.
        next: u64,
        /// Nothing is left for now.
        end: bool,
    },
    /// To `AuditVerify`.
    AuditVerified(AuditVerified),
    /// To `Doctor`.
    Checks {
        /// keyd's own.
        keyd: Vec<Check>,
        /// gatewayd's, in its own words; none where it is not connected.
        gatewayd: Option<Vec<Check>>,
    },
    /// To `AgentAdd` with a token: made by keyd from random bytes, worth nothing elsewhere.
    Token(String),
    /// To `Environment`.
    Environment(Environment),
    /// To `CaShow`, newest last; the last signs.
    Authorities(Vec<CaView>),
    /// To `SlotList`, in the order of the file.
    Slots(Vec<SlotView>),
    /// To `SlotAdd`: its number.
    SlotAdded(u32),
    /// To `Backup`: ciphertext, but for its header.
    VaultFile(Vec<u8>),
    /// To `RestoreLook`.
    Restore(RestoreView),
    /// To `BackupDerivation`.
    Derivation(KeyDerivation),
    /// To `CredentialRotate`: the credential has this value already, and nothing was changed.
    Unchanged,
}

/// Hosts of one credential.
pub const MOST_HOSTS: usize = 16;
/// Sites of one credential.
pub const MOST_SITES: usize = 8;
/// Roots of one credential.
pub const MOST_ROOTS: usize = 16;
/// Pins of one credential.
pub const MOST_PINS: usize = 16;
/// Users of one agent.
pub const MOST_UIDS: usize = 16;
/// Hosts that one agent may reach without a key.
pub const MOST_EGRESS: usize = 128;
/// Ways to unlock one vault.
pub const MOST_SLOTS: usize = 16;
/// Pairs of agents in [`Status::mismatches`].
pub const MOST_MISMATCHES: usize = 32;
/// Rules of one grant or credential.
pub const MOST_RULES: usize = 32;
/// Bytes of one root certificate.
pub const LARGEST_ROOT: usize = 16 * 1024;
/// Longest key, in bytes: header sections have limits, and JWTs stay below 8 KiB.
pub const LONGEST_KEY: usize = 8 * 1024;
/// Items in one page of a list: the largest fit [`crate::frame::ADMIN_LIMIT`].
pub const PAGE: usize = 32;
