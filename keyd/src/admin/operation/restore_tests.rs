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

    keep(&now, &mut restored);
    assert_eq!((restored.generation, restored.next_id), (now.generation + 1, now.next_id));
    assert!(restored.audit_key.matches(&[9; 32]));
    let points: Vec<_> = restored.ca_keys.iter().map(|key| &key.public_point).collect();
    assert_eq!(points, [&old.public_point, &now.ca_keys[0].public_point, &newer.public_point]);
    assert_eq!(restored.check(), Ok(()));
}
