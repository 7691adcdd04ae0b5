//! The catalogue of providers: data in `providers/`, one a file, built into the program.
//!
//! Says for each provider where its keys go, how they look and which variables programs read them from. It refuses
//! entries with fields that it does not know. Called by `credential add --provider`.

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
    /// How its keys begin.
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
        let known: Vec<&str> = FILES.iter().map(|(known, _)| *known).collect();
        return Err(CtlError::failed(format!(
            "there is no provider {id:?} in the catalogue. There is {}; for others use --host and a position such as --bearer.",
            known.join(", ")
        )));
    };
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
    key_prefix: String,
    #[serde(default)]
    deny: Vec<Rule>,
}

fn parse(id: &str, text: &str) -> Result<Provider, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let hosts = file.hosts.iter().map(|host| host.parse().map_err(|error| format!("{host}: {error}")));
    let sites = file.sites.iter().map(|site| match site.strip_prefix("header ") {
        Some(header) => Site::parse_header(header).map_err(|error| format!("{site}: {error}")),
        None if site == "bearer" => Ok(Site::Bearer),
        None => Err(format!("{site}: no kind of site")),
    });
    Ok(Provider {
        id: id.parse().map_err(|error| format!("{id}: {error}"))?,
        name: file.name,
        hosts: hosts.collect::<Result<_, _>>()?,
        sites: sites.collect::<Result<_, _>>()?,
        variables: file.variables,
        key_prefix: file.key_prefix,
        deny: file.deny,
    })
}

const FILES: &[(&str, &str)] = &[
    ("anthropic", include_str!("../../providers/anthropic.toml")),
    ("openai", include_str!("../../providers/openai.toml")),
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
            count += 1;
        }
        assert_eq!(count, FILES.len());
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
