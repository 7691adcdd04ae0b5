//! `init`: directories, default configuration, and the vault, which keyd makes itself.
//!
//! The key is derived from the new passphrase here and handed to `strongroom-keyd create-vault`, so the only program
//! that writes vaults is keyd. It refuses to touch a vault that is there, and a home that others could change, also where
//! that happens while the passphrase is typed. The vault comes last: an `init` that fails can be repeated. Needs no running
//! daemon; in the system's home it has systemd start both.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use ring::rand::{SecureRandom, SystemRandom};
use strongroom_protocol::admin::{KeyDerivation, NewVault};
use strongroom_protocol::frame::{self, ADMIN_LIMIT};
use strongroom_protocol::home::{Home, Kind};

use super::{Context, spawn};
use crate::args::Users;
use crate::error::{CtlError, Outcome};
use crate::users::{self, Separate};
use crate::{directories, output, ownership, passphrase};

pub fn run(context: &Context, asked: &Users) -> Outcome<()> {
    let home = &context.home;
    let separate = users::resolve(home, asked)?;
    // Before anything is asked for, made or given away there.
    ownership::check(home)?;
    if home.vault().exists() {
        return Err(CtlError::failed(format!(
            "there is a vault already at {}. Nothing was changed; move it away to begin anew.",
            home.vault().display()
        )));
    }
    let phrase = context.passphrase.new_one()?;
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| CtlError::fault("the kernel gave no random bytes. Try again."))?;
    let derivation = KeyDerivation::recommended(salt);
    let key = passphrase::derive(&phrase, &derivation)?;
    // Again, and last: while somebody typed, others had all the time to exchange what was looked at.
    ownership::check(home)?;
    let config = directories::make(home, separate)?;
    // Before the vault: where there is one, the next 'init' refuses.
    let written = configuration(home, &config, separate)?;
    create_vault(separate, &NewVault { derivation, key }).inspect_err(|_| take_away(&config, &written))?;
    let next = if home.kind == Kind::System && systemd_runs_both() {
        "systemd has started both daemons. Next: 'strongroom unlock'."
    } else {
        "Next: 'strongroom up', then 'strongroom unlock'."
    };
    output::note(&format!("The vault is at {}. {next}", home.vault().display()));
    users::warn_of_root(separate);
    Ok(())
}

/// Has systemd start both daemons, where it is there and knows them. A keyd that somebody's look has started before knows
/// neither the vault nor who the gateway is: it has read no configuration, so it is started anew.
fn systemd_runs_both() -> bool {
    if !Path::new("/run/systemd/system").exists() {
        return false;
    }
    let mut command = Command::new("systemctl");
    command.args(["restart", "strongroom-keyd.service", "strongroom-gatewayd.service"]);
    // Where it fails, as without the package's units, 'up' is what remains.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn create_vault(separate: Option<Separate>, new: &NewVault) -> Outcome<()> {
    let message = frame::encode(new, ADMIN_LIMIT).map_err(|error| CtlError::fault(format!("{error}. Report it.")))?;
    let mut command = spawn::program("strongroom-keyd", separate.map(|separate| separate.keyd))?;
    command.arg("create-vault").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |error: io::Error| {
        CtlError::fault(format!("strongroom-keyd could not be run: {error}. Install all three programs together."))
    };
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // Where keyd ended early its own words say why.
        let _ = input.write_all(&message);
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(match output.status.code() {
        Some(1) => CtlError::failed(words),
        code => CtlError::of_daemon(code, words),
    })
}

/// Writes both files, in the directory that was made, whatever its name leads to by now. Gives the names of those that
/// were not there; where one cannot be written, none is left.
fn configuration(home: &Home, config: &File, separate: Option<Separate>) -> Outcome<Vec<OsString>> {
    let uids = match separate {
        Some(separate) => {
            let admin = geteuid().as_raw();
            format!("admin-uids = [{admin}]\ngateway-uid = {}\n", separate.gateway.uid)
        }
        None => "# admin-uids = [1000]\n# gateway-uid = 998\n".to_owned(),
    };
    let files =
        [(home.keyd_config(), format!("{KEYD_HEAD}{uids}{KEYD_REST}")), (home.gatewayd_config(), GATEWAYD.to_owned())];
    let mut written = Vec::new();
    for (path, text) in files {
        let name = path.file_name().unwrap_or_default();
        match write_new(config, name, &text) {
            Ok(()) => written.push(name.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                take_away(config, &written);
                return Err(CtlError::failed(format!(
                    "{} cannot be written: {error}. Check the directory.",
                    path.display()
                )));
            }
        }
    }
    Ok(written)
}

fn write_new(folder: &File, name: &OsStr, text: &str) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::from_bits_truncate(0o644))?);
    // The umask may have taken the bits by which the daemons' users read it.
    let written = file.set_permissions(Permissions::from_mode(0o644)).and_then(|()| file.write_all(text.as_bytes()));
    written.inspect_err(|_| take_away(folder, &[name.to_owned()]))
}

/// Where it stays, the next 'init' takes it for the user's own; there is no more that could be done.
fn take_away(folder: &File, names: &[OsString]) {
    for name in names {
        let _ = unlinkat(folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
}

const KEYD_HEAD: &str = "\
# keyd.toml: it can only narrow what keyd does. Check it with 'strongroom config check'.

# Who may administer, beside root, and who is the gateway; keyd's own user where nothing is said.
";

const KEYD_REST: &str = "
# Lock this long after unlocking.
# auto-lock = \"8h\"

# Lock when the machine wakes from sleep.
# lock-on-suspend = true

# Refuse to start where the kernel lacks a layer of the cage.
# require-sandbox = true

# error, warn, info, debug or trace.
# log-level = \"info\"

[audit]
# When a line has to be on the disk: interval (within a second), always, never.
# fsync = \"interval\"
";

const GATEWAYD: &str = "\
# gatewayd.toml. Check it with 'strongroom config check'.

# Where agents connect, beside agent.sock.
# listen = [\"127.0.0.1:7777\"]

# Private networks that upstreams may be in.
# allow-private-upstreams = [\"10.0.0.0/8\"]

# Names that are dialled elsewhere: HOST or HOST:PORT = ADDRESS or ADDRESS:PORT.
# [resolve]
# \"api.openai.com\" = \"127.0.0.1:8443\"
";
