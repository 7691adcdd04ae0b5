//! A slot's key in this user's keychain: put there, used, taken away again.
//!
//! keyd has the slot before the key is in the keychain, for it may take the place of one that opens the vault: what keyd
//! refuses must leave that alone. It refuses to replace a key that is there without being asked. Called by `slot.rs` and
//! `vault.rs`.

use std::time::Duration;

use nix::unistd::getuid;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{Operation, SlotKind, SlotView};

use super::{Context, slot};
use crate::args::KeychainSlot;
use crate::error::{CtlError, NOT_PERMITTED, Outcome};
use crate::keychain::{self, SlotKey, Store};
use crate::output;

/// A key that is to be kept, and where.
pub struct New {
    /// The key, of a slot that is to be.
    pub key: SlotKey,
    store: Store,
    vault: String,
}

impl New {
    /// Keeps it, in the place of an older one.
    pub fn keep(&self) -> Outcome<()> {
        keychain::set(self.store, &self.vault, &self.key)?;
        output::note(&format!("Its key is in {}: {}.", self.store, self.store.lasts()));
        Ok(())
    }
}

/// Makes a key, and chooses its place. Nothing is changed yet.
pub fn prepare(context: &Context, options: &KeychainSlot) -> Outcome<New> {
    let vault = name(context)?;
    let store = match options.store {
        Some(store) => store,
        None => {
            let choice = keychain::pick()?;
            if let Some(why) = &choice.instead {
                output::note(&format!("{why} So {} is used.", choice.store));
            }
            choice.store
        }
    };
    if keychain::get(store, &vault).is_ok() {
        context.confirm(&format!("{store} has a key for this vault already, of an older slot. Replace it?"))?;
    }
    Ok(New { key: slot::random()?, store, vault })
}

/// Opens the vault with the key that is there, or will be within this time.
pub fn unlock(context: &Context, wait: Option<Duration>) -> Outcome<()> {
    let vault = name(context)?;
    let key = match wait {
        Some(time) => keychain::wait(&vault, time)?,
        None => kept(&vault)?,
    };
    let unlocked = context.connect()?.ask_with(SecretBytes::new(key.to_vec()), Operation::Unlock);
    unlocked.map(drop).map_err(|error| match error.code() {
        NOT_PERMITTED => CtlError::not_permitted(
            "the key in the keychain opens no slot of this vault. Unlock with the passphrase, then 'strongroom slot add keychain'.",
        ),
        _ => error,
    })
}

/// The key that is there now; a keyring may ask a person for its password.
fn kept(vault: &str) -> Outcome<SlotKey> {
    let chosen = keychain::pick()?.store;
    let key = keychain::get(chosen, vault).or_else(|first| {
        // A key that was put into another store on purpose counts as well.
        let others = Store::ALL.iter().filter(|store| **store != chosen);
        others.into_iter().find_map(|store| keychain::get(*store, vault).ok()).ok_or(first)
    })?;
    Ok(key)
}

/// The slot is gone; its key is worth nothing, and is taken out where it is this user's only one.
pub fn removed(context: &Context, id: u32, before: &[SlotView]) {
    let own = getuid().as_raw();
    let ours = |slot: &&SlotView| slot.kind == SlotKind::Keychain && slot.by == Some(own);
    let mut ours = before.iter().filter(ours);
    if ours.next().is_some_and(|slot| slot.id == id) && ours.next().is_none() {
        let Ok(vault) = name(context) else { return };
        for store in Store::ALL {
            // A store that is not there has nothing to be taken out.
            if keychain::delete(*store, &vault).is_ok_and(|deleted| deleted) {
                output::note(&format!("Its key was taken out of {store}."));
            }
        }
    }
}

/// Under which a vault's key is kept: where the vault lies.
fn name(context: &Context) -> Outcome<String> {
    let vault = context.home.vault();
    vault
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| CtlError::configuration(format!("the path {} is no text. Use another home.", vault.display())))
}
