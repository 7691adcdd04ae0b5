//! keyd's failures in words, each with its exit code.
//!
//! keyd sends codes, for a message of its making must not be able to carry anything else; the words are here. Called by
//! `admin_client.rs`.

use strongroom_protocol::Name;
use strongroom_protocol::admin::{
    BadKey, Failure, Field, LONGEST_KEY, MOST_EGRESS, MOST_HOSTS, MOST_PINS, MOST_ROOTS, MOST_RULES, MOST_SITES,
    MOST_SLOTS, MOST_UIDS, Operation, Thing, VaultFault,
};

use crate::error::CtlError;

impl From<Failure> for CtlError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Locked => Self::locked("the vault is locked. Run 'strongroom unlock'."),
            Failure::Uninitialised => Self::failed("there is no vault yet. Run 'strongroom init'."),
            Failure::WrongPassphrase => Self::not_permitted("the passphrase is wrong. Nothing was changed; try again."),
            Failure::PassphraseNeeded => {
                Self::not_permitted("this needs the passphrase. Give it at the prompt or with --passphrase-file.")
            }
            Failure::NotPermitted => Self::not_permitted(
                "keyd does not take orders from this user. Use an admin's account, or name this uid in admin-uids in keyd.toml.",
            ),
            Failure::NoSuch(thing) => Self::failed(format!(
                "there is no such {0}. Run 'strongroom {0} list' for those there are.",
                word(thing)
            )),
            Failure::Exists(Thing::Grant) => Self::failed(
                "the agent has a grant of this credential already. Revoke it first, or see 'strongroom grant list'.",
            ),
            Failure::Exists(thing) => Self::failed(format!(
                "there is {} {} of that name already. Choose another name, or remove that one first.",
                article(thing),
                word(thing)
            )),
            Failure::Revoked(thing) => Self::failed(format!(
                "the {} was revoked. Remove it and add it again where it is to be used again.",
                word(thing)
            )),
            Failure::BadKey(bad) => Self::failed(bad_key(bad)),
            Failure::RouteTaken => Self::failed(
                "another credential's route of that name leads to another host. Choose another with --route.",
            ),
            Failure::OutOfBounds(field) => Self::failed(out_of_bounds(field)),
            Failure::BadHost(_) => Self::failed("a host is named twice. Name each once."),
            Failure::Vault(fault) => vault(fault),
            Failure::NotWritten => Self::failed(
                "the vault could not be written, and nothing was changed. Check the disk that holds it, then try again.",
            ),
            Failure::TakenButNotWritten => Self::failed(
                "access was taken away at once, but the vault could not be written, so it would come back with the next start of keyd. Make room on its disk: keyd tries again each second, and 'strongroom doctor' says when it is done.",
            ),
            Failure::Audit => Self::failed(
                "the audit log could not be used, so nothing was done. Check the disk that holds it, and keyd's log; where its last line was changed, restore the file or cut it back to its last good line.",
            ),
            Failure::BadMessage => {
                Self::fault("keyd could not read the request. Install programs of one release and restart them.")
            }
            Failure::Version(version) => Self::unreachable(format!(
                "keyd speaks another version of the protocol ({version}). Install programs of one release and restart keyd."
            )),
            Failure::TooManyTries(seconds) => Self::not_permitted(format!(
                "several passphrases were wrong, so the next counts only in {seconds} seconds. Wait, then try again."
            )),
            Failure::LastPassphrase => Self::failed(
                "this is the only passphrase, and nothing else gives access. Change it with 'strongroom passphrase', or add another first.",
            ),
            Failure::WrongBackupKey => Self::not_permitted(
                "the passphrase does not open the backup. Give the one of its time with --backup-passphrase-file, or --recovery.",
            ),
            Failure::Backup(fault) => Self::failed(backup(fault)),
            Failure::LockedMemory => Self::failed(
                "keyd may not lock as much memory as the keys need. Raise the limit (LimitMEMLOCK= in its unit, 'ulimit -l' before 'strongroom up') and start keyd again.",
            ),
            Failure::Internal => Self::fault("keyd met a fault of its own. Look into its log, and report it."),
        }
    }
}

/// A failure of this operation: what is missing is named, as the command line named it.
#[must_use]
pub fn about(failure: Failure, operation: &Operation) -> CtlError {
    let Failure::NoSuch(thing) = failure else { return failure.into() };
    let Some(named) = named(thing, operation) else { return failure.into() };
    CtlError::failed(format!("there is no {named}. Run 'strongroom {} list' for those there are.", word(thing)))
}

/// Not the credential to rotate: somebody who leaves the name out writes the key in its place.
fn named(thing: Thing, operation: &Operation) -> Option<String> {
    let called = |name: &Name| Some(format!("{} '{name}'", word(thing)));
    match (thing, operation) {
        (
            Thing::Agent,
            Operation::AgentShow { name }
            | Operation::AgentRevoke { name }
            | Operation::AgentRemove { name }
            | Operation::AgentAllow { name, .. }
            | Operation::AgentDisallow { name, .. }
            | Operation::GrantRevoke { agent: name, .. }
            | Operation::Environment { agent: name, .. },
        ) => called(name),
        (Thing::Agent, Operation::GrantAdd(new)) => called(&new.agent),
        (
            Thing::Credential,
            Operation::CredentialShow { name }
            | Operation::CredentialRemove { name, .. }
            | Operation::GrantRevoke { credential: name, .. },
        ) => called(name),
        (Thing::Credential, Operation::GrantAdd(new)) => called(&new.credential),
        (Thing::Grant, Operation::GrantRevoke { credential, agent }) => {
            Some(format!("grant of '{credential}' to '{agent}'"))
        }
        (Thing::Slot, Operation::SlotRemove { id }) => Some(format!("slot {id}")),
        _ => None,
    }
}

fn word(thing: Thing) -> &'static str {
    match thing {
        Thing::Credential => "credential",
        Thing::Agent => "agent",
        Thing::Grant => "grant",
        Thing::Slot => "slot",
    }
}

fn article(thing: Thing) -> &'static str {
    match thing {
        Thing::Agent => "an",
        Thing::Credential | Thing::Grant | Thing::Slot => "a",
    }
}

fn bad_key(bad: BadKey) -> String {
    match bad {
        BadKey::Empty => "the key is empty. Give it on standard input or at the prompt.".to_owned(),
        BadKey::TooLong => format!("the key has more than {LONGEST_KEY} bytes. Check that it is the key alone."),
        BadKey::Character => {
            "the key has white space, a control character or, where it goes into JSON, bytes that are no UTF-8. Check that it is the key alone, on one line; keys of several words or lines are not taken.".to_owned()
        }
        BadKey::Short => "the key has fewer than 16 bytes, so it could not be masked in answers without helping to guess it. Use a longer key, or take this one unmasked with --allow-weak.".to_owned(),
        BadKey::Guessable => "the key looks guessable, so it could not be masked in answers without helping to guess it. Use a random key, or take this one unmasked with --allow-weak.".to_owned(),
    }
}

fn out_of_bounds(field: Field) -> String {
    match field {
        Field::Hosts => format!("a credential has 1 to {MOST_HOSTS} hosts. Name them with --host."),
        Field::Sites => {
            format!("a credential has 1 to {MOST_SITES} positions. Name them with --bearer, --header and their like.")
        }
        Field::Roots => {
            format!("a credential has at most {MOST_ROOTS} roots, each a certificate. Check the file of --ca.")
        }
        Field::Rules => format!("there are at most {MOST_RULES} rules. Put some of them into one pattern."),
        Field::Variables => "a variable's name is not one. Use letters, digits and '_'.".to_owned(),
        Field::KeyPrefix => "the provider's key prefix is out of bounds. Correct the catalogue's entry.".to_owned(),
        Field::Rate => "a rate needs at least one request. Write it like '200/hour'.".to_owned(),
        Field::Expiry => {
            "a grant expires between a second and a hundred years from now. Write it like '30d'.".to_owned()
        }
        Field::Route => "a route needs a host without '*'. Name one with --host, or leave --route out.".to_owned(),
        Field::Pins => format!("a credential has at most {MOST_PINS} pins, each once. Check what was given to --pin."),
        Field::Uids => format!(
            "an agent has at most {MOST_UIDS} users, each once, and not 65534, which stands for strangers. Check what was given to --uid."
        ),
        Field::Unit => "the unit is not the name of a systemd service. Write it like 'coder.service'.".to_owned(),
        Field::Egress => format!(
            "an agent may reach at most {MOST_EGRESS} hosts without a key. Take some away with 'strongroom agent disallow'."
        ),
        Field::Slots => format!("a vault has at most {MOST_SLOTS} ways to unlock. Remove one with 'strongroom slot remove'."),
        Field::Derivation => "the key was derived otherwise than the vault's other passphrases. Use the 'strongroom' of the same release.".to_owned(),
        Field::Vault => "there is no more room in the vault, where keys that were removed stay until they are purged. Purge what is no longer used with 'strongroom credential remove NAME --purge', of those that were removed too.".to_owned(),
    }
}

fn backup(fault: VaultFault) -> &'static str {
    match fault {
        VaultFault::UnknownVersion => {
            "the backup was made by a newer version of Strongroom. Install that version, or a newer one."
        }
        VaultFault::Forged | VaultFault::KdfOutOfBounds => {
            "the backup was changed by somebody who does not have its key. Nothing was changed; use another."
        }
        _ => "the backup is no whole vault file. Nothing was changed; use another.",
    }
}

fn vault(fault: VaultFault) -> CtlError {
    let words = match fault {
        VaultFault::Unreadable => "the vault file cannot be read. Check its owner and mode, and the disk.",
        VaultFault::NotAVault => {
            "the vault file is something else. Put the right file in its place, or the backup 'vault.bak'."
        }
        VaultFault::UnknownVersion => {
            "the vault file was made by a newer version of Strongroom, or by none. Install that version, or a newer one."
        }
        VaultFault::Truncated => "the vault file is not complete. Put the backup 'vault.bak' in its place.",
        VaultFault::Damaged => {
            "the vault file is damaged. Put the backup 'vault.bak' in its place; the passphrase is not the trouble."
        }
        VaultFault::KdfOutOfBounds => {
            "the vault file asks for a key derivation outside the accepted bounds, as no vault of ours does. Put the backup in its place."
        }
        VaultFault::Forged => {
            "the vault file was changed by somebody who does not have its key. Put the backup 'vault.bak' in its place, and find out who."
        }
        VaultFault::TooLarge => "the vault file is larger than any vault. Put the backup 'vault.bak' in its place.",
        VaultFault::InUse => "another keyd has the vault open. Stop it with 'strongroom down'.",
        VaultFault::Exchanged => {
            "another vault lies in the place of the one that keyd had open, so nothing was written, and keyd lets go of the one that it had. Unlock the vault that is there now, or put the other one back, and then do this again."
        }
        VaultFault::Gone => {
            "the vault file is gone from its place, so nothing was written. Put it back, or a copy that 'strongroom backup' makes now, and then do this again; access that was taken away stays so meanwhile."
        }
    };
    CtlError::failed(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every failure there is. A new one has to be named in `code` too, which has no arm for "the rest".
    fn every() -> Vec<Failure> {
        use Failure as F;
        let mut every = vec![
            F::Locked,
            F::Uninitialised,
            F::WrongPassphrase,
            F::PassphraseNeeded,
            F::NotPermitted,
            F::RouteTaken,
            F::BadHost(strongroom_protocol::admin::BadHost::Twice),
            F::NotWritten,
            F::TakenButNotWritten,
            F::Audit,
            F::BadMessage,
            F::Version(9),
            F::Internal,
            F::TooManyTries(8),
            F::LastPassphrase,
            F::WrongBackupKey,
            F::LockedMemory,
        ];
        for thing in [Thing::Credential, Thing::Agent, Thing::Grant, Thing::Slot] {
            every.extend([F::NoSuch(thing), F::Exists(thing), F::Revoked(thing)]);
        }
        every.extend(
            [BadKey::Empty, BadKey::TooLong, BadKey::Character, BadKey::Short, BadKey::Guessable].map(F::BadKey),
        );
        every.extend(
            [
                Field::Hosts,
                Field::Sites,
                Field::Roots,
                Field::Rules,
                Field::Variables,
                Field::KeyPrefix,
                Field::Rate,
                Field::Expiry,
                Field::Route,
                Field::Vault,
                Field::Pins,
                Field::Uids,
                Field::Unit,
                Field::Egress,
                Field::Slots,
                Field::Derivation,
            ]
            .map(F::OutOfBounds),
        );
        every.extend(
            [
                VaultFault::Unreadable,
                VaultFault::NotAVault,
                VaultFault::UnknownVersion,
                VaultFault::Truncated,
                VaultFault::Damaged,
                VaultFault::KdfOutOfBounds,
                VaultFault::Forged,
                VaultFault::TooLarge,
                VaultFault::InUse,
                VaultFault::Exchanged,
                VaultFault::Gone,
            ]
            .map(F::Vault),
        );
        every.extend([VaultFault::UnknownVersion, VaultFault::Forged, VaultFault::Damaged].map(F::Backup));
        every
    }

    fn code(failure: Failure) -> u8 {
        match failure {
            Failure::Locked => 75,
            Failure::WrongPassphrase
            | Failure::PassphraseNeeded
            | Failure::NotPermitted
            | Failure::TooManyTries(_)
            | Failure::WrongBackupKey => 77,
            Failure::Version(_) => 69,
            Failure::BadMessage | Failure::Internal => 70,
            Failure::Uninitialised
            | Failure::NoSuch(_)
            | Failure::Exists(_)
            | Failure::Revoked(_)
            | Failure::BadKey(_)
            | Failure::RouteTaken
            | Failure::OutOfBounds(_)
            | Failure::BadHost(_)
            | Failure::Vault(_)
            | Failure::NotWritten
            | Failure::TakenButNotWritten
            | Failure::LastPassphrase
            | Failure::Backup(_)
            | Failure::LockedMemory
            | Failure::Audit => 1,
        }
    }

    #[test]
    fn exit_codes_follow_the_contract() {
        for failure in every() {
            assert_eq!(CtlError::from(failure).code(), code(failure), "{failure:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named_where_it_is_known() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let said = |thing, operation: Operation| about(Failure::NoSuch(thing), &operation).to_string();
        let revoke = || Operation::GrantRevoke { credential: name("c"), agent: name("nope") };
        let list = |what: &str| format!(" Run 'strongroom {what} list' for those there are.");
        assert_eq!(said(Thing::Agent, revoke()), "there is no agent 'nope'.".to_owned() + &list("agent"));
        assert_eq!(said(Thing::Grant, revoke()), "there is no grant of 'c' to 'nope'.".to_owned() + &list("grant"));
        assert_eq!(
            said(Thing::Slot, Operation::SlotRemove { id: 9 }),
            "there is no slot 9.".to_owned() + &list("slot")
        );
        let rotate = Operation::CredentialRotate {
            name: name("sk-live-1234"),
            value: strongroom_protocol::SecretBytes::new(Vec::new()),
            allow_weak: false,
        };
        assert!(!said(Thing::Credential, rotate).contains("sk-live-1234"), "it may be a key");
        assert_eq!(about(Failure::Locked, &revoke()), Failure::Locked.into());
    }

    #[test]
    fn the_words_are_those_of_the_file() {
        let mut text = String::new();
        for failure in every() {
            let error = CtlError::from(failure);
            let words = error.to_string();
            assert!(words.ends_with('.') && words.contains(". "), "{words}: what happened, then what to do");
            text += &format!("{failure:?}: {}\n    {words}\n", error.code());
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text/failures.txt");
        if std::env::var_os("UPDATE_TEXTS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap(), "UPDATE_TEXTS=1 writes the file anew");
    }
}
