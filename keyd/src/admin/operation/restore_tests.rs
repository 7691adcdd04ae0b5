//! What a backup would change is said whole, and what must outlive it does.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::secret::Secret;
use crate::vault::contents::Version;
use crate::vault::invariants::tests::furnished;

fn said(now: &Contents, backup: &Contents) -> Vec<(RestoreKind, Option<String>, Option<String>)> {
    let text = |name: Option<Name>| name.map(|name| name.as_str().to_owned());
    let all = differences(now, backup).into_iter();
    all.map(|change| (change.kind, text(change.credential), text(change.agent))).collect()
}

#[test]
fn the_same_is_no_difference_and_each_difference_is_one_line() {
    let now = furnished();
    assert_eq!(said(&now, &now.clone()), []);
    let credential = now.credentials.iter().position(|it| it.removed.is_none()).unwrap();
    let name = Some(now.credentials[credential].name.as_str().to_owned());

    let mut backup = now.clone();
    let value = Rc::new(Secret::copy_from(b"another value altogether").unwrap());
    let number = backup.credentials[credential].versions.last().unwrap().number + 1;
    backup.credentials[credential].versions.push(Version { number, added: 1, weak: false, value });
    assert_eq!(said(&now, &backup), [(RestoreKind::Differs, name.clone(), None)]);

    let mut backup = now.clone();
    backup.credentials[credential].removed = Some(1);
    for (changes, kind) in [(said(&now, &backup), RestoreKind::Goes), (said(&backup, &now), RestoreKind::Returns)] {
        assert!(changes.contains(&(kind, name.clone(), None)), "{changes:?}");
        assert!(changes.iter().all(|(found, of, _)| *found == kind && *of == name), "its grants with it: {changes:?}");
    }
}

#[test]
fn what_was_revoked_since_is_said_to_return() {
    let backup = furnished();
    let mut now = backup.clone();
    let agent = now.agents.iter().position(|it| it.removed.is_none() && it.revoked.is_none()).unwrap();
    now.agents[agent].revoked = Some(9);
    let name = Some(now.agents[agent].name.as_str().to_owned());
    let changes = said(&now, &backup);
    assert!(changes.contains(&(RestoreKind::Returns, None, name.clone())), "{changes:?}");
    assert!(changes.iter().all(|(kind, _, agent)| *kind == RestoreKind::Returns && *agent == name), "{changes:?}");

    let mut now = backup.clone();
    let grant = now.grants.iter().position(|it| it.revoked.is_none()).unwrap();
    now.grants[grant].revoked = Some(9);
    let changes = said(&now, &backup);
    assert!(matches!(&changes[..], [(RestoreKind::Returns, Some(_), Some(_))]), "{changes:?}");
    let mut now = backup.clone();
    now.grants[grant].rate.count += 1;
    assert!(matches!(&said(&now, &backup)[..], [(RestoreKind::Differs, Some(_), Some(_))]));
}

#[test]
fn generations_ids_the_logs_key_and_every_authority_outlive_a_restore() {
    let backup = furnished();
    let mut now = backup.clone();
    (now.generation, now.next_id) = (backup.generation + 5, backup.next_id + 7);
    now.audit_key = Rc::new(Secret::copy_from(&[9; 32]).unwrap());
    let mut newer = now.ca_keys[0].clone();
    newer.public_point[1] ^= 1;
    now.ca_keys.push(newer.clone());
    let mut restored = backup.clone();
    let mut old = restored.ca_keys[0].clone();
    old.public_point[2] ^= 1;
    restored.ca_keys.push(old.clone());

    keep(&now, &mut restored, 9);
    assert_eq!((restored.generation, restored.next_id), (now.generation + 1, now.next_id));
    assert!(restored.audit_key.matches(&[9; 32]));
    let points: Vec<_> = restored.ca_keys.iter().map(|key| &key.public_point).collect();
    assert_eq!(points, [&old.public_point, &now.ca_keys[0].public_point, &newer.public_point]);
    assert_eq!(restored.check(), Ok(()));
}

/// Values of a credential, oldest first, with their numbers.
fn values(credential: &Credential) -> Vec<(u32, Vec<u8>)> {
    credential.versions.iter().map(|version| (version.number, version.value.to_vec())).collect()
}

/// An answer may hold a key of yesterday for longer than a restore takes.
#[test]
fn values_that_the_backup_does_not_know_are_searched_for_on_and_not_used() {
    let secret = |text: &[u8]| Rc::new(Secret::copy_from(text).unwrap());
    let version = |number, text| Version { number, added: 1, weak: false, value: secret(text) };
    let backup = furnished();
    let living = backup.credentials.iter().position(|it| it.removed.is_none()).unwrap();
    let in_use = backup.credentials[living].versions.last().unwrap().value.to_vec();
    let mut now = backup.clone();
    now.generation += 3;
    let number = now.credentials[living].versions.last().unwrap().number;
    now.credentials[living].versions.push(version(number + 1, b"rotated since then"));
    let mut newer = backup.credentials[living].clone();
    (newer.id, newer.created) = (now.next_id, newer.created + 5);
    newer.name = "newer".parse().unwrap();
    newer.versions = vec![version(1, b"of a newer credential")];
    now.next_id += 1;
    now.credentials.push(newer);
    let mut purged = now.credentials[living].clone();
    (purged.id, purged.removed) = (now.next_id, Some(5));
    purged.versions.clear();
    now.next_id += 1;
    now.credentials.push(purged);
    assert_eq!(now.check(), Ok(()));

    let mut restored = backup.clone();
    keep(&now, &mut restored, 77);
    assert_eq!(restored.check(), Ok(()));
    let same = values(&restored.credentials[living]);
    assert_eq!(same[same.len() - 2..], [(number + 1, b"rotated since then".to_vec()), (number + 2, in_use)]);
    let added = &restored.credentials[backup.credentials.len()..];
    assert_eq!(added.len(), 1, "what was purged stays so");
    assert_eq!(values(&added[0]), [(1, b"of a newer credential".to_vec())]);
    assert_eq!((added[0].removed, restored.grants.len()), (Some(77), backup.grants.len()));

    // And of the same contents nothing becomes more.
    let mut restored = backup.clone();
    keep(&backup, &mut restored, 77);
    for (one, other) in restored.credentials.iter().zip(&backup.credentials) {
        assert_eq!(values(one), values(other));
    }
    assert_eq!(restored.credentials.len(), backup.credentials.len());
}

/// Names of two moments and a backup in which everything has another id.
#[test]
fn what_is_taken_away_meanwhile_is_taken_from_what_has_its_name() {
    let before = furnished();
    let mut backup = before.clone();
    backup.next_id += 100;
    for agent in &mut backup.agents {
        agent.id += 100;
    }
    for grant in &mut backup.grants {
        (grant.id, grant.agent) = (grant.id + 100, grant.agent + 100);
    }
    assert_eq!(backup.check(), Ok(()));
    type Take = fn(&mut Contents, u64);
    let taken = |take: Take| {
        let (mut now, mut restored) = (before.clone(), backup.clone());
        now.generation += 1;
        take(&mut now, before.generation + 1);
        take_away(&before, &now, &mut restored);
        assert_eq!((restored.check(), restored.generation), (Ok(()), now.generation + 1));
        restored
    };
    let revoked = |restored: &Contents| restored.grants.iter().map(|grant| grant.revoked).collect::<Vec<_>>();

    let same = taken(|_, _| {});
    assert_eq!(said(&backup, &same), []);
    let restored = taken(|now, changed| (now.grants[1].changed, now.grants[1].revoked) = (changed, Some(9)));
    assert_eq!(revoked(&restored), [None, Some(9)]);
    assert!(restored.agents.iter().all(|agent| agent.revoked.is_none()));
    let restored = taken(|now, changed| (now.agents[0].changed, now.agents[0].revoked) = (changed, Some(9)));
    let ends = |restored: &Contents| restored.agents.iter().map(|it| (it.revoked, it.removed)).collect::<Vec<_>>();
    assert_eq!(ends(&restored), [(Some(9), None), (None, None)]);
    let restored = taken(|now, changed| {
        (now.agents[1].changed, now.agents[1].revoked, now.agents[1].removed) = (changed, Some(8), Some(9))
    });
    assert_eq!(ends(&restored), [(None, None), (Some(8), Some(9))]);
    let restored = taken(|now, changed| {
        now.agents[0].changed = changed;
        now.agents[0].egress.clear();
    });
    assert_eq!(restored.agents[0].egress, []);
    assert_eq!(ends(&restored), [(None, None), (None, None)]);
    assert_eq!(restored.agents[1].egress, backup.agents[1].egress);
    let restored = taken(|now, changed| (now.credentials[0].changed, now.credentials[0].removed) = (changed, Some(9)));
    assert_eq!(restored.credentials[0].removed, Some(9));
    assert_eq!(revoked(&restored), [Some(9), Some(9)]);
    // What was gone before is not among it.
    let mut before = furnished();
    (before.agents[0].changed, before.agents[0].revoked) = (before.generation, Some(3));
    let mut restored = backup.clone();
    take_away(&before, &before, &mut restored);
    assert_eq!(ends(&restored), [(None, None), (None, None)]);
}

/// While a backup is put back, what was taken away may make room for something else.
#[test]
fn what_was_taken_away_and_dropped_meanwhile_is_taken_away_too() {
    let before = furnished();
    let mut now = before.clone();
    now.generation += 3;
    now.grants.remove(0);
    let mut restored = before.clone();
    take_away(&before, &with_what_made_room(&before, &now, 9), &mut restored);
    assert_eq!(restored.grants.iter().map(|grant| grant.revoked).collect::<Vec<_>>(), [Some(9), None]);
    assert!(restored.agents.iter().all(|agent| agent.revoked.is_none()));

    now.agents.remove(0);
    now.credentials.remove(0);
    let mut restored = before.clone();
    take_away(&before, &with_what_made_room(&before, &now, 9), &mut restored);
    assert_eq!((restored.agents[0].revoked, restored.agents[0].removed), (Some(9), Some(9)));
    assert_eq!((restored.agents[1].removed, restored.credentials[0].removed), (None, Some(9)));

    // What was dead before is no news, nor what is still there.
    let mut dead = before.clone();
    dead.grants[0].revoked = Some(3);
    let mut restored = before.clone();
    let mut now = dead.clone();
    now.grants.remove(0);
    take_away(&dead, &with_what_made_room(&dead, &now, 9), &mut restored);
    assert!(restored.grants.iter().all(|grant| grant.revoked.is_none()));
}
