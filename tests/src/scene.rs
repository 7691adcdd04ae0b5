//! The scene that most tests begin with: one upstream, one credential, one agent, one grant.
//!
//! It refuses to hide what a test is about: whatever differs from the usual is done by the test itself, on
//! [`Scene::strongroom`].

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use strongroom_ctl::demo::certificate::Root;
use strongroom_ctl::demo::upstream::{Exchange, Upstream};

use crate::agent::Request;
use crate::strongroom::{Builder, Strongroom, random_key};

/// An upstream and a Strongroom in front of it.
pub struct Scene {
    /// The daemons.
    pub strongroom: Strongroom,
    /// The other end.
    pub upstream: Upstream,
    /// Who signed the upstream's certificate; the credential names it with `--ca`.
    pub root: Root,
    /// The real key.
    pub key: String,
    /// What the agent holds.
    pub placeholder: String,
}

/// The upstream's name.
pub const HOST: &str = "api.upstream.example";
/// The credential's name, and its route.
pub const CREDENTIAL: &str = "openai";
/// The agent's name.
pub const AGENT: &str = "worker";

impl Scene {
    /// The usual scene, with an upstream that does this.
    ///
    /// # Panics
    /// Where a step fails.
    #[track_caller]
    #[must_use]
    pub fn with(script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::build(Strongroom::new(), script)
    }

    /// With a gatewayd that is configured otherwise.
    ///
    /// # Panics
    /// Where a step fails.
    #[track_caller]
    #[must_use]
    pub fn build(
        builder: Builder,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::build_tls(builder, |root| root.server(HOST).expect("a certificate"), script)
    }

    /// With an upstream whose certificate is special.
    ///
    /// # Panics
    /// Where a step fails.
    #[track_caller]
    #[must_use]
    pub fn build_tls(
        builder: Builder,
        tls: impl FnOnce(&Root) -> Arc<ServerConfig>,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let root = Root::new("The tests' root").expect("a certificate");
        let upstream = Upstream::start(tls(&root), script).expect("a port");
        Self::before(builder, upstream, root)
    }

    /// In front of this upstream.
    ///
    /// # Panics
    /// Where a step fails.
    #[track_caller]
    #[must_use]
    pub fn before(builder: Builder, upstream: Upstream, root: Root) -> Self {
        let strongroom = builder.resolving(HOST, upstream.address()).start();
        let key = random_key("sk-");
        let ca = strongroom.write("root.pem", root.pem());
        let ca = ca.to_str().expect("a plain path");
        strongroom
            .must_with(&["credential", "add", CREDENTIAL, "--host", HOST, "--bearer", "--ca", ca], key.as_bytes());
        strongroom.must(&["agent", "add", AGENT]);
        let placeholder = strongroom.must(&["grant", "add", CREDENTIAL, "--agent", AGENT]).trim().to_owned();
        Self { strongroom, upstream, root, key, placeholder }
    }

    /// An agent's request with its placeholder.
    #[must_use]
    pub fn request(&self, method: &str, target: &str) -> Request {
        self.strongroom.request(method, target).bearer(&self.placeholder)
    }

    /// A GET with the placeholder.
    #[must_use]
    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    /// A POST with the placeholder and a body.
    #[must_use]
    pub fn post(&self, target: &str, body: &[u8]) -> Request {
        self.request("POST", target).body(body)
    }

    /// Adds one more credential on the same upstream and gives its key; `arguments` come behind `credential add NAME`.
    ///
    /// # Panics
    /// Where a step fails.
    #[track_caller]
    pub fn add_credential(&self, name: &str, arguments: &[&str]) -> String {
        let key = random_key("sk-");
        let ca = self.strongroom.write("root.pem", self.root.pem());
        let usual = ["credential", "add", name, "--ca", ca.to_str().expect("a plain path")];
        self.strongroom.must_with(&[&usual, arguments].concat(), key.as_bytes());
        key
    }

    /// Adds a grant to an agent, with more arguments, and gives the placeholder.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn grant(&self, credential: &str, agent: &str, arguments: &[&str]) -> String {
        self.strongroom.must(&[&["grant", "add", credential, "--agent", agent], arguments].concat()).trim().to_owned()
    }
}
