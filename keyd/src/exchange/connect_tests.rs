//! Real handshakes over real sockets: who is believed, who is not, and with which refusal.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::exchange::certificate_fixture::{Ca, ca};
use crate::policy::fixture;

/// A server for `host` that shows this leaf's chain, with `more` behind it; gives its address.
fn server(issuer: &Ca, host: &str, more: &[&Ca]) -> std::net::SocketAddr {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)).unwrap();
    let mut chain = vec![leaf.der().clone()];
    chain.extend(more.iter().map(|ca| ca.der.clone()));
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
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
        Connection::open(socket, &authority, &trust, &live, &[id], CancellationToken::new()).await.map(drop)
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
