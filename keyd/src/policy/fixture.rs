//! Small vault contents for the tests of `policy/` and `exchange/`.

use std::rc::Rc;

use strongroom_protocol::Site;
use strongroom_protocol::admin::Rate;

use crate::secret::Secret;
use crate::vault::contents::{Agent, Contents, Credential, Grant, Version};

/// Nothing in it.
pub fn contents() -> Contents {
    Contents {
        generation: 1,
        next_id: 1,
        audit_key: Rc::new(Secret::copy_from(&[7; 32]).expect("room")),
        ca_keys: Vec::new(),
        slots: Vec::new(),
        credentials: Vec::new(),
        agents: Vec::new(),
        grants: Vec::new(),
    }
}

fn next(contents: &mut Contents) -> u64 {
    contents.next_id += 1;
    contents.next_id - 1
}

/// A Bearer credential for one host, with these values; gives its id.
pub fn credential(contents: &mut Contents, name: &str, host: &str, values: &[&[u8]]) -> u64 {
    let id = next(contents);
    let versions = values.iter().enumerate().map(|(index, value)| Version {
        number: u32::try_from(index).expect("few") + 1,
        added: 0,
        weak: false,
        value: Rc::new(Secret::copy_from(value).expect("room")),
    });
    let versions = versions.collect();
    contents.credentials.push(Credential {
        id,
        changed: 1,
        name: name.parse().expect("a name"),
        provider: None,
        hosts: vec![host.parse().expect("a host")],
        sites: vec![Site::Bearer],
        route: Some(name.parse().expect("a name")),
        roots: Vec::new(),
        variables: Vec::new(),
        key_prefix: String::new(),
        deny: Vec::new(),
        keep_cookies: false,
        allow_range: false,
        created: 0,
        removed: None,
        versions,
        http2: false,
        pins: Vec::new(),
    });
    id
}

/// An agent; gives its id.
pub fn agent(contents: &mut Contents, name: &str) -> u64 {
    let id = next(contents);
    let name = name.parse().expect("a name");
    contents.agents.push(Agent {
        id,
        changed: 1,
        name,
        created: 0,
        revoked: None,
        removed: None,
        uids: Vec::new(),
        unit: None,
        token: None,
        egress: Vec::new(),
    });
    id
}

/// A grant; gives its placeholder.
pub fn grant(contents: &mut Contents, credential: u64, agent: u64) -> String {
    let id = next(contents);
    let placeholder = format!("sk-strongroom-{:A>40}", id);
    contents.grants.push(Grant {
        id,
        changed: 1,
        credential,
        agent,
        placeholder: placeholder.clone(),
        rate: Rate::DEFAULT,
        allow: Vec::new(),
        created: 0,
        expires: None,
        revoked: None,
        named: false,
    });
    placeholder
}
