//! Profiles: hosts that a tool needs beside its API's, as data in `profiles/`, one tool a file, built into the program.
//!
//! What a tool works without is left out, and its file says why. It refuses entries with fields that it does not know,
//! and wildcards over a public suffix. Called by `agent allow` and `agent disallow`.

use serde::Deserialize;
use strongroom_protocol::HostPattern;

use crate::error::{CtlError, Outcome};
use crate::public_suffix;

/// One tool.
#[derive(Debug, Clone)]
pub struct Profile {
    /// For people: what is reached.
    pub description: String,
    /// Hosts that it needs; none where its API's is enough.
    pub hosts: Vec<HostPattern>,
}

/// Finds a profile.
///
/// # Errors
/// Where there is none of that name; the words list those there are.
pub fn find(id: &str) -> Outcome<Profile> {
    let Some((_, text)) = FILES.iter().find(|(known, _)| *known == id) else {
        let known: Vec<&str> = FILES.iter().map(|(known, _)| *known).collect();
        return Err(CtlError::failed(format!(
            "there is no profile {id:?}. There is {}; other hosts are named one by one.",
            known.join(", ")
        )));
    };
    parse(text).map_err(|error| CtlError::fault(format!("the profile {id} is wrong: {error}. Report it.")))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    description: String,
    hosts: Vec<String>,
}

fn parse(text: &str) -> Result<Profile, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let hosts = file.hosts.iter().map(|host| host.parse().map_err(|error| format!("{host}: {error}")));
    let hosts: Vec<HostPattern> = hosts.collect::<Result<_, _>>()?;
    hosts.iter().try_for_each(public_suffix::check).map_err(|error| error.to_string())?;
    Ok(Profile { description: file.description, hosts })
}

const FILES: &[(&str, &str)] = &[
    ("claude-code", include_str!("../../profiles/claude-code.toml")),
    ("codex", include_str!("../../profiles/codex.toml")),
    ("git", include_str!("../../profiles/git.toml")),
    ("npm", include_str!("../../profiles/npm.toml")),
    ("pip", include_str!("../../profiles/pip.toml")),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in_and_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(!find(&id).unwrap().description.is_empty(), "{id}");
            assert!(std::fs::read_to_string(&path).unwrap().starts_with("# "), "{id}: say what it is for");
            count += 1;
        }
        assert_eq!(count, FILES.len());
    }

    #[test]
    fn codex_is_not_led_to_where_it_sends_its_key() {
        for (id, _) in FILES {
            let hosts = find(id).unwrap().hosts;
            assert!(hosts.iter().all(|host| !host.to_string().contains("chatgpt.com")), "{id}");
        }
    }

    #[test]
    fn an_unknown_profile_is_told_what_there_is() {
        let error = find("nothing").unwrap_err();
        assert!(error.code() == 1 && error.to_string().contains("npm"), "{error}");
    }

    #[test]
    fn entries_with_unknown_fields_or_too_wide_hosts_are_refused() {
        assert!(parse("description = \"x\"\nhosts = [\"a.example\"]").is_ok());
        for text in
            ["description = \"x\"\nhots = []", "description = \"x\"\nhosts = [\"*.co.uk\"]", "hosts = [\"a.example\"]"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
