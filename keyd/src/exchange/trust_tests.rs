//! Chains that must be refused beside chains that must not, verified exactly as in a handshake.

use rcgen::{CustomExtension, Issuer, KeyPair, PublicKeyData};
use rustls::client::danger::ServerCertVerifier;

use super::*;
use crate::exchange::certificate_fixture::{Ca, ca};
use crate::policy::fixture;
use crate::vault::contents::Contents;

/// What a handshake with a.example would say to this chain.
fn verify(
    platform: &[&Ca],
    contents: Contents,
    roots: &[&Ca],
    leaf: &CertificateDer<'_>,
    more: &[CertificateDer<'_>],
) -> Result<(), String> {
    verify_pinned(platform, contents, roots, &[], leaf, more)
}

fn verify_pinned(
    platform: &[&Ca],
    contents: Contents,
    roots: &[&Ca],
    pins: &[Pin],
    leaf: &CertificateDer<'_>,
    more: &[CertificateDer<'_>],
) -> Result<(), String> {
    let trust = Trust::with_platform(platform.iter().map(|ca| ca.der.clone()).collect());
    let mut contents = contents;
    let id = fixture::credential(&mut contents, "one", "a.example", &[b"key"]);
    contents.credentials[0].roots = roots.iter().map(|ca| ca.der.to_vec()).collect();
    contents.credentials[0].pins = pins.to_vec();
    let live = Rc::new(Live::new(contents));
    trust.client_config(&live, &[id], Offer::Http1).map_err(|error| format!("{error:?}"))?;
    let own = Arc::new(OwnKeys::of(&live));
    let credential = live.credential(id).unwrap();
    let inner = vec![trust.rules(&credential.roots, &credential.pins, &own).map_err(|error| format!("{error:?}"))?];
    let name = ServerName::try_from("a.example").unwrap();
    let verifier = Verifier { inner, own };
    verifier.verify_server_cert(leaf, more, &name, &[], UnixTime::now()).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_chain_to_the_platform_or_to_own_roots_is_believed() {
    let (one, two) = (ca("one"), ca("two"));
    let leaf = one.leaf("a.example", |_| {});
    assert_eq!(verify(&[&one], fixture::contents(), &[], &leaf, &[]), Ok(()));
    assert_eq!(verify(&[&two], fixture::contents(), &[&one], &leaf, &[]), Ok(()));
    let sub = one.intermediate("sub");
    assert_eq!(
        verify(&[&one], fixture::contents(), &[], &sub.leaf("a.example", |_| {}), std::slice::from_ref(&sub.der)),
        Ok(())
    );
}

#[test]
fn own_roots_stand_in_place_of_the_platforms() {
    let (one, two) = (ca("one"), ca("two"));
    let leaf = one.leaf("a.example", |_| {});
    assert!(verify(&[&one], fixture::contents(), &[&two], &leaf, &[]).is_err());
    assert!(verify(&[&two], fixture::contents(), &[], &leaf, &[]).is_err());
}

#[test]
fn wrong_names_are_refused() {
    let one = ca("one");
    assert!(verify(&[&one], fixture::contents(), &[], &one.leaf("b.example", |_| {}), &[]).is_err());
}

#[test]
fn a_chain_that_holds_a_ca_of_ours_is_refused_wherever_it_stands() {
    let ours = |ca: &Ca| {
        let mut contents = fixture::contents();
        ca.becomes_ours(&mut contents);
        contents
    };
    let one = ca("one");
    let leaf = one.leaf("a.example", |_| {});
    // In the platform's store, or among the credential's own roots: as if it were not there.
    assert!(verify(&[&one], ours(&one), &[], &leaf, &[]).is_err());
    assert!(verify(&[], ours(&one), &[&one], &leaf, &[]).is_err());
    // Beside a root that is believed: the leaf is not ours at all, and still the chain is refused.
    let other = ca("other");
    assert!(verify(&[&one], ours(&other), &[], &leaf, std::slice::from_ref(&other.der)).is_err());
    assert_eq!(
        verify(&[&one], fixture::contents(), &[], &leaf, std::slice::from_ref(&other.der)),
        Ok(()),
        "the positive twin"
    );
    // Cross-signed by a root that is believed.
    let mut cross = ca("cross");
    cross.der = cross.params.signed_by(&cross.key, &Issuer::from_params(&one.params, &one.key)).unwrap().der().clone();
    let below = cross.leaf("a.example", |_| {});
    assert_eq!(verify(&[&one], fixture::contents(), &[], &below, &[cross.der.clone()]), Ok(()), "the positive twin");
    assert!(verify(&[&one], ours(&cross), &[], &below, &[cross.der.clone()]).is_err());
}

#[test]
fn our_own_leaves_are_refused_by_their_marker() {
    let one = ca("one");
    let arcs = [2, 25, 1];
    let plain = one.leaf("a.example", |params| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&arcs, vec![5, 0]));
    });
    assert_eq!(verify(&[&one], fixture::contents(), &[], &plain, &[]), Ok(()), "the positive twin");
    let marked = one.leaf("a.example", |params| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&arcs, LEAF_MARKER.to_vec()));
    });
    assert!(verify(&[&one], fixture::contents(), &[], &marked, &[]).is_err());
}

#[test]
fn a_leaf_that_we_signed_is_refused_though_the_platform_trusts_its_authority() {
    let ours = crate::vault::ca::new_key(UnixTime::now().as_secs()).unwrap();
    let key = KeyPair::generate().unwrap();
    let sign = |point| crate::vault::ca::leaf(&ours, &"a.example".parse().unwrap(), point, UnixTime::now().as_secs());
    let leaf = CertificateDer::from(sign(key.public_key_raw()).unwrap().certificate);
    let mut platform = ca("platform");
    let check = |platform: &Ca, contents| verify(&[platform], contents, &[], &leaf, &[]);
    assert!(check(&platform, fixture::contents()).unwrap_err().contains("ApplicationVerification"), "by its marker");
    platform.der = CertificateDer::from(ours.certificate.clone());
    let mut contents = fixture::contents();
    contents.ca_keys.push(ours);
    assert!(check(&platform, contents).is_err(), "and by its authority");
}

#[test]
fn no_root_at_all_is_an_error_and_not_a_licence() {
    let one = ca("one");
    let leaf = one.leaf("a.example", |_| {});
    assert_eq!(verify(&[], fixture::contents(), &[], &leaf, &[]), Err("NoRoots".into()));
}

#[test]
fn a_configuration_is_made_once_for_a_generation() {
    let one = ca("one");
    let trust = Trust::with_platform(vec![one.der.clone()]);
    let mut contents = fixture::contents();
    let id = fixture::credential(&mut contents, "one", "a.example", &[b"key"]);
    let live = Rc::new(Live::new(contents));
    let first = trust.client_config(&live, &[id], Offer::Http1).unwrap();
    assert!(Arc::ptr_eq(&first, &trust.client_config(&live, &[id], Offer::Http1).unwrap()));
    let both = trust.client_config(&live, &[id], Offer::Both).unwrap();
    assert_eq!(both.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(Arc::ptr_eq(&both, &trust.client_config(&live, &[id], Offer::Both).unwrap()));
    assert!(Arc::ptr_eq(&first, &trust.client_config(&live, &[id], Offer::Http1).unwrap()));
    let next = Rc::new(Live::new(live.contents().clone()));
    assert!(!Arc::ptr_eq(&first, &trust.client_config(&next, &[id], Offer::Http1).unwrap()));
    assert!(!first.enable_early_data && first.alpn_protocols == [b"http/1.1".to_vec()]);
}

/// The pin of a certificate's key, by another library than the one under test.
fn pin(key: &impl PublicKeyData) -> Pin {
    let hash = ::ring::digest::digest(&::ring::digest::SHA256, &key.subject_public_key_info());
    hash.as_ref().try_into().unwrap()
}

#[test]
fn a_pin_is_met_by_any_key_of_the_path_and_by_no_other() {
    let (root, other) = (ca("root"), ca("other"));
    let sub = root.intermediate("sub");
    let key = KeyPair::generate().unwrap();
    let leaf = sub.leaf_for("a.example", &key);
    let chain = [sub.der.clone()];
    let verify = |pins: &[Pin]| verify_pinned(&[&root], fixture::contents(), &[], pins, &leaf, &chain);
    assert_eq!(verify(&[]), Ok(()));
    for met in [pin(&key), pin(&sub.key), pin(&root.key)] {
        assert_eq!(verify(&[met]), Ok(()));
        assert_eq!(verify(&[pin(&other.key), met]), Ok(()), "one of several is enough");
    }
    assert!(verify(&[pin(&other.key)]).is_err());
    assert!(verify(&[[0; 32]]).is_err());
    // Under roots of the credential's own as well.
    let own = |pins: &[Pin]| verify_pinned(&[], fixture::contents(), &[&root], pins, &leaf, &chain);
    assert_eq!(own(&[pin(&root.key)]), Ok(()));
    assert!(own(&[pin(&other.key)]).is_err());
}

#[test]
fn a_pinned_certificate_that_only_stands_beside_the_path_does_not_count() {
    let (root, pinned) = (ca("root"), ca("pinned"));
    let good_sub = pinned.intermediate("good sub");
    let leaf = root.leaf("a.example", |_| {});
    let both = [&root, &pinned];
    for shown in [&pinned, &good_sub] {
        let pins = [pin(&shown.key)];
        let chain = [shown.der.clone()];
        assert_eq!(verify_pinned(&both, fixture::contents(), &[], &[], &leaf, &chain), Ok(()), "the positive twin");
        assert!(verify_pinned(&both, fixture::contents(), &[], &pins, &leaf, &chain).is_err());
    }
}

#[test]
fn a_pin_loosens_nothing() {
    let (root, other) = (ca("root"), ca("other"));
    let key = KeyPair::generate().unwrap();
    let pins = [pin(&key)];
    let verify = |leaf: &CertificateDer<'_>| verify_pinned(&[&root], fixture::contents(), &[], &pins, leaf, &[]);
    assert_eq!(verify(&root.leaf_for("a.example", &key)), Ok(()));
    assert!(verify(&root.leaf_for("b.example", &key)).is_err(), "another name");
    assert!(verify(&other.leaf_for("a.example", &key)).is_err(), "an unknown authority");
}

#[test]
fn where_two_paths_lead_to_a_root_the_pinned_one_is_found() {
    let (one, two) = (ca("one"), ca("two"));
    let sub = one.intermediate("sub");
    // The same authority, signed by both.
    let cross = sub.params.signed_by(&sub.key, &Issuer::from_params(&two.params, &two.key)).unwrap().der().clone();
    let leaf = sub.leaf("a.example", |_| {});
    for chain in [[sub.der.clone(), cross.clone()], [cross.clone(), sub.der.clone()]] {
        for root in [&one, &two] {
            let pins = [pin(&root.key)];
            assert_eq!(verify_pinned(&[&one, &two], fixture::contents(), &[], &pins, &leaf, &chain), Ok(()));
        }
    }
}
