//! An agent's environment as variables: what is set, and what of the caller's is taken away.
//!
//! Plain functions without I/O. They refuse two grants for one variable, and names and placeholders that would do
//! something else than hold a key: a shell reads what is made of them. Called by `env` and `run`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;

use strongroom_protocol::environment::{EnvironmentGrant, variable_of};

use super::Environment;
use crate::catalogue::Provider;
use crate::error::{CtlError, Outcome};

/// How the agent's programs reach the gateway.
#[derive(Debug, Clone, Copy)]
pub enum Way<'a> {
    /// Through the proxy, trusting this file of certificates.
    Proxy(&'a Path),
    /// By base URL.
    BaseUrl,
}

/// Variables, and what is to be told beside them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Variables {
    /// Name and value, in the order of the grants, each name once.
    pub set: Vec<(String, String)>,
    /// For people.
    pub notes: Vec<String>,
}

/// Makes the variables.
///
/// # Errors
/// Where two grants need one variable, or a variable cannot be one for a key.
pub fn make(environment: &Environment, way: Way<'_>, catalogue: &[Provider]) -> Outcome<Variables> {
    let mut taken = Taken::default();
    let mut notes = Vec::new();
    for grant in &environment.grants {
        for name in variables(grant) {
            check(grant, &name)?;
            let value = if grant.named { name.clone() } else { grant.placeholder.clone() };
            taken.set(grant, name, value)?;
        }
        if grant.named && environment.token.is_none() {
            notes.push(format!(
                "The placeholder of {} is its variable's name, which counts only over agent.sock or with a token. Speak to agent.sock, or give the agent a token.",
                grant.credential
            ));
        }
        if matches!(way, Way::BaseUrl) {
            match base_urls(environment, grant, catalogue) {
                Ok(urls) => urls.into_iter().try_for_each(|(name, url)| taken.set(grant, name, url))?,
                Err(note) => notes.push(note),
            }
        }
    }
    let mut set = taken.set;
    if let Way::Proxy(bundle) = way {
        let proxy = proxy(environment);
        set.extend(PROXY.map(|name| (name.to_owned(), proxy.clone())));
        set.extend(NO_PROXY.map(|name| (name.to_owned(), DIRECT.to_owned())));
        set.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
        if environment.token.is_some() {
            set.push((GIT_AUTHENTICATION.to_owned(), "basic".to_owned()));
        }
        let bundle = bundle.to_str().ok_or_else(|| {
            CtlError::failed(format!("the path {} is not UTF-8. Choose another XDG_CACHE_HOME.", bundle.display()))
        })?;
        set.extend(CERTIFICATES.map(|name| (name.to_owned(), bundle.to_owned())));
    }
    Ok(Variables { set, notes })
}

/// What a program gets that is run as the agent: the caller's environment without keys and without what would lead past
/// the gateway, and with the agent's variables.
#[must_use]
pub fn of_child(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    variables: &Variables,
    environment: &Environment,
    way: Way<'_>,
    catalogue: &[Provider],
) -> BTreeMap<OsString, OsString> {
    let mut child: BTreeMap<OsString, OsString> = inherited
        .filter(|(name, value)| !goes(name, catalogue) && !contradicts(name, value, way, environment.gateway))
        .collect();
    // A base URL at this machine is not to be asked for through somebody's proxy.
    if matches!(way, Way::BaseUrl) && PROXY.iter().any(|name| child.contains_key(OsStr::new(name))) {
        for name in NO_PROXY {
            let before = child.get(OsStr::new(name)).and_then(|value| value.to_str()).unwrap_or_default();
            let both = if before.is_empty() { DIRECT.to_owned() } else { format!("{before},{DIRECT}") };
            child.insert(name.into(), both.into());
        }
    }
    child.extend(variables.set.iter().map(|(name, value)| (name.into(), value.into())));
    child
}

/// Variables that are set already, and for whom.
#[derive(Default)]
struct Taken {
    set: Vec<(String, String)>,
    by: BTreeMap<String, String>,
}

impl Taken {
    fn set(&mut self, grant: &EnvironmentGrant, name: String, value: String) -> Outcome<()> {
        if let Some(other) = self.by.get(&name) {
            return Err(CtlError::failed(format!(
                "the credentials {other} and {} both need the variable {name}. Revoke one of the two grants, or give them to two agents.",
                grant.credential
            )));
        }
        self.by.insert(name.clone(), grant.credential.to_string());
        self.set.push((name, value));
        Ok(())
    }
}

fn variables(grant: &EnvironmentGrant) -> Vec<String> {
    if grant.variables.is_empty() { vec![variable_of(&grant.credential)] } else { grant.variables.clone() }
}

fn check(grant: &EnvironmentGrant, name: &str) -> Outcome<()> {
    if !can_hold_a_key(name) {
        return Err(CtlError::failed(format!(
            "the key of {} would be in the variable {name:?}, which programs need for something else. Add the credential under another name.",
            grant.credential
        )));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if grant.placeholder.is_empty() || !grant.placeholder.bytes().all(is_plain) {
        return Err(CtlError::failed(format!(
            "the placeholder of {} has characters that no placeholder has. Nothing was set; check who serves agent.sock.",
            grant.credential
        )));
    }
    Ok(())
}

/// Whether a variable of this name may hold a key, and nothing else happens.
#[must_use]
pub fn can_hold_a_key(name: &str) -> bool {
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name && !is_needed_otherwise(name)
}

/// A credential may be called `path`; its variable must not become PATH.
fn is_needed_otherwise(name: &str) -> bool {
    STEERING.contains(&name)
        || LOCALE.contains(&name)
        || STEERING_FAMILIES.iter().any(|start| name.starts_with(start))
        || BASE_URL_ENDS.iter().any(|end| name.ends_with(end))
        || is_ours(name)
}

/// Set by `--mode proxy`.
fn is_ours(name: &str) -> bool {
    PROXY.contains(&name)
        || NO_PROXY.contains(&name)
        || CERTIFICATES.contains(&name)
        || ["NODE_USE_ENV_PROXY", GIT_AUTHENTICATION].contains(&name)
}

/// Base-URL variables of the grant's provider, or words that say how it is reached without.
fn base_urls(
    environment: &Environment,
    grant: &EnvironmentGrant,
    catalogue: &[Provider],
) -> Result<Vec<(String, String)>, String> {
    let (credential, gateway) = (&grant.credential, environment.gateway);
    let Some(route) = &grant.route else {
        return Err(format!("{credential} has no route, so no base URL leads to it. Use --mode proxy."));
    };
    let provider = catalogue.iter().find(|provider| Some(&provider.id) == grant.provider.as_ref());
    match provider.map(|provider| &provider.base_url) {
        Some(names) if !names.is_empty() => {
            let token = environment.token.as_ref().map(|token| format!("/@{token}")).unwrap_or_default();
            let url = format!("http://{gateway}{token}/{route}");
            Ok(names.iter().map(|(name, suffix)| (name.clone(), format!("{url}{suffix}"))).collect())
        }
        _ => {
            // Standard error may end in a log: the token is not for there.
            let token = if environment.token.is_some() { "/@TOKEN" } else { "" };
            Err(format!(
                "No variable leads programs to {credential}. Give them the base URL http://{gateway}{token}/{route}, or use --mode proxy."
            ))
        }
    }
}

fn proxy(environment: &Environment) -> String {
    // Neither a name nor a token has anything that a URL would have to encode.
    let user = environment.token.as_ref().map(|token| format!("{}:{token}@", environment.agent)).unwrap_or_default();
    format!("http://{user}{}", environment.gateway)
}

/// Whatever the value: keys, our own settings, and base URLs of providers.
fn goes(name: &OsStr, catalogue: &[Provider]) -> bool {
    if name.as_encoded_bytes().starts_with(b"STRONGROOM_") {
        return true;
    }
    let Some(name) = name.to_str() else { return false };
    catalogue.iter().any(|provider| {
        provider.variables.iter().any(|key| key == name)
            || provider.other_keys.iter().any(|key| key == name)
            || provider.base_url.contains_key(name)
    })
}

/// What would lead past the gateway, or to it as somebody else.
fn contradicts(name: &OsStr, value: &OsStr, way: Way<'_>, gateway: SocketAddr) -> bool {
    let Some(name) = name.to_str() else { return false };
    match way {
        Way::Proxy(_) => is_ours(name) || PROXIES_OF_ONE_TOOL.iter().any(|other| name.eq_ignore_ascii_case(other)),
        // Another way out stays as it is, but not one that an agent's environment was made of before.
        Way::BaseUrl => PROXY.contains(&name) && value.to_str().is_some_and(|url| url.contains(&gateway.to_string())),
    }
}

const PROXY: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Not through the proxy: this machine.
const DIRECT: &str = "localhost,127.0.0.1,::1";

/// Without it git keeps the token until a 407 asks for it, which does not come where the host is granted to an agent without
/// evidence too.
const GIT_AUTHENTICATION: &str = "GIT_HTTP_PROXY_AUTHMETHOD";

/// Each names a file of roots in place of, or beside, a program's own.
const CERTIFICATES: [&str; 11] = [
    "SSL_CERT_FILE",        // OpenSSL, Go, Python's httpx and aiohttp, rustls-native-certs
    "REQUESTS_CA_BUNDLE",   // Python's requests
    "CURL_CA_BUNDLE",       // curl
    "AWS_CA_BUNDLE",        // boto3, the AWS CLI
    "NODE_EXTRA_CA_CERTS",  // Node
    "GIT_SSL_CAINFO",       // git
    "PIP_CERT",             // pip
    "npm_config_cafile",    // npm
    "CODEX_CA_CERTIFICATE", // Codex
    "DENO_CERT",            // Deno
    "CARGO_HTTP_CAINFO",    // Cargo
];

/// They stand above the proxy variables in the tool that reads them.
const PROXIES_OF_ONE_TOOL: [&str; 6] =
    ["npm_config_proxy", "npm_config_https_proxy", "npm_config_noproxy", "PIP_PROXY", "CARGO_HTTP_PROXY", "FTP_PROXY"];

/// Programs take more from these than a text: where they are and who they work for, or what they run.
const STEERING: &[&str] = &[
    // Who and where.
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "PWD",
    "OLDPWD",
    "TERM",
    "LANG",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    // Shells expand or run these.
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "CDPATH",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    // Programs that others start.
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "RSYNC_RSH",
    // git's. Not all that begins so: GIT_TOKEN is a key's.
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_PROXY_COMMAND",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_PAGER",
    "GIT_EXTERNAL_DIFF",
    "GIT_EXEC_PATH",
    "GIT_TEMPLATE_DIR",
    "GIT_DIR",
    "GIT_WORK_TREE",
    // What interpreters load.
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
];

/// All that begins so does.
const STEERING_FAMILIES: [&str; 6] = ["DYLD_", "GIT_CONFIG", "LD_", "PYTHON", "STRONGROOM_", "XDG_"];

/// A locale's categories (setlocale(3)); other names may begin so, as LangChain's.
const LOCALE: [&str; 13] = [
    "LC_ADDRESS",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
];

/// Clients send their keys where such a variable says; `--mode base-url` sets the providers'.
const BASE_URL_ENDS: [&str; 2] = ["_BASE_URL", "_API_BASE"];

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;
