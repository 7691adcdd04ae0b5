//! The contents of vault files of version 1, as they are today: those of version 2, and credentials without `http2`
//! and `pins`.
//!
//! Read only: the next write makes a file of the present version and keeps the old one as its backup. Keys go straight
//! into locked memory, as with the present version. Called by `locked.rs`; VAULT.md has the fields.

use serde::Deserialize;
use strongroom_protocol::admin::Rule;
use strongroom_protocol::{HostPattern, Name, Site};

use super::contents::{Contents, Credential, Version};
use super::contents_v2::ContentsV2;

/// Decodes a body, and gives what is left over.
///
/// # Errors
/// Where it is no such body, or locked memory is full.
pub fn decode(body: &[u8]) -> postcard::Result<(Contents, &[u8])> {
    postcard::take_from_bytes::<ContentsV2<CredentialV1>>(body).map(|(contents, rest)| (contents.into(), rest))
}

#[derive(Deserialize)]
struct CredentialV1 {
    id: u64,
    changed: u64,
    name: Name,
    provider: Option<Name>,
    hosts: Vec<HostPattern>,
    sites: Vec<Site>,
    route: Option<Name>,
    roots: Vec<Vec<u8>>,
    variables: Vec<String>,
    key_prefix: String,
    deny: Vec<Rule>,
    keep_cookies: bool,
    allow_range: bool,
    created: u64,
    removed: Option<u64>,
    versions: Vec<Version>,
}

impl From<CredentialV1> for Credential {
    fn from(old: CredentialV1) -> Self {
        Self {
            id: old.id,
            changed: old.changed,
            name: old.name,
            provider: old.provider,
            hosts: old.hosts,
            sites: old.sites,
            route: old.route,
            roots: old.roots,
            variables: old.variables,
            key_prefix: old.key_prefix,
            deny: old.deny,
            keep_cookies: old.keep_cookies,
            allow_range: old.allow_range,
            created: old.created,
            removed: old.removed,
            versions: old.versions,
            http2: false,
            pins: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vault::file_format;
    use crate::vault::locked::open_file;
    use crate::vault::room::Room;
    use crate::vault::slot::every_kind;

    /// Made by the programs of the last release before version 2, with the passphrase `correct horse battery staple`.
    const FILE: &[u8] = include_bytes!("fixtures/version-1.vault");
    /// What Argon2id makes of that passphrase with the file's parameters; ctl's `passphrase.rs` has the same numbers.
    const KEY: [u8; 32] = *b"\xe0\x3e\xae\xe6\x5b\x4b\x0f\xee\xbe\xae\x25\xce\xe2\x9b\xbe\x5e\
        \xb1\x3b\xc9\x96\x40\xea\x67\xa1\x9b\x80\xd8\xdf\xaf\x0c\xbe\x87";

    #[test]
    fn a_vault_of_version_1_opens_with_all_that_was_in_it() {
        assert_eq!(file_format::parse(FILE).unwrap().version, 1);
        let (_, contents) = open_file(FILE, &KEY, every_kind).unwrap().into_parts();
        let names: Vec<_> = contents.credentials.iter().map(|one| (one.name.as_str(), one.removed.is_some())).collect();
        assert_eq!(names, [("tickets", false), ("openai", false), ("gone", true)]);
        let [tickets, openai, _] = &contents.credentials[..] else { panic!("three") };
        assert_eq!(tickets.sites, [Site::parse_header("x-api-key: key {} end").unwrap()]);
        assert_eq!(tickets.hosts, ["api.tickets.example:8443".parse().unwrap(), "*.tickets.example".parse().unwrap()]);
        assert!(tickets.keep_cookies && tickets.route == Some("t".parse().unwrap()));
        assert!(tickets.versions[0].value.matches(b"tickets-key-0123456789abcdefghij"));
        assert_eq!(openai.sites, [Site::Bearer]);
        assert!(openai.allow_range && !openai.deny.is_empty());
        assert!(openai.versions[0].value.matches(b"sk-first-0123456789abcdefghij"));
        assert!(openai.versions[1].value.matches(b"sk-second-0123456789abcdefghij"));
        assert!(contents.credentials.iter().all(|one| !one.http2 && one.pins.is_empty()));
        let agents: Vec<_> = contents.agents.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(agents, ["coder", "tester"]);
        assert_eq!(contents.grants.len(), 3);
        assert_eq!(contents.grants[0].placeholder, "sk-strongroom-6wbh3sMxXdFiKzPaZs67wOw36hMuOilMO1h4L0wB");
        assert!(contents.grants[2].revoked.is_some());
        assert_eq!(contents.generation, 11);
    }

    #[test]
    fn it_is_written_again_as_the_present_version_with_nothing_lost() {
        let (keys, contents) = open_file(FILE, &KEY, every_kind).unwrap().into_parts();
        let again = keys.seal(&contents, Room::Narrowing).unwrap();
        assert_eq!(file_format::parse(&again).unwrap().version, file_format::VERSION);
        let (_, back) = open_file(&again, &KEY, every_kind).unwrap().into_parts();
        assert_eq!(postcard::to_stdvec(&back).unwrap(), postcard::to_stdvec(&contents).unwrap());
    }

    #[test]
    fn the_version_is_sealed_like_everything_else() {
        let mut dressed_up = FILE.to_vec();
        dressed_up[8] = 2;
        let covered = dressed_up.len() - 32;
        let checksum = ring::digest::digest(&ring::digest::SHA256, &dressed_up[..covered]);
        dressed_up[covered..].copy_from_slice(checksum.as_ref());
        let error = open_file(&dressed_up, &KEY, every_kind).map(drop).unwrap_err();
        assert_eq!(error, strongroom_protocol::admin::VaultFault::Forged.into());
    }
}
