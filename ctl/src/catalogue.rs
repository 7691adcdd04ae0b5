//! The catalogue of providers: data in `providers/`, one a file, built into the program.
//!
//! Says for each provider where its keys go, how they look and which variables programs read them from. It refuses
//! entries with fields that it does not know. Called by `credential add --provider`, `env` and `run`.

use std::collections::BTreeMap;

use serde::Deserialize;
use strongroom_protocol::admin::Rule;
use strongroom_protocol::{HostPattern, Name, Site};

use crate::error::{CtlError, Outcome};

/// One provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// What it is called here; also its route.
    pub id: Name,
    /// What it is called by people.
    pub name: String,
    /// Where its keys go.
    pub hosts: Vec<HostPattern>,
    /// In which positions.
    pub sites: Vec<Site>,
    /// Variables from which its SDKs read a key.
    pub variables: Vec<String>,
    /// More variables in which its programs look for a key: `run` takes them away, for they may hold a real one.
    pub other_keys: Vec<String>,
    /// Variables from which its SDKs read a base URL, and what goes behind the route there.
    pub base_url: BTreeMap<String, String>,
    /// How its keys begin, which is no secret; its placeholders begin alike.
    pub key_prefix: String,
    /// Requests that mint keys.
    pub deny: Vec<Rule>,
}

/// Finds a provider.
///
/// # Errors
/// Where there is none of that name; the words list those there are.
pub fn find(id: &str) -> Outcome<Provider> {
    let Some((_, text)) = FILES.iter().find(|(known, _)| *known == id) else {
        return Err(CtlError::failed(format!(
            "there is no provider {id:?} in the catalogue. There is {}; for others use --host and a position such as --bearer.",
            names()
        )));
    };
    parsed(id, text)
}

/// Their names, in words.
#[must_use]
pub fn names() -> String {
    FILES.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ")
}

/// All of them.
///
/// # Errors
/// Where one of our own files is wrong.
pub fn all() -> Outcome<Vec<Provider>> {
    FILES.iter().map(|(id, text)| parsed(id, text)).collect()
}

fn parsed(id: &str, text: &str) -> Outcome<Provider> {
    parse(id, text)
        .map_err(|error| CtlError::fault(format!("the catalogue's entry {id} is wrong: {error}. Report it.")))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    name: String,
    hosts: Vec<String>,
    sites: Vec<String>,
    variables: Vec<String>,
    #[serde(default)]
    other_keys: Vec<String>,
    #[serde(default)]
    base_url: BTreeMap<String, String>,
    key_prefix: String,
    #[serde(default)]
    deny: Vec<Rule>,
}

fn parse(id: &str, text: &str) -> Result<Provider, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let hosts = file.hosts.iter().map(|host| host.parse().map_err(|error| format!("{host}: {error}")));
    let sites = file.sites.iter().map(|text| site(text).map_err(|error| format!("{text}: {error}")));
    if let Some(rule) = file.deny.iter().find(|rule| rule.never_matches()) {
        return Err(format!("{rule} denies nothing"));
    }
    Ok(Provider {
        id: id.parse().map_err(|error| format!("{id}: {error}"))?,
        name: file.name,
        hosts: hosts.collect::<Result<_, _>>()?,
        sites: sites.collect::<Result<_, _>>()?,
        variables: file.variables,
        other_keys: file.other_keys,
        base_url: file.base_url,
        key_prefix: file.key_prefix,
        deny: file.deny,
    })
}

/// A position, in the words of `credential add` without the dashes: `bearer`, `header x-api-key: {}`, `basic USER`.
fn site(text: &str) -> Result<Site, String> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    match kind {
        "bearer" if rest.is_empty() => Ok(Site::Bearer),
        "header" => Site::parse_header(rest).map_err(|error| error.to_string()),
        "basic" => Site::parse_basic(rest).map_err(|error| error.to_string()),
        "query" => Site::parse_query(rest).map_err(|error| error.to_string()),
        _ => Err("no kind of site".to_owned()),
    }
}

const FILES: &[(&str, &str)] = &[
    ("anthropic", include_str!("../../providers/anthropic.toml")),
    ("github", include_str!("../../providers/github.toml")),
    ("google", include_str!("../../providers/google.toml")),
    ("groq", include_str!("../../providers/groq.toml")),
    ("mistral", include_str!("../../providers/mistral.toml")),
    ("openai", include_str!("../../providers/openai.toml")),
    ("openrouter", include_str!("../../providers/openrouter.toml")),
    ("slack", include_str!("../../providers/slack.toml")),
    ("stripe", include_str!("../../providers/stripe.toml")),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in_and_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../providers");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let provider = find(&id).unwrap();
            assert!(!provider.hosts.is_empty() && !provider.sites.is_empty() && !provider.variables.is_empty(), "{id}");
            let names = provider.variables.iter().chain(&provider.other_keys).chain(provider.base_url.keys());
            for name in names {
                assert!(
                    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                    "{name}"
                );
            }
            for suffix in provider.base_url.values() {
                assert!(suffix.is_empty() || (suffix.starts_with('/') && !suffix.ends_with('/')), "{id}: {suffix}");
            }
            count += 1;
        }
        assert_eq!((count, all().unwrap().len()), (FILES.len(), FILES.len()));
    }

    #[test]
    fn no_variable_belongs_to_two_providers() {
        let mut seen = std::collections::BTreeSet::new();
        for provider in all().unwrap() {
            for name in provider.variables.iter().chain(&provider.other_keys).chain(provider.base_url.keys()) {
                assert!(seen.insert(name.clone()), "{}: {name}", provider.id);
            }
        }
    }

    #[test]
    fn sites_are_written_as_on_the_command_line() {
        for (text, shown) in [
            ("bearer", "authorization: Bearer {}"),
            ("header authorization: token {}", "authorization: token {}"),
            ("basic x-access-token", "basic x-access-token"),
            ("query key", "query key"),
        ] {
            assert_eq!(site(text).unwrap().to_string(), shown);
        }
        for text in ["bearer x", "cookie x", "basic a:b", "query a=b", "header x", ""] {
            assert!(site(text).is_err(), "{text}");
        }
    }

    /// Segment by segment; `*` stands for one.
    fn is_denied(id: &str, method: &str, path: &str) -> bool {
        let is_of = |rule: &Rule| {
            let (pattern, path): (Vec<_>, Vec<_>) = (rule.path().split('/').collect(), path.split('/').collect());
            pattern.len() == path.len() && pattern.iter().zip(path).all(|(one, other)| *one == "*" || *one == other)
        };
        let deny = find(id).unwrap().deny;
        deny.iter().any(|rule| ["*", method].contains(&rule.method()) && is_of(rule))
    }

    #[test]
    fn sessions_that_programs_get_a_key_for_are_denied() {
        for path in ["/v1/chatkit/sessions", "/v1/realtime/client_secrets", "/v1/realtime/sessions"] {
            assert!(is_denied("openai", "POST", path), "{path}");
        }
        for path in ["/v1/chatkit/threads", "/v1/chatkit/sessions/one/cancel", "/v1/chat/completions"] {
            assert!(!is_denied("openai", "POST", path), "{path}");
        }
    }

    #[test]
    fn what_is_denied_of_a_repository_by_name_is_denied_by_number() {
        let rules = find("github").unwrap().deny.into_iter().filter_map(|rule| {
            rule.path().strip_prefix("/repos/*/*/").map(|rest| (rule.method().replace('*', "POST"), rest.to_owned()))
        });
        let rules: Vec<_> = rules.collect();
        assert!(rules.contains(&("POST".to_owned(), "keys".to_owned())), "{rules:?}");
        for (method, rest) in rules {
            assert!(is_denied("github", &method, &format!("/repositories/1/{rest}")), "{method} {rest}");
        }
        assert!(
            !is_denied("github", "GET", "/repositories/1/keys")
                && !is_denied("github", "POST", "/repositories/1/issues")
        );
    }

    #[test]
    fn an_unknown_provider_is_told_what_there_is() {
        let error = find("nobody").unwrap_err();
        assert!(error.code() == 1 && error.to_string().contains("openai"), "{error}");
    }

    #[test]
    fn entries_with_unknown_fields_or_sites_are_refused() {
        let good = include_str!("../../providers/openai.toml");
        assert!(parse("openai", good).is_ok());
        assert!(parse("openai", &format!("hots = []\n{good}")).is_err());
        assert!(parse("openai", &good.replace("\"bearer\"", "\"cookie\"")).is_err());
    }
}
