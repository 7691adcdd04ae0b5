//! `slot ...` and `passphrase`: the ways to unlock the vault.
//!
//! Keys of slots are made here, brought to where they are kept, and told to keyd, which never tells one. Nothing is
//! kept that keyd refused. A keychain's slot, a credential's or a recovery code's opens the vault; only a passphrase
//! gives access. Called by `command.rs`.

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{Failure, KeyDerivation, Operation, Reply, SlotKind, SlotView, Thing};
use zeroize::Zeroizing;

use super::{Context, keychain};
use crate::admin_client::{AdminClient, unexpected};
use crate::args::{CredentialSlot, NewPassphrase, PassphraseChange, Slot, SlotAdd};
use crate::error::{CtlError, NOT_PERMITTED, Outcome};
use crate::recovery::Code;
use crate::{failure, output, passphrase, secret_input, systemd_credential};

pub fn run(context: &Context, command: Slot) -> Outcome<()> {
    match command {
        Slot::List(json) => list(context, json.json),
        Slot::Add(what) => add(context, &what),
        Slot::Remove { id } => remove(context, id),
    }
}

fn list(context: &Context, as_json: bool) -> Outcome<()> {
    let slots = slots(&mut context.connect()?)?;
    if as_json {
        let one = |slot: &SlotView| json!({ "id": slot.id, "kind": slot.kind, "added": slot.added.map(output::time), "by": slot.by });
        return output::json(&slots.iter().map(one).collect());
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |slot: &SlotView| {
        let by = slot.by.map(|uid| uid.to_string());
        vec![slot.id.to_string(), word(slot.kind).to_owned(), or_dash(slot.added.map(output::time)), or_dash(by)]
    };
    output::table(&["id", "kind", "added", "by"], slots.iter().map(row).collect())
}

fn add(context: &Context, what: &SlotAdd) -> Outcome<()> {
    match what {
        SlotAdd::Passphrase(new) => {
            let (mut client, proof, derivation) = opened(context)?;
            let key = passphrase::derive(&source(new).new_one()?, &derivation)?;
            added(&mut client, proof, SlotKind::Passphrase, key).map(drop)
        }
        SlotAdd::Recovery => {
            let (mut client, proof, _) = opened(context)?;
            let code = Code::random()?;
            let again = SecretBytes::new(proof.expose().to_vec());
            let id = added(&mut client, proof, SlotKind::Recovery, code.key())?;
            output::note("Write this code down and keep it where the vault is not. It is not shown again:");
            output::only_once(&code.text()).inspect_err(|_| take_back(&mut client, again, id))
        }
        SlotAdd::Keychain(options) => {
            let (mut client, proof, _) = opened(context)?;
            let new = keychain::prepare(context, options)?;
            let again = SecretBytes::new(proof.expose().to_vec());
            let id = added(&mut client, proof, SlotKind::Keychain, SecretBytes::new(new.key.to_vec()))?;
            // The slot first: a key that is in the keychain already opens the vault until its place is taken.
            new.keep().inspect_err(|_| take_back(&mut client, again, id))
        }
        SlotAdd::Credential(options) => add_credential(context, options),
    }
}

/// Removes a slot whose key nobody has.
fn take_back(client: &mut AdminClient, proof: SecretBytes, id: u32) {
    match client.ask_with(proof, Operation::SlotRemove { id }) {
        Ok(_) => output::note(&format!("Slot {id} was removed again, for its key could not be kept.")),
        Err(_) => output::note(&format!("Slot {id} has no key anywhere. Remove it: 'strongroom slot remove {id}'.")),
    }
}

fn add_credential(context: &Context, options: &CredentialSlot) -> Outcome<()> {
    // What is wrong in the command line is said before anything is asked for.
    let place = systemd_credential::place(&context.home, options.output.as_deref())?;
    let (mut client, proof, _) = opened(context)?;
    let key = random::<32>()?;
    let made = systemd_credential::encrypt(&place, options.with_key.as_deref(), &*key)?;
    added(&mut client, proof, SlotKind::Credential, SecretBytes::new(key.to_vec()))?;
    made.keep().inspect_err(|_| {
        output::note("The slot was added; its key is lost. Remove it: 'strongroom slot list'.");
    })?;
    output::note(&format!(
        "The credential is at {}. keyd unlocks with it when it is started by a unit with LoadCredentialEncrypted=vault-key.",
        place.display()
    ));
    Ok(())
}

/// A connection with the passphrase's key at hand.
fn opened(context: &Context) -> Outcome<(AdminClient, SecretBytes, KeyDerivation)> {
    let mut client = context.connect()?;
    let (proof, derivation) = context.proof_and_derivation(&mut client)?;
    Ok((client, proof, derivation))
}

fn added(client: &mut AdminClient, proof: SecretBytes, kind: SlotKind, key: SecretBytes) -> Outcome<u32> {
    match client.ask_with(proof, Operation::SlotAdd { kind, key })? {
        Reply::SlotAdded(id) => {
            output::note(&format!("Slot {id} was added."));
            Ok(id)
        }
        _ => Err(unexpected()),
    }
}

/// A slot in a list of changes.
pub fn name(slot: &SlotView) -> String {
    format!("{} {}", word(slot.kind), slot.id)
}

fn remove(context: &Context, id: u32) -> Outcome<()> {
    let mut client = context.connect()?;
    let all = slots(&mut client)?;
    let operation = Operation::SlotRemove { id };
    let Some(slot) = all.iter().find(|slot| slot.id == id) else {
        return Err(failure::about(Failure::NoSuch(Thing::Slot), &operation));
    };
    context
        .confirm(&format!("Remove slot {id}, a {}, so that it does not open the vault any more?", word(slot.kind)))?;
    context.widen(&mut client, operation)?;
    match slot.kind {
        SlotKind::Credential => {
            output::note("The credential's file stays where it is and opens nothing any more. Delete it.");
        }
        SlotKind::Keychain => keychain::removed(context, id, &all),
        SlotKind::Passphrase | SlotKind::Recovery => {}
    }
    Ok(())
}

/// Changes the passphrase: of a vault that is open, with the old one or with a recovery code.
pub fn change_passphrase(context: &Context, options: &PassphraseChange) -> Outcome<()> {
    let mut client = context.connect()?;
    let (proof, old) = if options.recovery {
        (recovery_key()?, context.open_derivation(&mut client)?)
    } else {
        context.proof_and_derivation(&mut client)?
    };
    // With other passphrases the derivation is one for all; else this is the time for a new salt and today's parameters.
    let all = slots(&mut client)?;
    let others = all.iter().filter(|slot| slot.kind == SlotKind::Passphrase).count() > 1 && !options.recovery;
    let derivation = if others { old } else { KeyDerivation::recommended(*random()?) };
    let key = passphrase::derive(&source(&options.new).new_one()?, &derivation)?;
    client.ask_with(proof, Operation::PassphraseChange { derivation, key }).map_err(|error| {
        if options.recovery && error.code() == NOT_PERMITTED {
            return CtlError::not_permitted(
                "the recovery code opens no slot of this vault. Nothing was changed; see 'strongroom slot list'.",
            );
        }
        error
    })?;
    if options.recovery {
        output::note(
            "Every other passphrase of the vault was removed. The recovery code still counts: make a new one with 'strongroom slot add recovery' and remove the old slot.",
        );
    }
    Ok(())
}

/// The key of a recovery code that is asked for, or comes on standard input.
pub fn recovery_key() -> Outcome<SecretBytes> {
    Ok(Code::parse(&secret_input::line("Recovery code: ")?)?.key())
}

fn slots(client: &mut AdminClient) -> Outcome<Vec<SlotView>> {
    match client.ask(Operation::SlotList)? {
        Reply::Slots(slots) => Ok(slots),
        _ => Err(unexpected()),
    }
}

fn source(new: &NewPassphrase) -> passphrase::Source {
    passphrase::Source::of("--new-passphrase-file", new.new_passphrase_file.clone())
}

pub(super) fn random<const LENGTH: usize>() -> Outcome<Zeroizing<[u8; LENGTH]>> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    SystemRandom::new()
        .fill(&mut *bytes)
        .map_err(|_| CtlError::fault("the kernel gave no random bytes. Try again."))?;
    Ok(bytes)
}

fn word(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase => "passphrase",
        SlotKind::Keychain => "keychain",
        SlotKind::Credential => "credential",
        SlotKind::Recovery => "recovery code",
    }
}
