//! Real handshakes over real sockets: who is believed, who is not, with which refusal, and what is spoken then.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::exchange::certificate_fixture::{Ca, ca};
use crate::exchange::trust::Trust;
use crate::policy::fixture;
use crate::policy::live::Live;

/// A server for `host` that shows this leaf's chain, with `more` behind it; gives its address.
fn server(issuer: &Ca, host: &str, more: &[&Ca]) -> std::net::SocketAddr {
    server_of(issuer, host, more, &[])
}

/// The same, with these protocols.
fn server_of(issuer: &Ca, host: &str, more: &[&Ca], protocols: &[&str]) -> std::net::SocketAddr {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)).unwrap();
    let mut chain = vec![leaf.der().clone()];
    chain.extend(more.iter().map(|ca| ca.der.clone()));
    server_with(chain, &key, protocols)
}

/// That shows this chain.
fn server_with(chain: Vec<CertificateDer<'static>>, key: &KeyPair, protocols: &[&str]) -> std::net::SocketAddr {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let config = Arc::new(config);
    serve(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let _ = stream.read(&mut [0; 1]);
    })
}

/// Whatever a connection is to meet, once.
fn serve(play: impl FnOnce(TcpStream) + Send + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || play(listener.accept().unwrap().0));
    address
}

/// What keyd makes of it, with `root` as the credential's own and `ours` among its CA keys.
fn open(address: std::net::SocketAddr, root: &Ca, ours: Option<&Ca>) -> Result<(), Refusal> {
    match offering(Offer::Http1, address, root, ours) {
        Ok(_) => Ok(()),
        Err(NoConnection::Refused(refusal)) => Err(refusal),
        Err(NoConnection::Untrusted(_)) => Err(Refusal::UpstreamUntrusted),
        Err(NoConnection::WantsHttp2) => panic!("no server here wants HTTP/2"),
    }
}

/// The same with another offer; whether HTTP/2 is spoken then.
fn offering(offer: Offer, address: std::net::SocketAddr, root: &Ca, ours: Option<&Ca>) -> Result<bool, NoConnection> {
    let mut contents = fixture::contents();
    let id = fixture::credential(&mut contents, "one", "a.example", &[b"key"]);
    contents.credentials[0].roots = vec![root.der.to_vec()];
    if let Some(ca) = ours {
        ca.becomes_ours(&mut contents);
    }
    let live = Rc::new(Live::new(contents));
    let trust = Trust::with_platform(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let socket = PassedSocket::new(OwnedFd::from(stream)).unwrap();
        let authority = "a.example".parse().unwrap();
        let config = trust.client_config(&live, &[id], offer).map_err(|_| Refusal::UpstreamUntrusted)?;
        let connection = super::open(socket, &authority, config, offer, CancellationToken::new()).await?;
        Ok(connection.is_http2())
    })
}

#[test]
fn a_host_that_proves_itself_is_believed_and_others_are_not() {
    let (one, two) = (ca("one"), ca("two"));
    assert_eq!(open(server(&one, "a.example", &[]), &one, None), Ok(()));
    assert_eq!(open(server(&two, "a.example", &[]), &one, None), Err(Refusal::UpstreamUntrusted));
    assert_eq!(open(server(&one, "b.example", &[]), &one, None), Err(Refusal::UpstreamUntrusted));
}

#[test]
fn the_log_says_why_a_host_is_not_believed() {
    let (one, two) = (ca("one"), ca("two"));
    let why = |address, root, ours| match offering(Offer::Http1, address, root, ours) {
        Err(NoConnection::Untrusted(why)) => why,
        other => panic!("{other:?}"),
    };
    for (address, root, ours, words) in [
        (server(&two, "a.example", &[]), &one, None, "no root that the credential trusts"),
        (server(&one, "b.example", &[]), &one, None, "for another name"),
        (server(&one, "a.example", &[&two]), &one, Some(&two), "Strongroom's own authority"),
        (server_with(vec![one.der.clone()], &one.key, &[]), &one, None, "CA:TRUE"),
    ] {
        let why = why(address, root, ours);
        assert!(why.contains(words), "{why}: {words}");
    }
}

#[test]
fn a_chain_that_holds_a_ca_of_ours_is_refused_in_the_handshake() {
    let (one, two) = (ca("one"), ca("two"));
    assert_eq!(open(server(&one, "a.example", &[&two]), &one, None), Ok(()), "the positive twin");
    assert_eq!(open(server(&one, "a.example", &[&two]), &one, Some(&two)), Err(Refusal::UpstreamUntrusted));
    assert_eq!(open(server(&two, "a.example", &[]), &two, Some(&two)), Err(Refusal::UpstreamUntrusted));
}

#[test]
fn what_is_no_tls_is_told_apart_from_what_is_not_believed() {
    let one = ca("one");
    let plain = serve(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert_eq!(open(plain, &one, None), Err(Refusal::UpstreamProtocol));
    let silent = serve(drop);
    assert_eq!(open(silent, &one, None), Err(Refusal::UpstreamUnreachable));
}

#[test]
fn what_is_spoken_is_what_both_sides_know() {
    let one = ca("one");
    let spoken = |offer, protocols: &[&str]| offering(offer, server_of(&one, "a.example", &[], protocols), &one, None);
    let refused = Err(NoConnection::Refused(Refusal::UpstreamProtocol));
    for (offer, protocols, expected) in [
        (Offer::Http1, &[][..], Ok(false)),
        (Offer::Http1, &["http/1.1"], Ok(false)),
        (Offer::Http1, &["h2", "http/1.1"], Ok(false)),
        (Offer::Http1, &["h2"], Err(NoConnection::WantsHttp2)),
        (Offer::Both, &[], Ok(false)),
        (Offer::Both, &["http/1.1"], Ok(false)),
        (Offer::Both, &["h2", "http/1.1"], Ok(true)),
        (Offer::Both, &["h2"], Ok(true)),
        (Offer::Both, &["spdy/1"], refused),
        (Offer::Http2, &[], refused),
        (Offer::Http2, &["http/1.1"], refused),
        (Offer::Http2, &["h2", "http/1.1"], Ok(true)),
    ] {
        assert_eq!(spoken(offer, protocols), expected, "{offer:?} {protocols:?}");
    }
}
