//! Reads the certificates of `--ca`: a PEM file, each certificate to DER. Refuses a file without any.

use std::path::Path;

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
