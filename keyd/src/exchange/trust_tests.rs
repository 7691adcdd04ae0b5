//! Chains that must be refused beside chains that must not, verified exactly as in a handshake.

use rcgen::{CustomExtension, Issuer};
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
    let trust = Trust::with_platform(platform.iter().map(|ca| ca.der.clone()).collect());
    let mut contents = contents;
    let id = fixture::credential(&mut contents, "one", "a.example", &[b"key"]);
    contents.credentials[0].roots = roots.iter().map(|ca| ca.der.to_vec()).collect();
    let live = Rc::new(Live::new(contents));
    trust.client_config(&live, &[id]).map_err(|error| format!("{error:?}"))?;
    let own = Arc::new(OwnKeys::of(&live));
    let credential = live.credential(id).unwrap();
    let inner = vec![trust.verifier(&credential.roots, &own).map_err(|error| format!("{error:?}"))?];
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
        // rcgen takes arcs of 64 bits, a UUID's has 128: the identifier goes into the extension's content instead,
        // where the search finds it as well.
        params.custom_extensions.push(CustomExtension::from_oid_content(&arcs, LEAF_MARKER.to_vec()));
    });
    assert!(verify(&[&one], fixture::contents(), &[], &marked, &[]).is_err());
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
    let first = trust.client_config(&live, &[id]).unwrap();
    assert!(Arc::ptr_eq(&first, &trust.client_config(&live, &[id]).unwrap()));
    let next = Rc::new(Live::new(live.contents().clone()));
    assert!(!Arc::ptr_eq(&first, &trust.client_config(&next, &[id]).unwrap()));
    assert!(!first.enable_early_data && first.alpn_protocols == [b"http/1.1".to_vec()]);
}
