//! Our certificate authority: its own certificate, and leaves for hosts that agents reach through us.
//!
//! gatewayd shows a leaf to an agent that sent CONNECT, so that it can read the request; the agent trusts the authority
//! because `run` or `env` told it to, and nothing else on the machine does. keyd builds and signs the whole certificate
//! and gets nothing of gatewayd's but a public point. It refuses points that are none, and never signs for more than a
//! day or for more than one host. Every leaf has the marker by which `exchange/trust.rs` knows its own.
//!
//! Called by `gateway/connect.rs` (leaves), `create.rs` and `admin/` (authorities).

use std::rc::Rc;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use strongroom_protocol::Authority;
use strongroom_protocol::authority::Host;
use strongroom_protocol::exchange::Leaf;

use super::contents::CaKey;
use crate::secret::Secret;

/// Makes a new authority. `now` is in seconds of the Unix epoch.
///
/// # Errors
/// Where the kernel gives no random bytes, or locked memory is full.
pub fn new_key(now: u64) -> Result<CaKey, CaError> {
    let random = SystemRandom::new();
    // ring builds the document in an array of its own on the stack; it is moved into locked memory at once.
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|_| CaError::Randomness)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random)
        .map_err(|_| CaError::Randomness)?;
    let mut key = CaKey {
        pkcs8: Rc::new(Secret::copy_from(document.as_ref()).map_err(|_| CaError::NoRoom)?),
        public_point: pair.public_key().as_ref().to_vec(),
        created: now,
        certificate: Vec::new(),
    };
    key.certificate = certificate(&key)?;
    Ok(key)
}

/// The authority's own certificate: it signs servers' certificates and no further authority.
///
/// # Errors
/// Where the key cannot sign.
pub fn certificate(key: &CaKey) -> Result<Vec<u8>, CaError> {
    let mut params = params(&key.public_point, key.created.saturating_sub(SKEW), key.created + LIFETIME)?;
    params.distinguished_name = name_of(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signed = params.self_signed(&Signer(key)).map_err(|_| CaError::Signing)?;
    Ok(signed.der().to_vec())
}

/// A certificate for one host and this public point, uncompressed; good for a day at most.
///
/// # Errors
/// [`CaError::Point`] where it is no point of the curve.
pub fn leaf(key: &CaKey, authority: &Authority, point: &[u8], now: u64) -> Result<Leaf, CaError> {
    if !is_point(point) {
        return Err(CaError::Point);
    }
    let expires = now + LEAF_LIFETIME - SKEW;
    let mut params = params(point, now.saturating_sub(SKEW), expires)?;
    params.distinguished_name.push(DnType::CommonName, "Strongroom");
    params.subject_alt_names = vec![match authority.host() {
        Host::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(|_| CaError::Signing)?),
        Host::V4(address) => SanType::IpAddress((*address).into()),
        Host::V6(address) => SanType::IpAddress((*address).into()),
    }];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.custom_extensions = vec![CustomExtension::from_oid_content(LEAF_MARKER_ARCS, LEAF_MARKER.to_vec())];

    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = name_of(key);
    issuer.key_identifier_method = key_id(&key.public_point);
    issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let signed = params.signed_by(&Subject(point), &Issuer::new(issuer, Signer(key))).map_err(|_| CaError::Signing)?;
    Ok(Leaf { certificate: signed.der().to_vec(), expires })
}

fn params(point: &[u8], from: u64, to: u64) -> Result<CertificateParams, CaError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| CaError::Randomness)?;
    // Positive, and as long as every other (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x3f | 0x40;
    let time = |seconds: u64| {
        i64::try_from(seconds).ok().and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
    };
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = time(from).ok_or(CaError::Clock)?;
    params.not_after = time(to).ok_or(CaError::Clock)?;
    params.distinguished_name = DistinguishedName::new();
    params.key_identifier_method = key_id(point);
    Ok(params)
}

/// Distinct for each authority, so that no client takes one for another.
fn name_of(key: &CaKey) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    let id: String = id_of(&key.public_point)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    name.push(DnType::CommonName, format!("Strongroom local authority {id}"));
    name
}

/// RFC 7093, method 1.
fn id_of(point: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&digest(&SHA256, point).as_ref()[..20]);
    id
}

fn key_id(point: &[u8]) -> KeyIdMethod {
    KeyIdMethod::PreSpecified(id_of(point).to_vec())
}

/// By its form; that it lies on the curve is for whoever is shown the leaf, and gatewayd must have its key to use it.
fn is_point(point: &[u8]) -> bool {
    point.len() == 65 && point[0] == 4
}

/// The authority, signing.
struct Signer<'a>(&'a CaKey);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.public_point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let random = SystemRandom::new();
        // Read anew each time, so that outside locked memory the key lives no longer than the signature takes.
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.0.pkcs8, &random)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        let signature = pair.sign(&random, message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// Whose leaf it is.
struct Subject<'a>(&'a [u8]);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Why there is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaError {
    /// The kernel gave no random bytes.
    Randomness,
    /// Locked memory is full.
    NoRoom,
    /// The clock is beyond what a certificate can say.
    Clock,
    /// No uncompressed point.
    Point,
    /// The key could not sign.
    Signing,
}

/// What stands in an extension of every leaf that we sign: a random UUID, as a DER octet string.
pub const LEAF_MARKER: &[u8] =
    &[0x04, 0x10, 0xd6, 0xb6, 0xd1, 0xa5, 0x3f, 0x0e, 0x4c, 0x0e, 0x8f, 0x5e, 0x6f, 0x1f, 0x2f, 0x0b, 0x9c, 0x11];

/// That extension's object identifier, below the arc of UUIDs (ITU-T X.667). Go reads no certificate with an arc of more
/// than 31 bits, so the number is a random one of that length; the marker's value is what makes it unique.
pub const LEAF_MARKER_ARCS: &[u64] = &[2, 25, 1_741_213_529];

/// An agent's clock may be behind ours, in seconds.
const SKEW: u64 = 3600;
/// Of a leaf, from its first second to its last.
const LEAF_LIFETIME: u64 = 24 * 3600;
/// Of an authority: ten years.
const LIFETIME: u64 = 10 * 365 * 24 * 3600;

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
