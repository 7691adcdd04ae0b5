//! `unlock` and `lock`. Unlocking what is unlocked is done already, and asks for nothing.

use std::time::Duration;

use strongroom_protocol::admin::{Failure, Operation, VaultState};

use super::{Context, keychain, no_vault, slot};
use crate::args::Unlock;
use crate::error::{CtlError, NOT_PERMITTED, Outcome};
use crate::output;
use crate::passphrase;

pub fn unlock(context: &Context, options: &Unlock) -> Outcome<()> {
    let mut client = context.connect()?;
    client.is_for_secrets()?;
    let status = client.status()?;
    match status.state {
        VaultState::Unlocked => {
            output::note("The vault is unlocked already.");
            return Ok(());
        }
        VaultState::Locked => {}
        VaultState::Uninitialised => return Err(no_vault(&context.home)),
        VaultState::Unusable(fault) => return Err(Failure::Vault(fault).into()),
    }
    drop(client);
    // Each of the others may wait for a person, for longer than keyd waits for a question.
    if options.keychain {
        return keychain::unlock(context, options.wait.map(Duration::from_secs));
    }
    if options.recovery {
        let key = slot::recovery_key()?;
        let unlocked = context.connect()?.ask_with(key, Operation::Unlock);
        return unlocked.map(drop).map_err(|error| match error.code() {
            NOT_PERMITTED => {
                CtlError::not_permitted("the recovery code opens no slot of this vault. See 'strongroom slot list'.")
            }
            _ => error,
        });
    }
    let derivation = status.unlock.ok_or(Failure::Uninitialised)?;
    let key = passphrase::derive(&context.passphrase.existing()?, &derivation)?;
    context.connect()?.ask_with(key, Operation::Unlock).map(drop)
}

pub fn lock(context: &Context) -> Outcome<()> {
    context.connect()?.ask(Operation::Lock).map(drop)
}
