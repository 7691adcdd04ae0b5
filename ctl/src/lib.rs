//! `strongroom`: what people and scripts say to the daemons.
//!
//! A library, so that the tests and the demo share its parts; `main.rs` is a few lines. It holds the passphrase for one
//! call, derives the key from it and sends that. It refuses secrets in arguments and in the values of environment
//! variables.
#![deny(unsafe_code)]

pub mod admin_client;
pub mod args;
pub mod catalogue;
pub mod certificates;
pub mod checkpoint;
pub mod command;
pub mod config_values;
pub mod daemon_process;
pub mod demo;
pub mod directories;
pub mod discreet;
pub mod environment;
pub mod error;
pub mod failure;
pub mod files;
pub mod hidden;
pub mod inherited;
pub mod keychain;
pub mod login;
pub mod output;
pub mod ownership;
pub mod passphrase;
pub mod pin;
pub mod profiles;
pub mod programs;
pub mod prompt;
pub mod public_suffix;
pub mod quantity;
pub mod recovery;
pub mod secret_input;
pub mod session_keyring;
pub mod sockets;
pub mod systemd;
pub mod systemd_credential;
pub mod terminal;
pub mod unit;
pub mod users;
