//! Connections with the upstream: kept, the last used first.
//!
//! It refuses an upstream that does not prove its name by the root it was given. Called by `forward`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

use crate::forward::Failure;

/// The pool.
pub struct Upstreams {
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
}

impl Upstreams {
    /// Nothing is dialled yet.
    pub fn new(address: SocketAddr, host: &str, root: &str) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(root.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Self { address, name, connector: TlsConnector::from(Arc::new(config)), idle: RefCell::default() })
    }

    /// One that is ready: kept from before, or new.
    pub async fn take(&self) -> Result<SendRequest<Incoming>, Failure> {
        while let Some(mut sender) = self.pop() {
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let stream = self.connector.connect(self.name.clone(), socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The exchange sees the same error through its response or body.
        spawn_local(async move { connection.await.ok() });
        Ok(sender)
    }

    /// Keeps one whose answer has ended.
    pub fn give_back(&self, sender: SendRequest<Incoming>) {
        if !sender.is_closed() {
            self.idle.borrow_mut().push(sender);
        }
    }

    fn pop(&self) -> Option<SendRequest<Incoming>> {
        self.idle.borrow_mut().pop()
    }
}
