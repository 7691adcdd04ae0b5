//! A pin: the SHA-256 of an upstream's public key, as people write it.
//!
//! `sha256//BASE64` as curl has it, the bare base64, or 64 hex digits. It refuses every other hash and length. Called by
//! `args.rs` (to read) and `command/credential.rs` (to show).

use std::fmt;

use base64ct::{Base64, Encoding};

/// SHA-256 of a SubjectPublicKeyInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

/// Reads a pin.
///
/// # Errors
/// In words, where it is none.
pub fn parse(text: &str) -> Result<Pin, String> {
    let bytes = if text.len() == 64 { from_hex(text) } else { None };
    let bytes = bytes.or_else(|| Base64::decode_vec(text.strip_prefix(PREFIX).unwrap_or(text)).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Pin).ok_or_else(|| {
        "a pin is the SHA-256 of a public key's SubjectPublicKeyInfo; write it like 'sha256//' and 44 characters of base64, or in 64 hex digits".to_owned()
    })
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", Base64::encode_string(&self.0))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

const PREFIX: &str = "sha256//";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spellings_mean_one_pin() {
        let pin = Pin(std::array::from_fn(|index| u8::try_from(index * 8).unwrap()));
        let shown = "sha256//AAgQGCAoMDhASFBYYGhweICIkJigqLC4wMjQ2ODo8Pg=";
        assert_eq!(pin.to_string(), shown);
        let hex = "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8";
        for text in [shown, &shown[8..], hex, &hex.to_uppercase()] {
            assert_eq!(parse(text), Ok(pin), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let hex = "00".repeat(31);
        for text in ["", "sha256//", "sha256//AAAA", "sha1//AAgQGCAoMDhASFBYYGhweICIkJigqLC4wMjQ2ODo8Pg=", &hex, "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("{hex}zz")).is_err());
        assert!(parse("AAgQGCAoMDhASFBYYGhweICIkJigqLC4wMjQ2ODo8Pg").is_err(), "without its padding");
    }
}
