//! One provider, one agent, one grant: what every client's test begins with.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::{FakeApi, Provider};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::random_key;

/// A provider and a Strongroom in front of it.
pub struct Stage {
    /// The daemons.
    pub strongroom: Strongroom,
    /// The provider.
    pub api: FakeApi,
    /// What the client holds in place of the key.
    pub placeholder: String,
}

impl Stage {
    /// In front of this provider.
    #[track_caller]
    pub fn of(provider: Provider) -> Self {
        let root = Root::new("The tests' root").unwrap();
        let api = FakeApi::start(provider, random_key(provider.key_prefix), &root);
        let strongroom = Strongroom::new().resolving(provider.host, api.upstream.address()).start();
        let ca = strongroom.write("root.pem", root.pem());
        let add = ["credential", "add", provider.name, "--ca", ca.to_str().unwrap()];
        strongroom.must_with(&[&add, provider.sites].concat(), api.key.as_bytes());
        let mut stage = Self { strongroom, api, placeholder: String::new() };
        stage.placeholder = stage.agent(AGENT, &[]);
        stage
    }

    /// Adds an agent with a grant, and gives its placeholder.
    #[track_caller]
    pub fn agent(&self, name: &str, more: &[&str]) -> String {
        self.strongroom.must(&["agent", "add", name]);
        let grant = ["grant", "add", self.api.provider.name, "--agent", name];
        self.strongroom.must(&[&grant, more].concat()).trim().to_owned()
    }

    /// The base URL, with this behind it.
    pub fn base(&self, rest: &str) -> String {
        format!("http://{}/{}{rest}", self.strongroom.address(), self.api.provider.name)
    }

    /// Everything that came to the provider had the key where it belongs, and something came.
    #[track_caller]
    pub fn assert_only_right(&self) {
        assert_eq!(self.api.wrong(), Vec::<String>::new());
        assert!(self.api.right() > 0, "nothing came");
    }
}

/// Sets all of these.
pub fn with(builder: Builder, variables: &[(&str, String)]) -> Builder {
    variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}
