//! Providers' APIs as real client libraries expect them, on a TLS upstream of the tests.
//!
//! One file a provider says what it answers; here is what they share: the key must stand in its position, whole, and
//! nowhere else, else the request is told 401 and noted as wrong. A stream goes on only when the test says so, so that
//! events which arrive late are seen. It refuses to be a mock of the client's side: what comes here came through both
//! daemons. Used by the tests of real clients.

pub mod anthropic;
pub mod bedrock;
pub mod gemini;
pub mod github;
pub mod mcp;
pub mod openai;
pub mod slack;
pub mod stripe;

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use strongroom_ctl::demo::certificate::Root;
use strongroom_ctl::demo::http1::Head;
use strongroom_ctl::demo::upstream::{Exchange, Upstream};

/// What one provider is.
#[derive(Clone, Copy)]
pub struct Provider {
    /// The name that its clients know.
    pub host: &'static str,
    /// Credential, and route.
    pub name: &'static str,
    /// Arguments of `credential add` that say where its keys go.
    pub sites: &'static [&'static str],
    /// How its keys begin.
    pub key_prefix: &'static str,
    /// Where the key stands in a request that came, as the field's name and the text before the key.
    pub positions: &'static [(&'static str, &'static str)],
    /// Answers a request whose key is right.
    answer: fn(&mut Call<'_, '_>) -> io::Result<()>,
    /// The body of its errors, with this status, kind and message.
    error: fn(u16, &str) -> Value,
}

/// A provider that runs.
pub struct FakeApi {
    /// What it is.
    pub provider: Provider,
    /// The key that it takes.
    pub key: String,
    /// The server.
    pub upstream: Upstream,
    shared: Arc<Shared>,
    go_on: Sender<()>,
}

struct Shared {
    key: String,
    provider: Provider,
    mood: Mutex<Mood>,
    wrong: Mutex<Vec<String>>,
    right: Mutex<usize>,
    stepping: Mutex<Receiver<()>>,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It serves.
    Well,
    /// It takes the key for a wrong one, and says it back as providers do: the beginning and the end.
    KeyRejected,
    /// It says back the whole key.
    KeyEchoed,
    /// It has had enough.
    Limited,
    /// A stream breaks off in the middle.
    BreaksOff,
}

/// One request with a right key.
pub struct Call<'a, 'b> {
    /// The request's head, and the way to answer.
    pub exchange: &'a mut Exchange<'b>,
    /// Its body.
    pub body: Vec<u8>,
    shared: &'a Shared,
}

impl FakeApi {
    /// Starts one with a certificate of this root.
    ///
    /// # Panics
    /// Where there is no port.
    #[must_use]
    pub fn start(provider: Provider, key: String, root: &Root) -> Self {
        let (go_on, stepping) = channel();
        let shared = Arc::new(Shared {
            key: key.clone(),
            provider,
            mood: Mutex::new(Mood::Well),
            wrong: Mutex::default(),
            right: Mutex::default(),
            stepping: Mutex::new(stepping),
        });
        let serving = shared.clone();
        let tls = root.server(provider.host).expect("a certificate");
        let upstream = Upstream::start(tls, move |exchange| serving.serve(exchange)).expect("a port");
        Self { provider, key, upstream, shared, go_on }
    }

    /// Behaves like this from now on.
    pub fn is(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// Lets a stream send its next event.
    ///
    /// # Panics
    /// Where the server is gone.
    pub fn go_on(&self) {
        self.go_on.send(()).expect("it serves as long as it lives");
    }

    /// How many requests came with the key in its position and nowhere else.
    #[must_use]
    pub fn right(&self) -> usize {
        *lock(&self.shared.right)
    }

    /// What was wrong with the others.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.shared.wrong).clone()
    }
}

impl Shared {
    fn serve(&self, exchange: &mut Exchange<'_>) -> io::Result<()> {
        let body = exchange.body()?;
        let mood = *lock(&self.mood);
        if let Err(what) = self.key_is_right(exchange.head(), &body) {
            lock(&self.wrong).push(format!("{}: {what}", exchange.head().start_line));
            return self.fail(exchange, 401, "Invalid API key.", &[]);
        }
        *lock(&self.right) += 1;
        let (begin, end) = (&self.key[..8], &self.key[self.key.len() - 4..]);
        match mood {
            Mood::KeyRejected => {
                self.fail(exchange, 401, &format!("Incorrect API key provided: {begin}****{end}."), &[])
            }
            Mood::KeyEchoed => self.fail(exchange, 401, &format!("Incorrect API key provided: {}.", self.key), &[]),
            Mood::Limited => {
                self.fail(exchange, 429, "The provider has had enough of this key.", &[("retry-after", "1")])
            }
            Mood::Well | Mood::BreaksOff => (self.provider.answer)(&mut Call { exchange, body, shared: self }),
        }
    }

    fn fail(&self, exchange: &mut Exchange<'_>, status: u16, words: &str, fields: &[(&str, &str)]) -> io::Result<()> {
        let body = (self.provider.error)(status, words).to_string();
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(fields);
        exchange.respond(&format!("{status} Refused"), &all, body.as_bytes())
    }

    /// The key stands in one of its positions, as the whole value, and in no other place; a placeholder in none.
    fn key_is_right(&self, head: &Head, body: &[u8]) -> Result<(), String> {
        let holds = |bytes: &[u8], what: &str| memchr::memmem::find(bytes, what.as_bytes()).is_some();
        let mut found = 0;
        for (name, value) in &head.fields {
            if holds(value, "strongroom-") {
                return Err(format!("a placeholder in {name}"));
            }
            let is_position = self.provider.positions.iter().any(|(field, before)| {
                field.eq_ignore_ascii_case(name) && *value == [before.as_bytes(), self.key.as_bytes()].concat()
            });
            if is_position {
                found += 1;
            } else if holds(value, &self.key) {
                return Err(format!("the key in {name}"));
            }
        }
        if holds(head.start_line.as_bytes(), &self.key) || holds(body, &self.key) {
            return Err("the key in the target or the body".to_owned());
        }
        if holds(head.start_line.as_bytes(), "strongroom-") || holds(body, "strongroom-") {
            return Err("a placeholder in the target or the body".to_owned());
        }
        if found == 1 { Ok(()) } else { Err(format!("the key stands in {found} positions")) }
    }
}

impl Call<'_, '_> {
    /// Method and path, without a query.
    #[must_use]
    pub fn endpoint(&self) -> (String, String) {
        let head = self.exchange.head();
        let path = head.target().split('?').next().unwrap_or_default();
        (head.method().to_owned(), path.to_owned())
    }

    /// The request's body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Answers with JSON.
    ///
    /// # Errors
    /// The stream's.
    pub fn reply(&mut self, answer: &Value) -> io::Result<()> {
        let fields = [("content-type", "application/json"), ("x-request-id", "req_fake")];
        self.exchange.respond("200 OK", &fields, answer.to_string().as_bytes())
    }

    /// There is no such endpoint.
    ///
    /// # Errors
    /// The stream's.
    pub fn not_found(&mut self) -> io::Result<()> {
        let (method, path) = self.endpoint();
        let words = format!("There is no {method} {path}.");
        self.shared.fail(self.exchange, 404, &words, &[])
    }

    /// Streams events: each goes out when the test says so, but for those without a pause. In a mood to break off, the
    /// connection is cut when half of them are out.
    ///
    /// # Errors
    /// The stream's, and where the test never says so.
    pub fn stream(&mut self, events: &[Event]) -> io::Result<()> {
        self.stream_as("text/event-stream", events)
    }

    /// The same, of another type than server-sent events.
    ///
    /// # Errors
    /// As [`Call::stream`].
    pub fn stream_as(&mut self, kind: &str, events: &[Event]) -> io::Result<()> {
        let breaks_off = *lock(&self.shared.mood) == Mood::BreaksOff;
        self.exchange.begin("200 OK", &[("content-type", kind), ("cache-control", "no-cache")])?;
        for (number, event) in events.iter().enumerate() {
            if breaks_off && number > events.len() / 2 {
                self.exchange.abort();
                return Ok(());
            }
            self.exchange.chunk(&event.bytes)?;
            if event.pause {
                lock(&self.shared.stepping).recv_timeout(PATIENCE).map_err(io::Error::other)?;
            }
        }
        self.exchange.end(&[])
    }
}

/// One event of a stream, as bytes.
#[derive(Debug, Clone)]
pub struct Event {
    bytes: Vec<u8>,
    /// Nothing more is sent before the test goes on.
    pause: bool,
}

impl Event {
    /// `data:` alone.
    #[must_use]
    pub fn data(data: &Value) -> Self {
        Self::raw(&format!("data: {data}\n\n"))
    }

    /// `event:` and `data:`; the name is the data's type.
    #[must_use]
    pub fn named(data: &Value) -> Self {
        let name = data["type"].as_str().unwrap_or_default();
        Self::raw(&format!("event: {name}\ndata: {data}\n\n"))
    }

    /// A line that is no JSON.
    #[must_use]
    pub fn raw(text: &str) -> Self {
        Self::bytes(text.into())
    }

    /// No text.
    #[must_use]
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self { bytes, pause: false }
    }

    /// The next event waits until the test has seen this one.
    #[must_use]
    pub fn then_wait(self) -> Self {
        Self { pause: true, ..self }
    }
}

/// The words that every stream and answer is made of, one an event.
pub const WORDS: &[&str] = &["Keys ", "are ", "kept ", "in ", "strong ", "rooms."];

/// All of them.
#[must_use]
pub fn text() -> String {
    WORDS.concat()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const PATIENCE: Duration = Duration::from_secs(30);
