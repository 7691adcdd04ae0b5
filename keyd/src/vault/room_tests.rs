//! A vault at its limit: what gives access is refused, and all that there is can be taken away.
#![allow(clippy::unwrap_used)]

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::secret::Secret;
use crate::vault::contents::Version;
use crate::vault::create::tests::{KEY, new_vault};
use crate::vault::invariants::tests::furnished;
use crate::vault::unlocked::SealError;
use crate::vault::{Keys, create, every_kind, file_format, open_file};

fn keys() -> Keys {
    open_file(&create::build(&new_vault(), 1).unwrap(), &KEY, every_kind).unwrap().into_parts().0
}

fn version(number: u32, length: usize) -> Version {
    Version { number, added: 9, weak: false, value: Rc::new(Secret::copy_from(&vec![b'v'; length]).unwrap()) }
}

/// As many of each, with small records, in a generation.
fn crowded(credentials: u64, agents: u64, grants: u64, generation: u64) -> Contents {
    let mut contents = furnished();
    let (credential, agent, grant) =
        (contents.credentials[0].clone(), contents.agents[0].clone(), contents.grants[0].clone());
    let mut next = 1;
    let mut id = || {
        next += 1;
        next - 1
    };
    let name = |kind: &str, id: u64| format!("{kind}{id}").parse().unwrap();
    contents.credentials = (0..credentials)
        .map(|_| {
            let id = id();
            let (roots, versions) = (Vec::new(), vec![version(1, 20)]);
            Credential { id, name: name("c", id), changed: 3, roots, versions, route: None, ..credential.clone() }
        })
        .collect();
    let bare = Agent { uids: Vec::new(), unit: None, token: None, egress: Vec::new(), ..agent };
    contents.agents = (0..agents).map(|_| id()).map(|id| Agent { id, name: name("a", id), ..bare.clone() }).collect();
    let of = |grant: &Grant, id: u64| Grant {
        id,
        credential: id % credentials + 1,
        agent: credentials + id % agents + 1,
        placeholder: format!("sk-{id}"),
        allow: Vec::new(),
        ..grant.clone()
    };
    contents.grants = (0..grants).map(|_| id()).map(|id| of(&grant, id)).collect();
    (contents.generation, contents.next_id) = (generation.max(5), next);
    contents
}

/// Bytes of its file.
fn size(keys: &Keys, contents: &Contents) -> usize {
    file_format::length(keys.header(), length(contents))
}

/// Fills the rest with one value, so that not one byte more may be given.
fn filled(keys: &Keys, mut contents: Contents) -> Contents {
    let (mut least, mut most) = (1, WIDEST);
    while least + 1 < most {
        let middle = usize::midpoint(least, most);
        contents.credentials[0].versions.clear();
        contents.credentials[0].versions.push(version(1, middle));
        if keys.seal(&contents, Room::Widening).is_ok() { least = middle } else { most = middle }
    }
    contents.credentials[0].versions.clear();
    contents.credentials[0].versions = vec![version(1, least)];
    contents
}

/// One narrowing, as the operations do it.
fn take(contents: &mut Contents, which: usize, at: u64) {
    contents.generation += 1;
    let changed = contents.generation;
    let Contents { credentials, agents, grants, .. } = contents;
    let all = credentials.len() + agents.len() + grants.len();
    let which = which % all;
    if let Some(credential) = credentials.get_mut(which) {
        (credential.changed, credential.removed) = (changed, Some(at));
        for grant in grants.iter_mut().filter(|grant| grant.credential == credential.id && grant.revoked.is_none()) {
            (grant.changed, grant.revoked) = (changed, Some(at));
        }
    } else if let Some(agent) = agents.get_mut(which.saturating_sub(credentials.len())) {
        // Revoked first, and removed when it is chosen again.
        (agent.changed, agent.removed) = (changed, agent.revoked.map(|_| at));
        agent.revoked.get_or_insert(at);
    } else {
        let grant = &mut grants[which - credentials.len() - agents.len()];
        (grant.changed, grant.revoked) = (changed, Some(at));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_taken_away_of_a_full_vault_in_whatever_order_is_written(
        (credentials, agents, grants) in (1u64..40, 1u64..40, 0u64..60),
        generation in prop_oneof![5u64..300, any::<u32>().prop_map(u64::from), Just(u64::MAX - 500)],
        at in prop_oneof![Just(1_700_000_000u64), any::<u64>()],
        order in proptest::collection::vec(any::<usize>(), 1..60),
    ) {
        let keys = keys();
        let mut contents = filled(&keys, crowded(credentials, agents, grants, generation));
        let mut wider = contents.clone();
        wider.agents[0].egress.push("a.example".parse().unwrap());
        prop_assert_eq!(keys.seal(&wider, Room::Widening), Err(SealError::TooLarge), "full");
        let all = usize::try_from(credentials + agents + grants).unwrap();
        let mut sum = size(&keys, &contents) + reserve(keys.header(), &contents);
        // In random order first, then all that is left, agents once more.
        for which in order.into_iter().chain(0..all).chain(0..all) {
            take(&mut contents, which, at);
            let now = size(&keys, &contents) + reserve(keys.header(), &contents);
            prop_assert!(now <= sum, "{} over {}", now, sum);
            sum = now;
        }
        prop_assert!(sum <= WIDEST);
        prop_assert!(contents.credentials.iter().all(|it| it.removed.is_some()));
        prop_assert!(contents.agents.iter().all(|it| it.revoked.is_some() && it.removed.is_some()));
        prop_assert!(contents.grants.iter().all(|it| it.revoked.is_some()));
        prop_assert!(open_file(&keys.seal(&contents, Room::Narrowing).unwrap(), &KEY, every_kind).is_ok());
    }
}

/// It had no reserve, and has one now.
#[test]
fn a_vault_that_an_older_keyd_filled_is_read_narrowed_and_not_widened() {
    let keys = keys();
    let mut contents = crowded(1500, 500, 2000, 300);
    let rest = 1024 * 1024 - 8 - size(&keys, &contents);
    contents.credentials[0].versions.push(version(2, rest));
    assert!((1024 * 1024 - 8..1024 * 1024 + 8).contains(&size(&keys, &contents)));
    contents.credentials[0].versions[0] = version(1, 4);
    assert!(size(&keys, &contents) <= 1024 * 1024);
    assert_eq!(keys.seal(&contents, Room::Widening), Err(SealError::TooLarge));
    assert!(keys.seal(&contents, Room::Restoring).is_ok(), "its backup can be put back");
    for which in (0..4000).chain(0..4000) {
        take(&mut contents, which, 1_700_000_000);
    }
    let file = keys.seal(&contents, Room::Narrowing).unwrap();
    assert!(file.len() > 1024 * 1024 && open_file(&file, &KEY, every_kind).is_ok());
}

#[test]
fn all_slots_have_room_in_a_full_vault() {
    use crate::vault::slot::SlotKind;
    use crate::vault::slots::{By, Change, NewSlot};
    let mut keys = keys();
    let mut contents = filled(&keys, crowded(3, 3, 3, 5));
    let by = By { uid: u32::MAX, now: u64::MAX, proof: &KEY };
    for kind in [SlotKind::Keychain, keys.header().slots[0].kind].into_iter().cycle().take(MOST_SLOTS - 1) {
        let new = Change::Add(NewSlot { kind, key: &[7; 32] });
        keys = keys.with_slots(&mut contents, new, by).unwrap().0;
        contents.generation += 1;
        assert!(keys.seal(&contents, Room::Widening).is_ok(), "and what is left free is no less");
    }
    assert_eq!(keys.header().slots.len(), MOST_SLOTS);
    assert!(length(keys.header()) + length(&contents.slots) <= MOST_OF_SLOTS);
}

#[test]
fn what_is_dead_makes_room_the_oldest_first_and_nothing_else_does() {
    let mut contents = crowded(4, 3, 12, 5);
    let before = contents.clone();
    assert_eq!(make(&mut contents, usize::MAX, 50), 0, "nothing is dead");
    // One revoked, one of a removed agent, one of a purged credential, one that has expired.
    let ids: Vec<u64> = contents.grants.iter().map(|grant| grant.id).collect();
    contents.grants[8].revoked = Some(9);
    contents.grants[0].expires = Some(50);
    contents.agents[0].removed = Some(9);
    let agent = contents.agents[0].id;
    contents.credentials[1].removed = Some(9);
    contents.credentials[1].versions.clear();
    contents.credentials[2].removed = Some(9);
    let (purged, kept) = (contents.credentials[1].id, contents.credentials[2].id);
    let is_dead = |grant: &Grant| {
        grant.id == ids[0] || grant.id == ids[8] || grant.agent == agent || [purged, kept].contains(&grant.credential)
    };
    let living: Vec<u64> = contents.grants.iter().filter(|one| !is_dead(one)).map(|one| one.id).collect();
    assert!(!living.is_empty() && living.len() < 9);

    let mut some = contents.clone();
    assert_eq!(make(&mut some, 1, 50), 1);
    assert!(some.grants.iter().all(|grant| grant.id != ids[0]) && some.agents.len() == 3);
    assert_eq!(some.check(), Ok(()));

    let mut all = contents.clone();
    assert_eq!(make(&mut all, usize::MAX, 50), 12 - living.len() + 2);
    assert_eq!(all.check(), Ok(()));
    assert_eq!(all.grants.iter().map(|grant| grant.id).collect::<Vec<_>>(), living);
    assert!(all.agents.len() == 2 && all.agents.iter().all(|one| one.id != agent));
    assert!(all.credentials.len() == 3 && all.credentials.iter().all(|one| one.id != purged));
    assert!(all.credentials.iter().any(|one| one.id == kept), "its values are searched for");
    assert_eq!(all.next_id, before.next_id, "no id is given again");
}
