//! Leaves as clients check them: by chain, name, time, use; and none for what is no point or more than one host.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::*;

const NOW: u64 = 1_800_000_000;

fn point() -> Vec<u8> {
    rcgen::KeyPair::generate().unwrap().public_key_raw().to_vec()
}

fn check(ca: &[u8], leaf: &[u8], name: &str, at: u64) -> Result<(), webpki::Error> {
    let (ca, leaf) = (CertificateDer::from(ca), CertificateDer::from(leaf));
    let anchors = [anchor_from_trusted_cert(&ca)?];
    let leaf = EndEntityCert::try_from(&leaf)?;
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
    leaf.verify_for_usage(algorithms, &anchors, &[], time, KeyUsage::server_auth(), None, None)?;
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
}

#[test]
fn a_leaf_is_good_for_its_host_for_a_day_and_for_nothing_else() {
    let ca = new_key(NOW - 1000).unwrap();
    let leaf = leaf(&ca, &"api.example:8443".parse().unwrap(), &point(), NOW).unwrap();
    assert_eq!(check(&ca.certificate, &leaf.certificate, "api.example", NOW), Ok(()));
    assert_eq!(check(&ca.certificate, &leaf.certificate, "api.example", NOW - SKEW), Ok(()));
    assert_eq!(check(&ca.certificate, &leaf.certificate, "api.example", leaf.expires), Ok(()));
    for (name, at) in [
        ("other.example", NOW),
        ("x.api.example", NOW),
        ("api.example", leaf.expires + 1),
        ("api.example", NOW - SKEW - 1),
    ] {
        assert!(check(&ca.certificate, &leaf.certificate, name, at).is_err(), "{name} at {at}");
    }
    assert!(leaf.expires - (NOW - SKEW) <= 24 * 3600);
    let other = new_key(NOW).unwrap();
    assert!(check(&other.certificate, &leaf.certificate, "api.example", NOW).is_err());
}

#[test]
fn addresses_have_leaves_too() {
    let ca = new_key(NOW).unwrap();
    for (authority, name) in [("192.0.2.7:8443", "192.0.2.7"), ("[2001:db8::1]:443", "2001:db8::1")] {
        let leaf = leaf(&ca, &authority.parse().unwrap(), &point(), NOW).unwrap();
        assert_eq!(check(&ca.certificate, &leaf.certificate, name, NOW), Ok(()));
    }
}

#[test]
fn every_leaf_has_the_marker_and_the_authoritys_point_is_only_in_its_own() {
    let ca = new_key(NOW).unwrap();
    let (one, two) = (point(), point());
    let first = leaf(&ca, &"a.example".parse().unwrap(), &one, NOW).unwrap().certificate;
    let second = leaf(&ca, &"a.example".parse().unwrap(), &two, NOW).unwrap().certificate;
    let holds = |certificate: &[u8], bytes: &[u8]| memchr::memmem::find(certificate, bytes).is_some();
    assert!(holds(&first, LEAF_MARKER) && holds(&second, LEAF_MARKER) && !holds(&ca.certificate, LEAF_MARKER));
    assert!(holds(&ca.certificate, &ca.public_point) && holds(&first, &one) && !holds(&first, &two));
    assert_ne!(first[..60], second[..60], "serial numbers differ");
}

#[test]
fn the_markers_identifier_is_one_that_go_reads() {
    assert!(LEAF_MARKER_ARCS.iter().all(|&arc| i32::try_from(arc).is_ok()), "{LEAF_MARKER_ARCS:?}");
}

#[test]
fn what_is_no_point_gets_no_leaf() {
    let ca = new_key(NOW).unwrap();
    let good = point();
    let compressed = [&[2], &good[1..33]].concat();
    for bad in [&[][..], &good[..64], &[&good[..], &[0]].concat(), &compressed, &[3; 65]] {
        assert_eq!(leaf(&ca, &"a.example".parse().unwrap(), bad, NOW).unwrap_err(), CaError::Point);
    }
    assert!(leaf(&ca, &"a.example".parse().unwrap(), &good, NOW).is_ok());
}

#[test]
fn a_certificate_made_again_has_the_same_key_and_name() {
    let mut ca = new_key(NOW).unwrap();
    let leaf = leaf(&ca, &"a.example".parse().unwrap(), &point(), NOW).unwrap();
    ca.certificate = certificate(&ca).unwrap();
    assert_eq!(check(&ca.certificate, &leaf.certificate, "a.example", NOW), Ok(()));
}
