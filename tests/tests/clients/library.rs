//! What holds for every client library: it works, it streams as things come, it holds no key, and what is refused comes
//! out of it as an error that a person can act on.

use strongroom_tests::client::{Builder, Client};
use strongroom_tests::fake_api::{Mood, Provider, WORDS, text};
use strongroom_tests::prelude::*;
use strongroom_tests::wire::Wire;

use crate::stage::{Held, Stage};
use crate::table;
use crate::way::Way;

/// One library.
pub struct Library {
    /// Whose API it is for.
    pub provider: Provider,
    /// Starts its script with an action.
    pub script: fn(&[&str]) -> Builder,
    /// The variable in which it, or its script, takes a base URL, and what follows the route there. Nothing for what is
    /// tested through the proxy alone.
    pub base_url: Option<(&'static str, &'static str)>,
    /// The variable in which it, or its script, takes the key.
    pub key: &'static str,
    /// Actions that are one answer, or some, and the texts that come out.
    pub calls: &'static [(&'static str, &'static [&'static str])],
    /// Actions that stream.
    pub streams: &'static [&'static str],
    /// What its errors are called.
    pub errors: Errors,
}

/// What a library calls an error.
pub struct Errors {
    /// The key is wrong, says the provider: 401.
    pub unauthorized: &'static str,
    /// 403.
    pub forbidden: &'static str,
    /// 429.
    pub limited: &'static str,
    /// 503.
    pub unavailable: &'static str,
}

impl Errors {
    /// OpenAI's, in every language.
    pub const OF_OPENAI: Self = Self {
        unauthorized: "AuthenticationError",
        forbidden: "PermissionDeniedError",
        limited: "RateLimitError",
        unavailable: "InternalServerError",
    };
    /// Anthropic's, in every language.
    pub const OF_ANTHROPIC: Self = Self { unavailable: "ServiceUnavailableError", ..Self::OF_OPENAI };
    /// Those of scripts for libraries that take no status for an error.
    pub const OF_OUR_SCRIPTS: Self =
        Self { unauthorized: "Refused", forbidden: "Refused", limited: "Refused", unavailable: "Refused" };
}

impl Library {
    #[track_caller]
    fn start(&self, way: Way, stage: &Stage, action: &str, held: Held<'_>) -> Client {
        let script = (self.script)(&[action]);
        match (way, held) {
            (Way::BaseUrl, Held::Of(_, placeholder) | Held::Other(placeholder, _)) => {
                let (name, rest) = self.base_url.expect("tested by base URL");
                script.env(name, stage.base(rest)).env(self.key, placeholder).start()
            }
            (Way::Proxy, Held::Of(agent, _)) => script.run_as(&stage.strongroom, agent, &[]).start(),
            (Way::Proxy, Held::Other(placeholder, wire)) => {
                let heard = wire.map(|wire| wire.variables(&stage.strongroom, AGENT)).unwrap_or_default();
                let over: Vec<_> = heard.iter().map(|(name, value)| (*name, value.as_str())).collect();
                script.run_as(&stage.strongroom, AGENT, &[&over[..], &[(self.key, placeholder)]].concat()).start()
            }
        }
    }

    /// Every call gives its texts, and the client never held the key.
    #[track_caller]
    pub fn works(&self, way: Way) {
        let stage = Stage::of(self.provider);
        for (action, texts) in few(way, self.calls, if self.streams.is_empty() { 2 } else { 1 }) {
            let mut client = self.start(way, &stage, action, Held::Of(AGENT, &stage.placeholder));
            for text in *texts {
                says(&mut client, text);
            }
            let end = client.json();
            assert_eq!(end["done"], *action, "{end}");
            client.assert_never_held(&stage.api.key, &stage.placeholder);
            client.finish().assert_code(0);
        }
        stage.assert_only_right();
        let uses = stage.strongroom.audit().iter().filter(|line| line["decision"] == "allowed").count();
        assert_eq!(uses, stage.api.right(), "each use is on record");
    }

    /// Every event arrives before the next is sent.
    #[track_caller]
    pub fn streams(&self, way: Way) {
        let stage = Stage::of(self.provider);
        for action in few(way, self.streams, 1) {
            let mut client = self.start(way, &stage, action, Held::Of(AGENT, &stage.placeholder));
            for word in WORDS {
                says(&mut client, word);
                stage.api.go_on();
            }
            let mut last = client.json();
            if last.get("final").is_some() {
                assert_eq!(last["final"], text(), "{action}");
                last = client.json();
            }
            assert_eq!(last["done"], *action, "{last}");
            client.assert_never_held(&stage.api.key, &stage.placeholder);
            client.finish().assert_code(0);
        }
        stage.assert_only_right();
    }

    /// Every event arrives, though one may wait for the next.
    #[track_caller]
    pub fn streams_in_its_time(&self, way: Way) {
        let stage = Stage::of(self.provider);
        for action in few(way, self.streams, 1) {
            WORDS.iter().for_each(|_| stage.api.go_on());
            let mut client = self.start(way, &stage, action, Held::Of(AGENT, &stage.placeholder));
            WORDS.iter().for_each(|word| says(&mut client, word));
            let last = client.json();
            assert_eq!(last["done"], *action, "{last}");
            client.assert_never_held(&stage.api.key, &stage.placeholder);
            client.finish().assert_code(0);
        }
        stage.assert_only_right();
    }

    /// A stream that is cut, by the provider or because access was taken away, is an error and no end.
    #[track_caller]
    pub fn notices_what_breaks_off(&self, way: Way) {
        let stage = Stage::of(self.provider);
        for action in few(way, self.streams, 1) {
            stage.api.is(Mood::BreaksOff);
            let mut client = self.start(way, &stage, action, Held::Of(AGENT, &stage.placeholder));
            let mut words = 0;
            let end = loop {
                let line = client.json();
                if line.get("text").is_none() {
                    break line;
                }
                words += 1;
                stage.api.go_on();
            };
            assert!(end.get("error").is_some() && (1..WORDS.len()).contains(&words), "{action}: {end}");
            drop(client);

            stage.api.is(Mood::Well);
            let name = format!("{}-cut", action.replace('_', "-"));
            let other = stage.agent(&name, &[]);
            let mut client = self.start(way, &stage, action, Held::Of(&name, &other));
            says(&mut client, WORDS[0]);
            stage.strongroom.must(&["agent", "revoke", &name]);
            let end = client.json();
            assert!(end.get("error").is_some(), "{action}: {end}");
            // The provider waits for a word that it will not need.
            stage.api.go_on();
        }
        stage.assert_only_right();
    }

    /// Refusals and the provider's own errors are told apart, readable, and not tried again for ever.
    #[track_caller]
    pub fn tells_errors(&self) {
        let stage = Stage::of(self.provider);
        let (action, texts) = self.calls[0];

        // Strongroom's refusals.
        let rare = stage.agent("rare", &["--rate", "1/hour"]);
        let mut client = self.start(Way::BaseUrl, &stage, action, Held::Of("rare", &rare));
        texts.iter().for_each(|text| says(&mut client, text));
        drop(client);
        self.expect(&stage, None, &rare, 429, self.errors.limited, Told::By(Refusal::RateLimited));
        self.expect_once(&stage, None, &wrong(&stage), Refusal::UnknownPlaceholder);

        // The provider's.
        for (mood, status, kind, words) in [
            (Mood::KeyRejected, 401, self.errors.unauthorized, "Incorrect API key provided: "),
            (Mood::KeyEchoed, 401, self.errors.unauthorized, "****************"),
            (Mood::Limited, 429, self.errors.limited, "The provider has had enough of this key."),
        ] {
            stage.api.is(mood);
            self.expect(&stage, None, &stage.placeholder, status, kind, Told::Words(words));
        }
        stage.api.is(Mood::Well);

        stage.strongroom.must(&["lock"]);
        self.expect(&stage, None, &stage.placeholder, 503, self.errors.unavailable, Told::By(Refusal::VaultLocked));
        stage.strongroom.must(&["unlock"]);
        stage.strongroom.must(&["agent", "revoke", AGENT]);
        self.expect_once(&stage, None, &stage.placeholder, Refusal::Revoked);
        stage.assert_only_right();
    }

    /// What is refused to a request within the tunnel comes out as by base URL, and the table is right about HTTP.
    #[track_caller]
    pub fn tells_refusals_in_the_tunnel(&self, http: &str) {
        let stage = Stage::of(self.provider);
        let wire = Wire::before(stage.strongroom.address());
        let gone = stage.agent("gone", &[]);
        stage.strongroom.must(&["agent", "revoke", "gone"]);
        self.expect_once(&stage, Some(&wire), &gone, Refusal::Revoked);
        assert_eq!(stage.api.upstream.count(), 0);
        assert_eq!(wire.heard(), http);
    }

    /// What is refused is an error, though not in the refusal's words, and the table is right about HTTP.
    #[track_caller]
    pub fn fails_without_words(&self, way: Way, module: &str) {
        let stage = Stage::of(self.provider);
        let wire = (way == Way::Proxy).then(|| Wire::before(stage.strongroom.address()));
        let gone = stage.agent("gone", &[]);
        stage.strongroom.must(&["agent", "revoke", "gone"]);
        let mut client = self.start(way, &stage, self.calls[0].0, Held::Other(&gone, wire.as_ref()));
        let line = client.json();
        assert_eq!(line["error"], self.errors.forbidden, "{line}");
        assert!((1..=MOST_ATTEMPTS).contains(&line["attempts"].as_u64().unwrap_or_default()), "{line}");
        client.assert_never_held(&stage.api.key, &gone);
        assert_eq!(stage.api.upstream.count(), 0);
        let records = stage.strongroom.must(&["audit", "--agent", "gone", "--json"]);
        assert!(records.contains("\"decision\":\"revoked\""), "{records}");
        if let Some(wire) = wire {
            assert_eq!(wire.heard(), table::http(module));
        }
    }

    /// The first call is refused by Strongroom with 403, and not tried again.
    #[track_caller]
    fn expect_once(&self, stage: &Stage, wire: Option<&Wire>, placeholder: &str, refusal: Refusal) {
        let attempts = self.expect(stage, wire, placeholder, 403, self.errors.forbidden, Told::By(refusal));
        assert_eq!(attempts, 1, "trying again is useless, and it was told so");
    }

    /// The first call fails like this, through the proxy where there is an ear; gives how often it was tried.
    #[track_caller]
    fn expect(
        &self,
        stage: &Stage,
        wire: Option<&Wire>,
        placeholder: &str,
        status: u16,
        kind: &str,
        told: Told,
    ) -> u64 {
        let way = if wire.is_some() { Way::Proxy } else { Way::BaseUrl };
        let mut client = self.start(way, stage, self.calls[0].0, Held::Other(placeholder, wire));
        let line = client.json();
        let message = line["message"].as_str().unwrap_or_default();
        assert_eq!((&line["error"], &line["status"]), (&kind.into(), &status.into()), "{line}");
        match told {
            Told::Words(words) => assert!(message.contains(words), "{line}"),
            Told::By(refusal) => {
                for part in [refusal.message(), refusal.hint(), refusal.code()] {
                    assert!(message.contains(part), "{line}");
                }
            }
        }
        client.assert_never_held(&stage.api.key, placeholder);
        let attempts = line["attempts"].as_u64().unwrap_or_else(|| panic!("{line}"));
        assert!((1..=MOST_ATTEMPTS).contains(&attempts), "{line}");
        attempts
    }
}

/// Through the proxy some stand for all: what differs is the way.
fn few<T>(way: Way, all: &[T], most: usize) -> &[T] {
    if way == Way::Proxy { &all[..all.len().min(most)] } else { all }
}

/// As long as a right one, and of the same letters.
fn wrong(stage: &Stage) -> String {
    let mut wrong = stage.placeholder.clone();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    wrong
}

#[track_caller]
fn says(client: &mut Client, text: &str) {
    let line = client.json();
    assert_eq!(line["text"], text, "{line}");
}

/// Who says what.
#[derive(Clone, Copy)]
enum Told {
    /// Strongroom, with this refusal's words.
    By(Refusal),
    /// The provider, with these.
    Words(&'static str),
}

/// The libraries' own default: two more.
const MOST_ATTEMPTS: u64 = 3;
