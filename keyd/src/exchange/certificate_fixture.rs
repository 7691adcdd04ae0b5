//! Certificate authorities for the tests of this folder.

use std::rc::Rc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

use crate::secret::Secret;
use crate::vault::contents::{CaKey, Contents};

/// A CA and its self-signed certificate.
pub struct Ca {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: CertificateDer<'static>,
}

/// A new one.
pub fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let der = params.self_signed(&key).unwrap().der().clone();
    Ca { params, key, der }
}

impl Ca {
    /// A leaf for this host; its key is thrown away.
    pub fn leaf(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
    }

    /// A leaf for this host and key.
    pub fn leaf_for(&self, host: &str, key: &KeyPair) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.signed_by(key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone()
    }

    /// A CA below this one.
    pub fn intermediate(&self, name: &str) -> Ca {
        let mut sub = ca(name);
        sub.der = sub.params.signed_by(&sub.key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone();
        sub
    }

    /// As if this were a CA of the vault's.
    pub fn becomes_ours(&self, contents: &mut Contents) {
        let public_point = self.key.public_key_raw().to_vec();
        let pkcs8 = Rc::new(Secret::copy_from(&self.key.serialize_der()).unwrap());
        contents.ca_keys.push(CaKey { pkcs8, public_point, created: 0, certificate: self.der.to_vec() });
    }
}
