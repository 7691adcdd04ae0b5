//! The contents of vault files of version 2, as they are today: agents known by their placeholders alone, every
//! placeholder random, and a certificate authority without a certificate.
//!
//! Read only: the next write makes a file of the present version and keeps the old one as its backup. Called by
//! `locked.rs`; version 1 shares the records that did not change between the two. VAULT.md has the fields.

use std::rc::Rc;

use serde::Deserialize;
use strongroom_protocol::Name;
use strongroom_protocol::admin::{Rate, Rule};

use super::contents::{Agent, CaKey, Contents, Credential, Grant, SlotRecord};
use crate::secret::Secret;

/// Decodes a body, and gives what is left over.
///
/// # Errors
/// Where it is no such body, or locked memory is full.
pub fn decode(body: &[u8]) -> postcard::Result<(Contents, &[u8])> {
    postcard::take_from_bytes::<ContentsV2<Credential>>(body).map(|(contents, rest)| (contents.into(), rest))
}

/// A body whose credentials are of this type.
#[derive(Deserialize)]
pub(super) struct ContentsV2<C> {
    generation: u64,
    next_id: u64,
    audit_key: Rc<Secret>,
    ca_keys: Vec<CaKeyV2>,
    /// Always empty: slots could not be added.
    slots: Vec<SlotRecord>,
    credentials: Vec<C>,
    agents: Vec<AgentV2>,
    grants: Vec<GrantV2>,
}

#[derive(Deserialize)]
struct CaKeyV2 {
    pkcs8: Rc<Secret>,
    public_point: Vec<u8>,
    created: u64,
}

#[derive(Deserialize)]
struct AgentV2 {
    id: u64,
    changed: u64,
    name: Name,
    created: u64,
    revoked: Option<u64>,
    removed: Option<u64>,
}

#[derive(Deserialize)]
struct GrantV2 {
    id: u64,
    changed: u64,
    credential: u64,
    agent: u64,
    placeholder: String,
    rate: Rate,
    allow: Vec<Rule>,
    created: u64,
    expires: Option<u64>,
    revoked: Option<u64>,
}

impl<C: Into<Credential>> From<ContentsV2<C>> for Contents {
    fn from(old: ContentsV2<C>) -> Self {
        Self {
            generation: old.generation,
            next_id: old.next_id,
            audit_key: old.audit_key,
            ca_keys: old.ca_keys.into_iter().map(Into::into).collect(),
            slots: old.slots,
            credentials: old.credentials.into_iter().map(Into::into).collect(),
            agents: old.agents.into_iter().map(Into::into).collect(),
            grants: old.grants.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<CaKeyV2> for CaKey {
    fn from(old: CaKeyV2) -> Self {
        Self { pkcs8: old.pkcs8, public_point: old.public_point, created: old.created, certificate: Vec::new() }
    }
}

impl From<AgentV2> for Agent {
    fn from(old: AgentV2) -> Self {
        let AgentV2 { id, changed, name, created, revoked, removed } = old;
        let (uids, egress) = (Vec::new(), Vec::new());
        Self { id, changed, name, created, revoked, removed, uids, unit: None, token: None, egress }
    }
}

impl From<GrantV2> for Grant {
    fn from(old: GrantV2) -> Self {
        let GrantV2 { id, changed, credential, agent, placeholder, rate, allow, created, expires, revoked } = old;
        Self { id, changed, credential, agent, placeholder, rate, allow, created, expires, revoked, named: false }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::vault::file_format;
    use crate::vault::locked::open_file;
    use crate::vault::room::Room;
    use crate::vault::slot::every_kind;

    /// Made by the programs of the last release before version 3, with the passphrase `correct horse battery staple`.
    const FILE: &[u8] = include_bytes!("fixtures/version-2.vault");
    /// What Argon2id makes of that passphrase with the file's parameters.
    const KEY: [u8; 32] = *b"\x0a\x66\xa7\x90\x24\x4a\xe2\xf8\xc6\x84\x72\xc3\x6c\x2a\x49\xc6\
        \x36\xc7\xfe\xbd\xdc\x53\x83\x8c\x72\xcb\x53\xdf\x45\xc9\x0e\xb3";

    #[test]
    fn a_vault_of_version_2_opens_with_all_that_was_in_it() {
        assert_eq!(file_format::parse(FILE).unwrap().version, 2);
        let (_, contents) = open_file(FILE, &KEY, every_kind).unwrap().into_parts();
        let [openai, tickets] = &contents.credentials[..] else { panic!("two") };
        assert!(openai.versions[0].value.matches(b"sk-first-0123456789abcdefghij"));
        assert!(tickets.versions[0].value.matches(b"tickets-key-0123456789abcdefghij"));
        assert!(tickets.http2 && tickets.keep_cookies && tickets.pins == [[0; 32]]);
        let agents: Vec<_> = contents.agents.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(agents, ["coder", "tester"]);
        assert!(contents.agents.iter().all(|one| !one.is_bound() && one.egress.is_empty()));
        let [first, second, third] = &contents.grants[..] else { panic!("three") };
        assert_eq!(first.placeholder, "sk-strongroom-gS3T6UvLQxdMQ0z4i7MHLt2nMbYmd7i5k9rYmoTh");
        assert_eq!((second.rate.count, second.rate.burst, second.allow.len()), (5, 5, 1));
        assert!(third.revoked.is_some() && contents.grants.iter().all(|one| !one.named));
        assert_eq!((contents.ca_keys.len(), contents.ca_keys[0].certificate.len()), (1, 0));
    }

    #[test]
    fn it_is_written_again_as_the_present_version_with_nothing_lost() {
        let (keys, contents) = open_file(FILE, &KEY, every_kind).unwrap().into_parts();
        let again = keys.seal(&contents, Room::Narrowing).unwrap();
        assert_eq!(file_format::parse(&again).unwrap().version, file_format::VERSION);
        let (_, back) = open_file(&again, &KEY, every_kind).unwrap().into_parts();
        assert_eq!(postcard::to_stdvec(&back).unwrap(), postcard::to_stdvec(&contents).unwrap());
    }
}
