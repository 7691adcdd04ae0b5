//! ctl ↔ keyd over `admin.sock`: one request, one reply.
//!
//! What widens access carries a *proof*: the key that Argon2id derives from the passphrase with the parameters of
//! [`Status::unlock`], computed in ctl. keyd tries it on the vault's slot. What narrows access, and what only shows,
//! needs none. No reply has room for a key: `reply_room.rs` walks the types.
//!
//! Variants and fields are numbered by position: append only.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::authority::InvalidAuthority;
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

/// A token bucket: `burst` at most, refilled evenly with `count` a `seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct Rate {
    /// Requests, at least 1.
    pub count: u32,
    /// in this many seconds, at least 1.
    pub seconds: u32,
    /// Requests at once, at least 1.
    pub burst: u32,
}

impl Rate {
    /// What a grant has where none was said.
    pub const DEFAULT: Self = Self { count: 10_000, seconds: 3600, burst: 2_000 };

    /// Whether a bucket can be made of it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.count > 0 && self.seconds > 0 && self.burst > 0
    }
}

/// A method and a path pattern: `POST /v1/**`.
///
/// In the path `*` stands for any characters but `/`, and a segment `**` for any number of segments. Matched with
/// regard to case on the canonical path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    method: String,
    path: String,
}

impl Rule {
    /// The method, or `*` for every one.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path pattern; begins with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl std::str::FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let (method, path) = text.split_once(' ').ok_or(InvalidRule)?;
        let is_method =
            !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
        let is_path = path.starts_with('/')
            && path.len() <= 512
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\".contains(&byte));
        // What canonical paths never have would be a rule that never matches: say so now.
        let canonical = !path.contains("//") && !path.split('/').any(|segment| matches!(segment, "." | ".."));
        if (is_method || method == "*") && method.len() <= 32 && is_path && canonical {
            Ok(Self { method: method.to_owned(), path: path.to_owned() })
        } else {
            Err(InvalidRule)
        }
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A text that is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidRule;

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a rule is a method in capitals (or '*'), a space and a path pattern without query, like 'POST /v1/**'",
        )
    }
}

impl std::error::Error for InvalidRule {}

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
}

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

/// Argon2id parameters of the passphrase slot (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub struct KeyDerivation {
    /// Random.
    pub salt: [u8; 16],
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KeyDerivation {
    /// What new vaults get, with a salt: RFC 9106's second recommended option, 64 MiB, 3 passes, 4 lanes.
    #[must_use]
    pub fn recommended(salt: [u8; 16]) -> Self {
        Self { salt, memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }

    /// Whether the parameters are within the bounds that either side accepts: from OWASP's minimum of 19 MiB and two
    /// passes to 1 GiB, 16 passes and 16 lanes. A file or a peer beyond them is refused before anything is computed.
    #[must_use]
    pub fn is_within_bounds(&self) -> bool {
        (19 * 1024..=1024 * 1024).contains(&self.memory_kib)
            && (2..=16).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
    }
}

/// What `strongroom-keyd create-vault` reads on its standard input, as one frame.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewVault {
    /// How the key was derived.
    pub derivation: KeyDerivation,
    /// The derived key, 32 bytes.
    pub key: SecretBytes,
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

/// Why something was not done. The words are ctl's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Failure {
    /// The vault is locked.
    Locked,
    /// There is no vault file.
    Uninitialised,
    /// The proof does not open the vault.
    WrongPassphrase,
    /// The operation widens access and no proof came with it.
    PassphraseNeeded,
    /// The caller's uid may not do this.
    NotPermitted,
    /// No such thing.
    NoSuch(Thing),
    /// There is one already.
    Exists(Thing),
    /// It was revoked, so nothing can be granted to or of it.
    Revoked(Thing),
    /// The value cannot be a key.
    BadKey(BadKey),
    /// The route leads elsewhere already.
    RouteTaken,
    /// A field of the request is out of its bounds.
    OutOfBounds(Field),
    /// A host is not one.
    BadHost(BadHost),
    /// The vault file cannot be used.
    Vault(VaultFault),
    /// The vault file could not be written; nothing was changed, on disk or in memory.
    NotWritten,
    /// Taken away in memory at once, but the vault file could not be written: it comes back at the next start.
    TakenButNotWritten,
    /// The audit log could not be written or read.
    Audit,
    /// The message could not be read.
    BadMessage,
    /// keyd speaks this other protocol version.
    Version(u16),
    /// A fault of keyd's.
    Internal,
    /// So many wrong passphrases came from this user that the next counts only after so many seconds.
    TooManyTries(u32),
    /// Without this slot no passphrase would be left.
    LastPassphrase,
    /// The key opens no slot of the backup.
    WrongBackupKey,
    /// The backup is no vault file that can be used.
    Backup(VaultFault),
}

/// Kinds of things with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Thing {
    /// A credential.
    Credential,
    /// An agent.
    Agent,
    /// A grant.
    Grant,
    /// A way to unlock.
    Slot,
}

/// Why a value cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum BadKey {
    /// Nothing at all.
    Empty,
    /// More than [`LONGEST_KEY`] bytes.
    TooLong,
    /// White space or a control character: it could not stand in a header, and not be told from its surroundings. Or no
    /// UTF-8, where it goes into JSON.
    Character,
    /// Under 16 bytes.
    Short,
    /// Under about 80 bits by its shape.
    Guessable,
}

/// Fields with bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum Field {
    /// 1 to [`MOST_HOSTS`].
    Hosts,
    /// 1 to [`MOST_SITES`].
    Sites,
    /// At most [`MOST_ROOTS`], each a certificate.
    Roots,
    /// At most [`MOST_RULES`].
    Rules,
    /// At most 16, each an environment variable's name.
    Variables,
    /// Visible ASCII, at most 32 bytes.
    KeyPrefix,
    /// All three at least 1.
    Rate,
    /// At least a second, at most a hundred years.
    Expiry,
    /// A route needs an exact host.
    Route,
    /// No more room in the vault.
    Vault,
    /// At most [`MOST_PINS`], each once.
    Pins,
    /// At most [`MOST_UIDS`], each once, and not the one that stands for strangers.
    Uids,
    /// The name of a systemd service.
    Unit,
    /// At most [`MOST_EGRESS`].
    Egress,
    /// At most [`MOST_SLOTS`].
    Slots,
    /// A key derivation within bounds, and the same for all passphrases of a vault.
    Derivation,
}

/// Why a host cannot be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
pub enum BadHost {
    /// The same twice.
    Twice,
}

/// Why a vault file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(postcard_schema::Schema))]
#[serde(rename_all = "kebab-case")]
pub enum VaultFault {
    /// It cannot be read: a permission or a failing disk.
    Unreadable,
    /// The first bytes are not a vault's.
    NotAVault,
    /// Made by a newer (or unknown) version.
    UnknownVersion,
    /// Bytes are missing at the end, or there are too many.
    Truncated,
    /// The checksum does not fit: damage, not a wrong passphrase.
    Damaged,
    /// The header's key derivation is outside the accepted bounds.
    KdfOutOfBounds,
    /// The checksum fits and the seal does not: somebody made this file.
    Forged,
    /// Larger than any vault.
    TooLarge,
    /// Another keyd has it open.
    InUse,
}

impl From<InvalidAuthority> for Failure {
    fn from(_: InvalidAuthority) -> Self {
        Self::BadMessage
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_parsed_and_written_alike() {
        for text in ["POST /v1/**", "* /", "GET /a/*/b", "M-SEARCH /x"] {
            assert_eq!(text.parse::<Rule>().expect("a rule").to_string(), text);
        }
        for text in [
            "",
            "POST",
            "post /v1",
            "POST v1",
            "POST /a//b",
            "POST /a/../b",
            "POST /a?b",
            " /a",
            "POST  /a",
            "POST /a b",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_recommended_derivation_is_within_bounds() {
        let recommended = KeyDerivation::recommended([0; 16]);
        assert!(recommended.is_within_bounds());
        assert!(!KeyDerivation { memory_kib: 1024, ..recommended }.is_within_bounds());
        assert!(!KeyDerivation { memory_kib: u32::MAX, ..recommended }.is_within_bounds());
        assert!(!KeyDerivation { passes: 1, ..recommended }.is_within_bounds());
        assert!(!KeyDerivation { lanes: 0, ..recommended }.is_within_bounds());
    }
}
