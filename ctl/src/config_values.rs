//! The few settings of the daemons' files that ctl itself has to know.
//!
//! The files belong to the daemons, whose parsers judge them (`config check`); this reads single values and refuses
//! nothing: what is not understood is as good as not said. Called by `up`, `down` and `status`.

use std::io;
use std::path::Path;
use std::time::Duration;

use strongroom_protocol::home::Home;
use toml::{Table, Value};

use crate::files;

/// `gateway-uid` of keyd.toml.
#[must_use]
pub fn gateway_uid(home: &Home) -> Option<u32> {
    table(&home.keyd_config())?.get("gateway-uid")?.as_integer().and_then(|uid| u32::try_from(uid).ok())
}

/// `admin-uids` of keyd.toml.
#[must_use]
pub fn admin_uids(home: &Home) -> Vec<u32> {
    let named = table(&home.keyd_config()).and_then(|table| match table.get("admin-uids")? {
        Value::Array(items) => Some(items.iter().filter_map(|item| u32::try_from(item.as_integer()?).ok()).collect()),
        _ => None,
    });
    named.unwrap_or_default()
}

/// `listen` of gatewayd.toml, or what gatewayd does without it.
#[must_use]
pub fn listen(home: &Home) -> Vec<String> {
    let named = table(&home.gatewayd_config()).and_then(|table| match table.get("listen")? {
        Value::Array(items) => Some(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()),
        _ => None,
    });
    named.unwrap_or_else(|| vec![LISTEN.to_owned()])
}

/// `drain` of gatewayd.toml, or what gatewayd does without it.
#[must_use]
pub fn drain(home: &Home) -> Duration {
    let named = table(&home.gatewayd_config())
        .and_then(|table| humantime::parse_duration(table.get("timeouts")?.get("drain")?.as_str()?).ok());
    named.unwrap_or(DRAIN)
}

fn table(path: &Path) -> Option<Table> {
    io::read_to_string(files::open(path).ok()?).ok()?.parse().ok()
}

/// gatewayd's default.
const LISTEN: &str = "127.0.0.1:7777";
/// gatewayd's default.
const DRAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn values_are_found_and_their_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        assert_eq!((gateway_uid(&home), listen(&home)), (None, vec![LISTEN.to_owned()]));
        fs::create_dir(&home.config).unwrap();
        fs::write(home.keyd_config(), "admin-uids = [0]\ngateway-uid = 998\n").unwrap();
        assert_eq!(admin_uids(&home), [0]);
        fs::write(home.gatewayd_config(), "listen = [\"127.0.0.1:1\", \"[::1]:2\"]\n").unwrap();
        assert_eq!((gateway_uid(&home), listen(&home)), (Some(998), vec!["127.0.0.1:1".into(), "[::1]:2".into()]));
        fs::write(home.keyd_config(), "gateway-uid = \"x\"\nadmin-uids = 1\n").unwrap();
        assert!(admin_uids(&home).is_empty());
        fs::write(home.gatewayd_config(), "listen =\n").unwrap();
        assert_eq!((gateway_uid(&home), listen(&home)), (None, vec![LISTEN.to_owned()]));
    }

    #[test]
    fn the_time_to_drain_is_the_files_or_gatewayds_own() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        assert_eq!(drain(&home), DRAIN);
        fs::create_dir(&home.config).unwrap();
        for (text, seconds) in [
            ("[timeouts]\ndrain = \"2m 5s\"\n", 125),
            ("[timeouts]\nidle = \"5s\"\n", 30),
            ("[timeouts]\ndrain = 5\n", 30),
            ("timeouts = 5\n", 30),
        ] {
            fs::write(home.gatewayd_config(), text).unwrap();
            assert_eq!(drain(&home), Duration::from_secs(seconds), "{text}");
        }
    }
}
