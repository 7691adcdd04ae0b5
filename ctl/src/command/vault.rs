//! `unlock` and `lock`. Unlocking what is unlocked is done already, and asks for nothing.

use strongroom_protocol::admin::{Failure, Operation, VaultState};

use super::Context;
use crate::error::Outcome;
use crate::output;
use crate::passphrase;

pub fn unlock(context: &Context) -> Outcome<()> {
    let mut client = context.connect()?;
    let status = client.status()?;
    match status.state {
        VaultState::Unlocked => {
            output::note("The vault is unlocked already.");
            return Ok(());
        }
        VaultState::Locked => {}
        VaultState::Uninitialised => return Err(Failure::Uninitialised.into()),
        VaultState::Unusable(fault) => return Err(Failure::Vault(fault).into()),
    }
    let derivation = status.unlock.ok_or(Failure::Uninitialised)?;
    let key = passphrase::derive(&context.passphrase.existing()?, &derivation)?;
    client.ask_with(key, Operation::Unlock).map(drop)
}

pub fn lock(context: &Context) -> Outcome<()> {
    context.connect()?.ask(Operation::Lock).map(drop)
}
