//! The table `[upstream-proxy]`: the HTTP proxy that upstreams are dialled through, its credentials, and who is not.
//!
//! The credentials come from a file of their own, read while the table is: before the cage closes, and again on a
//! reload. It refuses a user in the URL, which would put a password where configuration is shown, and a file that
//! other users may read. No message of it repeats what may be a password. Asked by the dialler.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use strongroom_protocol::authority::Host;
use strongroom_protocol::{Authority, SecretBytes};

use super::value::{Network, has_port};

/// The whole table.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UpstreamProxy {
    url: ProxyUrl,
    credentials_file: Option<Credentials>,
    #[serde(default)]
    no_proxy: Vec<Bypass>,
}

impl UpstreamProxy {
    /// Where the proxy is.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.url.0
    }

    /// The value of `Proxy-Authorization`, where the proxy wants one. Keep the borrow short.
    #[must_use]
    pub fn authorization(&self) -> Option<&[u8]> {
        self.credentials_file.as_ref().map(|credentials| credentials.0.expose())
    }

    /// Whether this authority is dialled through the proxy. A network holds for addresses; no name is resolved for it.
    #[must_use]
    pub fn is_for(&self, authority: &Authority) -> bool {
        !self.no_proxy.iter().any(|bypass| bypass.names(authority.host()))
    }
}

/// `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct ProxyUrl(Authority);

impl TryFrom<String> for ProxyUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('@') {
            return Err("the URL has a user in it; write USER:PASSWORD into a file and name that in credentials-file"
                .to_owned());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("\"{text}\" is no URL; write one such as {EXAMPLE}"));
        };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!(
                "the proxy is spoken to in http alone, not in {scheme}; write a URL such as {EXAMPLE}"
            ));
        }
        let place = rest.strip_suffix('/').unwrap_or(rest);
        if place.contains(['/', '?', '#']) {
            return Err(format!("\"{text}\" has more than a host and a port; write a URL such as {EXAMPLE}"));
        }
        let authority = Authority::parse_unicode(place)
            .map_err(|error| format!("\"{text}\" names no proxy: {error}; write a URL such as {EXAMPLE}"))?;
        // Programs disagree about the port that is meant where none is written: 80, 1080 or 3128.
        if !has_port(place) {
            return Err(format!("\"{text}\" has no port; write a URL such as {EXAMPLE}"));
        }
        Ok(Self(authority))
    }
}

/// What `Proxy-Authorization` says, made of a file with one line `USER:PASSWORD`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "PathBuf")]
struct Credentials(Rc<SecretBytes>);

impl TryFrom<PathBuf> for Credentials {
    type Error = CredentialsError;

    fn try_from(path: PathBuf) -> Result<Self, CredentialsError> {
        let read = SecretBytes::new(read(&path)?);
        let line = read.expose();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // RFC 7617, 2: neither half has control characters, and the first colon ends the user.
        let has_user = line.iter().position(|&byte| byte == b':').is_some_and(|colon| colon > 0);
        if !has_user || line.iter().any(u8::is_ascii_control) {
            return Err(CredentialsError::Form(path));
        }
        let scheme = b"Basic ";
        // Made in place: what grows leaves copies behind.
        let mut field = vec![0; scheme.len() + Base64::encoded_len(line)];
        field[..scheme.len()].copy_from_slice(scheme);
        Base64::encode(line, &mut field[scheme.len()..]).map_err(|_| CredentialsError::Form(path))?;
        Ok(Self(Rc::new(SecretBytes::new(field))))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    // From which directory it would be looked for is no choice of the operator's.
    if !path.is_absolute() {
        return Err(CredentialsError::Relative);
    }
    let failed = |error| CredentialsError::Read(path.to_owned(), error);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if !metadata.is_file() || length > LONGEST_FILE {
        return Err(CredentialsError::Form(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(CredentialsError::Open(path.to_owned(), mode));
    }
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Why a file gives no credentials.
#[derive(Debug)]
enum CredentialsError {
    /// It is not named from the root on; what was written is not repeated, for it may be the credentials themselves.
    Relative,
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// Other users may read or write it; its mode.
    Open(PathBuf, u32),
    /// It is no regular file with one line `USER:PASSWORD`.
    Form(PathBuf),
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative => f.write_str(
                "credentials-file is no absolute path; write USER:PASSWORD into a file and name it from the root on",
            ),
            Self::Read(path, error) => write!(
                f,
                "{} cannot be read: {error}; keep it in the directory of gatewayd.toml or in /etc, readable to \
                 gatewayd's user",
                path.display()
            ),
            Self::Open(path, mode) => {
                write!(f, "{} is open to other users (mode {mode:04o}); say 'chmod o= FILE'", path.display())
            }
            Self::Form(path) => {
                write!(f, "{} is no file with credentials; write one line USER:PASSWORD into it", path.display())
            }
        }
    }
}

impl std::error::Error for CredentialsError {}

/// Who is dialled directly: one host, all below one, or the addresses of a network; at every port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Bypass {
    Exact(Host),
    Below(String),
    Network(Network),
}

impl Bypass {
    fn names(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(exact), host) => exact == host,
            (Self::Below(parent), Host::Name(name)) => {
                name.strip_suffix(parent.as_str()).is_some_and(|below| below.ends_with('.'))
            }
            (Self::Network(network), host) => host.address().is_some_and(|address| network.contains(address)),
            (Self::Below(_), _) => false,
        }
    }
}

impl TryFrom<String> for Bypass {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(network) = Network::try_from(text.clone()) {
            return Ok(Self::Network(network));
        }
        let wrong = || {
            format!(
                "\"{text}\" is no host and no network; write one such as \"a.example\", \"*.corp.example\" or \
                 \"10.0.0.0/8\""
            )
        };
        let (name, is_parent) = text.strip_prefix("*.").map_or((text.as_str(), false), |name| (name, true));
        let authority = Authority::parse_unicode(name).map_err(|_| wrong())?;
        match authority.host() {
            _ if has_port(name) => Err(wrong()),
            Host::Name(name) if is_parent => Ok(Self::Below(name.clone())),
            _ if is_parent => Err(wrong()),
            host => Ok(Self::Exact(host.clone())),
        }
    }
}

const EXAMPLE: &str = "\"http://proxy.corp.example:3128\"";

/// Nothing for users that are neither the file's nor of its group, which is gatewayd's in a system installation.
const OTHERS: u32 = 0o006;

/// More than any proxy's user and password.
const LONGEST_FILE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn parse(text: &str) -> Result<UpstreamProxy, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    fn with_file(directory: &Path, content: &[u8], mode: u32) -> Result<UpstreamProxy, String> {
        use std::io::Write;
        let path = directory.join("credentials");
        let _ = std::fs::remove_file(&path);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(content).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
        parse(&format!("url = \"http://p.example:3128\"\ncredentials-file = {path:?}"))
    }

    #[test]
    fn a_url_is_a_host_and_a_port() {
        for (url, authority) in [
            ("http://proxy.corp.example:3128", "proxy.corp.example:3128"),
            ("HTTP://Proxy.Corp.Example:80/", "proxy.corp.example:80"),
            ("http://192.0.2.1:8080", "192.0.2.1:8080"),
            ("http://[2001:db8::1]:8080/", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(parse(&format!("url = \"{url}\"")).unwrap().authority().to_string(), authority);
        }
    }

    #[test]
    fn other_urls_are_refused_with_what_to_write() {
        for (url, words) in [
            ("http://user:hunter2@p.example:3128", "credentials-file"),
            ("user:hunter2@p.example:3128", "credentials-file"),
            ("https://p.example:3128", "not in https"),
            ("socks5://p.example:1080", "not in socks5"),
            ("p.example:3128", "is no URL"),
            ("http://p.example", "no port"),
            ("http://[2001:db8::1]", "no port"),
            ("http://p.example:0", "1 to 65535"),
            ("http://p.example:3128/path", "more than a host"),
            ("http://:3128", "host is empty"),
            ("", "is no URL"),
        ] {
            let error = parse(&format!("url = \"{url}\"")).expect_err(url);
            assert!(error.contains(words) && error.contains("line 1"), "{url}: {error}");
        }
        assert!(parse("no-proxy = []").unwrap_err().contains("url"));
    }

    #[test]
    fn who_is_dialled_directly_is_known_by_name_or_address() {
        let proxy = parse(
            r#"
            url = "http://p.example:3128"
            no-proxy = ["Internal.example", "*.corp.example", "10.0.0.0/8", "fd00::/8", "192.0.2.7", "b\u00fccher.example"]
            "#,
        )
        .unwrap();
        for direct in [
            "internal.example",
            "internal.example:8443",
            "a.corp.example",
            "a.b.corp.example",
            "10.9.8.7",
            "[fd12::1]:1",
            "192.0.2.7",
            "xn--bcher-kva.example",
        ] {
            assert!(!proxy.is_for(&direct.parse().unwrap()), "{direct}");
        }
        for proxied in ["corp.example", "acorp.example", "a.internal.example", "11.0.0.1", "192.0.2.8", "[fc00::1]"] {
            assert!(proxy.is_for(&proxied.parse().unwrap()), "{proxied}");
        }
    }

    #[test]
    fn what_is_neither_host_nor_network_is_refused() {
        for text in ["", "*", "*.", "*.10.0.0.1", "a.*.example", ".corp.example", "a.example:443", "10.0.0.1/8", "a b"]
        {
            let error = parse(&format!("url = \"http://p.example:1\"\nno-proxy = [\"{text}\"]")).expect_err(text);
            assert!(error.contains("10.0.0.0/8") && error.contains("line 2"), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_become_the_field_and_are_shown_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["user:hunter2:x", "user:hunter2:x\n", "user:hunter2:x\r\n"] {
            for mode in [0o600, 0o640, 0o400] {
                let proxy = with_file(directory.path(), content.as_bytes(), mode).unwrap();
                assert_eq!(proxy.authorization().unwrap(), b"Basic dXNlcjpodW50ZXIyOng=");
                let shown = format!("{proxy:?}");
                assert!(shown.contains("[REDACTED]") && !shown.contains("hunter2") && !shown.contains("dXNl"));
            }
        }
        assert_eq!(parse("url = \"http://p.example:3128\"").unwrap().authorization(), None);
    }

    #[test]
    fn a_file_that_other_users_may_read_or_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o604, 0o602, 0o666] {
            let error = with_file(directory.path(), b"user:hunter2", mode).unwrap_err();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod o="), "{error}");
        }
    }

    #[test]
    fn what_is_no_line_of_credentials_is_refused_and_not_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let long = [b"user:".as_slice(), &[b'x'; LONGEST_FILE]].concat();
        for content in [&b""[..], b"\n", b"hunter2", b":hunter2", b"user:hunter2\n\n", b"a:hunter2\nb:c", &long] {
            let error = with_file(directory.path(), content, 0o600).unwrap_err();
            assert!(error.contains("one line USER:PASSWORD") && error.contains("line 2"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for (path, words) in
            [("user:hunter2", "absolute"), ("/nonexistent/credentials", "cannot be read"), ("/etc", "one line")]
        {
            let error = parse(&format!("url = \"http://p.example:1\"\ncredentials-file = \"{path}\"")).unwrap_err();
            assert!(error.contains(words) && error.contains("line 2"), "{error}");
        }
        assert!(!CredentialsError::Relative.to_string().contains("hunter2"));
    }
}
