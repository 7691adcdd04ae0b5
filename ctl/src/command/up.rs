//! `up`: both daemons without systemd.
//!
//! Makes the sockets, hands them over as systemd would, and returns when both daemons answer, leaving them in a session
//! of their own with no terminal and no pipe of our caller's; in the foreground it stays and shows what they log. It
//! refuses to start over daemons that answer, as other users than the home's, in a home that others could change, or in
//! systemd's place; to take daemons of other users for those that were asked for; and stops what it started where one of
//! them does not come up. Only one `up` works on a home at a time.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{SigSet, Signal};
use strongroom_protocol::admin::VaultState;
use strongroom_protocol::home::Home;

use super::{Context, backup_is_left, config, down, spawn, turn};
use crate::admin_client::AdminClient;
use crate::args::Users;
use crate::error::{CtlError, Outcome, UNREACHABLE};
use crate::sockets::{self, Named};
use crate::users::{self, RunAs};
use crate::{directories, files, inherited, output, ownership, systemd};

pub fn run(context: &Context, asked: &Users, foreground: bool) -> Outcome<()> {
    inherited::close_all();
    let home = &context.home;
    if both_are_up(home, asked)? == (true, true) {
        output::note("Both daemons are up already.");
        return Ok(());
    }
    if !home.vault().exists() {
        let begin = || format!("there is no vault at {}. Run 'strongroom init' first.", home.vault().display());
        return Err(CtlError::configuration(backup_is_left(home).unwrap_or_else(begin)));
    }
    if systemd::runs(home) {
        return Err(CtlError::failed(format!("systemd runs the daemons of this home. Run '{}'.", systemd::START)));
    }
    ownership::check(home)?;
    let separate = users::of_existing(home, asked)?;
    // A runtime directory does not outlive a reboot.
    directories::make_volatile(home)?;
    let turn = turn::take(home, PATIENCE_WITH_OTHERS)?;
    let (keyd_is_up, gatewayd_is_up) = both_are_up(home, asked)?;
    if keyd_is_up && gatewayd_is_up {
        output::note("Another 'strongroom up' has just started both daemons.");
        return Ok(());
    }
    users::warn_of_root(separate);
    config::one("strongroom-keyd", &home.keyd_config())?;
    config::one("strongroom-gatewayd", &home.gatewayd_config())?;
    config::listens_once(home)?;
    let mut daemons = Daemons { home: home.clone(), started: Vec::new(), logs: Vec::new(), shown: None };
    if foreground {
        // Blocked before any child is there, so that none is left behind.
        stop_signals()
            .thread_block()
            .map_err(|error| CtlError::fault(format!("signals cannot be waited for: {error}. Report it.")))?;
        let shown = Shown::new();
        daemons.shown =
            Some(shown.map_err(|error| CtlError::fault(format!("no log can be shown: {error}. Try again.")))?);
    }
    if !keyd_is_up {
        daemons.start(
            "strongroom-keyd",
            "keyd.log",
            separate.map(|one| one.keyd),
            sockets::for_keyd(home, separate)?,
        )?;
    }
    if !gatewayd_is_up {
        daemons.start(
            "strongroom-gatewayd",
            "gatewayd.log",
            separate.map(|one| one.gateway),
            sockets::for_gatewayd(home)?,
        )?;
    }
    daemons.wait_until_both_answer()?;
    down::remember(home, daemons.started.iter().map(|(name, child)| (*name, child.id())));
    drop(turn);
    if foreground {
        return daemons.wait_for_the_end();
    }
    daemons.started.clear();
    Ok(())
}

/// Whether keyd answers, and whether gatewayd is there. Those that run as other users than were asked for are an error:
/// else somebody would believe that they are apart now.
fn both_are_up(home: &Home, asked: &Users) -> Outcome<(bool, bool)> {
    let pids = match AdminClient::connect(home).and_then(|mut client| client.status()) {
        Ok(status) => [Some(status.keyd_pid), status.gatewayd_pid],
        // A gatewayd whose keyd died goes on, and connects again.
        Err(error) if error.code() == UNREACHABLE => [None, down::noted(home, "strongroom-gatewayd")],
        Err(error) => return Err(error),
    };
    if let Some(wanted) = users::named(asked)? {
        as_asked(pids.map(|pid| pid.and_then(users::of_process)), wanted).map_err(CtlError::configuration)?;
    }
    Ok((pids[0].is_some(), pids[1].is_some()))
}

/// keyd and gatewayd, as far as they run and can be seen.
fn as_asked(running: [Option<u32>; 2], wanted: [u32; 2]) -> Result<(), String> {
    let differs = |one: usize| running[one].is_some_and(|uid| uid != wanted[one]);
    let how = match running {
        _ if !differs(0) && !differs(1) => return Ok(()),
        [Some(keyd), Some(gatewayd)] => {
            format!("the daemons run as uid {keyd} and {gatewayd}, not as {} and {}", wanted[0], wanted[1])
        }
        [Some(keyd), None] => format!("keyd runs as uid {keyd}, not as {}", wanted[0]),
        [None, gatewayd] => format!("gatewayd runs as uid {}, not as {}", gatewayd.unwrap_or_default(), wanted[1]),
    };
    Err(format!("{how}. Run 'strongroom down', then this again."))
}

/// What was started so far; stopped again where something fails.
struct Daemons {
    home: Home,
    started: Vec<(&'static str, Child)>,
    /// How long their logs were before.
    logs: Vec<(&'static str, u64)>,
    /// What they log in the foreground.
    shown: Option<Shown>,
}

/// A log that is copied to standard error. The daemons get this pipe and not our terminal, into which they could type.
struct Shown {
    /// For daemons that are yet to be started.
    end: Option<PipeWriter>,
    copied: Option<JoinHandle<()>>,
}

impl Shown {
    fn new() -> io::Result<Self> {
        let (reader, end) = io::pipe()?;
        Ok(Self { end: Some(end), copied: Some(thread::Builder::new().spawn(move || copy(reader))?) })
    }

    fn ends(&self) -> io::Result<(Stdio, Stdio)> {
        let end = self.end.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((end.try_clone()?.into(), end.try_clone()?.into()))
    }
}

impl Drop for Shown {
    /// When the daemons have ended: all that they wrote is to be seen.
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.copied.take().map(JoinHandle::join);
    }
}

/// To the end, whoever reads it: a daemon must not wait for that.
fn copy(log: PipeReader) {
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    while log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        output::note(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
}

impl Daemons {
    fn start(&mut self, name: &'static str, log: &str, user: Option<RunAs>, sockets: Vec<Named>) -> Outcome<()> {
        let mut command = spawn::program(name, user)?;
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let mappings = sockets
            .into_iter()
            .zip(FIRST_DESCRIPTOR..)
            .map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd });
        command
            .fd_mappings(mappings.collect())
            .map_err(|error| CtlError::fault(format!("the sockets cannot be handed over: {error}. Report it.")))?;
        command.stdin(Stdio::null()).arg("--detach");
        if let Some(shown) = &self.shown {
            let (out, err) = shown
                .ends()
                .map_err(|error| CtlError::fault(format!("the log cannot be handed to {name}: {error}. Try again.")))?;
            command.stdout(out).stderr(err);
        } else {
            let (length, out, err) = self.log(log)?;
            self.logs.push((name, length));
            command.stdout(out).stderr(err);
        }
        let child = command.spawn().map_err(|error| {
            CtlError::fault(format!("{name} could not be started: {error}. Check that its user may run it."))
        })?;
        self.started.push((name, child));
        Ok(())
    }

    fn log(&self, name: &str) -> Outcome<(u64, Stdio, Stdio)> {
        let path = directories::logs(&self.home).join(name);
        let failed = |error| {
            CtlError::configuration(format!(
                "the log {} cannot be opened: {error}. Check the directory.",
                path.display()
            ))
        };
        let file = files::append(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok((length, file.try_clone().map_err(failed)?.into(), file.into()))
    }

    fn wait_until_both_answer(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (name, child) in &mut self.started {
                if let Ok(Some(status)) = child.try_wait() {
                    let name = *name;
                    let words = format!("{name} did not start ({status}). {}", self.last_words(name));
                    return Err(CtlError::of_daemon(status.code(), words));
                }
            }
            let status = AdminClient::connect(&self.home).and_then(|mut client| client.status());
            match status {
                Ok(status) if status.gatewayd_pid.is_some() => {
                    if status.state != VaultState::Unlocked {
                        output::note("Both daemons are up. Next: 'strongroom unlock'.");
                    }
                    return Ok(());
                }
                Err(error) if error.code() != UNREACHABLE => return Err(error),
                _ if Instant::now() > deadline => {
                    return Err(CtlError::fault(format!(
                        "the daemons do not answer. {}",
                        self.last_words("strongroom-keyd")
                    )));
                }
                _ => thread::sleep(POLL),
            }
        }
    }

    /// What a daemon wrote to its log since it was started.
    fn last_words(&self, name: &str) -> String {
        if self.shown.is_some() {
            return "See its log above.".to_owned();
        }
        let path = directories::logs(&self.home).join(format!("{}.log", name.trim_start_matches("strongroom-")));
        let before = self.logs.iter().find(|(one, _)| *one == name).map(|(_, length)| *length);
        match end_of(&path, before.unwrap_or(0)).as_slice() {
            [] => format!("Its log {} says nothing of it.", path.display()),
            lines => format!("Its log {} ends with:\n{}", path.display(), lines.join("\n")),
        }
    }

    /// Stays until a signal comes or a daemon ends.
    fn wait_for_the_end(mut self) -> Outcome<()> {
        let (sender, ended) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _ = sender.send(stop_signals().wait());
        });
        loop {
            if ended.recv_timeout(POLL).is_ok() {
                return Ok(());
            }
            for (name, child) in &mut self.started {
                if let Ok(Some(status)) = child.try_wait() {
                    // 'strongroom down', or somebody's signal: the other one ends with it.
                    if status.success() {
                        return Ok(());
                    }
                    return Err(CtlError::of_daemon(
                        status.code(),
                        format!("{name} ended by itself ({status}). See its log above."),
                    ));
                }
            }
        }
    }
}

impl Drop for Daemons {
    /// gatewayd first, so that it can drain.
    fn drop(&mut self) {
        for (name, child) in self.started.iter_mut().rev() {
            down::end(child, down::patience_with(&self.home, name));
        }
        drop(self.shown.take());
    }
}

/// The last lines of a log, of those behind what was there before.
fn end_of(path: &Path, before: u64) -> Vec<String> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = files::open(path) {
        let length = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        // A log that is shorter now was put aside meanwhile.
        let before = if before > length { 0 } else { before };
        let _ = file.seek(SeekFrom::Start(before.max(length.saturating_sub(2000))));
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    // A daemon's log holds what strangers sent it.
    lines.into_iter().rev().map(output::printable).collect()
}

fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT])
}

/// systemd's `SD_LISTEN_FDS_START`.
const FIRST_DESCRIPTOR: i32 = 3;
/// More than the daemons make.
const LONGEST_LINE: u64 = 64 * 1024;
/// A loaded machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Those before us: several may start in turn, and `down` waits for gatewayd to drain.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn daemons_of_other_users_are_told_from_those_that_were_asked_for() {
        let wanted = [61_301, 61_302];
        for running in [[Some(61_301), Some(61_302)], [Some(61_301), None], [None, Some(61_302)], [None, None]] {
            assert_eq!(as_asked(running, wanted), Ok(()), "{running:?}");
        }
        for (running, words) in [
            (
                [Some(0), Some(0)],
                "the daemons run as uid 0 and 0, not as 61301 and 61302. Run 'strongroom down', then this again.",
            ),
            (
                [Some(61_301), Some(0)],
                "the daemons run as uid 61301 and 0, not as 61301 and 61302. Run 'strongroom down', then this again.",
            ),
            ([Some(0), None], "keyd runs as uid 0, not as 61301. Run 'strongroom down', then this again."),
            ([None, Some(0)], "gatewayd runs as uid 0, not as 61302. Run 'strongroom down', then this again."),
        ] {
            assert_eq!(as_asked(running, wanted), Err(words.to_owned()), "{running:?}");
        }
    }

    #[test]
    fn of_a_log_only_what_came_since_is_shown_and_only_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyd.log");
        assert!(end_of(&path, 0).is_empty());
        fs::write(&path, "old\nnew\n\u{1b}[31mnewer\n").unwrap();
        let shown = end_of(&path, 4);
        assert!(shown[0] == "new" && shown.len() == 2 && !shown[1].contains('\u{1b}'), "{shown:?}");
        assert_eq!(end_of(&path, 1000).len(), 3, "another file than before");
        fs::write(&path, "line\n".repeat(1000)).unwrap();
        assert_eq!(end_of(&path, 0), ["line"; 5]);
    }
}
