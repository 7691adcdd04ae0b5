//! `create-vault`: makes the vault file from one message on standard input.
//!
//! For `strongroom init`, which derives the key from a new passphrase: so the only program that writes vaults is keyd.
//! It refuses to touch a vault that exists. Called by `main`.

use std::io::{self, Read};

use strongroom_protocol::admin::NewVault;
use strongroom_protocol::frame::{self, ADMIN_LIMIT, HEADER};
use strongroom_protocol::home::Home;
use zeroize::Zeroizing;

use crate::start_error::StartError;
use crate::{sandbox, secret, state, vault};

/// Reads the message and makes the vault.
pub fn from_standard_input(home: &Home) -> Result<(), StartError> {
    secret::prepare();
    sandbox::limits::apply();
    let mut header = [0; HEADER];
    let mut input = io::stdin().lock();
    input.read_exact(&mut header).map_err(StartError::Input)?;
    let length = frame::payload_length(&header, ADMIN_LIMIT)?;
    let mut payload = Zeroizing::new(vec![0; length]);
    input.read_exact(&mut payload).map_err(StartError::Input)?;
    let new: NewVault = frame::decode(&payload)?;
    vault::create::check_log(&home.vault(), &home.audit())?;
    vault::create::create(&home.vault(), &new, state::now())?;
    Ok(())
}
