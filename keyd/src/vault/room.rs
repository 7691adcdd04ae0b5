//! How full a vault may be, and for what: whatever takes access away fits, however full it is.
//!
//! Each record that can still be taken away keeps as many bytes free as that would add to it, and so do the slots up to their
//! most. What gives access is refused where these would not be left below [`WIDEST`]; where room is wanted for it, records
//! that only say that something was taken away make it. A file that an older keyd filled to the brim has what it needs
//! between [`WIDEST`] and [`file_format::LARGEST`]. It refuses to drop what gives access, what answers are searched for, and
//! what anything left refers to. Plain functions without I/O; called by `unlocked.rs` and `state/changes.rs`.
//!
//! [`file_format::LARGEST`]: super::file_format::LARGEST

use std::collections::HashSet;

use serde::Serialize;

use super::contents::{Agent, Contents, Credential, Grant};
use super::file_format::{Header, LARGEST, MOST_SLOTS};

/// What a file is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Something gives access.
    Widening,
    /// Something takes it away, or is another way to unlock in the room that slots have for themselves.
    Narrowing,
    /// A backup, that of a full vault of an older keyd too, with what outlives it: everything in it can be taken away again.
    Restoring,
}

impl Room {
    /// Bytes that a file may have with those that it keeps free.
    pub(super) fn limit(self) -> usize {
        if self == Self::Widening { WIDEST } else { LARGEST }
    }

    /// Bytes that it keeps free.
    pub(super) fn kept_free(self, header: &Header, contents: &Contents) -> usize {
        if self == Self::Narrowing { 0 } else { reserve(header, contents) }
    }
}

/// The most bytes by which a file with these contents can grow by taking away, in whatever order, all that there is. Taking
/// something away never lets the file and this together become more.
#[must_use]
pub fn reserve(header: &Header, contents: &Contents) -> usize {
    let Contents { credentials, agents, grants, .. } = contents;
    let slots = MOST_OF_SLOTS.saturating_sub(length(header) + length(&contents.slots));
    growing(contents.generation)
        + growing(contents.next_id)
        + slots
        + credentials.iter().map(of_credential).sum::<usize>()
        + agents.iter().map(of_agent).sum::<usize>()
        + grants.iter().map(of_grant).sum::<usize>()
}

/// Drops records of what is gone, the oldest first, until so many bytes more are free, or none is left: grants that can
/// never be used again, then agents that were removed, then credentials that were purged, where nothing refers to them.
/// Their placeholders are unknown from then on, and their ids are never given again. Says how many they were.
pub fn make(contents: &mut Contents, mut wanted: usize, now: u64) -> usize {
    let before = count(contents);
    let Contents { credentials, agents, grants, .. } = contents;
    let gone: HashSet<u64> = {
        let agents = agents.iter().filter(|one| one.revoked.is_some() || one.removed.is_some()).map(|one| one.id);
        agents.chain(credentials.iter().filter(|one| one.removed.is_some()).map(|one| one.id)).collect()
    };
    let is_dead = |grant: &Grant| {
        grant.revoked.is_some()
            || gone.contains(&grant.agent)
            || gone.contains(&grant.credential)
            || grant.expires.is_some_and(|at| at <= now)
    };
    let mut drops = |is_needless: bool, bytes: usize| {
        let drops = is_needless && wanted > 0;
        if drops {
            wanted = wanted.saturating_sub(bytes);
        }
        drops
    };
    grants.retain(|one| !drops(is_dead(one), length(one) + of_grant(one)));
    let named: HashSet<u64> = grants.iter().flat_map(|grant| [grant.agent, grant.credential]).collect();
    let is_named = |id| named.contains(&id);
    agents.retain(|one| !drops(one.removed.is_some() && !is_named(one.id), length(one) + of_agent(one)));
    // One that has values is searched for.
    let is_empty = |one: &Credential| one.removed.is_some() && one.versions.is_empty() && !is_named(one.id);
    credentials.retain(|one| !drops(is_empty(one), length(one) + of_credential(one)));
    before - count(contents)
}

fn count(contents: &Contents) -> usize {
    contents.credentials.len() + contents.agents.len() + contents.grants.len()
}

fn of_credential(credential: &Credential) -> usize {
    growing(credential.changed) + coming(credential.removed)
}

fn of_agent(agent: &Agent) -> usize {
    growing(agent.changed) + coming(agent.revoked) + coming(agent.removed)
}

fn of_grant(grant: &Grant) -> usize {
    growing(grant.changed) + coming(grant.revoked)
}

/// What a number may still grow by.
fn growing(number: u64) -> usize {
    VARINT - length(&number)
}

/// What a time adds that is not there yet.
fn coming(time: Option<u64>) -> usize {
    if time.is_none() { VARINT } else { 0 }
}

fn length(of: &impl Serialize) -> usize {
    postcard::experimental::serialized_size(of).expect("records have a serial form")
}

/// Bytes of a file and of what it keeps free, for what gives access.
const WIDEST: usize = 1024 * 1024;

/// Bytes of the longest u64.
const VARINT: usize = 10;

/// Bytes of the most slots: in the header with a passphrase's derivation, and as records with their keys.
const MOST_OF_SLOTS: usize = 2 + MOST_SLOTS * (97 + 56);

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
