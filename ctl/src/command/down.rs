//! `down`: ends both daemons, gatewayd first so that it drains.
//!
//! Both processes are known from keyd, or from `up`'s notes where it does not answer. It refuses to signal a process that
//! is not one of the daemons' programs or runs as somebody who is none of this home's, and one that began at another time
//! than the noted one: its number was used again; notes that others could have written, but not to end whom keyd names;
//! without `--yes`, a keyd that could not write down what was taken away; and what systemd runs. Called by `main`; `up` and
//! `status` use the notes too.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strongroom_protocol::CheckState;
use strongroom_protocol::admin::{Operation, Reply, Status, VaultState};
use strongroom_protocol::home::Home;

use super::{Context, turn};
use crate::admin_client::AdminClient;
use crate::daemon_process::{DaemonProcess, is_program};
use crate::error::{CtlError, NOT_PERMITTED, Outcome, UNREACHABLE};
use crate::{config_values, files, output, ownership, systemd};

pub fn run(context: &Context) -> Outcome<()> {
    let home = &context.home;
    // Keys must not stay in memory for a file's mode. But what could be planted is not used: neither notes nor lock.
    let planted = ownership::check_sockets(home);
    let noted = |name| if planted.is_ok() { noted(home, name) } else { None };
    let _turn = if planted.is_ok() { turn(home)? } else { None };
    let (status, unwritten) = match AdminClient::connect(home) {
        Ok(mut client) => {
            let status = client.status();
            let unwritten = status.as_ref().is_ok_and(|status| is_unwritten(&mut client, status));
            (status, unwritten)
        }
        Err(error) => (Err(error), false),
    };
    if unwritten && !context.yes {
        return Err(CtlError::failed(UNWRITTEN));
    }
    let asked = status.as_ref().ok();
    let gatewayd = asked.and_then(|status| status.gatewayd_pid).or_else(|| noted("strongroom-gatewayd"));
    let keyd = asked.map(|status| status.keyd_pid).or_else(|| noted("strongroom-keyd"));
    // Those that systemd runs come back with the next caller: it has their sockets.
    if keyd.map_or_else(|| gatewayd.is_none() && systemd::runs(home), systemd::is_keyd) {
        let stop = systemd::how_to_stop(home);
        return Err(CtlError::failed(format!("systemd runs the daemons of this home. {stop}")));
    }
    // Who runs here is not known then, and "nothing" is not to be said.
    if keyd.is_none() {
        planted?;
    }
    if let Err(error) = ownership::check(home) {
        output::note(&format!("strongroom: {error}"));
    }
    match status {
        // Somebody serves the socket and we may not ask: that is not "nothing was running".
        Err(error) if error.code() != UNREACHABLE && keyd.is_none() => return Err(error),
        _ => {}
    }
    let (mut ended, mut stopped) = (0, Ok(()));
    for (name, pid) in [("strongroom-gatewayd", gatewayd), ("strongroom-keyd", keyd)] {
        let Some(process) = pid.and_then(|pid| DaemonProcess::find(name, pid)) else { continue };
        // A gateway that hangs must not leave the keys in memory.
        stopped = stopped.and(stop(home, name, &process));
        ended += 1;
    }
    stopped?;
    for name in ["strongroom-gatewayd", "strongroom-keyd"] {
        // Notes about a process that is gone; they may not be there.
        for what in [PID, BEGAN] {
            let _ = fs::remove_file(note(home, name, what));
        }
    }
    if ended == 0 {
        output::note("Nothing was running.");
    }
    Ok(())
}

/// Whether keyd has taken away something that is not in its file. A keyd that does not answer cannot be asked, and is
/// ended all the same.
fn is_unwritten(client: &mut AdminClient, status: &Status) -> bool {
    // A file that cannot be used fails the same check, and nothing waits for it.
    if matches!(status.state, VaultState::Unusable(_)) {
        return false;
    }
    let Ok(Reply::Checks { keyd, .. }) = client.ask(Operation::Doctor) else { return false };
    keyd.iter().any(|check| check.name == "vault" && check.state == CheckState::Failed)
}

/// Waits for an `up` that is at work. One who may not take the lock could not end the daemons either, and is told so
/// there; without the directory nobody is at work.
fn turn(home: &Home) -> Outcome<Option<File>> {
    if !home.run.is_dir() {
        return Ok(None);
    }
    match turn::take(home, PATIENCE) {
        Err(error) if error.code() == NOT_PERMITTED => Ok(None),
        taken => taken.map(Some),
    }
}

/// Notes the daemons' processes, for when keyd cannot be asked any more.
pub fn remember<'a>(home: &Home, daemons: impl Iterator<Item = (&'a str, u32)>) {
    for (name, pid) in daemons {
        // Only a help: keyd knows both while it lives.
        let Some(began) = began(pid) else { continue };
        let _ = files::replace(&note(home, name, BEGAN), &format!("{began}\n"));
        let _ = files::replace(&note(home, name, PID), &format!("{pid}\n"));
    }
}

/// The process that `up` noted, where it still runs that program.
#[must_use]
pub fn noted(home: &Home, name: &str) -> Option<u32> {
    let read = |what| io::read_to_string(files::open(&note(home, name, what)).ok()?).ok();
    let pid = read(PID)?.trim().parse().ok()?;
    let noted_begin: u64 = read(BEGAN)?.trim().parse().ok()?;
    (is_program(pid, name) && began(pid) == Some(noted_begin)).then_some(pid)
}

/// How long a daemon may take to end: gatewayd drains first, for as long as its file says.
#[must_use]
pub fn patience_with(home: &Home, name: &str) -> Duration {
    if name == "strongroom-gatewayd" { PATIENCE.max(config_values::drain(home) + AFTER_DRAINING) } else { PATIENCE }
}

/// Ends a child of ours, and kills one that takes longer.
pub fn end(child: &mut Child, patience: Duration) {
    let Ok(pid) = i32::try_from(child.id()) else { return };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let deadline = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(POLL);
    }
}

fn stop(home: &Home, name: &str, process: &DaemonProcess) -> Outcome<()> {
    process.is_of(home)?;
    process.ask_to_end()?;
    let patience = patience_with(home, name);
    process.wait(patience, || output::note(&waits(name, patience)))
}

fn waits(name: &str, patience: Duration) -> String {
    let what = if name == "strongroom-gatewayd" { "until running requests end" } else { "for it to end" };
    format!("{name} has not ended yet; waiting {what}, for {} s at most.", patience.as_secs())
}

/// When the process began, in clock ticks since the machine did: with the number this names a process for good.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The 22nd field; the third comes first after the name, which may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn note(home: &Home, name: &str, what: &str) -> PathBuf {
    home.run.join(format!("{}.{what}", name.trim_start_matches("strongroom-")))
}

/// Said where the daemons stay.
const UNWRITTEN: &str = "what was taken away is in force and not in the vault's file, so it would come back with the next start. Make room on keyd's disk and run 'strongroom down' again; 'strongroom down --yes' loses it.";

/// The number alone, as everybody expects of such a file.
const PID: &str = "pid";
/// When that process began.
const BEGAN: &str = "began";

/// Longer than `up` waits for its daemons.
const PATIENCE: Duration = Duration::from_secs(40);
/// What is left to do for a gatewayd that has drained.
const AFTER_DRAINING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gatewayd_is_waited_for_longer_than_it_drains() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        assert_eq!(patience_with(&home, "strongroom-gatewayd"), Duration::from_secs(40));
        fs::create_dir(&home.config).unwrap();
        fs::write(home.gatewayd_config(), "[timeouts]\ndrain = \"5m\"\n").unwrap();
        assert_eq!(patience_with(&home, "strongroom-gatewayd"), Duration::from_secs(310));
        assert_eq!(patience_with(&home, "strongroom-keyd"), PATIENCE);
    }

    #[test]
    fn a_note_names_one_process_and_not_the_next_of_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.run).unwrap();
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let (name, own) = (comm.trim(), std::process::id());
        remember(&home, std::iter::once((name, own)));
        assert_eq!(noted(&home, name), Some(own));
        let began = began(own).unwrap();
        assert_eq!(fs::read_to_string(note(&home, name, PID)).unwrap(), format!("{own}\n"));
        fs::write(note(&home, name, BEGAN), (began + 1).to_string()).unwrap();
        assert_eq!(noted(&home, name), None);
        for (pid, began) in [("", "1"), ("1", ""), ("x", "5"), ("-1", "5")] {
            fs::write(note(&home, name, PID), pid).unwrap();
            fs::write(note(&home, name, BEGAN), began).unwrap();
            assert_eq!(noted(&home, name), None, "{pid:?} {began:?}");
        }
    }
}
