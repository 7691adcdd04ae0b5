//! Asks a keychain by ctl's own module, one thing a run, so that a test can choose the bus, the keyring and the user.
//!
//! ```text
//!   keychain set STORE VAULT      the key comes on standard input, as 64 hexadecimal digits
//!   keychain get STORE VAULT      and goes to standard output in the same way
//!   keychain delete STORE VAULT   deleted | absent
//!   keychain pick                 the store's name, and on standard error why it is not the better one
//! ```
//!
//! Words and exit codes are those of `strongroom`. It refuses other arguments. Called by `tests/keychain.rs`.

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use strongroom_ctl::error::{CtlError, Outcome};
use strongroom_ctl::keychain::{self, SlotKey, Store};

fn main() -> ExitCode {
    match run() {
        Ok(words) => {
            drop(writeln!(io::stdout(), "{words}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            drop(writeln!(io::stderr(), "keychain: {error}"));
            ExitCode::from(error.code())
        }
    }
}

fn run() -> Outcome<String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["set", store, vault] => {
            keychain::set(named(store)?, vault, &from_input()?)?;
            Ok("kept".to_owned())
        }
        ["get", store, vault] => {
            let key = keychain::get(named(store)?, vault)?;
            Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        ["delete", store, vault] => {
            Ok(if keychain::delete(named(store)?, vault)? { "deleted" } else { "absent" }.to_owned())
        }
        ["pick"] => {
            let choice = keychain::pick()?;
            if let Some(reason) = choice.instead {
                drop(writeln!(io::stderr(), "{reason}"));
            }
            Ok(choice.store.name().to_owned())
        }
        _ => Err(CtlError::usage("that is not one of the four ways to call this. See its source.")),
    }
}

fn named(store: &str) -> Outcome<Store> {
    Store::named(store).ok_or_else(|| CtlError::usage(format!("there is no store {store:?}. See the source.")))
}

fn from_input() -> Outcome<SlotKey> {
    let bad = || CtlError::usage("standard input is not 64 hexadecimal digits. Give them.");
    let mut digits = String::new();
    io::stdin().read_to_string(&mut digits).map_err(|_| bad())?;
    let mut key = SlotKey::default();
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(bad());
    }
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| bad())?;
    }
    Ok(key)
}
