//! An upstream that keeps what it got, and credentials with positions of their own.

use std::sync::{Arc, Mutex};

use base64ct::{Base64, Encoding};
use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::files_below;

/// Every character that has to be escaped in some position; letters and digits enough to be no weak key.
pub const KEY: &str = "9k:a/b?c#d&e=f+g;h%i\"j\\k@l~m.n-o_p'q(r)s*t!u,v$w|x^y`z{0}1<2>3[4]5";

/// A scene whose upstream keeps bodies too.
pub struct Stage {
    /// The usual scene; its own credential takes Bearer.
    pub scene: Scene,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What the upstream got.
pub struct Got {
    /// The head.
    pub head: Head,
    /// The body.
    pub body: String,
}

impl Stage {
    /// Ready.
    pub fn new() -> Self {
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = bodies.clone();
        let scene = Scene::with(move |exchange| {
            let body = exchange.body()?;
            kept.lock().unwrap().push(body);
            exchange.respond("200 OK", &[], b"served")
        });
        Self { scene, bodies }
    }

    /// Adds a credential at the upstream with this value; it is its own route. Gives a placeholder of the usual agent.
    #[track_caller]
    pub fn credential(&self, name: &str, key: &str, sites: &[&str]) -> String {
        self.add(name, key, sites);
        self.scene.grant(name, AGENT, &[])
    }

    /// As [`Self::credential`], without a grant.
    #[track_caller]
    pub fn add(&self, name: &str, key: &str, sites: &[&str]) {
        let ca = self.scene.strongroom.write("root.pem", self.scene.root.pem());
        let usual = ["credential", "add", name, "--host", HOST, "--ca", ca.to_str().unwrap()];
        self.scene.strongroom.must_with(&[&usual, sites].concat(), key.as_bytes());
    }

    /// A request without anything in it.
    pub fn request(&self, method: &str, target: &str) -> Request {
        self.scene.strongroom.request(method, target)
    }

    /// Sends a request that must be served, and gives what the upstream got.
    #[track_caller]
    pub fn served(&self, request: &Request) -> Got {
        let before = self.scene.upstream.count();
        let answer = request.send();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "served"), "{answer:?}");
        let mut received = self.scene.upstream.received();
        assert_eq!(received.len(), before + 1);
        let head = received.pop().unwrap().head;
        let body = self.bodies.lock().unwrap().last().cloned().unwrap();
        Got { head, body: String::from_utf8(body).unwrap() }
    }

    /// Sends a request that must be refused before the upstream hears of it.
    #[track_caller]
    pub fn refused(&self, request: &Request, refusal: Refusal) {
        self.refused_with(request, refusal, refusal.status());
    }

    /// As [`Self::refused`], with this status.
    #[track_caller]
    pub fn refused_with(&self, request: &Request, refusal: Refusal, status: u16) {
        let before = self.scene.upstream.count();
        request.send().assert_refused_with(refusal, status);
        assert_eq!(self.scene.upstream.count(), before, "a refused request reached the upstream");
    }

    /// Checks that no log and no audit line holds a placeholder or a key, in whatever form; and that the log holds.
    #[track_caller]
    pub fn logs_hold_nothing(&self, keys: &[&str], placeholders: &[&str]) {
        self.scene.strongroom.must(&["audit", "verify"]);
        let home = self.scene.strongroom.home();
        let mut files = files_below(&home.audit());
        files.extend(home.log.iter().flat_map(|log| files_below(log)));
        assert!(files.len() >= 2, "{files:?}");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            for secret in keys.iter().chain(placeholders) {
                assert_eq!(Needles::of(secret.as_bytes()).find(&bytes), None, "{}", file.display());
            }
        }
    }
}

impl Got {
    /// All of it as text.
    pub fn text(&self) -> String {
        let fields =
            self.head.fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
        format!("{}\n{}{}", self.head.start_line, fields.collect::<String>(), self.body)
    }

    /// Checks that the key is here so often, in this form, and a placeholder nowhere.
    #[track_caller]
    pub fn has_only(&self, count: usize, key: &str) {
        let text = self.text();
        assert_eq!(text.matches(key).count(), count, "{text}");
        assert!(!text.contains("strongroom"), "{text}");
    }
}

/// The key in percent-encoding, with these characters left as they are beside letters, digits and `-._~`.
pub fn percent(key: &str, left: &str) -> String {
    key.bytes()
        .map(|byte| {
            let stays = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || left.as_bytes().contains(&byte);
            if stays { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        })
        .collect()
}

/// The fields of Basic for this user and password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes()))
}
