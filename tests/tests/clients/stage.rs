//! One provider, one agent, one grant: what every client's test begins with.

use strongroom_tests::client::Builder;
use strongroom_tests::fake_api::{FakeApi, Provider};
use strongroom_tests::network;
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::random_key;
use strongroom_tests::wire::Wire;

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
    /// In front of this provider, on a machine alone.
    #[track_caller]
    pub fn of(provider: Provider) -> Self {
        network::cut_off();
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

/// What a client is given.
#[derive(Clone, Copy)]
pub enum Held<'a> {
    /// What was granted to this agent.
    Of(&'a str, &'a str),
    /// Some other placeholder; through the proxy somebody may listen to what is spoken.
    Other(&'a str, Option<&'a Wire>),
}

/// Runs a client with an ear on its way, which must hear this version of HTTP; the client is given the variables that lead
/// there.
#[track_caller]
pub fn speaks(strongroom: &Strongroom, agent: &str, http: &str, run: impl FnOnce(&[(&str, &str)]) -> Output) -> Output {
    let wire = Wire::before(strongroom.address());
    let over = wire.variables(strongroom, agent);
    let over: Vec<_> = over.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = run(&over);
    assert_eq!(wire.heard(), http, "{output:?}");
    output
}

/// Sets all of these.
pub fn with(builder: Builder, variables: &[(&str, String)]) -> Builder {
    variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}
