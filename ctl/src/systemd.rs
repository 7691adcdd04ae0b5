//! Whether systemd runs the daemons of a home: then it starts and ends them, and whoever asks how is told its command.
//!
//! It does so for the system's home where the package's units are installed. It refuses to run anything itself. Called
//! by `up`, and for what to do by `status`, `doctor` and whoever finds no keyd.

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

fn knows_keyd(root: &Path) -> bool {
    root.join("run/systemd/system").is_dir()
        && UNITS.iter().any(|folder| root.join(folder).join("strongroom-keyd.service").is_file())
}

/// As `systemctl` wants it: starting what runs changes nothing, so the vault stays open.
pub const START: &str = "systemctl start strongroom-keyd.service strongroom-gatewayd.service";

/// One user's units are not looked for.
const ELSE: &str = "Run 'strongroom up', or start strongroom-keyd.service.";

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
    use std::fs;

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
        assert!(!runs(&home) && how_to_start(&home) == ELSE);
    }
}
