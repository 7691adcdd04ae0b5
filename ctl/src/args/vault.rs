//! `strongroom unlock`, `passphrase`, `slot ...` and `restore`: the ways into the vault.
//!
//! It refuses passphrases and codes as arguments. Read by `command/vault.rs`, `slot.rs` and `backup.rs`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{Json, number_from};
use crate::keychain::Store;

/// `strongroom unlock`
#[derive(Debug, ClapArgs)]
pub struct Unlock {
    /// With the key in this user's keychain
    #[arg(long, conflicts_with = "recovery")]
    pub keychain: bool,
    /// Wait so many seconds for somebody to unlock the keychain, and prompt nobody; for units
    #[arg(long, value_name = "SECONDS", requires = "keychain", value_parser = wait)]
    pub wait: Option<u64>,
    /// With the recovery code, from a prompt or standard input
    #[arg(long)]
    pub recovery: bool,
}

/// A passphrase that is to be.
#[derive(Debug, ClapArgs)]
pub struct NewPassphrase {
    /// Read the new passphrase from this file instead of asking for it
    #[arg(long, value_name = "FILE")]
    pub new_passphrase_file: Option<PathBuf>,
}

/// `strongroom passphrase`
#[derive(Debug, ClapArgs)]
pub struct PassphraseChange {
    /// The new one
    #[command(flatten)]
    pub new: NewPassphrase,
    /// With the recovery code in place of a passphrase that was lost; all other passphrases are removed
    #[arg(long)]
    pub recovery: bool,
}

/// `strongroom slot`
#[derive(Debug, Subcommand)]
pub enum Slot {
    /// List the ways to unlock
    List(Json),
    /// Add one
    #[command(subcommand)]
    Add(SlotAdd),
    /// Remove one, so that what it was opens the vault no more
    Remove {
        /// Its number, as 'slot list' shows it
        #[arg(value_parser = id)]
        id: u32,
    },
}

/// `strongroom slot add`
#[derive(Debug, Subcommand)]
pub enum SlotAdd {
    /// Another passphrase, which counts as the first does
    Passphrase(NewPassphrase),
    /// A key in this user's keychain, with which 'unlock --keychain' asks for nothing
    Keychain(KeychainSlot),
    /// An encrypted credential, with which systemd lets keyd unlock when it starts
    Credential(CredentialSlot),
    /// A code to write down, for the day on which the passphrase is lost
    Recovery,
}

/// `strongroom slot add keychain`
#[derive(Debug, ClapArgs)]
pub struct KeychainSlot {
    // Each system has its own.
    #[arg(long, value_parser = store, help = store_help())]
    #[allow(missing_docs, reason = "its help is its documentation")]
    pub store: Option<Store>,
}

/// `strongroom slot add credential`
#[derive(Debug, ClapArgs)]
pub struct CredentialSlot {
    /// Where the encrypted credential goes [default: /etc/credstore.encrypted/vault-key, in the system's home alone]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What encrypts it: host, tpm2, host+tpm2 or auto, see systemd-creds(1)
    #[arg(long, value_name = "KEY")]
    pub with_key: Option<String>,
}

/// `strongroom restore`
#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// A file that 'strongroom backup' made
    pub file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Read the backup's passphrase from this file, where it is not today's
    #[arg(long, value_name = "FILE")]
    pub backup_passphrase_file: Option<PathBuf>,
    /// Open the backup with a recovery code of its time
    #[arg(long, conflicts_with = "backup_passphrase_file")]
    pub recovery: bool,
    /// How to print it
    #[command(flatten)]
    pub json: Json,
}

fn id(text: &str) -> Result<u32, String> {
    number_from(0, text)
}

fn wait(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| "write a whole number of seconds, from 1 to 86400".to_owned())
}

fn store(text: &str) -> Result<Store, String> {
    Store::named(text).ok_or_else(|| format!("there is no such keychain here; known are: {}", stores()))
}

fn stores() -> String {
    Store::ALL.iter().map(|store| store.name()).collect::<Vec<_>>().join(", ")
}

fn store_help() -> String {
    format!("Which keychain ({}); the one that keeps the key longest where nothing is said", stores())
}
