//! Variables as text: for a shell, for a .env file, as JSON.
//!
//! Whatever a value holds, the reader of the text gets exactly it. Called by `env`.

use serde_json::{Map, Value};

/// Lines of `export NAME='value'` for a POSIX shell to read.
#[must_use]
pub fn shell(variables: &[(String, String)]) -> String {
    // In single quotes a shell takes everything as it is, but for a single quote.
    lines(variables, |name, value| format!("export {name}='{}'", value.replace('\'', r"'\''")))
}

/// Lines of a .env file.
#[must_use]
pub fn dotenv(variables: &[(String, String)]) -> String {
    lines(variables, |name, value| format!("{name}={}", dotenv_value(value)))
}

/// One object.
#[must_use]
pub fn json(variables: &[(String, String)]) -> Value {
    let object: Map<String, Value> =
        variables.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    object.into()
}

fn lines(variables: &[(String, String)], line: impl Fn(&str, &str) -> String) -> String {
    variables.iter().map(|(name, value)| line(name, value)).collect::<Vec<_>>().join("\n")
}

fn dotenv_value(value: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@,+%=".contains(&byte);
    if value.bytes().all(is_plain) {
        // Docker's --env-file takes quotes for part of the value.
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut text = String::from('"');
    for character in value.chars() {
        match character {
            '"' | '\\' | '$' | '`' => text.extend(['\\', character]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            other => text.push(other),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn one(value: &str) -> Vec<(String, String)> {
        vec![("NAME".to_owned(), value.to_owned())]
    }

    #[test]
    fn a_shell_reads_every_value_as_it_is() {
        for value in ["plain", "", "it's", "'", "$(touch x) `y` \"z\" \\", "two\nlines\n", "#!*?~ &;|"] {
            let script = shell(&one(value)) + "\nprintf %s. \"$NAME\"";
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{value}."), "{value:?}");
        }
    }

    #[test]
    fn plain_values_stand_bare_in_a_dotenv_file_and_others_in_quotes() {
        for (value, line) in [
            ("http://a:t@127.0.0.1:7777", "NAME=http://a:t@127.0.0.1:7777"),
            ("localhost,127.0.0.1,::1", "NAME=localhost,127.0.0.1,::1"),
            ("", "NAME="),
            ("/a folder/#1", "NAME='/a folder/#1'"),
            ("it's $5", r#"NAME="it's \$5""#),
            ("a\nb", r#"NAME="a\nb""#),
        ] {
            assert_eq!(dotenv(&one(value)), line);
        }
    }

    #[test]
    fn json_is_one_object() {
        assert_eq!(json(&one("it's")).to_string(), r#"{"NAME":"it's"}"#);
    }
}
