//! Changes that meet each other, a lock or a broken disk on their way to the file: what was said of them is true.
#![allow(clippy::unwrap_used)]

use strongroom_protocol::admin::{Field, KeyDerivation, NewCredential, NewVault, Reply, VaultFault};
use strongroom_protocol::{SecretBytes, Site};

use super::*;
use crate::admin::operation::{agent, credential, grant, restore, slot, vault};
use crate::state::fixture::{ADMIN, Fixture, new_grant};
use crate::vault::create::tests::{KEY, new_vault};
use crate::vault::{create, every_kind};

/// Of another passphrase.
const OTHER: [u8; 32] = [0x42; 32];

fn is_revoked(contents: &Contents, name: &str) -> bool {
    let mut agents = contents.agents.iter();
    agents.find(|agent| agent.name.as_str() == name).unwrap().revoked.is_some()
}

/// The file opens with the new passphrase alone once it was written, so nobody may be told that nothing was changed.
#[tokio::test(flavor = "current_thread")]
async fn a_changed_passphrase_counts_though_what_was_taken_away_meanwhile_cannot_be_written() {
    for locks in [false, true] {
        let fixture = Fixture::unlocked();
        let state = &fixture.state;
        let (proof, key) = (SecretBytes::new(KEY.to_vec()), SecretBytes::new(OTHER.to_vec()));
        let (derivation, coder) = (KeyDerivation::recommended([6; 16]), "coder".parse().unwrap());
        fixture
            .run(async {
                let held = fixture.hold_the_disk();
                let (changed, revoked, ()) = tokio::join!(
                    biased;
                    slot::change_passphrase(state, &ADMIN, Some(&proof), derivation, &key),
                    agent::revoke(state, &ADMIN, &coder, agent::Then::Keep),
                    async {
                        if locks {
                            vault::lock(state, &ADMIN).unwrap();
                        }
                        fixture.break_the_disk();
                        drop(held);
                    },
                );
                assert_eq!((changed, revoked), (Ok(()), Err(Failure::TakenButNotWritten)), "locks: {locks}");
                assert!(state.is_unwritten());
                assert!(!is_revoked(&fixture.file(&OTHER).unwrap().1, "coder"));
                if locks {
                    assert!(state.unlock_vault(&KEY, every_kind).is_err());
                    let (_, contents) = state.unlock_vault(&OTHER, every_kind).unwrap().into_parts();
                    assert!(is_revoked(&contents, "coder"));
                } else {
                    assert!(state.keys().unwrap().proves(&OTHER) && !state.keys().unwrap().proves(&KEY));
                    assert!(is_revoked(state.live().unwrap().contents(), "coder"));
                }
                fixture.mend_the_disk();
                state.write_what_was_taken().await.unwrap();
                assert!(!state.is_unwritten());
                assert!(is_revoked(&fixture.file(&OTHER).unwrap().1, "coder"));
                assert!(fixture.backup(&OTHER).is_ok() && fixture.backup(&KEY).is_err());
                vault::lock(state, &ADMIN).unwrap();
                vault::unlock(state, &ADMIN, Some(&key)).await.unwrap();
                assert!(!fixture.audit().contains("audit.cut"), "every generation was announced");
            })
            .await;
    }
}

/// Nothing of a locked vault can outlive it, so it stays.
#[tokio::test(flavor = "current_thread")]
async fn a_restore_that_a_lock_overtakes_is_refused_and_leaves_no_line() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    let (key, backup) = (SecretBytes::new(KEY.to_vec()), fixture.bytes());
    let (coder, tester) = ("coder".parse().unwrap(), "tester".parse().unwrap());
    let restores = || restore::restore(state, &ADMIN, &backup, &key);
    fixture
        .run(async {
            let held = fixture.hold_the_disk();
            let (revoked, restored, ()) = tokio::join!(
                biased;
                agent::revoke(state, &ADMIN, &coder, agent::Then::Keep),
                restores(),
                async {
                    vault::lock(state, &ADMIN).unwrap();
                    drop(held);
                },
            );
            assert_eq!((revoked, restored), (Ok(()), Err(Failure::Locked)));
            assert!(!fixture.audit().contains("vault.restore"));
            let (_, contents) = fixture.file(&KEY).unwrap();
            assert_eq!((contents.generation, is_revoked(&contents, "coder")), (6, true));

            // One that waits and is not overtaken announces the generation that it makes.
            vault::unlock(state, &ADMIN, Some(&key)).await.unwrap();
            let held = fixture.hold_the_disk();
            let (revoked, restored, ()) = tokio::join!(
                biased;
                agent::revoke(state, &ADMIN, &tester, agent::Then::Keep),
                restores(),
                async { drop(held) },
            );
            assert_eq!((revoked, restored), (Ok(()), Ok(())));
            assert!(state.live().is_none());
            let (_, contents) = fixture.file(&KEY).unwrap();
            assert_eq!((contents.generation, is_revoked(&contents, "coder")), (8, false));
            let announced = |line: &str| line.contains("vault.restore") && line.contains("\"generation\":8");
            assert!(fixture.audit().lines().any(announced), "{}", fixture.audit());
        })
        .await;
}

/// The line of the lock names the generation of before, and what whoever unlocks finds must not look like news.
#[tokio::test(flavor = "current_thread")]
async fn the_log_knows_what_a_restore_made_that_a_lock_met_at_the_disk() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    let (key, backup) = (SecretBytes::new(KEY.to_vec()), fixture.bytes());
    fixture
        .run(async {
            let held = fixture.hold_the_disk();
            let (restored, ()) = tokio::join!(biased; restore::restore(state, &ADMIN, &backup, &key), async {
                vault::lock(state, &ADMIN).unwrap();
                drop(held);
            });
            assert_eq!(restored, Ok(()));
            vault::unlock(state, &ADMIN, Some(&key)).await.unwrap();
            assert_eq!(state.live().unwrap().contents().generation, 6);
            let lines = fixture.audit();
            assert!(lines.contains("vault.restore") && !lines.contains("audit.cut"), "{lines}");
        })
        .await;
}

/// Whoever takes access away while a backup is written knows nothing of what comes back.
#[tokio::test(flavor = "current_thread")]
async fn what_is_taken_away_during_a_restore_stays_so_and_what_was_before_is_back() {
    for (locks, breaks) in [(false, false), (false, true), (true, false), (true, true)] {
        let fixture = Fixture::unlocked();
        let state = &fixture.state;
        let (key, backup) = (SecretBytes::new(KEY.to_vec()), fixture.bytes());
        let (coder, tester) = ("coder".parse().unwrap(), "tester".parse().unwrap());
        let revoke = |name| agent::revoke(state, &ADMIN, name, agent::Then::Keep);
        fixture
            .run(async {
                revoke(&tester).await.unwrap();
                let held = fixture.hold_the_disk();
                let (restored, revoked, again, ()) = tokio::join!(
                    biased;
                    restore::restore(state, &ADMIN, &backup, &key),
                    revoke(&coder),
                    revoke(&tester),
                    async {
                        if locks {
                            vault::lock(state, &ADMIN).unwrap();
                        }
                        if breaks {
                            fixture.break_the_disk();
                        }
                        drop(held);
                    },
                );
                let case = format!("locks: {locks}, breaks: {breaks}");
                assert_eq!(restored, Ok(()), "{case}");
                let unwritten = if breaks { Err(Failure::TakenButNotWritten) } else { Ok(()) };
                assert_eq!((&revoked, state.is_unwritten()), (&unwritten, breaks), "{case}");
                assert_eq!(again, Err(Failure::Locked), "it is back, so it is not done: {case}");

                let is_left = |contents: &Contents| (is_revoked(contents, "coder"), is_revoked(contents, "tester"));
                vault::unlock(state, &ADMIN, Some(&key)).await.unwrap();
                assert_eq!(is_left(state.live().unwrap().contents()), (true, false), "{case}");
                if breaks {
                    assert_eq!(is_left(&fixture.file(&KEY).unwrap().1), (false, false), "{case}");
                    fixture.mend_the_disk();
                    state.write_what_was_taken().await.unwrap();
                }
                assert!(!state.is_unwritten());
                assert_eq!(is_left(&fixture.file(&KEY).unwrap().1), (true, false), "{case}");
                let lines = fixture.audit();
                assert!(!lines.contains("audit.cut") && !lines.contains("vault.rolled-back"), "{case}: {lines}");
            })
            .await;
    }
}

/// The same while it waits for its turn.
#[tokio::test(flavor = "current_thread")]
async fn what_is_taken_away_while_a_restore_waits_stays_so() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    let (key, backup) = (SecretBytes::new(KEY.to_vec()), fixture.bytes());
    let (coder, tester) = ("coder".parse().unwrap(), "tester".parse().unwrap());
    let revoke = |name| agent::revoke(state, &ADMIN, name, agent::Then::Keep);
    fixture
        .run(async {
            let held = fixture.hold_the_disk();
            let outcomes = tokio::join!(
                biased;
                revoke(&tester),
                restore::restore(state, &ADMIN, &backup, &key),
                revoke(&coder),
                async { drop(held) },
            );
            assert_eq!(outcomes, (Ok(()), Ok(()), Ok(()), ()));
            let (_, contents) = fixture.file(&KEY).unwrap();
            assert_eq!((is_revoked(&contents, "coder"), is_revoked(&contents, "tester")), (true, false));
        })
        .await;
}

fn new_credential(name: &str, length: usize) -> NewCredential {
    NewCredential {
        name: name.parse().unwrap(),
        provider: None,
        hosts: vec!["a.example".parse().unwrap()],
        sites: vec![Site::Bearer],
        route: None,
        roots: Vec::new(),
        variables: Vec::new(),
        key_prefix: String::new(),
        deny: Vec::new(),
        keep_cookies: false,
        allow_range: false,
        value: SecretBytes::new(vec![b'k'; length]),
        allow_weak: true,
        http2: false,
        pins: Vec::new(),
    }
}

/// Adds credentials and then agents until not the smallest is taken any more.
async fn fill(state: &Rc<State>) {
    let full = Failure::OutOfBounds(Field::Vault);
    let (mut length, mut number) = (8000, 0);
    while length > 0 {
        match credential::add(state, &ADMIN, new_credential(&format!("c{number}"), length)).await {
            Ok(()) => number += 1,
            Err(failure) => {
                assert_eq!(failure, full);
                length /= 2;
            }
        }
    }
    for number in 0.. {
        if let Err(failure) = add_agent(state, &format!("a{number}")).await {
            return assert_eq!(failure, full);
        }
    }
}

async fn add_agent(state: &Rc<State>, name: &str) -> Result<(), Failure> {
    let evidence = agent::Evidence { uids: Vec::new(), unit: None, token: false };
    agent::add(state, &ADMIN, &name.parse().unwrap(), evidence).await.map(drop)
}

/// Each is in the file when it is done, and none is back after a lock.
#[tokio::test(flavor = "current_thread")]
async fn all_that_there_is_can_be_taken_away_of_a_full_vault() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    fixture
        .run(async {
            fill(state).await;
            let live = state.live().unwrap();
            let credentials = live.contents().credentials.iter().filter(|one| one.removed.is_none());
            let mut taken = 0;
            for name in credentials.map(|one| one.name.clone()) {
                credential::remove(state, &ADMIN, &name, false).await.unwrap();
                taken += 1;
            }
            for name in live.contents().agents.iter().map(|one| one.name.clone()) {
                agent::revoke(state, &ADMIN, &name, agent::Then::Keep).await.unwrap();
                agent::revoke(state, &ADMIN, &name, agent::Then::Remove).await.unwrap();
                taken += 2;
            }
            assert!(taken > 100 && !state.is_unwritten());
            let generation = live.contents().generation + taken;
            drop(live);
            vault::lock(state, &ADMIN).unwrap();
            let (_, contents) = fixture.file(&KEY).unwrap();
            assert_eq!(contents.generation, generation, "each was written");
            assert!(contents.credentials.iter().all(|one| one.removed.is_some()));
            assert!(contents.agents.iter().all(|one| one.removed.is_some()));
            assert!(contents.grants.iter().all(|one| one.revoked.is_some()));

            // Still full of values that are searched for; a purge makes room.
            drop(contents);
            vault::unlock(state, &ADMIN, Some(&SecretBytes::new(KEY.to_vec()))).await.unwrap();
            let again = || credential::add(state, &ADMIN, new_credential("c0", 8000));
            assert_eq!(again().await, Err(Failure::OutOfBounds(Field::Vault)));
            credential::remove(state, &ADMIN, &"c0".parse().unwrap(), true).await.unwrap();
            assert_eq!(again().await, Ok(()));
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_dead_makes_room_for_what_is_new() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    fixture
        .run(async {
            for agent in ["coder", "tester"] {
                grant::add(state, &ADMIN, new_grant(agent)).await.unwrap();
            }
            fill(state).await;
            let has = |agent: u64| state.live().unwrap().contents().grants.iter().any(|grant| grant.agent == agent);
            assert!(has(3) && has(4) && add_agent(state, "more").await.is_err());
            agent::revoke(state, &ADMIN, &"coder".parse().unwrap(), agent::Then::Remove).await.unwrap();
            assert!(has(3), "what narrows drops nothing");
            let next = state.live().unwrap().contents().next_id;
            add_agent(state, "more").await.unwrap();
            assert!(!has(3) && has(4));
            assert!(state.live().unwrap().contents().agents.iter().any(|agent| agent.id == next));
            assert_eq!(fixture.file(&KEY).unwrap().1.check(), Ok(()));
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_backup_has_what_the_file_has_not_yet() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    let backup = || match restore::backup(state).unwrap() {
        Reply::VaultFile(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    let has_coder = |bytes: &[u8]| {
        let (_, contents) = crate::vault::open_file(bytes, &KEY, every_kind).unwrap().into_parts();
        !is_revoked(&contents, "coder")
    };
    fixture
        .run(async {
            assert_eq!(backup(), fixture.bytes());
            fixture.break_the_disk();
            let revoked = agent::revoke(state, &ADMIN, &"coder".parse().unwrap(), agent::Then::Keep).await;
            assert_eq!(revoked, Err(Failure::TakenButNotWritten));
            assert!(has_coder(&fixture.bytes()) && !has_coder(&backup()));
            vault::lock(state, &ADMIN).unwrap();
            assert!(has_coder(&fixture.bytes()) && !has_coder(&backup()));
            fixture.mend_the_disk();
            state.write_what_was_taken().await.unwrap();
            assert!(!has_coder(&fixture.bytes()));
            assert_eq!(backup(), fixture.bytes());
        })
        .await;
}

/// Moved away by somebody who made a new one, say.
#[tokio::test(flavor = "current_thread")]
async fn another_vault_in_its_place_is_not_written_over_and_is_what_unlocks() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    let new = NewVault { key: SecretBytes::new(OTHER.to_vec()), ..new_vault() };
    let other = create::build(&new, 1).unwrap();
    let coder = "coder".parse().unwrap();
    fixture
        .run(async {
            fixture.move_away();
            assert_eq!(add_agent(state, "new").await, Err(Failure::Vault(VaultFault::Gone)));
            state.tick();
            assert!(state.live().is_some(), "it may come back, and memory alone has it");
            let Reply::VaultFile(backup) = restore::backup(state).unwrap() else { panic!() };

            fixture.put(&other);
            assert_eq!(add_agent(state, "new").await, Err(Failure::Vault(VaultFault::Exchanged)));
            let revoked = agent::revoke(state, &ADMIN, &coder, agent::Then::Keep).await;
            assert_eq!(revoked, Err(Failure::Vault(VaultFault::Exchanged)));
            assert!(is_revoked(state.live().unwrap().contents(), "coder"), "at once, all the same");
            state.tick();
            assert!(state.live().is_none() && !state.is_unwritten());
            assert_eq!(fixture.bytes(), other);
            vault::unlock(state, &ADMIN, Some(&SecretBytes::new(OTHER.to_vec()))).await.unwrap();
            add_agent(state, "new").await.unwrap();
            assert_eq!(fixture.file(&OTHER).unwrap().1.agents.len(), 1);

            // And back: what is unlocked is what lies there.
            fixture.put(&backup);
            state.tick();
            assert!(state.live().is_none());
            vault::unlock(state, &ADMIN, Some(&SecretBytes::new(KEY.to_vec()))).await.unwrap();
            agent::revoke(state, &ADMIN, &coder, agent::Then::Keep).await.unwrap();
            assert!(is_revoked(&fixture.file(&KEY).unwrap().1, "coder"));
        })
        .await;
}

/// What waits to be written belongs to the vault that was there.
#[tokio::test(flavor = "current_thread")]
async fn what_waits_for_the_disk_is_not_written_over_another_vault() {
    let fixture = Fixture::unlocked();
    let state = &fixture.state;
    let other = create::build(&new_vault(), 1).unwrap();
    fixture
        .run(async {
            fixture.break_the_disk();
            let revoked = agent::revoke(state, &ADMIN, &"coder".parse().unwrap(), agent::Then::Keep).await;
            assert_eq!(revoked, Err(Failure::TakenButNotWritten));
            vault::lock(state, &ADMIN).unwrap();
            fixture.mend_the_disk();
            fixture.put(&other);
            assert_eq!(state.write_what_was_taken().await, Err(Failure::Vault(VaultFault::Exchanged)));
            state.tick();
            assert!(!state.is_unwritten());
            assert_eq!(fixture.bytes(), other);
            vault::unlock(state, &ADMIN, Some(&SecretBytes::new(KEY.to_vec()))).await.unwrap();
            assert!(state.live().unwrap().contents().agents.is_empty());
        })
        .await;
}
