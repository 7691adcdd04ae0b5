//! The recovery code: 160 random bits that a person can write down, with a check symbol, and the slot key made of it.
//!
//! Crockford's base 32 (crockford.com/base32.html): digits and letters without I, L, O and U, the check symbol being the
//! number modulo 37. Read without regard to case; I and L are 1, O is 0, hyphens and blanks are nothing. The slot key is
//! HKDF-SHA256 (RFC 5869) of the 20 bytes; a code is random, so it needs no Argon2id. It refuses to keep a code: it is
//! shown once. Called by `slot add recovery`, `unlock --recovery`, `passphrase --recovery` and `restore --recovery`.

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use strongroom_protocol::SecretBytes;
use zeroize::Zeroizing;

use crate::error::{CtlError, Outcome};

/// A code. Neither `Clone` nor `Debug`.
pub struct Code(Zeroizing<[u8; BYTES]>);

impl Code {
    /// A new one.
    ///
    /// # Errors
    /// Where the kernel gives no random bytes.
    pub fn random() -> Outcome<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        SystemRandom::new()
            .fill(&mut *bytes)
            .map_err(|_| CtlError::fault("the kernel gave no random bytes. Try again."))?;
        Ok(Self(bytes))
    }

    /// Reads one as a person wrote it.
    ///
    /// # Errors
    /// Says what is wrong with it, and nothing of it.
    pub fn parse(text: &str) -> Outcome<Self> {
        let mut values = Zeroizing::new(Vec::with_capacity(SYMBOLS + 1));
        for symbol in text.chars().filter(|symbol| !symbol.is_whitespace() && *symbol != '-') {
            let value = value_of(symbol).filter(|value| *value < 32 || values.len() == SYMBOLS);
            let value = value.ok_or_else(|| wrong("has a character that no code has"))?;
            if values.len() > SYMBOLS {
                return Err(wrong("is too long"));
            }
            values.push(value);
        }
        if values.len() <= SYMBOLS {
            return Err(wrong("is too short"));
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        for (eight, five) in values[..SYMBOLS].chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
            let number = eight.iter().fold(0u64, |number, value| number << 5 | u64::from(*value));
            five.copy_from_slice(&number.to_be_bytes()[3..]);
        }
        if values[SYMBOLS] == check(&*bytes) { Ok(Self(bytes)) } else { Err(wrong("has a typing error")) }
    }

    /// In groups of four, the check symbol last.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(SYMBOLS + SYMBOLS / 4 + 1));
        for five in self.0.chunks_exact(5) {
            let number = five.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
            for at in (0..8).rev() {
                text.push(symbol_of((number >> (5 * at) & 31) as u8));
                if at % 4 == 0 {
                    text.push('-');
                }
            }
        }
        text.push(symbol_of(check(&*self.0)));
        text
    }

    /// The slot key.
    #[must_use]
    pub fn key(&self) -> SecretBytes {
        struct Length;
        impl KeyType for Length {
            fn len(&self) -> usize {
                32
            }
        }
        let pseudorandom = Salt::new(HKDF_SHA256, &[]).extract(&*self.0);
        let mut key = vec![0; 32];
        let filled = pseudorandom.expand(&[b"strongroom recovery v1"], Length).and_then(|okm| okm.fill(&mut key));
        filled.expect("HKDF gives up to 8160 bytes");
        SecretBytes::new(key)
    }
}

fn wrong(what: &str) -> CtlError {
    CtlError::failed(format!("the recovery code {what}. Compare it with your paper and try again."))
}

/// The number modulo 37.
fn check(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u32, |rest, byte| (rest << 8 | u32::from(*byte)) % 37) as u8
}

fn symbol_of(value: u8) -> char {
    char::from(ALPHABET[usize::from(value)])
}

fn value_of(symbol: char) -> Option<u8> {
    let symbol = match symbol.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    ALPHABET.iter().position(|known| char::from(*known) == symbol).and_then(|at| u8::try_from(at).ok())
}

/// Of the code's entropy.
const BYTES: usize = 20;

/// Symbols without the check symbol: five bits each.
const SYMBOLS: usize = BYTES * 8 / 5;

/// 32 symbols, and five more that a check symbol may be.
const ALPHABET: &[u8; 37] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U";

#[cfg(test)]
mod tests {
    use super::*;

    fn is_wrong(text: &str) -> bool {
        Code::parse(text).is_err()
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code = Code::random().unwrap();
        let text = code.text();
        assert_eq!(text.split('-').map(str::len).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 4, 4, 4, 1]);
        let spaced = text.replace('-', " ").to_lowercase();
        let confused = text.replace('1', "l").replace('0', "O");
        for written in [text.as_str(), &spaced, &confused, &format!("  {}\n", text.replace('-', ""))] {
            assert_eq!(Code::parse(written).unwrap().key().expose(), code.key().expose(), "{written}");
        }
        assert_ne!(Code::random().unwrap().key().expose(), code.key().expose());
    }

    #[test]
    fn every_single_error_and_every_swap_of_neighbours_is_found() {
        let text = Code(Zeroizing::new(*b"twenty bytes of code")).text().replace('-', "");
        for at in 0..text.len() {
            for symbol in ALPHABET.iter().map(|symbol| char::from(*symbol)) {
                let mut changed: Vec<char> = text.chars().collect();
                if changed[at] != symbol {
                    changed[at] = symbol;
                    assert!(is_wrong(&changed.iter().collect::<String>()), "{at} {symbol}");
                }
            }
            let mut swapped: Vec<char> = text.chars().collect();
            if at > 0 && swapped[at] != swapped[at - 1] {
                swapped.swap(at, at - 1);
                assert!(is_wrong(&swapped.iter().collect::<String>()), "{at}");
            }
        }
        assert!(is_wrong("") && is_wrong(&text[1..]) && is_wrong(&format!("{text}0")) && is_wrong("wörter"));
        assert!(!is_wrong(&text));
    }

    /// Codes are on paper: what they mean must never change.
    #[test]
    fn a_code_of_long_ago_gives_the_same_key() {
        let known = Code(Zeroizing::new(*b"twenty bytes of code"));
        let text = "EHVP-AVKM-F4G6-4YBM-CNSJ-0VV6-41HP-YS35-7";
        assert_eq!(known.text().as_str(), text);
        let key: String = Code::parse(text).unwrap().key().expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key, "4338986bdf3aa83d59408ccfc7181ede71b2e56ff9f5e3f9c453eba5c7ffef25");
    }
}
