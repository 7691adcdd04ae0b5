//! `gatewayd.toml`: where to listen, what may be dialled, limits and time-outs.
//!
//! Every key has a default that works, so a missing file is an empty one. It refuses unknown keys and values out of
//! range, naming the line. Nothing here can widen what an agent may do; keyd decides that.
//! Read by `main` at start, again on SIGHUP, and by `--check-config`.

mod resolve;
mod upstream_proxy;
mod value;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use self::resolve::Resolve;
pub use self::upstream_proxy::UpstreamProxy;
pub use self::value::{Count, Network, Span};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// TCP addresses; port 0 lets the kernel choose. Where nothing is said, what was inherited, or else 127.0.0.1:7777.
    /// agent.sock is always there.
    pub listen: Option<Vec<SocketAddr>>,
    /// Networks that are dialled although the address rules forbid them.
    pub allow_private_upstreams: Vec<Network>,
    /// Names that are dialled at a given address, whatever the address rules say: the operator's choice.
    pub resolve: Resolve,
    /// The HTTP proxy that upstreams are dialled through, if any.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// How much is logged.
    #[serde(deserialize_with = "strongroom_protocol::log::level")]
    pub log_level: LevelFilter,
    /// How much is taken.
    pub limits: Limits,
    /// How long is waited.
    pub timeouts: Timeouts,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            allow_private_upstreams: Vec::new(),
            resolve: Resolve::default(),
            upstream_proxy: None,
            log_level: LevelFilter::INFO,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// How much is taken.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Names and values of a request's header fields together, in bytes.
    pub header_bytes: Count<1024, 1_048_576>,
    /// Fields in a request head.
    pub header_count: Count<8, 4096>,
    /// The request target, in bytes.
    pub uri_bytes: Count<64, 60_000>,
    /// Agents' connections at one time.
    pub connections: Count<1, 100_000>,
    /// Channels at one time, idle ones included.
    pub channels: Count<1, 100_000>,
    /// Idle channels kept for one authority and one set of placeholders.
    pub idle_channels_per_pool: Count<0, 1000>,
}

/// How long is waited.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Timeouts {
    /// From the first byte of a request head to its last.
    pub slow_headers: Span,
    /// Between requests on an agent's connection, and for a channel that nobody uses.
    pub idle: Span,
    /// Resolving and connecting together.
    pub dial: Span,
    /// From the last byte of a request that moved to the head of the answer.
    pub first_byte: Span,
    /// Without a byte of either body.
    pub stalled: Span,
    /// One exchange, whatever moves.
    pub total: Span,
    /// For exchanges that run when the program is told to stop.
    pub drain: Span,
}

impl Config {
    /// Reads a file; one that is missing is an empty one.
    ///
    /// # Errors
    /// Where it cannot be read or does not parse.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match Self::load_existing(path) {
            Err(ConfigError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            other => other,
        }
    }

    /// Reads a file that must be there.
    ///
    /// # Errors
    /// Where it cannot be read or does not parse.
    pub fn load_existing(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse(path.to_owned(), error))
    }
}

impl Limits {
    /// Lowered to what so many descriptors allow: agents' connections get three eighths of them and channels a quarter,
    /// those included that [`crate::shares`] adds, for while one is opened it takes three. So a flood of agents is refused
    /// with a word, and what it leaves is enough to dial and to reach keyd.
    #[must_use]
    pub fn within(self, descriptors: usize) -> Self {
        let (connections, channels) = (descriptors / 3, descriptors / 9 * 2);
        if self.connections.get() > connections || self.channels.get() > channels {
            tracing::warn!(descriptors, connections, channels, "the limit on descriptors lowers what is taken");
        }
        let (connections, channels) = (self.connections.at_most(connections), self.channels.at_most(channels));
        Self { connections, channels, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: Count(65_536),
            header_count: Count(200),
            uri_bytes: Count(16_384),
            connections: Count(1000),
            channels: Count(512),
            idle_channels_per_pool: Count(128),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            slow_headers: Span::seconds(10),
            idle: Span::seconds(75),
            dial: Span::seconds(10),
            first_byte: CLIENTS_PATIENCE,
            stalled: CLIENTS_PATIENCE,
            total: Span::seconds(3600),
            drain: Span::seconds(30),
        }
    }
}

/// Longer than the 600 s for which OpenAI's and Anthropic's libraries wait: a gateway that gave up before them would have
/// them ask again, and pay twice.
const CLIENTS_PATIENCE: Span = Span::seconds(900);

/// Why a file is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// It is not TOML, or has a key or value that is not known; the inner error names line and column.
    Parse(PathBuf, toml::de::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => {
                write!(f, "{} cannot be read: {error}; check the path and its mode", path.display())
            }
            Self::Parse(path, error) => {
                write!(
                    f,
                    "{} is not a valid configuration; correct it as told here:\n{}",
                    path.display(),
                    without_passwords(error)
                )
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The parser's words show the line that is wrong. One that may hold a proxy's password, written where none belongs, is
/// named by its number alone, for the words end up in logs.
fn without_passwords(error: &toml::de::Error) -> String {
    let whole = error.to_string();
    if !whole.contains('@') && !whole.contains("credentials-file") {
        return whole.trim_end().to_owned();
    }
    let place = whole.lines().next().unwrap_or_default();
    let message = error.message();
    let what = if message.contains('@') { "it is not shown, for it may hold a password" } else { message };
    format!("{place}\n{}", what.trim_end())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let config = parse("").unwrap();
        assert_eq!(config.listen, None, "the socket unit says it, or the default");
        assert_eq!(parse("listen = []").unwrap().listen, Some(Vec::new()));
        assert_eq!(config.limits.header_bytes.get(), 65_536);
        assert_eq!(config.timeouts.slow_headers.get(), Duration::from_secs(10));
        let patience = [config.timeouts.first_byte, config.timeouts.stalled].map(Span::get);
        assert!(patience.iter().all(|&span| span > Duration::from_secs(600)), "{patience:?}");
    }

    #[test]
    fn few_descriptors_lower_what_needs_them() {
        let of = |limits: Limits| (limits.connections.get(), limits.channels.get());
        assert_eq!(of(Limits::default().within(20_000)), (1000, 512));
        assert_eq!(of(Limits::default().within(1024)), (341, 226));
        assert_eq!(of(Limits::default().within(0)), (1, 1));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            r#"
            listen = ["127.0.0.1:0", "[::1]:7777"]
            allow-private-upstreams = ["10.0.0.0/8", "fd00::/8", "192.168.1.9"]
            log-level = "debug"
            [resolve]
            "API.example" = "127.0.0.1:8443"
            "api.example:444" = "[::1]:1"
            "b.example" = "192.0.2.1"
            [upstream-proxy]
            url = "http://proxy.corp.example:3128"
            no-proxy = ["internal.example", "*.corp.example", "10.0.0.0/8"]
            [limits]
            header-bytes = 2048
            header-count = 9
            uri-bytes = 100
            connections = 2
            channels = 3
            idle-channels-per-pool = 0
            [timeouts]
            slow-headers = "1s"
            idle = "2s"
            dial = "300ms"
            first-byte = "4s"
            stalled = "1m 5s"
            total = "6h"
            drain = "7s"
            "#,
        )
        .unwrap();
        let resolved = |text: &str| config.resolve.address(&text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(resolved("api.example:443").as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(resolved("api.example:9").as_deref(), Some("127.0.0.1:8443"));
        assert_eq!(resolved("api.example:444").as_deref(), Some("[::1]:1"));
        assert_eq!(resolved("b.example:99").as_deref(), Some("192.0.2.1:99"));
        assert_eq!(resolved("c.example"), None);
        let proxy = config.upstream_proxy.unwrap();
        assert_eq!(proxy.authority().to_string(), "proxy.corp.example:3128");
        assert!(proxy.is_for(&"api.example".parse().unwrap()) && !proxy.is_for(&"internal.example".parse().unwrap()));
        assert_eq!(config.timeouts.stalled.get(), Duration::from_secs(65));
        assert_eq!(config.limits.idle_channels_per_pool.get(), 0);
        assert_eq!(config.log_level, LevelFilter::DEBUG);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, words) in [
            ("a = 1", "unknown field `a`"),
            ("[limits]\nheaders = 1", "unknown field `headers`"),
            ("[timeouts]\nidle = 5", "expected a string"),
            ("[timeouts]\nidle = \"0s\"", "from 1ms to 30 days"),
            ("[timeouts]\nidle = \"1000years\"", "from 1ms to 30 days"),
            ("[timeouts]\nidle = \"soon\"", "such as \"75s\""),
            ("[limits]\nconnections = 0", "from 1 to 100000"),
            ("[limits]\nconnections = -1", "from 1 to 100000"),
            ("listen = [\"localhost:7777\"]", "socket address"),
            ("allow-private-upstreams = [\"10.0.0.0/33\"]", "network"),
            ("allow-private-upstreams = [\"10.0.0.1/8\"]", "network"),
            ("[resolve]\n\"user@a.example\" = \"127.0.0.1\"", "in front of it"),
            ("[resolve]\n\"a.example\" = \"localhost\"", "IP address"),
            ("[resolve]\n\"a.example\" = \"127.0.0.1:0\"", "port"),
            ("[resolve]\n\"a.example\" = \"127.0.0.1\"\n\"A.example\" = \"127.0.0.2\"", "twice"),
            ("[upstream-proxy]\nno-proxy = []", "missing field `url`"),
            ("[upstream-proxy]\nurl = \"https://p.example:3128\"", "http alone"),
            ("[upstream-proxy]\nurl = \"http://p.example:1\"\nno-proxy = [\"a:1\"]", "no host and no network"),
            ("[upstream-proxy]\nurl = \"http://p.example:1\"\nusername = \"a\"", "unknown field `username`"),
            ("listen = [\n", "TOML parse error"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words) && error.contains("line "), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_wrong_place_is_named_and_not_shown() {
        for (text, words) in [
            ("\n[upstream-proxy]\nurl = \"http://u:hunter2@p.example:1\"", "line 3, column 7\nthe URL has a user"),
            ("upstream-proxy = \"http://u:hunter2@p.example:1\"", "line 1, column 18\nit is not shown"),
            ("[upstream-proxy]\nurl = http://u:hunter2@p.example:1", "line 2, "),
            ("[upstream-proxy]\nurl = \"http://p.example:1\"\ncredentials-file = \"u:hunter2\"", "line 3, "),
        ] {
            let error = toml::from_str::<Config>(text).expect_err(text);
            let shown = ConfigError::Parse("gatewayd.toml".into(), error).to_string();
            assert!(shown.contains(words) && !shown.contains("hunter2"), "{text}: {shown}");
        }
    }

    #[test]
    fn only_the_homes_own_file_may_be_missing() {
        let missing = Path::new("/nonexistent/gatewayd.toml");
        assert!(Config::load(missing).is_ok());
        assert!(Config::load_existing(missing).is_err());
    }
}
