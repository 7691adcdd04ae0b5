//! Whom keyd believes to be an upstream: a host that proves it by a chain to the credential's roots, and never to us.
//!
//! Roots are the platform's, read once at start before the cage, or the credential's own in their place. Any
//! certificate that holds the public key of a CA of ours, present or past, is refused wherever it stands in a chain,
//! and our own leaves by a marker extension: our CA lies in the hands of gatewayd's clients, and a chain to it must not
//! open the door to a key, whatever the platform's store says. A credential's pins come on top. No session is resumed and no early data is sent.
//!
//! Called by `main` (to load) and `forward`.

mod pins;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use memchr::memmem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use strongroom_protocol::Authority;
use strongroom_protocol::log::Brake;

use self::pins::{Pin, Pins};
use super::protocol::Offer;
use crate::policy::live::Live;
use crate::vault::ca::LEAF_MARKER;

/// The platform's roots, and client configurations made so far.
pub struct Trust {
    platform: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    /// By the ids of the credentials that a channel serves and by what it offers; of one generation of the vault.
    made: RefCell<HashMap<Vec<u64>, Vec<Made>>>,
    made_of: RefCell<Option<Rc<Live>>>,
    /// For lines about whom nobody believes: whoever dials can cause as many as they like.
    brake: Brake,
}

/// A configuration, and what it offers.
type Made = (Offer, Arc<ClientConfig>);

impl Trust {
    /// Reads the platform's roots. Called before the cage closes, with the environment already cleared: what
    /// SSL_CERT_FILE said must not count.
    #[must_use]
    pub fn load() -> Self {
        Self::with_platform(rustls_native_certs::load_native_certs().certs)
    }

    /// With these as the platform's.
    #[must_use]
    pub fn with_platform(platform: Vec<CertificateDer<'static>>) -> Self {
        Self {
            platform,
            provider: Arc::new(ring::default_provider()),
            made: RefCell::default(),
            made_of: RefCell::default(),
            brake: Brake::new(),
        }
    }

    /// Says in the log why an upstream was not believed.
    pub fn note(&self, authority: &Authority, why: &'static str) {
        if let Some(held) = self.brake.pass(Instant::now()) {
            tracing::warn!(host = %authority, why, held, "an upstream does not prove who it is, and got no request");
        }
    }

    /// How many roots the platform has.
    #[must_use]
    pub fn platform_roots(&self) -> usize {
        self.platform.len()
    }

    /// Forgets what was made, and with it the generation of the vault that it was made of.
    pub fn forget(&self) {
        self.made.borrow_mut().clear();
        *self.made_of.borrow_mut() = None;
    }

    /// The configuration for a channel that serves these credentials: the chain has to satisfy each of them.
    ///
    /// # Errors
    /// Where a credential has no root left that could be believed.
    pub fn client_config(
        &self,
        live: &Rc<Live>,
        credentials: &[u64],
        offer: Offer,
    ) -> Result<Arc<ClientConfig>, NoRoots> {
        if !self.made_of.borrow().as_ref().is_some_and(|of| Rc::ptr_eq(of, live)) {
            self.made.borrow_mut().clear();
            *self.made_of.borrow_mut() = Some(Rc::clone(live));
        }
        let mut config = match self.made.borrow().get(credentials).map(Vec::as_slice) {
            None | Some([]) => self.new_config(live, credentials)?,
            Some(made @ [(_, first), ..]) => match made.iter().find(|(known, _)| *known == offer) {
                Some((_, config)) => return Ok(Arc::clone(config)),
                // Another offer, and the same roots.
                None => ClientConfig::clone(first),
            },
        };
        config.alpn_protocols = offer.alpn();
        let config = Arc::new(config);
        self.made.borrow_mut().entry(credentials.to_vec()).or_default().push((offer, Arc::clone(&config)));
        Ok(config)
    }

    fn new_config(&self, live: &Live, credentials: &[u64]) -> Result<ClientConfig, NoRoots> {
        let own = Arc::new(OwnKeys::of(live));
        let mut inner = Vec::new();
        for credential in credentials.iter().filter_map(|id| live.credential(*id)) {
            inner.push(self.rules(&credential.roots, &credential.pins, &own)?);
        }
        if inner.is_empty() {
            return Err(NoRoots);
        }
        let verifier = Arc::new(Verifier { inner, own });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|_| NoRoots)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn rules(&self, own_roots: &[Vec<u8>], pins: &[Pin], own: &OwnKeys) -> Result<Rules, NoRoots> {
        let mut store = RootCertStore::empty();
        let mut add = |root: CertificateDer<'static>| {
            if !own.stand_in(&root) {
                // A root that cannot be read is not believed.
                let _ = store.add(root);
            }
        };
        if own_roots.is_empty() {
            self.platform.iter().cloned().for_each(&mut add);
        } else {
            own_roots.iter().map(|der| CertificateDer::from(der.clone())).for_each(&mut add);
        }
        let store = Arc::new(store);
        let pins = Pins::new(pins, &store, self.provider.signature_verification_algorithms.all);
        let web = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&self.provider));
        Ok(Rules { web: web.build().map_err(|_| NoRoots)?, pins })
    }
}

/// A credential whose roots are all unreadable, or ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoots;

/// The X coordinates of our CA keys.
///
/// They stand in every encoding of the key, compressed or not, and 32 random bytes stand nowhere else by chance: so a
/// search through the certificate's bytes is enough, and no parser can be led astray.
#[derive(Debug)]
struct OwnKeys(Vec<[u8; 32]>);

impl OwnKeys {
    fn of(live: &Live) -> Self {
        let x = |point: &[u8]| point.get(1..33).and_then(|x| x.try_into().ok());
        Self(live.contents().ca_keys.iter().filter_map(|key| x(&key.public_point)).collect())
    }

    fn stand_in(&self, certificate: &[u8]) -> bool {
        self.0.iter().any(|x| memmem::find(certificate, x).is_some())
            || memmem::find(certificate, LEAF_MARKER).is_some()
    }
}

/// What one credential asks of a chain.
#[derive(Debug)]
struct Rules {
    web: Arc<WebPkiServerVerifier>,
    pins: Option<Pins>,
}

/// The web PKI's verdict under each credential's roots, and its pins, after our own keys were looked for.
#[derive(Debug)]
struct Verifier {
    inner: Vec<Rules>,
    own: Arc<OwnKeys>,
}

impl Verifier {
    fn any(&self) -> &WebPkiServerVerifier {
        &self.inner[0].web
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if std::iter::once(leaf).chain(intermediates).any(|certificate| self.own.stand_in(certificate)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        for rules in &self.inner {
            rules.web.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
            if let Some(pins) = &rules.pins {
                pins.check(leaf, intermediates, now)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
