//! A throw-away certification authority and leaves for upstreams that run on this machine.
//!
//! Used by the demo and the system tests. It refuses to write a private key anywhere: keys live in the process that
//! serves with them. Nothing of it goes into any store; credentials name it with `--ca`.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::error::DemoError;

/// A root that signs leaves.
pub struct Root {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Root {
    /// A fresh root with this common name.
    ///
    /// # Errors
    /// Where no key or certificate can be made.
    pub fn new(name: &str) -> Result<Self, DemoError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The root as PEM, for `--ca`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The root as DER, to stand in a chain.
    #[must_use]
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// The root's public key as a SubjectPublicKeyInfo, to be pinned.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.issuer.key().subject_public_key_info()
    }

    /// A server with a leaf for this host.
    ///
    /// # Errors
    /// Where no key or certificate can be made.
    pub fn server(&self, host: &str) -> Result<Arc<ServerConfig>, DemoError> {
        self.server_with(host, |_| ())
    }

    /// A server with a leaf for this host that `change` made special.
    ///
    /// # Errors
    /// Where no key or certificate can be made.
    pub fn server_with(
        &self,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Arc<ServerConfig>, DemoError> {
        self.server_with_chain(host, change, Vec::new())
    }

    /// The same, with more certificates behind the leaf.
    ///
    /// # Errors
    /// Where no key or certificate can be made.
    pub fn server_with_chain(
        &self,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
        more: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<ServerConfig>, DemoError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(host)?;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?;
        server([vec![certificate.der().clone()], more].concat(), &key)
    }
}

/// A server whose leaf nobody but itself signed.
///
/// # Errors
/// Where no key or certificate can be made.
pub fn self_signed(host: &str) -> Result<Arc<ServerConfig>, DemoError> {
    let key = KeyPair::generate()?;
    let certificate = leaf(host)?.self_signed(&key)?;
    server(vec![certificate.der().clone()], &key)
}

/// A server with this chain, TLS 1.2 and 1.3, HTTP/1.1.
///
/// # Errors
/// Where the key does not fit the first certificate.
pub fn server(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<Arc<ServerConfig>, DemoError> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A leaf's parameters, for a host name or address.
///
/// # Errors
/// Where the host is neither.
pub fn leaf(host: &str) -> Result<CertificateParams, DemoError> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, host);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
