//! One command a file. This one sends each to its place and holds what several need.
//!
//! Called by `main`.

mod agent;
mod audit;
mod backup;
mod ca;
mod config;
mod credential;
mod doctor;
mod down;
mod env;
mod grant;
mod init;
mod keychain;
mod run;
mod slot;
mod spawn;
mod status;
mod turn;
mod up;
mod vault;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use nix::unistd::getuid;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{Failure, KeyDerivation, Operation, Reply, VaultState};
use strongroom_protocol::home::Home;

use crate::admin_client::AdminClient;
use crate::args::{Args, Command};
use crate::error::{CtlError, FAILED, Outcome};
use crate::output;
use crate::passphrase::{self, Source};

/// What every command gets.
struct Context {
    home: Home,
    passphrase: Source,
    yes: bool,
}

/// Does what the command line says; gives the exit code.
///
/// # Errors
/// In words, with an exit code.
pub fn run(args: Args) -> Outcome<u8> {
    // These two need no home.
    match args.command {
        Command::Demo(options) => return Ok(u8::try_from(crate::demo::run(&options)).unwrap_or(1)),
        Command::Completions { shell } => {
            // Into memory first: clap_complete panics where its reader goes away.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "strongroom", &mut script);
            return output::line(String::from_utf8_lossy(&script).trim_end()).map(|()| 0);
        }
        _ => {}
    }
    let context = Context { home: home()?, passphrase: Source::new(args.passphrase_file), yes: args.yes };
    let done = |outcome: Outcome<()>| outcome.map(|()| 0);
    match args.command {
        Command::Init(users) => done(init::run(&context, &users)),
        Command::Up { users, foreground } => done(up::run(&context, &users, foreground)),
        Command::Down => done(down::run(&context)),
        Command::Unlock(options) => done(vault::unlock(&context, &options)),
        Command::Lock => done(vault::lock(&context)),
        Command::Status(json) => status::run(&context, json.json),
        Command::Passphrase(options) => done(slot::change_passphrase(&context, &options)),
        Command::Slot(command) => done(slot::run(&context, command)),
        Command::Backup { file } => done(backup::backup(&context, &file)),
        Command::Restore(options) => done(backup::restore(&context, &options)),
        Command::Credential(command) => done(credential::run(&context, command)),
        Command::Agent(command) => done(agent::run(&context, command)),
        Command::Grant(command) => done(grant::run(&context, command)),
        Command::Env(command) => done(env::run(&context, &command)),
        Command::Run(command) => run::run(&context, &command),
        Command::Ca(command) => done(ca::run(&context, &command)),
        Command::Audit(command) => audit::run(&context, command),
        Command::Config(crate::args::Config::Check(json)) => config::check(&context, json.json),
        Command::Doctor(json) => doctor::run(&context, json.json),
        Command::Demo(_) | Command::Completions { .. } => Ok(0),
    }
}

impl Context {
    fn connect(&self) -> Outcome<AdminClient> {
        AdminClient::connect(&self.home)
    }

    /// Asks for something that widens access: with the passphrase's key as proof.
    fn widen(&self, client: &mut AdminClient, operation: Operation) -> Outcome<Reply> {
        let proof = self.proof(client)?;
        client.ask_with(proof, operation)
    }

    /// The passphrase's key. Asked for only where the vault is unlocked: else it would be asked for in vain.
    fn proof(&self, client: &mut AdminClient) -> Outcome<SecretBytes> {
        self.proof_and_derivation(client).map(|(proof, _)| proof)
    }

    fn proof_and_derivation(&self, client: &mut AdminClient) -> Outcome<(SecretBytes, KeyDerivation)> {
        let derivation = self.open_derivation(client)?;
        Ok((passphrase::derive(&self.passphrase.existing()?, &derivation)?, derivation))
    }

    /// How passphrases of a vault that is open are derived.
    fn open_derivation(&self, client: &mut AdminClient) -> Outcome<KeyDerivation> {
        client.is_for_secrets()?;
        let status = client.status()?;
        match status.state {
            VaultState::Unlocked => Ok(status.unlock.ok_or(Failure::Uninitialised)?),
            VaultState::Locked => Err(Failure::Locked.into()),
            VaultState::Uninitialised => Err(no_vault(&self.home)),
            VaultState::Unusable(fault) => Err(Failure::Vault(fault).into()),
        }
    }

    /// Asks before something that is shown by this operation is taken away. What is not there needs no question: keyd says
    /// so when it is told to take it.
    fn confirm_taking(&self, client: &mut AdminClient, shown: Operation, question: &str) -> Outcome<()> {
        match client.ask(shown) {
            Err(error) if error.code() == FAILED => Ok(()),
            Err(error) => Err(error),
            Ok(_) => self.confirm(question),
        }
    }

    /// Whether [`Self::confirm`] has an answer, or somebody to ask.
    fn can_confirm(&self) -> bool {
        self.yes || io::stdin().is_terminal()
    }

    /// Asks before something that cannot simply be undone.
    fn confirm(&self, question: &str) -> Outcome<()> {
        if self.yes {
            return Ok(());
        }
        if !self.can_confirm() {
            return Err(CtlError::usage(format!("{question} There is no terminal to ask at; say --yes.")));
        }
        let mut answer = String::new();
        let _ = write!(io::stderr(), "{question} [y/N] ");
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| CtlError::fault(format!("the answer could not be read: {error}. Say --yes.")))?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(CtlError::failed("nothing was done, as you wished. Answer 'y' where it is to be done.")),
        }
    }
}

fn home() -> Outcome<Home> {
    let installed = Path::new("/etc/strongroom").exists();
    Home::find(|name| std::env::var_os(name).map(PathBuf::from), getuid().as_raw(), installed)
        .map_err(|error| CtlError::configuration(format!("there is no home for Strongroom: {error}.")))
}

/// keyd has no vault. Where a backup of one is left, that is what helps and not a new one.
fn no_vault(home: &Home) -> CtlError {
    backup_is_left(home).map_or_else(|| Failure::Uninitialised.into(), CtlError::failed)
}

/// What is to be done where the vault is gone and its backup is there.
fn backup_is_left(home: &Home) -> Option<String> {
    let backup = home.vault().with_extension("bak");
    (!home.vault().exists() && backup.exists()).then(|| {
        format!(
            "there is no vault, but its backup {} is there. Rename it to 'vault' to use it, or move it away to start anew.",
            backup.display()
        )
    })
}

/// The one item that `show` asks for.
fn only<T>(items: Vec<T>) -> Outcome<T> {
    items.into_iter().next().ok_or_else(crate::admin_client::unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_named_where_the_vault_is_gone_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        std::fs::create_dir(&home.data).unwrap();
        assert!(no_vault(&home).to_string().contains("'strongroom init'"));
        std::fs::write(home.data.join("vault.bak"), "").unwrap();
        let error = no_vault(&home);
        assert!(error.code() == 1 && error.to_string().contains("vault.bak"), "{error}");
        std::fs::write(home.vault(), "").unwrap();
        assert_eq!(backup_is_left(&home), None);
    }
}
