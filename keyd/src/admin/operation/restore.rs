//! Backups: the vault file as it is, which is encrypted; and the way back, with a look at what would change.
//!
//! What is put back is a vault of its own time: what was revoked since is there again, which is why the look comes first,
//! why it takes the passphrase of the vault that is there *and* a key of the backup, and why the vault is locked then.
//! What is revoked while it is put back stays so, by its name.
//! Three things are kept from the vault that is there: the audit log's key, for the log goes on; every CA key, for what
//! is refused once is refused for ever; and every value of every credential, for answers are searched for them as long as
//! they are not purged. Called by `dispatch`.

use std::collections::BTreeMap;
use std::rc::Rc;

use strongroom_protocol::admin::{Failure, MOST_CHANGES, Reply, RestoreChange, RestoreKind, RestoreView, SlotView};
use strongroom_protocol::{Name, SecretBytes};

use super::{agent, credential, event, record, slot};
use crate::audit::record::EventKind;
use crate::peer::Caller;
use crate::state::{State, now};
use crate::vault::contents::{Agent, Contents, Credential, Grant, Version};
use crate::vault::{Keys, SlotKind, UnlockError, every_kind, file_format, open_file};

/// The file as it lies there, or as it should be where something that was taken away is not in it yet: nobody who puts it
/// back is to find that again. That it is whole was looked at.
pub fn backup(state: &State) -> Result<Reply, Failure> {
    state.vault_bytes().map(Reply::VaultFile)
}

/// How a backup's key is derived.
pub fn derivation(file: &[u8]) -> Result<Reply, Failure> {
    let parts = file_format::parse(file).map_err(Failure::Backup)?;
    parts.header.derivation().map(Reply::Derivation).ok_or(Failure::Internal)
}

/// What would be otherwise.
pub fn look(state: &State, file: &[u8], key: &SecretBytes) -> Result<Reply, Failure> {
    let (backup_keys, backup) = open(file, key)?;
    let live = state.live();
    let mut changes = live.as_ref().map_or_else(Vec::new, |live| differences(live.contents(), &backup));
    if let (Some(live), Some(keys)) = (&live, state.keys()) {
        changes.splice(0..0, slot_differences((&keys, live.contents()), (&backup_keys, &backup)));
    }
    let more = u32::try_from(changes.len().saturating_sub(MOST_CHANGES)).unwrap_or(u32::MAX);
    changes.truncate(MOST_CHANGES);
    let now = live.map(|live| live.contents().generation);
    Ok(Reply::Restore(RestoreView { now, backup: backup.generation, changes, more }))
}

/// Puts it in the vault's place, keeps the old file aside, and locks.
pub async fn restore(state: &Rc<State>, caller: &Caller, file: &[u8], key: &SecretBytes) -> Result<(), Failure> {
    let (keys, mut contents) = open(file, key)?;
    let at = now();
    let keep = |there: &Contents, restored: &mut Contents| {
        keep(there, restored, at);
        // Only what can be done is announced.
        record(state, event(state, EventKind::VaultRestore, caller).at_generation(restored.generation))
    };
    let take = |before: &Contents, now: &Contents, restored: &mut Contents| {
        take_away(before, &with_what_made_room(before, now, at), restored);
    };
    state.replace(&keys, &mut contents, keep, take).await?;
    tracing::warn!(uid = caller.uid, generation = contents.generation, "a backup took the vault's place");
    Ok(())
}

fn open(file: &[u8], key: &SecretBytes) -> Result<(Keys, Contents), Failure> {
    match open_file(file, key.expose(), every_kind) {
        Ok(unlocked) => Ok(unlocked.into_parts()),
        Err(UnlockError::WrongKey) => Err(Failure::WrongBackupKey),
        Err(UnlockError::Fault(fault)) => Err(Failure::Backup(fault)),
        Err(other) => Err(other.into()),
    }
}

/// Above both, so that it does not look rolled back.
fn generation_after(now: &Contents, restored: &Contents) -> u64 {
    restored.generation.max(now.generation) + 1
}

/// What outlives a restore at a time, in seconds of the Unix epoch.
fn keep(now: &Contents, restored: &mut Contents, at: u64) {
    restored.generation = generation_after(now, restored);
    // Placeholders and ids of things that were made since are never given again.
    restored.next_id = restored.next_id.max(now.next_id);
    restored.audit_key = Rc::clone(&now.audit_key);
    let mut ca_keys = now.ca_keys.clone();
    let old = std::mem::take(&mut restored.ca_keys);
    let unknown = old.into_iter().filter(|old| !now.ca_keys.iter().any(|known| known.public_point == old.public_point));
    // The newest signs, and that is the one of today.
    ca_keys.splice(0..0, unknown);
    restored.ca_keys = ca_keys;
    for credential in &now.credentials {
        keep_values(credential, restored, at);
    }
}

/// The later of two moments, with the records that were dropped since: what is dropped is dead, see `vault/room.rs`.
fn with_what_made_room(before: &Contents, now: &Contents, at: u64) -> Contents {
    let (mut whole, changed, at) = (now.clone(), now.generation, Some(at));
    let missing = before.grants.iter().filter(|one| now.grants.iter().all(|other| other.id != one.id));
    let missing = missing.filter(|one| one.revoked.is_none()).cloned();
    whole.grants.extend(missing.map(|one| Grant { changed, revoked: at, ..one }));
    let missing = before.agents.iter().filter(|one| now.agents.iter().all(|other| other.id != one.id));
    let missing = missing.filter(|one| one.removed.is_none()).cloned();
    whole.agents.extend(missing.map(|one| Agent { changed, revoked: one.revoked.or(at), removed: at, ..one }));
    let missing = before.credentials.iter().filter(|one| now.credentials.iter().all(|other| other.id != one.id));
    let missing = missing.filter(|one| one.removed.is_none()).cloned();
    whole.credentials.extend(missing.map(|one| Credential { changed, removed: at, ..one }));
    whole
}

/// What was taken away between two moments, in which nothing else changed, is taken away from what has its name in the
/// backup: names are what was said to be without access.
fn take_away(before: &Contents, now: &Contents, restored: &mut Contents) {
    restored.generation = generation_after(now, restored);
    let generation = restored.generation;
    let is_since = |changed| changed > before.generation;
    let Contents { credentials, agents, grants, .. } = restored;
    let mut revoke = |is_meant: &dyn Fn(&Grant) -> bool, at| {
        for grant in grants.iter_mut().filter(|grant| grant.revoked.is_none() && is_meant(grant)) {
            (grant.changed, grant.revoked) = (generation, at);
        }
    };
    for grant in now.grants.iter().filter(|grant| is_since(grant.changed)) {
        let credential = now.credentials.iter().find(|one| one.id == grant.credential);
        let credential =
            credential.and_then(|one| credentials.iter().find(|same| credential::is_called(same, &one.name)));
        let agent = now.agents.iter().find(|one| one.id == grant.agent);
        let agent = agent.and_then(|one| agents.iter().find(|same| agent::is_called(same, &one.name)));
        if let (Some(credential), Some(agent)) = (credential, agent) {
            revoke(&|same| (same.credential, same.agent) == (credential.id, agent.id), grant.revoked);
        }
    }
    for credential in now.credentials.iter().filter(|credential| is_since(credential.changed)) {
        if let Some(same) = credentials.iter_mut().find(|same| credential::is_called(same, &credential.name)) {
            (same.changed, same.removed) = (generation, credential.removed);
            revoke(&|grant| grant.credential == same.id, credential.removed);
        }
    }
    for agent in now.agents.iter().filter(|agent| is_since(agent.changed)) {
        let then = before.agents.iter().find(|then| then.id == agent.id);
        if let Some(same) = agents.iter_mut().find(|same| agent::is_called(same, &agent.name)) {
            (same.changed, same.removed) = (generation, agent.removed);
            same.revoked = same.revoked.or(agent.revoked);
            let is_gone =
                |host: &_| !agent.egress.contains(host) && then.is_some_and(|then| then.egress.contains(host));
            same.egress.retain(|host| !is_gone(host));
        }
    }
}

/// Values that the backup does not know go on being searched for: as older ones of the same credential, or as a removed
/// one's. What was purged has none.
fn keep_values(credential: &Credential, restored: &mut Contents, at: u64) {
    let is_same = |other: &&mut Credential| (other.id, other.created) == (credential.id, credential.created);
    if let Some(same) = restored.credentials.iter_mut().find(is_same) {
        let of_the_backup = std::mem::replace(&mut same.versions, credential.versions.clone());
        let in_use = of_the_backup.last().cloned();
        for version in of_the_backup {
            add(&mut same.versions, version);
        }
        // The backup's value is in use, so it is the newest: as after a rotation back.
        if let Some(last) = in_use
            && !same.versions.last().is_some_and(|newest| newest.value.matches(&last.value))
        {
            let number = same.versions.last().map_or(1, |newest| newest.number + 1);
            same.versions.push(Version { number, ..last });
        }
    } else if !credential.versions.is_empty() {
        let id = restored.next_id;
        restored.next_id += 1;
        let (changed, removed) = (restored.generation, credential.removed.or(Some(at)));
        restored.credentials.push(Credential { id, changed, removed, ..credential.clone() });
    }
}

/// Adds a value that is not there yet.
fn add(versions: &mut Vec<Version>, version: Version) {
    if !versions.iter().any(|known| known.value.matches(&version.value)) {
        let number = versions.last().map_or(1, |newest| newest.number + 1);
        versions.push(Version { number, ..version });
    }
}

/// Ways to unlock that would come and go: a slot that was taken off since opens again, and one that somebody put into a
/// backup opens from then on.
fn slot_differences(now: (&Keys, &Contents), backup: (&Keys, &Contents)) -> Vec<RestoreChange> {
    let list = |(keys, contents): (&Keys, &Contents)| {
        let slots = keys.slots();
        let views = slot::views(&slots, Some(contents));
        slots.into_iter().zip(views).collect::<Vec<_>>()
    };
    let (now, backup) = (list(now), list(backup));
    // What only one of them has; a passphrase with another salt is another one, whatever its number.
    let only = |here: &[_], there: &[((u32, SlotKind), SlotView)], kind| {
        let missing = here.iter().filter(|slot| !there.contains(slot));
        let change =
            |(_, view): &(_, SlotView)| RestoreChange { kind, credential: None, agent: None, slot: Some(view.clone()) };
        missing.map(change).collect::<Vec<_>>()
    };
    [only(&now, &backup, RestoreKind::Goes), only(&backup, &now, RestoreKind::Returns)].concat()
}

fn differences(now: &Contents, backup: &Contents) -> Vec<RestoreChange> {
    let mut changes = Vec::new();
    let change = |kind, credential: Option<&Name>, agent: Option<&Name>| RestoreChange {
        kind,
        credential: credential.cloned(),
        agent: agent.cloned(),
        slot: None,
    };
    compare(&credentials(now), &credentials(backup), same_credential, |kind, name| {
        changes.push(change(kind, Some(name), None));
    });
    compare(
        &agents(now),
        &agents(backup),
        |one, other| one == other,
        |kind, name| {
            changes.push(change(kind, None, Some(name)));
        },
    );
    compare(&grants(now), &grants(backup), same_grant, |kind, (credential, agent)| {
        changes.push(change(kind, Some(credential), Some(agent)));
    });
    changes
}

fn compare<K: Ord, V>(
    now: &BTreeMap<K, V>,
    backup: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
    mut found: impl FnMut(RestoreKind, &K),
) {
    for (name, there) in now {
        match backup.get(name) {
            None => found(RestoreKind::Goes, name),
            Some(then) if !same(there, then) => found(RestoreKind::Differs, name),
            Some(_) => {}
        }
    }
    backup.keys().filter(|name| !now.contains_key(name)).for_each(|name| found(RestoreKind::Returns, name));
}

fn credentials(contents: &Contents) -> BTreeMap<&Name, &Credential> {
    let there = contents.credentials.iter().filter(|credential| credential.removed.is_none());
    there.map(|credential| (&credential.name, credential)).collect()
}

/// What an agent may be and reach.
type Reach<'a> = (&'a [u32], Option<&'a str>, Option<&'a str>, Vec<String>);

fn agents(contents: &Contents) -> BTreeMap<&Name, Reach<'_>> {
    let there = contents.agents.iter().filter(|agent| agent.removed.is_none() && agent.revoked.is_none());
    let reach = |agent: &Agent| agent.egress.iter().map(ToString::to_string).collect();
    there
        .map(|agent| (&agent.name, (&agent.uids[..], agent.unit.as_deref(), agent.token.as_deref(), reach(agent))))
        .collect()
}

fn grants(contents: &Contents) -> BTreeMap<(&Name, &Name), &Grant> {
    let named = |grant: &Grant| {
        let credential = contents.credentials.iter().find(|credential| credential.id == grant.credential)?;
        let agent = contents.agents.iter().find(|agent| agent.id == grant.agent)?;
        // A grant of or to what was taken away gives nothing.
        let is_live = credential.removed.is_none() && agent.removed.is_none() && agent.revoked.is_none();
        is_live.then_some((&credential.name, &agent.name))
    };
    let there = contents.grants.iter().filter(|grant| grant.revoked.is_none());
    there.filter_map(|grant| Some((named(grant)?, grant))).collect()
}

fn same_credential(one: &&Credential, other: &&Credential) -> bool {
    let value = |credential: &Credential| credential.versions.last().map(|version| Rc::clone(&version.value));
    let same_value = match (value(one), value(other)) {
        (Some(one), Some(other)) => one.matches(&other),
        (one, other) => one.is_none() && other.is_none(),
    };
    same_value
        && one.hosts == other.hosts
        && one.sites == other.sites
        && (&one.route, &one.roots, &one.deny, &one.pins) == (&other.route, &other.roots, &other.deny, &other.pins)
        && (one.keep_cookies, one.allow_range, one.http2) == (other.keep_cookies, other.allow_range, other.http2)
}

fn same_grant(one: &&Grant, other: &&Grant) -> bool {
    (&one.placeholder, one.rate, &one.allow, one.expires, one.named)
        == (&other.placeholder, other.rate, &other.allow, other.expires, other.named)
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
