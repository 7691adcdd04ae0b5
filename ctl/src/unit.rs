//! The name of a systemd service, as people write it: `coder` is `coder.service`.
//!
//! It refuses units of other kinds: what starts a process with a group of its own is a service, and no process is ever in a
//! bare template. keyd looks at the name again. Used by `args`.

/// Parses the name, and adds the kind where none is said.
///
/// # Errors
/// In words, for clap to print.
pub fn parse(text: &str) -> Result<String, String> {
    let stem = text.strip_suffix(".service").unwrap_or(text);
    let has_other_kind = OTHER_KINDS.iter().any(|kind| text.ends_with(kind));
    let is_name = !stem.is_empty()
        && text.len() <= LONGEST
        && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    if is_name && stem.ends_with('@') {
        return Err(format!(
            "{stem}.service is a template, and no process runs in one; name an instance, like '{stem}1.service'"
        ));
    }
    if !is_name || has_other_kind {
        return Err("write the name of a systemd service, like 'coder.service'".to_owned());
    }
    Ok(format!("{stem}.service"))
}

/// As systemd.unit(5) lists them.
const OTHER_KINDS: [&str; 10] =
    [".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"];

/// Longest name of a unit, with room for the kind.
const LONGEST: usize = 247;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_taken_with_and_without_their_kind() {
        for (text, name) in [
            ("coder", "coder.service"),
            ("coder.service", "coder.service"),
            ("coder@1.2.service", "coder@1.2.service"),
            ("a.b", "a.b.service"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(name));
        }
    }

    #[test]
    fn other_units_and_paths_are_refused() {
        for text in [
            "",
            ".service",
            "a.socket",
            "a.slice",
            "a.scope",
            "/etc/a.service",
            "a b",
            "at@",
            "at@.service",
            &"a".repeat(300),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
