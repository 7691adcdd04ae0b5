//! Certificates for hosts that agents reach through us, each with a key of its own, ready to be shown.
//!
//! keyd signs them from a bare public point; the private key is made here and never leaves. One is used until shortly
//! before it ends, or until keyd says that anything has changed. It refuses to keep more than a bound, oldest out first.
//! Kept by the gateway, asked for each CONNECT.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use strongroom_protocol::Authority;
use strongroom_protocol::exchange::Leaf;

/// Leaves by host.
#[derive(Default)]
pub struct Leaves(RefCell<Kept>, RefCell<Option<Wanted>>);

#[derive(Default)]
struct Kept {
    /// What keyd had told when they were made.
    told: u64,
    by_host: HashMap<Authority, (Arc<ServerConfig>, u64)>,
    /// In the order in which they were made.
    order: VecDeque<Authority>,
}

/// A key that wants a certificate.
pub struct Wanted {
    document: ring::pkcs8::Document,
    point: Vec<u8>,
}

impl Wanted {
    /// A new key; nothing where the kernel gives no random bytes.
    #[must_use]
    pub fn new() -> Option<Self> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).ok()?;
        let point = pair.public_key().as_ref().to_vec();
        Some(Self { document, point })
    }

    /// Its uncompressed public point.
    #[must_use]
    pub fn point(&self) -> Vec<u8> {
        self.point.clone()
    }
}

impl Leaves {
    /// What was made for this host, if it is good for a while.
    #[must_use]
    pub fn get(&self, authority: &Authority, told: u64) -> Option<Arc<ServerConfig>> {
        let kept = self.0.borrow();
        let (config, expires) = kept.by_host.get(authority).filter(|_| kept.told == told)?;
        (now() + MARGIN < *expires).then(|| config.clone())
    }

    /// A key that wants a certificate: the one that was not used the last time, or a new one.
    #[must_use]
    pub fn wanted(&self) -> Option<Wanted> {
        self.1.take().or_else(Wanted::new)
    }

    /// It was not needed.
    pub fn spare(&self, wanted: Wanted) {
        *self.1.borrow_mut() = Some(wanted);
    }

    /// Keeps a certificate that keyd signed. `told` is what keyd had told before.
    #[must_use]
    pub fn put(&self, authority: &Authority, told: u64, wanted: Wanted, leaf: Leaf) -> Option<Arc<ServerConfig>> {
        let config = Arc::new(config(wanted, leaf.certificate)?);
        let mut kept = self.0.borrow_mut();
        if kept.told != told {
            *kept = Kept { told, ..Kept::default() };
        }
        if kept.by_host.insert(authority.clone(), (config.clone(), leaf.expires)).is_none() {
            kept.order.push_back(authority.clone());
        }
        if kept.order.len() > MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_host.remove(&oldest);
        }
        Some(config)
    }
}

fn config(wanted: Wanted, certificate: Vec<u8>) -> Option<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(wanted.document.as_ref()));
    let key = any_ecdsa_type(&key).ok()?;
    let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // A session that was begun under one generation of grants is not resumed under another.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Some(config)
}

/// A certificate as PEM (RFC 7468).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is spoken inside. `http/1.0` is for programs that offer nothing else (RFC 7301, 6): a handshake that finds nothing
/// in common fails.
const ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
/// Longer than any handshake, and than clocks differ.
const MARGIN: u64 = 3600;
/// Some kilobytes each.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;

    fn authority(number: usize) -> Authority {
        format!("h{number}.example").parse().unwrap()
    }

    fn put(leaves: &Leaves, number: usize, told: u64, expires: u64) {
        let leaf = Leaf { certificate: vec![0x30, 0], expires };
        assert!(leaves.put(&authority(number), told, Wanted::new().unwrap(), leaf).is_some());
    }

    #[test]
    fn a_leaf_is_used_until_it_ends_or_keyd_speaks() {
        let leaves = Leaves::default();
        put(&leaves, 1, 7, now() + MARGIN + 100);
        put(&leaves, 2, 7, now() + MARGIN - 100);
        assert!(leaves.get(&authority(1), 7).is_some());
        assert!(leaves.get(&authority(2), 7).is_none(), "it ends soon");
        assert!(leaves.get(&authority(3), 7).is_none());
        assert!(leaves.get(&authority(1), 8).is_none(), "keyd has spoken since");
        put(&leaves, 3, 8, now() + MARGIN + 100);
        assert!(leaves.get(&authority(1), 8).is_none() && leaves.get(&authority(3), 8).is_some());
    }

    #[test]
    fn every_version_of_http_is_spoken_and_nothing_else() {
        let leaf = Leaf { certificate: vec![0x30, 0], expires: u64::MAX };
        let ours = Leaves::default().put(&authority(1), 1, Wanted::new().unwrap(), leaf).unwrap();
        let chosen = |offered: &[&str]| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let mut client = ClientConnection::new(Arc::new(config), "h1.example".try_into().unwrap()).unwrap();
            let mut server = ServerConnection::new(ours.clone()).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            server.read_tls(&mut &hello[..]).unwrap();
            server.process_new_packets().ok()?;
            Some(String::from_utf8(server.alpn_protocol().unwrap_or_default().to_vec()).unwrap())
        };
        assert_eq!(chosen(&["http/1.0"]).as_deref(), Some("http/1.0"));
        assert_eq!(chosen(&["http/1.0", "http/1.1"]).as_deref(), Some("http/1.1"));
        assert_eq!(chosen(&["http/1.1", "h2"]).as_deref(), Some("h2"));
        assert_eq!(chosen(&[]).as_deref(), Some(""));
        assert_eq!(chosen(&["spdy/3"]), None);
    }

    #[test]
    fn never_more_than_the_bound_are_kept() {
        let leaves = Leaves::default();
        (0..MOST + 10).for_each(|number| put(&leaves, number, 1, u64::MAX));
        put(&leaves, MOST + 9, 1, u64::MAX);
        assert_eq!((leaves.0.borrow().by_host.len(), leaves.0.borrow().order.len()), (MOST, MOST));
        assert!(leaves.get(&authority(0), 1).is_none() && leaves.get(&authority(MOST), 1).is_some());
    }

    #[test]
    fn pem_has_lines_of_64() {
        let text = pem(&[7; 100]);
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----\n") && text.ends_with("-----END CERTIFICATE-----\n"));
        assert!(text.lines().all(|line| line.len() <= 64));
    }
}
