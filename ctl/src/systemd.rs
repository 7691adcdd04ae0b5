//! Whether systemd runs the daemons of a home: then it starts and ends them, and whoever asks how is told its command.
//!
//! It does so for the system's home where the package's units are installed. It refuses to run anything itself. Called
//! by `up` and `down`, and for what to do by `status`, `doctor` and whoever finds no keyd.

use std::fs;
use std::path::Path;

use strongroom_protocol::home::{Home, Kind};

/// Whether systemd is there and knows keyd's unit.
#[must_use]
pub fn runs(home: &Home) -> bool {
    home.kind == Kind::System && knows_keyd(Path::new("/"))
}

/// What starts the daemons of this home, in words.
#[must_use]
pub fn how_to_start(home: &Home) -> String {
    if runs(home) { format!("Run '{START}'.") } else { ELSE.to_owned() }
}

/// The same where gatewayd alone is missing.
#[must_use]
pub fn how_to_start_gatewayd(home: &Home) -> String {
    if runs(home) { format!("Run '{START_GATEWAYD}'.") } else { ELSE_GATEWAYD.to_owned() }
}

/// Whether systemd runs this process as keyd, the system's manager or a user's.
#[must_use]
pub fn is_keyd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| is_unit(&groups))
}

/// What ends the daemons of this home where systemd runs them: with their sockets, or the next caller starts them again.
#[must_use]
pub fn how_to_stop(home: &Home) -> String {
    let systemctl = if home.kind == Kind::System { "systemctl" } else { "systemctl --user" };
    format!("Run '{systemctl} stop {STOPPED}'; 'strongroom lock' alone closes the vault.")
}

/// Whether control groups, as /proc shows them, are those of keyd's unit.
fn is_unit(groups: &str) -> bool {
    groups.lines().any(|line| line.ends_with("/strongroom-keyd.service"))
}

fn knows_keyd(root: &Path) -> bool {
    root.join("run/systemd/system").is_dir()
        && UNITS.iter().any(|folder| root.join(folder).join("strongroom-keyd.service").is_file())
}

/// As `systemctl` wants it: starting what runs changes nothing, so the vault stays open.
pub const START: &str = "systemctl start strongroom-keyd.service strongroom-gatewayd.service";

const START_GATEWAYD: &str = "systemctl start strongroom-gatewayd.service";

/// As `docs/operations.md` has it, in whole words; the gateway is told first.
const STOPPED: &str = "strongroom-gateway.socket strongroom-tcp.socket strongroom-gatewayd.service strongroom-keyd.socket strongroom-admin.socket strongroom-keyd.service";

/// One user's units are not looked for.
const ELSE: &str = "Run 'strongroom up', or start strongroom-keyd.service.";

const ELSE_GATEWAYD: &str = "Run 'strongroom up', or start strongroom-gatewayd.service.";

/// Where systemd.unit(5) looks for a system's units.
const UNITS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_needs_systemd_and_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let units = root.join("usr/lib/systemd/system");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join("strongroom-keyd.service"), "").unwrap();
        assert!(!knows_keyd(root), "installed, and systemd does not run");
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
        assert!(knows_keyd(root));
        fs::remove_file(units.join("strongroom-keyd.service")).unwrap();
        assert!(!knows_keyd(root), "systemd runs, and the package is not installed");
    }

    #[test]
    fn a_home_of_ones_own_is_never_systemds() {
        let home = Home::under(Path::new("/nowhere"));
        assert!(!runs(&home) && how_to_start(&home) == ELSE && how_to_start_gatewayd(&home) == ELSE_GATEWAYD);
    }

    #[test]
    fn a_unit_is_known_by_its_control_group() {
        for groups in [
            "0::/system.slice/strongroom-keyd.service\n",
            "1:name=systemd:/user.slice/user-7.slice/user@7.service/app.slice/strongroom-keyd.service\n0::/\n",
        ] {
            assert!(is_unit(groups), "{groups}");
        }
        for groups in
            ["", "0::/\n", "0::/system.slice/other-strongroom-keyd.service.d\n", "0::/user.slice/session-1.scope\n"]
        {
            assert!(!is_unit(groups), "{groups}");
        }
    }

    #[test]
    fn what_is_to_be_stopped_names_every_socket_of_the_daemons() {
        for folder in ["../systemd", "../systemd/user"] {
            for unit in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
                let unit = unit.unwrap().file_name().into_string().unwrap();
                assert!(!unit.ends_with(".socket") || STOPPED.split(' ').any(|one| one == unit), "{unit}");
            }
        }
        assert!(how_to_stop(&Home::under(Path::new("/nowhere"))).contains("'systemctl --user stop "));
    }
}
