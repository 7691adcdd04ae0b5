//! The rules that contents keep, checked after each opening and before each sealing.
//!
//! The seal proves that a keyd wrote the file; these prove that it wrote sense, so that the rest of keyd may rely on
//! ids that resolve and keys of the right length. It refuses to repair anything. Called by `locked.rs` and `unlocked.rs`.

use super::KEY_LENGTH;
use super::contents::{CaKey, Contents, Credential};

/// The rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inconsistent {
    /// The generation is 0, or a record claims to have changed in a later one.
    Generation,
    /// An id is 0, not below `next_id`, used twice, or out of order.
    Id,
    /// Two things that were not removed have one name.
    Name,
    /// A grant names a credential or an agent that is not there.
    Reference,
    /// A key of ours has the wrong length or shape.
    KeyLength,
    /// A credential's versions are not counted upwards from 1 or more, or it has none and was not removed.
    Versions,
    /// A placeholder is empty, or a random one belongs to two grants; or a token belongs to two agents.
    Placeholder,
    /// A rate that no bucket can be made of.
    Rate,
    /// A credential without hosts or sites could never be used.
    Credential,
}

impl Contents {
    /// Checks every rule.
    ///
    /// # Errors
    /// The first one that is broken.
    pub fn check(&self) -> Result<(), Inconsistent> {
        self.check_ids()?;
        self.check_names()?;
        self.check_keys()?;
        self.check_grants()?;
        self.credentials.iter().try_for_each(check_credential)
    }

    fn check_ids(&self) -> Result<(), Inconsistent> {
        let lists = [
            self.credentials.iter().map(|credential| (credential.id, credential.changed)).collect::<Vec<_>>(),
            self.agents.iter().map(|agent| (agent.id, agent.changed)).collect(),
            self.grants.iter().map(|grant| (grant.id, grant.changed)).collect(),
        ];
        if self.generation == 0 || lists.iter().flatten().any(|&(_, changed)| changed > self.generation) {
            return Err(Inconsistent::Generation);
        }
        let ordered = lists.iter().all(|list| list.is_sorted_by(|one, other| one.0 < other.0));
        let mut all: Vec<u64> = lists.iter().flatten().map(|&(id, _)| id).collect();
        all.sort_unstable();
        let distinct = all.windows(2).all(|pair| pair[0] != pair[1]);
        let in_range = all.first() != Some(&0) && all.last().is_none_or(|&last| last < self.next_id);
        if self.next_id > 0 && ordered && distinct && in_range { Ok(()) } else { Err(Inconsistent::Id) }
    }

    fn check_names(&self) -> Result<(), Inconsistent> {
        let credentials = self
            .credentials
            .iter()
            .filter(|credential| credential.removed.is_none())
            .map(|credential| &credential.name);
        let agents = self.agents.iter().filter(|agent| agent.removed.is_none()).map(|agent| &agent.name);
        if are_distinct(credentials) && are_distinct(agents) { Ok(()) } else { Err(Inconsistent::Name) }
    }

    fn check_keys(&self) -> Result<(), Inconsistent> {
        let is_point = |key: &CaKey| key.public_point.len() == 65 && key.public_point[0] == 4 && !key.pkcs8.is_empty();
        let fits = self.audit_key.len() == KEY_LENGTH
            && self.ca_keys.iter().all(is_point)
            && self.slots.iter().filter_map(|slot| slot.key.as_ref()).all(|key| key.len() == KEY_LENGTH);
        if fits { Ok(()) } else { Err(Inconsistent::KeyLength) }
    }

    fn check_grants(&self) -> Result<(), Inconsistent> {
        for grant in &self.grants {
            let credential = self.credentials.binary_search_by_key(&grant.credential, |credential| credential.id);
            let agent = self.agents.binary_search_by_key(&grant.agent, |agent| agent.id);
            if credential.is_err() || agent.is_err() {
                return Err(Inconsistent::Reference);
            }
            if !grant.rate.is_valid() {
                return Err(Inconsistent::Rate);
            }
        }
        let tokens = self.agents.iter().filter_map(|agent| agent.token.as_ref());
        // A variable's name may be the placeholder of many.
        let random = self.grants.iter().filter(|grant| !grant.named).map(|grant| &grant.placeholder);
        if are_distinct(random) && are_distinct(tokens) && self.grants.iter().all(|grant| !grant.placeholder.is_empty())
        {
            Ok(())
        } else {
            Err(Inconsistent::Placeholder)
        }
    }
}

fn check_credential(credential: &Credential) -> Result<(), Inconsistent> {
    let versions = &credential.versions;
    let counted = versions.is_sorted_by(|one, other| one.number < other.number)
        && versions.iter().all(|version| version.number > 0);
    if !counted || (versions.is_empty() && credential.removed.is_none()) {
        return Err(Inconsistent::Versions);
    }
    if credential.removed.is_none() && (credential.hosts.is_empty() || credential.sites.is_empty()) {
        return Err(Inconsistent::Credential);
    }
    Ok(())
}

fn are_distinct<'a, T: Ord + 'a>(items: impl Iterator<Item = &'a T>) -> bool {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable();
    items.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use strongroom_protocol::Site;
    use strongroom_protocol::admin::Rate;

    use std::rc::Rc;

    use super::*;
    use crate::secret::Secret;
    use crate::vault::contents::{Agent, Grant, SlotRecord, Version};

    /// Contents with two of everything.
    pub fn furnished() -> Contents {
        let secret = |byte: u8, length| Rc::new(Secret::copy_from(&vec![byte; length]).unwrap());
        let mut point = vec![4; 65];
        point[64] = 9;
        let credential = |id: u64, name: &str, removed| Credential {
            id,
            changed: 3,
            name: name.parse().unwrap(),
            provider: Some("openai".parse().unwrap()),
            hosts: vec!["api.example".parse().unwrap(), "*.api.example:8443".parse().unwrap()],
            sites: vec![Site::Bearer, Site::parse_header("x-api-key: {}").unwrap(), Site::parse_query("key").unwrap()],
            route: Some(name.parse().unwrap()),
            roots: vec![vec![0x30, 0x03, 1, 2, 3]],
            variables: vec!["OPENAI_API_KEY".to_owned()],
            key_prefix: "sk-".to_owned(),
            deny: vec!["* /v1/admin/**".parse().unwrap()],
            keep_cookies: true,
            allow_range: false,
            created: 10,
            removed,
            versions: [(1, b'x'), (2, b'y')]
                .map(|(number, byte)| Version { number, added: 20, weak: false, value: secret(byte, 40) })
                .into(),
            http2: true,
            pins: vec![[5; 32]],
        };
        let agent = |id: u64, name: &str| Agent {
            id,
            changed: 4,
            name: name.parse().unwrap(),
            created: 11,
            revoked: None,
            removed: None,
            uids: vec![1000, 1001],
            unit: Some("coder.service".to_owned()),
            token: Some(format!("strongroom-agent-{id:A>40}")),
            egress: vec!["pypi.org".parse().unwrap()],
        };
        let grant = |id: u64, agent: u64| Grant {
            id,
            changed: 5,
            credential: 1,
            agent,
            placeholder: format!("sk-placeholder-{id}"),
            rate: Rate::DEFAULT,
            allow: vec!["POST /v1/**".parse().unwrap()],
            created: 12,
            expires: Some(99),
            revoked: None,
            named: false,
        };
        Contents {
            generation: 5,
            next_id: 7,
            audit_key: secret(b'a', 32),
            ca_keys: vec![CaKey {
                pkcs8: secret(b'c', 138),
                public_point: point,
                created: 1,
                certificate: vec![0x30, 0],
            }],
            slots: vec![SlotRecord { slot: 2, added: Some(7), by: Some(1000), key: Some(secret(b's', 32)) }],
            credentials: vec![credential(1, "openai", None), credential(2, "openai", Some(50))],
            agents: vec![agent(3, "coder"), agent(4, "tester")],
            grants: vec![grant(5, 3), grant(6, 4)],
        }
    }

    #[test]
    fn sensible_contents_pass() {
        assert_eq!(furnished().check(), Ok(()));
    }

    #[test]
    fn each_broken_rule_is_found() {
        type Break = fn(&mut Contents);
        let cases: &[(Inconsistent, Break)] = &[
            (Inconsistent::Generation, |contents| contents.generation = 0),
            (Inconsistent::Generation, |contents| contents.generation = 4),
            (Inconsistent::Id, |contents| contents.next_id = 6),
            (Inconsistent::Id, |contents| contents.next_id = 0),
            (Inconsistent::Id, |contents| contents.agents[0].id = 1),
            (Inconsistent::Id, |contents| contents.credentials[0].id = 0),
            (Inconsistent::Id, |contents| contents.agents.swap(0, 1)),
            (Inconsistent::Name, |contents| contents.credentials[1].removed = None),
            (Inconsistent::Name, |contents| contents.agents[1].name = contents.agents[0].name.clone()),
            (Inconsistent::Reference, |contents| contents.grants[0].credential = 3),
            (Inconsistent::Reference, |contents| contents.grants[1].agent = 1),
            (Inconsistent::KeyLength, |contents| contents.audit_key = Rc::new(Secret::copy_from(&[1; 31]).unwrap())),
            (Inconsistent::KeyLength, |contents| {
                contents.slots[0].key = Some(Rc::new(Secret::copy_from(&[1; 33]).unwrap()))
            }),
            (Inconsistent::KeyLength, |contents| contents.ca_keys[0].public_point[0] = 2),
            (Inconsistent::Versions, |contents| contents.credentials[0].versions.clear()),
            (Inconsistent::Versions, |contents| contents.credentials[0].versions.swap(0, 1)),
            (Inconsistent::Placeholder, |contents| {
                contents.grants[0].placeholder = contents.grants[1].placeholder.clone()
            }),
            (Inconsistent::Placeholder, |contents| contents.grants[0].placeholder.clear()),
            (Inconsistent::Placeholder, |contents| contents.agents[0].token = contents.agents[1].token.clone()),
            (Inconsistent::Rate, |contents| contents.grants[0].rate.burst = 0),
            (Inconsistent::Credential, |contents| contents.credentials[0].hosts.clear()),
            (Inconsistent::Credential, |contents| contents.credentials[0].sites.clear()),
        ];
        for (index, (rule, break_it)) in cases.iter().enumerate() {
            let mut contents = furnished();
            break_it(&mut contents);
            assert_eq!(contents.check(), Err(*rule), "case {index}");
        }
    }

    #[test]
    fn a_purged_tombstone_may_be_without_versions() {
        let mut contents = furnished();
        contents.credentials[1].versions.clear();
        assert_eq!(contents.check(), Ok(()));
    }
}
