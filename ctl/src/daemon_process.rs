//! A daemon's process, which somebody names by its number: whose it is, ended and waited for.
//!
//! It is held by a descriptor before it is looked at, so that what was looked at is what gets the signal, whoever has its
//! number by then. It refuses to signal a process that runs another program or is another user's than the home's: the
//! number may come from a keyd that is not root's, and root ends everything. Called by `down`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use strongroom_protocol::home::Home;

use crate::config_values;
use crate::error::{CtlError, Outcome};
use crate::users;

/// A process that runs one of the daemons' programs.
pub struct DaemonProcess {
    name: &'static str,
    pid: u32,
    process: Pid,
    #[cfg(target_os = "linux")]
    held: Option<std::os::fd::OwnedFd>,
}

impl DaemonProcess {
    /// The process of this number, where it lives and runs this program.
    #[must_use]
    pub fn find(name: &'static str, pid: u32) -> Option<Self> {
        let process = Pid::from_raw(i32::try_from(pid).ok().filter(|number| *number > 0)?);
        let found = Self {
            name,
            pid,
            process,
            #[cfg(target_os = "linux")]
            held: hold(process)?,
        };
        is_program(pid, name).then_some(found)
    }

    /// Whether it is one of this home's.
    ///
    /// # Errors
    /// 77 where it belongs to somebody else.
    pub fn is_of(&self, home: &Home) -> Outcome<()> {
        // It may have ended meanwhile; then there is nobody to signal.
        let Some(uid) = users::of_process(self.pid) else { return Ok(()) };
        let owners = owners(home, self.name);
        if owners.contains(&uid) {
            return Ok(());
        }
        let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
        Err(CtlError::not_permitted(format!(
            "{} (pid {}) runs as uid {uid}, and this home's would run as {}. It was not ended; find out who serves {}.",
            self.name,
            self.pid,
            if owners.is_empty() { "nobody known".to_owned() } else { format!("uid {}", owners.join(" or ")) },
            home.admin_socket().display()
        )))
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// 77 where that is not for us.
    pub fn ask_to_end(&self) -> Outcome<()> {
        match self.signal() {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(CtlError::not_permitted(format!(
                "{} (pid {}) could not be ended: {error}. Use the account that started it.",
                self.name, self.pid
            ))),
        }
    }

    /// Waits until it has ended; where that takes long, says so by this.
    ///
    /// # Errors
    /// Where it has not ended within this time.
    pub fn wait(&self, patience: Duration, say_so: impl FnOnce()) -> Outcome<()> {
        let begin = Instant::now();
        let mut say_so = Some(say_so);
        while is_program(self.pid, self.name) {
            if begin.elapsed() > SILENCE {
                say_so.take().into_iter().for_each(|say| say());
            }
            if begin.elapsed() > patience {
                return Err(CtlError::failed(format!(
                    "{} (pid {1}) has not ended in {2} s. See its log; end it with 'kill -9 {1}'.",
                    self.name,
                    self.pid,
                    patience.as_secs()
                )));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn signal(&self) -> Result<(), Errno> {
        use rustix::process::{Signal as Number, pidfd_send_signal};
        match &self.held {
            Some(held) => pidfd_send_signal(held, Number::TERM).map_err(|error| Errno::from_raw(error.raw_os_error())),
            None => kill(self.process, Signal::SIGTERM),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn signal(&self) -> Result<(), Errno> {
        kill(self.process, Signal::SIGTERM)
    }
}

/// A descriptor of the process, where the kernel has such (5.3); nothing where there is no such process.
#[cfg(target_os = "linux")]
#[allow(clippy::option_option, reason = "no process, and a process that cannot be held")]
fn hold(process: Pid) -> Option<Option<std::os::fd::OwnedFd>> {
    use rustix::process::{PidfdFlags, pidfd_open};
    match pidfd_open(rustix::process::Pid::from_raw(process.as_raw())?, PidfdFlags::empty()) {
        Ok(held) => Some(Some(held)),
        Err(rustix::io::Errno::SRCH) => None,
        Err(_) => Some(None),
    }
}

/// Whether the process is alive and runs this program. The kernel cuts the name at 15 characters.
#[must_use]
pub fn is_program(pid: u32, name: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let Some((head, tail)) = stat.rsplit_once(") ") else { return false };
    let running = head.split_once('(').is_some_and(|(_, comm)| comm == &name[..name.len().min(15)]);
    running && !tail.starts_with('Z')
}

/// As whom this daemon runs here: keyd as the owner of the vault's directory. gatewayd too, or as the gateway's user that
/// keyd.toml names, where the one who asks, or root, has written that: whoever owns a home could name anybody there.
fn owners(home: &Home, name: &str) -> Vec<u32> {
    let is_ours = |uid: u32| uid == 0 || uid == geteuid().as_raw();
    let owner = |path: &Path| {
        let named = fs::symlink_metadata(path).ok()?;
        // Somebody else's link says nothing of what it leads to.
        let owner = if named.is_symlink() && is_ours(named.uid()) { fs::metadata(path).ok()? } else { named };
        Some(owner.uid())
    };
    let mut owners: Vec<u32> = owner(&home.data).into_iter().collect();
    let is_written_by_us = |path: &Path| owner(path).is_some_and(is_ours);
    if name != KEYD && is_written_by_us(&home.config) && is_written_by_us(&home.keyd_config()) {
        owners.extend(config_values::gateway_uid(home).filter(|gateway| !owners.contains(gateway)));
    }
    owners
}

/// The program of keyd.
const KEYD: &str = "strongroom-keyd";
/// After this, people wonder.
const SILENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn other_programs_are_never_taken_for_a_daemon() {
        assert!(!is_program(std::process::id(), KEYD));
        assert!(!is_program(1, KEYD));
        for pid in [std::process::id(), 0, 1, u32::MAX] {
            assert!(DaemonProcess::find(KEYD, pid).is_none(), "{pid}");
        }
    }

    #[test]
    fn a_name_is_known_by_what_the_kernel_keeps_of_it() {
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(is_program(std::process::id(), own.trim()));
    }

    #[test]
    #[ignore = "needs root: a home of another user's"]
    fn a_homes_daemons_run_as_its_users_and_its_owner_names_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.data).unwrap();
        fs::create_dir(&home.config).unwrap();
        chown(&home.data, Some(61_001), None).unwrap();
        let both = || [owners(&home, KEYD), owners(&home, "strongroom-gatewayd")];
        assert_eq!(both(), [vec![61_001], vec![61_001]]);
        fs::write(home.keyd_config(), "gateway-uid = 61002\n").unwrap();
        assert_eq!(both(), [vec![61_001], vec![61_001, 61_002]]);
        for theirs in [home.keyd_config(), home.config.clone()] {
            chown(&theirs, Some(61_003), None).unwrap();
            assert_eq!(both(), [vec![61_001], vec![61_001]], "{}", theirs.display());
            chown(&theirs, Some(0), None).unwrap();
        }
        fs::rename(&home.data, folder.path().join("aside")).unwrap();
        symlink(folder.path().join("aside"), &home.data).unwrap();
        assert_eq!(owners(&home, KEYD), [61_001], "root's own link");
        std::os::unix::fs::lchown(&home.data, Some(61_003), None).unwrap();
        assert_eq!(owners(&home, KEYD), [61_003]);
    }
}
