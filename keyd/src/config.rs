//! keyd.toml: it can only narrow what keyd does.
//!
//! Where keys go, which roots count and who may use what is in the vault and not here, for whoever can edit this file
//! must not own the keys. A missing file means the defaults; an unknown key is an error that names its line. Called by
//! `main`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;
use serde::{Deserialize, Deserializer};
use strongroom_protocol::home::{Home, Kind};
use tracing::level_filters::LevelFilter;

use crate::audit::Fsync;
use crate::peer::{NO_UID, OVERFLOW_UID};

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Who may use admin.sock beside root; keyd's own uid where none is named.
    #[serde(deserialize_with = "uids")]
    pub admin_uids: Vec<u32>,
    /// Who may use gateway.sock; keyd's own uid where none is named, and in the system's home that of its gateway's user.
    #[serde(deserialize_with = "uid")]
    pub gateway_uid: Option<u32>,
    /// Lock this long after unlocking.
    #[serde(deserialize_with = "duration")]
    pub auto_lock: Option<Duration>,
    /// Lock when the machine wakes from sleep.
    pub lock_on_suspend: bool,
    /// Refuse to start where a layer of the cage is missing.
    pub require_sandbox: bool,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(deserialize_with = "strongroom_protocol::log::level")]
    pub log_level: LevelFilter,
    /// How the audit log is kept.
    pub audit: Audit,
}

/// The `[audit]` table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Audit {
    /// When a line has to be on the disk.
    #[serde(deserialize_with = "fsync")]
    pub fsync: Fsync,
}

impl Config {
    /// Reads the home's file; without one the defaults hold.
    ///
    /// # Errors
    /// As [`Self::load_existing`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match Self::load_existing(path) {
            Err(ConfigError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            read => read,
        }
    }

    /// Reads a file that somebody named: one that is not there is a mistake, for what it narrows would not be.
    ///
    /// # Errors
    /// Where it cannot be read, or is not understood.
    pub fn load_existing(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse(path.to_owned(), Box::new(error)))
    }

    /// The system's gateway has a user of its own, so that keyd knows it before there is a file: the sockets may start
    /// keyd before `strongroom init` has written one.
    #[must_use]
    pub fn in_home(self, home: &Home) -> Self {
        let of_system = || User::from_name(GATEWAY_USER).ok().flatten().map(|user| user.uid.as_raw());
        let gateway_uid = self.gateway_uid.or_else(|| (home.kind == Kind::System).then(of_system).flatten());
        Self { gateway_uid, ..self }
    }

    /// Whether a uid may use admin.sock; `own` is keyd's.
    #[must_use]
    pub fn is_admin(&self, uid: u32, own: u32) -> bool {
        uid == 0 || self.admin_uids.contains(&uid) || self.admin_uids.is_empty() && uid == own
    }

    /// Whether others than keyd's own uid and root may use admin.sock.
    #[must_use]
    pub fn has_other_admins(&self, own: u32) -> bool {
        self.admin_uids.iter().any(|&uid| uid != own && uid != 0)
    }

    /// Whether a uid may use gateway.sock; `own` is keyd's.
    #[must_use]
    pub fn is_gateway(&self, uid: u32, own: u32) -> bool {
        uid == self.gateway_uid.unwrap_or(own)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            admin_uids: Vec::new(),
            gateway_uid: None,
            auto_lock: None,
            lock_on_suspend: false,
            require_sandbox: false,
            log_level: LevelFilter::INFO,
            audit: Audit::default(),
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { fsync: Fsync::Interval }
    }
}

/// By packaging/strongroom.sysusers.
const GATEWAY_USER: &str = "strongroom-gateway";

fn uids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    Vec::deserialize(deserializer)?.into_iter().map(somebody).collect()
}

fn uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).and_then(somebody).map(Some)
}

/// Whoever has one of these is refused at the sockets, so naming them could never work.
fn somebody<E: serde::de::Error>(uid: u32) -> Result<u32, E> {
    match uid {
        OVERFLOW_UID | NO_UID => Err(E::custom(format!("{uid} stands for nobody; write the uid of a user"))),
        _ => Ok(uid),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_duration(&text) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(serde::de::Error::custom("write a duration like \"8h\" or \"30min\"")),
    }
}

fn fsync<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fsync, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "interval" => Ok(Fsync::Interval),
        "always" => Ok(Fsync::Always),
        "never" => Ok(Fsync::Never),
        _ => Err(serde::de::Error::custom("write interval, always or never")),
    }
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The file is not understood.
    Parse(PathBuf, Box<toml::de::Error>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => {
                write!(f, "{} cannot be read: {error}. Check its owner and mode.", path.display())
            }
            Self::Parse(path, error) => write!(f, "{} is not understood. {error}", path.display()),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = parse("").unwrap();
        assert!(config.is_admin(7, 7) && config.is_admin(0, 7) && !config.is_admin(8, 7));
        assert!(config.is_gateway(7, 7) && !config.is_gateway(0, 7));
    }

    #[test]
    fn named_uids_take_the_place_of_keyds_own() {
        let config = parse("admin-uids = [1000]\ngateway-uid = 998\n").unwrap();
        assert!(config.is_admin(1000, 7) && config.is_admin(0, 7) && !config.is_admin(7, 7));
        assert!(config.is_gateway(998, 7) && !config.is_gateway(7, 7));
        let config = parse("admin-uids = [65533, 65535]\ngateway-uid = 65533\n").unwrap();
        assert!(config.is_admin(65535, 7) && config.is_gateway(65533, 7), "beside those that are nobody's");
    }

    #[test]
    fn every_key_is_understood() {
        let text = "auto-lock = \"8h\"\nrequire-sandbox = true\nlog-level = \"debug\"\n[audit]\nfsync = \"always\"\n";
        let config = parse(text).unwrap();
        assert_eq!(config.auto_lock, Some(Duration::from_secs(8 * 3600)));
        assert!(
            config.require_sandbox && config.log_level == LevelFilter::DEBUG && config.audit.fsync == Fsync::Always
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        for text in [
            "a = 1",
            "\nadmin-uid = [1]",
            "admin-uids = [65534]",
            "admin-uids = [1000, 4294967295]",
            "gateway-uid = 65534",
            "\ngateway-uid = 4294967295",
            "auto-lock = 8",
            "auto-lock = \"soon\"",
            "log-level = \"off\"",
            "[audit]\nfsync = \"x\"",
            "[roots]",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("line "), "{text}: {error}");
        }
    }
}
