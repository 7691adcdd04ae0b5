//! A slot's key as it is stored: a word that says what it is, then the 32 bytes in base64.
//!
//! Text rather than bytes, for some keyrings show, copy or import nothing else; with the word in front, because 32 bytes
//! of somebody else's would pass for a key. It refuses whatever is not exactly that. Called by `keychain.rs`.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use super::SlotKey;

/// Why what was found is no slot's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It does not begin as ours do.
    Mark,
    /// It is ours, and of another length.
    Length(usize),
    /// It is ours and as long as ours, and no base64.
    Encoding,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark => write!(f, "it does not begin with '{MARK}'"),
            Self::Length(length) => write!(f, "it has {length} characters after '{MARK}' and not {CHARACTERS}"),
            Self::Encoding => write!(f, "what comes after '{MARK}' is not base64"),
        }
    }
}

/// As it is stored.
pub fn encode(key: &SlotKey) -> Zeroizing<String> {
    let mut characters = Zeroizing::new([0; CHARACTERS]);
    let encoded =
        Base64UrlUnpadded::encode(key.as_slice(), characters.as_mut_slice()).expect("32 bytes are 43 characters");
    // Sized beforehand: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MARK.len() + CHARACTERS));
    text.push_str(MARK);
    text.push_str(encoded);
    text
}

/// From what was stored.
pub fn decode(stored: &[u8]) -> Result<SlotKey, Wrong> {
    let characters = stored.strip_prefix(MARK.as_bytes()).ok_or(Wrong::Mark)?;
    if characters.len() != CHARACTERS {
        return Err(Wrong::Length(characters.len()));
    }
    let mut key = Zeroizing::new([0; 32]);
    match Base64UrlUnpadded::decode(characters, key.as_mut_slice()) {
        Ok(bytes) if bytes.len() == 32 => Ok(key),
        _ => Err(Wrong::Encoding),
    }
}

/// What a stored key begins with. The number is that of this form.
const MARK: &str = "strongroom-slot-key-1:";
/// 32 bytes in base64 without padding.
const CHARACTERS: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back() {
        for byte in [0, 1, 0x80, 0xff] {
            let key = Zeroizing::new([byte; 32]);
            assert!(decode(encode(&key).as_bytes()).is_ok_and(|back| *back == *key), "{byte}");
        }
        let known = Zeroizing::new(std::array::from_fn(|index| u8::try_from(index).unwrap()));
        assert_eq!(*encode(&known), "strongroom-slot-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    }

    #[test]
    fn anything_else_is_refused_by_its_fault() {
        let good = encode(&Zeroizing::new([7; 32]));
        let wrong = |stored: &[u8]| decode(stored).err();
        assert_eq!(wrong(&[7; 32]), Some(Wrong::Mark));
        assert_eq!(wrong(b""), Some(Wrong::Mark));
        assert_eq!(wrong(good.replace("-1:", "-2:").as_bytes()), Some(Wrong::Mark));
        assert_eq!(wrong(good[..good.len() - 1].as_bytes()), Some(Wrong::Length(42)));
        assert_eq!(wrong(format!("{}\n", *good).as_bytes()), Some(Wrong::Length(44)));
        let with_star = format!("{}*", &good[..good.len() - 1]);
        assert_eq!(wrong(with_star.as_bytes()), Some(Wrong::Encoding));
        // 43 characters carry two bits more than 32 bytes: one key has one text.
        let with_bits = format!("{}B", &encode(&Zeroizing::new([0; 32]))[..good.len() - 1]);
        assert_eq!(wrong(with_bits.as_bytes()), Some(Wrong::Encoding));
    }
}
