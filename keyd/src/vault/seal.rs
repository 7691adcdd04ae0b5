//! AES-256-GCM, in place and detached: the one cipher of the vault, for the body and for slots.
//!
//! In place, so that plain bytes are only ever where the caller put them, in locked memory; detached, so that no buffer
//! has to grow for a tag. The key schedule lives on the stack and is wiped by the crate when dropped. It refuses to make
//! nonces: [`fresh_nonce`] draws one at random, and callers that need fixed bytes (tests, the worked example) bring them.
//! A random 96-bit nonce may be drawn four thousand million times under one key (NIST SP 800-38D, 8.3).
//! Called by `slot.rs`, `slots.rs`, `unlocked.rs`, `locked.rs` and `create.rs`.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use ring::rand::{SecureRandom, SystemRandom};

use super::KEY_LENGTH;
use super::file_format::{NONCE, TAG};

/// The tag does not fit: another key, or other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealBroken;

/// The kernel gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRandomness;

/// Encrypts `buffer` where it lies and gives the tag.
pub fn encrypt(key: &[u8; KEY_LENGTH], nonce: &[u8; NONCE], associated: &[u8], buffer: &mut [u8]) -> [u8; TAG] {
    let cipher = Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key));
    let tag = cipher
        .encrypt_inout_detached(<&Nonce<_>>::from(nonce), associated, buffer.into())
        .expect("a vault is far below the 64 GiB that GCM takes");
    tag.into()
}

/// Decrypts `buffer` where it lies. On error it holds what it held before.
///
/// # Errors
/// [`SealBroken`].
pub fn decrypt(
    key: &[u8; KEY_LENGTH],
    nonce: &[u8; NONCE],
    associated: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG],
) -> Result<(), SealBroken> {
    let cipher = Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key));
    cipher
        .decrypt_inout_detached(<&Nonce<_>>::from(nonce), associated, buffer.into(), <&Tag>::from(tag))
        .map_err(|_| SealBroken)
}

/// A nonce that was never used, but for a chance of one in 2^32 after four thousand million.
///
/// # Errors
/// [`NoRandomness`].
pub fn fresh_nonce() -> Result<[u8; NONCE], NoRandomness> {
    let mut nonce = [0; NONCE];
    fill_random(&mut nonce)?;
    Ok(nonce)
}

/// Random bytes, straight into where they are needed.
///
/// # Errors
/// [`NoRandomness`].
pub fn fill_random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    SystemRandom::new().fill(bytes).map_err(|_| NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_and_nothing_else_does() {
        let mut buffer = *b"attack at dawn";
        let tag = encrypt(&[1; 32], &[2; 12], b"header", &mut buffer);
        assert_ne!(&buffer, b"attack at dawn");
        let sealed = buffer;
        let mut wrong_tag = tag;
        wrong_tag[15] ^= 1;
        assert_eq!(decrypt(&[3; 32], &[2; 12], b"header", &mut buffer, &tag), Err(SealBroken));
        assert_eq!(decrypt(&[1; 32], &[3; 12], b"header", &mut buffer, &tag), Err(SealBroken));
        assert_eq!(decrypt(&[1; 32], &[2; 12], b"Header", &mut buffer, &tag), Err(SealBroken));
        assert_eq!(decrypt(&[1; 32], &[2; 12], b"header", &mut buffer, &wrong_tag), Err(SealBroken));
        assert_eq!(buffer, sealed, "a failed opening leaves the bytes alone");
        assert_eq!(decrypt(&[1; 32], &[2; 12], b"header", &mut buffer, &tag), Ok(()));
        assert_eq!(&buffer, b"attack at dawn");
    }

    /// GCM test case 14 of the NIST submission: a zero key, nonce and block.
    #[test]
    fn the_cipher_is_the_standard_one() {
        let mut block = [0; 16];
        let tag = encrypt(&[0; 32], &[0; 12], b"", &mut block);
        assert_eq!(block, 0xcea7_403d_4d60_6b6e_074e_c5d3_baf3_9d18_u128.to_be_bytes());
        assert_eq!(tag, 0xd0d1_c8a7_9999_6bf0_265b_98b5_d48a_b919_u128.to_be_bytes());
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(fresh_nonce(), fresh_nonce());
    }
}
