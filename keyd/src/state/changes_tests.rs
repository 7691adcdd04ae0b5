//! Changes that meet each other, a lock or a broken disk on their way to the file: what was said of them is true.
#![allow(clippy::unwrap_used)]

use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::KeyDerivation;

use super::*;
use crate::admin::operation::{agent, slot, vault};
use crate::state::fixture::{ADMIN, Fixture};
use crate::vault::create::tests::KEY;
use crate::vault::every_kind;

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
