//! `--pin`: public keys of which one has to stand in the chain that proves the upstream.
//!
//! A pin is the SHA-256 of a SubjectPublicKeyInfo, as in RFC 7469. What counts is the path from the leaf to a root that
//! is believed, not what the server sent beside it: anybody can show the pinned certificate, it is public. The check
//! comes on top of the web PKI's and loosens none of it. It refuses a chain of which no path holds a pin. Called by
//! [`super::Verifier`].

use std::sync::Arc;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use rustls::{CertificateError, RootCertStore};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

/// The hash of a public key.
pub type Pin = [u8; SHA256_OUTPUT_LEN];

/// The pins of one credential, and its roots.
#[derive(Debug)]
pub struct Pins {
    /// Never empty.
    pins: Vec<Pin>,
    roots: Arc<RootCertStore>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl Pins {
    /// Nothing to check where there is no pin.
    #[must_use]
    pub fn new(
        pins: &[Pin],
        roots: &Arc<RootCertStore>,
        algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    ) -> Option<Self> {
        (!pins.is_empty()).then(|| Self { pins: pins.to_vec(), roots: Arc::clone(roots), algorithms })
    }

    /// Looks for a path that is valid and holds a pin.
    ///
    /// # Errors
    /// Where there is none.
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let holds = |path: &VerifiedPath<'_>| {
            let anchor = sequence(&path.anchor().subject_public_key_info);
            let below = path.intermediate_certificates().map(|certificate| certificate.subject_public_key_info());
            let held = self.holds(&path.end_entity().subject_public_key_info())
                || below.into_iter().any(|key| self.holds(&key))
                || self.holds(&anchor);
            // Another path may be looked for then.
            if held { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        let usage = KeyUsage::server_auth();
        leaf.verify_for_usage(self.algorithms, &self.roots.roots, intermediates, now, usage, None, Some(&holds))
            .map(drop)
            .map_err(|_| CertificateError::ApplicationVerificationFailure.into())
    }

    fn holds(&self, key: &[u8]) -> bool {
        let hash = digest(&SHA256, key);
        self.pins.iter().any(|pin| pin == hash.as_ref())
    }
}

/// A DER sequence (X.690, 8.1.3): a root is kept without the frame around its key.
fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut der = vec![SEQUENCE];
    match u8::try_from(content.len()) {
        Ok(short) if short < LONG_FORM => der.push(short),
        _ => {
            der.push(LONG_FORM | significant.len() as u8);
            der.extend_from_slice(significant);
        }
    }
    der.extend_from_slice(content);
    der
}

const SEQUENCE: u8 = 0x30;
const LONG_FORM: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_has_the_shortest_length() {
        for (length, head) in [
            (0, &[0x30, 0][..]),
            (127, &[0x30, 127]),
            (128, &[0x30, 0x81, 128]),
            (255, &[0x30, 0x81, 255]),
            (256, &[0x30, 0x82, 1, 0]),
            (70_000, &[0x30, 0x83, 1, 0x11, 0x70]),
        ] {
            let der = sequence(&vec![7; length]);
            assert_eq!((&der[..head.len()], der.len()), (head, head.len() + length));
        }
    }
}
