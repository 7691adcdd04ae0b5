//! One unlocked generation of the vault, with the tables that make judging quick.
//!
//! A change of the vault makes a new `Live`; exchanges keep the one that they began with until they end, and its keys
//! are wiped when the last of them lets go. It refuses nothing. Called by `decide`, `exchange/` and `admin/`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use strongroom_protocol::admin::Rule;
use strongroom_protocol::environment::variable_of;
use strongroom_protocol::exchange::{BodyRequest, Route};
use strongroom_protocol::{Authority, Site};

use super::placeholder;
use super::positions::Declared;
use crate::vault::contents::{Agent, Contents, Credential, Grant};

/// The records and their indexes.
pub struct Live {
    contents: Contents,
    grants_by_tail: HashMap<String, usize>,
    grants_by_credential: HashMap<u64, Vec<usize>>,
    /// Grants whose placeholder is a variable's name, by each variable of their credential.
    grants_by_name: HashMap<String, Vec<usize>>,
    /// By the token's hash: finding one takes as long for a near miss as for any other.
    agents_by_token: HashMap<[u8; SHA256_OUTPUT_LEN], usize>,
    agents_by_uid: HashMap<u32, Vec<usize>>,
    agents_with_unit: Vec<usize>,
    credentials_by_authority: HashMap<Authority, Vec<usize>>,
    wildcard_credentials: Vec<usize>,
    /// What no grant may allow, in lower case, for each credential: see `decide`.
    denials: Vec<Vec<Rule>>,
    declared: RefCell<HashMap<Authority, Rc<Declared>>>,
}

impl Live {
    /// Indexes the records.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        let mut grants_by_tail = HashMap::new();
        let mut grants_by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut grants_by_credential: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, grant) in contents.grants.iter().enumerate() {
            grants_by_credential.entry(grant.credential).or_default().push(index);
            if grant.named {
                let at = contents.credentials.binary_search_by_key(&grant.credential, |credential| credential.id);
                let mut names = at.map(|at| Self::variables(&contents.credentials[at])).unwrap_or_default();
                if !names.contains(&grant.placeholder) {
                    names.push(grant.placeholder.clone());
                }
                names.into_iter().for_each(|name| grants_by_name.entry(name).or_default().push(index));
            } else if let Some(tail) = placeholder::tail(&grant.placeholder) {
                grants_by_tail.insert(tail.to_owned(), index);
            }
        }
        let mut agents_by_token = HashMap::new();
        let mut agents_by_uid: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut agents_with_unit = Vec::new();
        for (index, agent) in contents.agents.iter().enumerate().filter(|(_, agent)| agent.removed.is_none()) {
            agents_by_token.extend(agent.token.as_ref().map(|token| (hash(token.as_bytes()), index)));
            for uid in &agent.uids {
                agents_by_uid.entry(*uid).or_default().push(index);
            }
            agents_with_unit.extend(agent.unit.as_ref().map(|_| index));
        }
        let mut credentials_by_authority: HashMap<Authority, Vec<usize>> = HashMap::new();
        let mut wildcard_credentials = Vec::new();
        for (index, credential) in contents.credentials.iter().enumerate() {
            for host in &credential.hosts {
                match host.exact() {
                    Some(authority) => credentials_by_authority.entry(authority.clone()).or_default().push(index),
                    None if wildcard_credentials.last() != Some(&index) => wildcard_credentials.push(index),
                    None => {}
                }
            }
        }
        let lower = |rule: &Rule| format!("{} {}", rule.method(), rule.path().to_ascii_lowercase()).parse().ok();
        let denials = contents.credentials.iter().map(|one| one.deny.iter().filter_map(lower).collect()).collect();
        let declared = RefCell::default();
        Self {
            contents,
            grants_by_tail,
            grants_by_credential,
            grants_by_name,
            agents_by_token,
            agents_by_uid,
            agents_with_unit,
            credentials_by_authority,
            wildcard_credentials,
            denials,
            declared,
        }
    }

    /// The records.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The grant whose placeholder ends in this tail; revoked ones too, so that a refusal can say so.
    #[must_use]
    pub fn grant_by_tail(&self, tail: &str) -> Option<&Grant> {
        self.grants_by_tail.get(tail).map(|index| &self.contents.grants[*index])
    }

    /// The grant with exactly this placeholder.
    #[must_use]
    pub fn grant_by_placeholder(&self, text: &[u8]) -> Option<&Grant> {
        let text = std::str::from_utf8(text).ok()?;
        let grant = self.grant_by_tail(placeholder::tail(text)?)?;
        // Found by a random tail that nobody can approach step by step: the comparison's time tells nothing.
        (grant.placeholder == text).then_some(grant)
    }

    /// Grants that have their variables' names, this among them, for placeholders.
    pub fn grants_by_name(&self, name: &[u8]) -> impl Iterator<Item = &Grant> {
        let found = std::str::from_utf8(name).ok().and_then(|name| self.grants_by_name.get(name));
        found.into_iter().flatten().map(|index| &self.contents.grants[*index])
    }

    /// Agents with this user, revoked ones too.
    pub fn agents_of_uid(&self, uid: u32) -> impl Iterator<Item = &Agent> {
        self.agents_by_uid.get(&uid).into_iter().flatten().map(|index| &self.contents.agents[*index])
    }

    /// Agents that are known by a unit, revoked ones too.
    pub fn agents_with_unit(&self) -> impl Iterator<Item = &Agent> {
        self.agents_with_unit.iter().map(|index| &self.contents.agents[*index])
    }

    /// The agent with this token, a revoked one too.
    #[must_use]
    pub fn agent_of_token(&self, token: &[u8]) -> Option<&Agent> {
        self.agents_by_token.get(&hash(token)).map(|index| &self.contents.agents[*index])
    }

    /// Grants that stand and whose credential names the authority.
    pub fn grants_naming<'a>(&'a self, authority: &'a Authority, now: u64) -> impl Iterator<Item = &'a Grant> {
        self.grants_ever_naming(authority).filter(move |grant| self.counts(grant, now))
    }

    /// The same with those that stand no more.
    pub fn grants_ever_naming<'a>(&'a self, authority: &'a Authority) -> impl Iterator<Item = &'a Grant> {
        let of = |credential: &Credential| self.grants_by_credential.get(&credential.id).into_iter().flatten();
        self.credentials_naming(authority).flat_map(of).map(|index| &self.contents.grants[*index])
    }

    /// Variables in which programs expect a credential's key.
    #[must_use]
    pub fn variables(credential: &Credential) -> Vec<String> {
        if credential.variables.is_empty() { vec![variable_of(&credential.name)] } else { credential.variables.clone() }
    }

    /// Credentials that name the authority, removed ones too: the scrubber still knows their keys.
    pub fn credentials_naming<'a>(&'a self, authority: &'a Authority) -> impl Iterator<Item = &'a Credential> {
        let exact = self.credentials_by_authority.get(authority).map_or(&[][..], Vec::as_slice);
        let wild = self.wildcard_credentials.iter().filter(move |index| {
            let credential = &self.contents.credentials[**index];
            !exact.contains(index) && credential.hosts.iter().any(|host| host.matches(authority))
        });
        exact.iter().chain(wild).map(|index| &self.contents.credentials[*index])
    }

    /// Whether a credential names the authority: of a removed one requests are refused as that.
    #[must_use]
    pub fn is_named(&self, authority: &Authority) -> bool {
        self.credentials_naming(authority).next().is_some()
    }

    /// The positions that credentials declare for the authority.
    #[must_use]
    pub fn declared(&self, authority: &Authority) -> Rc<Declared> {
        let mut known = self.declared.borrow_mut();
        if let Some(declared) = known.get(authority) {
            return Rc::clone(declared);
        }
        // A wildcard names any number of authorities, and gatewayd chooses which.
        if known.len() >= MOST_AUTHORITIES {
            known.clear();
        }
        let declared = Rc::new(Declared::of(self.credentials_naming(authority)));
        known.insert(authority.clone(), Rc::clone(&declared));
        declared
    }

    /// What no grant of this credential may allow, in lower case.
    #[must_use]
    pub fn denials(&self, credential: u64) -> &[Rule] {
        self.credential_index(credential).map_or(&[], |at| &self.denials[at])
    }

    /// A credential by id.
    #[must_use]
    pub fn credential(&self, id: u64) -> Option<&Credential> {
        self.credential_index(id).map(|at| &self.contents.credentials[at])
    }

    fn credential_index(&self, id: u64) -> Option<usize> {
        self.contents.credentials.binary_search_by_key(&id, |credential| credential.id).ok()
    }

    /// A grant by id.
    #[must_use]
    pub fn grant(&self, id: u64) -> Option<&Grant> {
        self.contents.grants.binary_search_by_key(&id, |grant| grant.id).ok().map(|at| &self.contents.grants[at])
    }

    /// An agent by id.
    #[must_use]
    pub fn agent(&self, id: u64) -> Option<&Agent> {
        self.contents.agents.binary_search_by_key(&id, |agent| agent.id).ok().map(|at| &self.contents.agents[at])
    }

    /// Whether the grant stands and has not expired.
    #[must_use]
    pub fn counts(&self, grant: &Grant, now: u64) -> bool {
        self.stands(grant) && grant.expires.is_none_or(|at| at > now)
    }

    /// Whether the grant, its agent and its credential all stand; expired or not.
    #[must_use]
    pub fn stands(&self, grant: &Grant) -> bool {
        grant.revoked.is_none()
            && self.agent(grant.agent).is_some_and(|agent| agent.revoked.is_none() && agent.removed.is_none())
            && self.credential(grant.credential).is_some_and(|credential| credential.removed.is_none())
    }

    /// Where a placeholder for the authority may stand, as gatewayd is told it.
    #[must_use]
    pub fn positions(&self, authority: &Authority) -> (Vec<String>, Vec<BodyRequest>) {
        let sites = || self.credentials_naming(authority).flat_map(|credential| &credential.sites);
        let mut fields: Vec<String> = sites().filter_map(|site| site.header_field().map(ToOwned::to_owned)).collect();
        fields.sort();
        fields.dedup();
        fields.truncate(MOST_FIELDS);
        let mut bodies: Vec<BodyRequest> = sites()
            .filter_map(Site::body_request)
            .map(|(method, path)| BodyRequest { method: method.to_owned(), path: path.to_owned() })
            .collect();
        bodies.sort();
        bodies.dedup();
        bodies.truncate(MOST_FIELDS);
        (fields, bodies)
    }

    /// What gatewayd is told: first path segments, where they lead, and which header fields tell agents apart. Removed
    /// credentials keep theirs as long as nobody else has it.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let (living, removed): (Vec<_>, Vec<_>) =
            self.contents.credentials.iter().partition(|credential| credential.removed.is_none());
        for credential in living.into_iter().chain(removed.into_iter().rev()) {
            let Some(name) = &credential.route else { continue };
            let Some(authority) = credential.hosts.iter().find_map(|host| host.exact()) else { continue };
            if routes.iter().any(|route| route.name == *name) {
                continue;
            }
            let (fields, bodies) = self.positions(authority);
            routes.push(Route { name: name.clone(), authority: authority.clone(), fields, bodies });
        }
        routes
    }
}

fn hash(token: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

/// Fields, and requests with a position in the body, of one route that gatewayd is told. Where a host has more, agents that differ only in the rest may meet on a
/// channel, and the second is refused: a host with so many positions is not known.
const MOST_FIELDS: usize = 32;
/// Authorities whose positions are kept at hand.
const MOST_AUTHORITIES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn a_named_grant_is_found_by_each_variable_of_its_credential() {
        let mut contents = fixture::contents();
        let credential = fixture::credential(&mut contents, "one", "api.example", &[b"the-key-of-one"]);
        let other = fixture::credential(&mut contents, "two", "api.example", &[b"the-key-of-two"]);
        let agent = fixture::agent(&mut contents, "coder");
        contents.credentials[0].variables = vec!["GITHUB_TOKEN".to_owned(), "GH_TOKEN".to_owned()];
        for (credential, name) in [(credential, "GITHUB_TOKEN"), (other, "TWO")] {
            fixture::grant(&mut contents, credential, agent);
            let grant = contents.grants.last_mut().unwrap();
            (grant.named, grant.placeholder) = (true, name.to_owned());
        }
        let live = Live::new(contents);
        let found = |name: &[u8]| live.grants_by_name(name).map(|grant| grant.credential).collect::<Vec<_>>();
        assert_eq!(found(b"GITHUB_TOKEN"), [credential]);
        assert_eq!(found(b"GH_TOKEN"), [credential]);
        assert_eq!(found(b"TWO"), [other]);
        assert!(found(b"ONE").is_empty() && found(b"GH_TOKE").is_empty());
    }

    #[test]
    fn a_grant_counts_until_it_expires() {
        let mut contents = fixture::contents();
        let credential = fixture::credential(&mut contents, "one", "api.example", &[b"the-key-of-one"]);
        let agent = fixture::agent(&mut contents, "coder");
        fixture::grant(&mut contents, credential, agent);
        contents.grants[0].expires = Some(100);
        let mut live = Live::new(contents);
        let grant = live.contents().grants[0].clone();
        assert!(live.counts(&grant, 99) && !live.counts(&grant, 100) && live.stands(&grant));
        live.contents.credentials[0].removed = Some(1);
        assert!(!live.counts(&grant, 99));
    }

    #[test]
    fn a_removed_credential_keeps_its_route_until_another_has_it() {
        let mut contents = fixture::contents();
        for (name, host) in [("old", "old.example"), ("gone", "gone.example"), ("new", "new.example")] {
            fixture::credential(&mut contents, name, host, &[b"the-key-of-one"]);
        }
        let route = |contents: &mut Contents, at: usize, name: &str| {
            contents.credentials[at].route = Some(name.parse().unwrap());
        };
        route(&mut contents, 0, "api");
        route(&mut contents, 1, "api");
        route(&mut contents, 2, "other");
        (contents.credentials[0].removed, contents.credentials[1].removed) = (Some(1), Some(2));
        let leads = |contents: &Contents| {
            let routes = Live::new(contents.clone()).routes().into_iter();
            routes.map(|route| format!("{} {}", route.name, route.authority.to_host_field())).collect::<Vec<_>>()
        };
        assert_eq!(leads(&contents), ["other new.example", "api gone.example"], "the last that had it");
        route(&mut contents, 2, "api");
        assert_eq!(leads(&contents), ["api new.example"]);
    }
}
