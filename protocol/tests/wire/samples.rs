//! One value for each variant of each wire enum, and each message that is a struct.
//!
//! The patterns are matched without a wildcard: a new variant does not compile here until it has a sample.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_protocol::admin::{
    AgentView, AuditVerified, BadHost, BadKey, CaView, CredentialView, Failure, Field, GrantView, KeyDerivation,
    Mismatch, NewCredential, NewGrant, NewVault, Operation, Rate, Reply, Request, RestoreChange, RestoreKind,
    RestoreView, SlotKind, SlotView, Status, Thing, VaultFault, VaultState,
};
use strongroom_protocol::environment::{Environment, EnvironmentGrant};
use strongroom_protocol::exchange::{
    BodyRequest, DialFailure, GatewayMessage, KeydMessage, Leaf, Route, TunnelFailure, Upstream,
};
use strongroom_protocol::frame;
use strongroom_protocol::session::{Presented, PresentedToken};
use strongroom_protocol::{Check, CheckState, HostPattern, Refusal, SecretBytes, Site};

/// An encoded value.
pub struct Case {
    /// The enum, also the name of its golden file.
    pub of: &'static str,
    /// The variant.
    pub variant: &'static str,
    /// Its payload.
    pub bytes: Vec<u8>,
    /// Decodes as the same type and encodes again; nothing where the bytes are no such value.
    pub again: fn(&[u8]) -> Option<Vec<u8>>,
}

macro_rules! samples {
    ($($of:ident { $($variant:ident $({ $($pattern:tt)* })? $(($($tuple:tt)*))? => $value:expr,)+ })+) => {
        /// Every case there is.
        pub fn all() -> Vec<Case> {
            let mut cases = Vec::new();
            $({
                #[allow(clippy::match_same_arms)]
                fn variant_of(value: &$of) -> &'static str {
                    match value { $($of::$variant $({ $($pattern)* })? $(($($tuple)*))? => stringify!($variant),)+ }
                }
                $({
                    let value: $of = $value;
                    assert_eq!(variant_of(&value), stringify!($variant), "a sample of another variant");
                    cases.push(case(stringify!($of), stringify!($variant), &value));
                })+
            })+
            cases.extend(structs());
            cases
        }
    };
}

samples! {
    GatewayMessage {
        Hello { .. } => GatewayMessage::Hello { version: "0.1.0".into(), checks: vec![Check::ok("seccomp", "on")] },
        OpenChannel { .. } => GatewayMessage::OpenChannel { channel: 300, authority: parse("a.example:8443"), upstream: Upstream::Connected },
        OpenSession { .. } => GatewayMessage::OpenSession {
            session: 7,
            presented: Presented {
                socket: true,
                uid: Some(1000),
                token: Some(PresentedToken { agent: Some(parse("coder")), token: secret(b"token") }),
            },
        },
        CloseSession { .. } => GatewayMessage::CloseSession { session: 7 },
        Connect { .. } => GatewayMessage::Connect {
            question: 8,
            session: 7,
            authority: parse("a.example"),
            point: Some(vec![4, 1, 2]),
            request_id: "request-1".into(),
            tunnel: true,
        },
        EndTunnel { .. } => GatewayMessage::EndTunnel { tunnel: 8, bytes_in: 300, bytes_out: 1, failure: Some(TunnelFailure::TimedOut) },
        AskEnvironment { .. } => GatewayMessage::AskEnvironment { question: 9, session: 7, placeholder: None, after: Some(5) },
    }
    Upstream {
        Connected => Upstream::Connected,
        Failed(_) => Upstream::Failed(DialFailure::TimedOut),
    }
    DialFailure {
        Unreachable => DialFailure::Unreachable,
        ForbiddenAddress => DialFailure::ForbiddenAddress,
        TimedOut => DialFailure::TimedOut,
    }
    TunnelFailure {
        Unreachable => TunnelFailure::Unreachable,
        ForbiddenAddress => TunnelFailure::ForbiddenAddress,
        TimedOut => TunnelFailure::TimedOut,
        AnotherName => TunnelFailure::AnotherName,
        UnreadableHello => TunnelFailure::UnreadableHello,
    }
    KeydMessage {
        Welcome { .. } => KeydMessage::Welcome { version: "0.1.0".into() },
        Accepted { .. } => KeydMessage::Accepted { channel: 1 },
        Refused { .. } => KeydMessage::Refused { channel: 2, refusal: Refusal::HostNotAllowed },
        Locked => KeydMessage::Locked,
        Routes { .. } => KeydMessage::Routes {
            first: true,
            last: false,
            routes: vec![Route {
                name: parse("openai"),
                authority: parse("api.openai.com"),
                fields: vec!["authorization".into()],
                bodies: vec![BodyRequest { method: "POST".into(), path: "/token".into() }],
            }],
        },
        SessionOpened { .. } => KeydMessage::SessionOpened { session: 7 },
        SessionRefused { .. } => KeydMessage::SessionRefused { session: 7, refusal: Refusal::Overloaded },
        Intercept { .. } => KeydMessage::Intercept {
            question: 8,
            leaf: Some(Leaf { certificate: vec![0x30, 0x00], expires: 300 }),
            fields: vec!["authorization".into()],
            bodies: vec![BodyRequest { method: "POST".into(), path: "/token".into() }],
        },
        Tunnel { .. } => KeydMessage::Tunnel { question: 8 },
        NotConnected { .. } => KeydMessage::NotConnected { question: 8, refusal: Refusal::HostNotAllowed },
        CutTunnel { .. } => KeydMessage::CutTunnel { tunnel: 8 },
        Environment { .. } => KeydMessage::Environment { question: 9, page: environment(None) },
        NoEnvironment { .. } => KeydMessage::NoEnvironment { question: 9, refusal: Refusal::AgentUnknown },
    }
    CheckState {
        Ok => CheckState::Ok,
        Warning => CheckState::Warning,
        Failed => CheckState::Failed,
    }
    Refusal {
        BadRequest => Refusal::BadRequest,
        AuthorityMismatch => Refusal::AuthorityMismatch,
        NoPlaceholder => Refusal::NoPlaceholder,
        UnknownPlaceholder => Refusal::UnknownPlaceholder,
        AgentMismatch => Refusal::AgentMismatch,
        AgentUnknown => Refusal::AgentUnknown,
        HostNotAllowed => Refusal::HostNotAllowed,
        SiteNotAllowed => Refusal::SiteNotAllowed,
        RequestNotAllowed => Refusal::RequestNotAllowed,
        Revoked => Refusal::Revoked,
        Expired => Refusal::Expired,
        TooLarge => Refusal::TooLarge,
        RateLimited => Refusal::RateLimited,
        BudgetExhausted => Refusal::BudgetExhausted,
        UpstreamUnreachable => Refusal::UpstreamUnreachable,
        UpstreamUntrusted => Refusal::UpstreamUntrusted,
        UpstreamProtocol => Refusal::UpstreamProtocol,
        UpstreamForbiddenAddress => Refusal::UpstreamForbiddenAddress,
        ResponseUnscrubbable => Refusal::ResponseUnscrubbable,
        VaultLocked => Refusal::VaultLocked,
        KeydUnavailable => Refusal::KeydUnavailable,
        AuditUnavailable => Refusal::AuditUnavailable,
        Overloaded => Refusal::Overloaded,
        UpstreamTimeout => Refusal::UpstreamTimeout,
    }
    Operation {
        Status => Operation::Status,
        Unlock => Operation::Unlock,
        Lock => Operation::Lock,
        CredentialAdd(_) => Operation::CredentialAdd(new_credential()),
        CredentialList { .. } => Operation::CredentialList { after: Some(parse("openai")) },
        CredentialShow { .. } => Operation::CredentialShow { name: parse("openai") },
        CredentialRotate { .. } => Operation::CredentialRotate { name: parse("openai"), value: secret(b"new-value"), allow_weak: true },
        CredentialRemove { .. } => Operation::CredentialRemove { name: parse("openai"), purge: true },
        AgentAdd { .. } => Operation::AgentAdd { name: parse("coder"), uids: vec![1000], unit: Some("coder.service".into()), token: true },
        AgentList { .. } => Operation::AgentList { after: None },
        AgentShow { .. } => Operation::AgentShow { name: parse("coder") },
        AgentRevoke { .. } => Operation::AgentRevoke { name: parse("coder") },
        AgentRemove { .. } => Operation::AgentRemove { name: parse("coder") },
        GrantAdd(_) => Operation::GrantAdd(NewGrant {
            credential: parse("openai"),
            agent: parse("coder"),
            rate: Some(rate()),
            allow: vec![parse("POST /v1/**")],
            expires_in: Some(3600),
            named: true,
        }),
        GrantList { .. } => Operation::GrantList { after: Some(7) },
        GrantRevoke { .. } => Operation::GrantRevoke { credential: parse("openai"), agent: parse("coder") },
        AuditRead { .. } => Operation::AuditRead { from: 1, since: Some(1_700_000_000), agent: Some(parse("coder")), credential: None },
        AuditVerify { .. } => Operation::AuditVerify { from: 0 },
        Doctor => Operation::Doctor,
        AgentAllow { .. } => Operation::AgentAllow { name: parse("coder"), hosts: vec![parse("*.a.example")] },
        AgentDisallow { .. } => Operation::AgentDisallow { name: parse("coder"), hosts: vec![parse("a.example:8443")] },
        Environment { .. } => Operation::Environment { agent: parse("coder"), after: None },
        CaShow => Operation::CaShow,
        CaRotate => Operation::CaRotate,
        SlotList => Operation::SlotList,
        SlotAdd { .. } => Operation::SlotAdd { kind: SlotKind::Keychain, key: secret(&[7; 32]) },
        SlotRemove { .. } => Operation::SlotRemove { id: 300 },
        PassphraseChange { .. } => Operation::PassphraseChange {
            derivation: KeyDerivation::recommended([5; 16]),
            key: secret(&[7; 32]),
        },
        Backup => Operation::Backup,
        RestoreLook { .. } => Operation::RestoreLook { file: b"STRONGRM".to_vec(), key: secret(&[7; 32]) },
        Restore { .. } => Operation::Restore { file: b"STRONGRM".to_vec(), key: secret(&[7; 32]) },
        BackupDerivation { .. } => Operation::BackupDerivation { file: b"STRONGRM".to_vec() },
    }
    Reply {
        Done => Reply::Done,
        Failed(_) => Reply::Failed(Failure::Locked),
        Status(_) => Reply::Status(Status {
            version: "0.1.0".into(),
            state: VaultState::Unlocked,
            keyd_pid: 100,
            gatewayd_pid: Some(101),
            exchanges: 2,
            unlock: Some(derivation()),
            generation: Some(3),
            audit_broken: false,
            mismatches: vec![Mismatch { agent: parse("coder"), by: None, count: 2, last: 1_700_000_000 }],
        }),
        Credentials { .. } => Reply::Credentials { items: vec![credential_view()], more: false },
        Agents { .. } => Reply::Agents {
            items: vec![AgentView {
                name: parse("coder"),
                created: 1_700_000_000,
                revoked: Some(1_700_000_001),
                grants: 1,
                uids: vec![1000],
                unit: None,
                token: true,
                egress: vec![parse("a.example")],
            }],
            more: true,
        },
        Grants { .. } => Reply::Grants { items: vec![grant_view()], more: false },
        Placeholder(_) => Reply::Placeholder("sk-placeholder".into()),
        Audit { .. } => Reply::Audit { lines: vec!["{}".into()], next: 2, end: true },
        AuditVerified(_) => Reply::AuditVerified(AuditVerified { lines: 2, next: 3, end: true, broken_at: Some(2), chain: "00".into() }),
        Checks { .. } => Reply::Checks { keyd: vec![Check::warning("landlock", "off", "newer kernel")], gatewayd: Some(vec![]) },
        Token(_) => Reply::Token("strongroom-agent-x".into()),
        Environment(_) => Reply::Environment(environment(Some("strongroom-agent-x".into()))),
        Authorities(_) => Reply::Authorities(vec![CaView { certificate: vec![0x30, 0x00], created: 1_700_000_000 }]),
        Slots(_) => Reply::Slots(vec![SlotView {
            id: 300,
            kind: SlotKind::Keychain,
            added: Some(1_700_000_000),
            by: Some(1000),
        }]),
        SlotAdded(_) => Reply::SlotAdded(300),
        VaultFile(_) => Reply::VaultFile(b"STRONGRM".to_vec()),
        Restore(_) => Reply::Restore(RestoreView {
            now: Some(300),
            backup: 5,
            changes: vec![RestoreChange {
                kind: RestoreKind::Returns,
                credential: Some(parse("openai")),
                agent: Some(parse("coder")),
                slot: Some(SlotView { id: 3, kind: SlotKind::Recovery, added: None, by: None }),
            }],
            more: 0,
        }),
        Derivation(_) => Reply::Derivation(KeyDerivation::recommended([5; 16])),
        Unchanged => Reply::Unchanged,
    }
    SlotKind {
        Passphrase => SlotKind::Passphrase,
        Keychain => SlotKind::Keychain,
        Credential => SlotKind::Credential,
        Recovery => SlotKind::Recovery,
    }
    RestoreKind {
        Returns => RestoreKind::Returns,
        Goes => RestoreKind::Goes,
        Differs => RestoreKind::Differs,
    }
    VaultState {
        Locked => VaultState::Locked,
        Unlocked => VaultState::Unlocked,
        Uninitialised => VaultState::Uninitialised,
        Unusable(_) => VaultState::Unusable(VaultFault::Damaged),
    }
    Failure {
        Locked => Failure::Locked,
        Uninitialised => Failure::Uninitialised,
        WrongPassphrase => Failure::WrongPassphrase,
        PassphraseNeeded => Failure::PassphraseNeeded,
        NotPermitted => Failure::NotPermitted,
        NoSuch(_) => Failure::NoSuch(Thing::Agent),
        Exists(_) => Failure::Exists(Thing::Grant),
        Revoked(_) => Failure::Revoked(Thing::Credential),
        BadKey(_) => Failure::BadKey(BadKey::Short),
        RouteTaken => Failure::RouteTaken,
        OutOfBounds(_) => Failure::OutOfBounds(Field::Sites),
        BadHost(_) => Failure::BadHost(BadHost::Twice),
        Vault(_) => Failure::Vault(VaultFault::InUse),
        NotWritten => Failure::NotWritten,
        TakenButNotWritten => Failure::TakenButNotWritten,
        Audit => Failure::Audit,
        BadMessage => Failure::BadMessage,
        Version(_) => Failure::Version(300),
        Internal => Failure::Internal,
        TooManyTries(_) => Failure::TooManyTries(30),
        LastPassphrase => Failure::LastPassphrase,
        WrongBackupKey => Failure::WrongBackupKey,
        Backup(_) => Failure::Backup(VaultFault::Damaged),
        LockedMemory => Failure::LockedMemory,
    }
    Thing {
        Credential => Thing::Credential,
        Agent => Thing::Agent,
        Grant => Thing::Grant,
        Slot => Thing::Slot,
    }
    BadKey {
        Empty => BadKey::Empty,
        TooLong => BadKey::TooLong,
        Character => BadKey::Character,
        Short => BadKey::Short,
        Guessable => BadKey::Guessable,
    }
    Field {
        Hosts => Field::Hosts,
        Sites => Field::Sites,
        Roots => Field::Roots,
        Rules => Field::Rules,
        Variables => Field::Variables,
        KeyPrefix => Field::KeyPrefix,
        Rate => Field::Rate,
        Expiry => Field::Expiry,
        Route => Field::Route,
        Vault => Field::Vault,
        Pins => Field::Pins,
        Uids => Field::Uids,
        Unit => Field::Unit,
        Egress => Field::Egress,
        Slots => Field::Slots,
        Derivation => Field::Derivation,
    }
    BadHost {
        Twice => BadHost::Twice,
    }
    VaultFault {
        Unreadable => VaultFault::Unreadable,
        NotAVault => VaultFault::NotAVault,
        UnknownVersion => VaultFault::UnknownVersion,
        Truncated => VaultFault::Truncated,
        Damaged => VaultFault::Damaged,
        KdfOutOfBounds => VaultFault::KdfOutOfBounds,
        Forged => VaultFault::Forged,
        TooLarge => VaultFault::TooLarge,
        InUse => VaultFault::InUse,
        Exchanged => VaultFault::Exchanged,
        Gone => VaultFault::Gone,
    }
    Site {
        Bearer => Site::Bearer,
        Header { .. } => Site::parse_header("x-api-key: key {} end").unwrap(),
        Basic { .. } => Site::parse_basic("x-access-token").unwrap(),
        Query { .. } => Site::parse_query("key").unwrap(),
        PathPrefix { .. } => Site::parse_path_prefix("/bot{}/v1").unwrap(),
        BodyJson { .. } => Site::parse_body_json("POST /token#/auth/key").unwrap(),
        BodyForm { .. } => Site::parse_body_form("POST /token#client_secret").unwrap(),
    }
    HostPattern {
        Exact(_) => parse("a.example"),
        OneLabelBefore(_) => parse("*.a.example:8443"),
    }
}

/// Messages that are no enum.
fn structs() -> Vec<Case> {
    vec![
        case("Request", "WithoutProof", &Request { proof: None, operation: Operation::Status }),
        case("Request", "WithProof", &Request { proof: Some(secret(&[7; 32])), operation: Operation::Unlock }),
        case("NewVault", "NewVault", &NewVault { derivation: derivation(), key: secret(&[8; 32]) }),
        case("Check", "Check", &Check::failed("seccomp", "off", "use another kernel")),
    ]
}

fn case<T: Serialize + DeserializeOwned>(of: &'static str, variant: &'static str, value: &T) -> Case {
    let again = |bytes: &[u8]| frame::decode::<T>(bytes).ok().map(|value| encode(&value));
    Case { of, variant, bytes: encode(value), again }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    frame::encode(value, frame::ADMIN_LIMIT).unwrap()[frame::HEADER..].to_vec()
}

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

fn rate() -> Rate {
    Rate { count: 200, seconds: 3600, burst: 20 }
}

fn derivation() -> KeyDerivation {
    KeyDerivation::recommended([9; 16])
}

fn new_credential() -> NewCredential {
    NewCredential {
        name: parse("openai"),
        provider: Some(parse("openai")),
        hosts: vec![parse("api.openai.com")],
        sites: vec![Site::Bearer],
        route: Some(parse("openai")),
        roots: vec![vec![0x30, 0x00]],
        variables: vec!["OPENAI_API_KEY".into()],
        key_prefix: "sk-".into(),
        deny: vec![parse("* /v1/admin/**")],
        keep_cookies: false,
        allow_range: true,
        value: secret(b"sk-value"),
        allow_weak: false,
        http2: true,
        pins: vec![[6; 32]],
    }
}

fn credential_view() -> CredentialView {
    CredentialView {
        name: parse("openai"),
        provider: None,
        hosts: vec![parse("*.a.example")],
        sites: vec![Site::parse_header("x-api-key: {}").unwrap()],
        route: None,
        roots: 1,
        variables: vec![],
        deny: vec![],
        version: 2,
        rotated: 1_700_000_001,
        created: 1_700_000_000,
        scrubbed: true,
        grants: 3,
        http2: false,
        pins: vec![[6; 32], [7; 32]],
        keep_cookies: true,
        allow_range: false,
    }
}

fn grant_view() -> GrantView {
    GrantView {
        number: 5,
        credential: parse("openai"),
        agent: parse("coder"),
        placeholder: "sk-placeholder".into(),
        rate: rate(),
        allow: vec![parse("GET /v1/models")],
        created: 1_700_000_000,
        expires: None,
        revoked: None,
        named: false,
        removed: true,
    }
}

fn environment(token: Option<String>) -> Environment {
    let grant = EnvironmentGrant {
        number: 5,
        credential: parse("openai"),
        provider: Some(parse("openai")),
        route: Some(parse("openai")),
        variables: vec!["OPENAI_API_KEY".into()],
        placeholder: "sk-placeholder".into(),
        named: false,
    };
    Environment { agent: parse("coder"), token, ca: vec![0x30, 0x00], grants: vec![grant], more: false }
}
