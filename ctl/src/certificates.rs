//! Certificates between PEM and DER: reads those of `--ca`, and writes our own authority's for programs to trust.
//!
//! Refuses a file without any. Called by `credential add`, `ca` and what makes an agent's environment.

use std::path::Path;

use base64ct::{Base64, Encoding};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::{CtlError, Outcome};

/// The certificates in the file, as DER.
///
/// # Errors
/// Where it cannot be read, is not PEM, or holds no certificate.
pub fn read(path: &Path) -> Outcome<Vec<Vec<u8>>> {
    let wrong = |what: String| {
        CtlError::failed(format!("{} {what}. Give a file of root certificates in PEM form.", path.display()))
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes).map(|found| found.map(|der| der.to_vec())).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(wrong("holds no certificate".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(format!("is not understood: {error}"))),
    }
}

/// A certificate in PEM form, lines of 64 characters as RFC 7468 wants them.
#[must_use]
pub fn to_pem(der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect::<String>();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// The SHA-256 of a certificate, as hex.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for length in [1, 47, 48, 49, 700] {
            let der = vec![0x30; length];
            let pem = to_pem(&der);
            assert!(pem.lines().all(|line| line.len() <= 64) && pem.ends_with("-----\n"), "{pem}");
            let path = folder.path().join("x.pem");
            std::fs::write(&path, &pem).unwrap();
            assert_eq!(read(&path).unwrap(), [der]);
        }
    }

    #[test]
    fn fingerprints_are_those_of_others() {
        assert_eq!(fingerprint(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
