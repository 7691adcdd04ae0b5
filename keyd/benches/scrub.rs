//! How fast the scrubber walks through texts, how long one admission and one leaf take: keyd's own files, nothing else.
//!
//! ```console
//! $ cargo bench -p strongroom-keyd --bench scrub          # medians of 9 rounds; a number as argument for more
//! ```
//!
//! One line a measurement, tab separated: what, how many keys, median, unit, lowest, highest; of processor time. It refuses to judge: the
//! figures belong to a machine, and PERFORMANCE.md says which. Called by `make bench`.
#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use nix::time::{ClockId, clock_gettime};
use strongroom_protocol::Authority;

#[path = "../src"]
#[allow(dead_code, unused_imports)]
mod keyd {
    pub mod audit;
    pub mod policy;
    pub mod secret;
    pub mod sys;
    pub mod vault;
    pub mod exchange {
        pub mod scrub;
    }
}
// keyd's files name each other from their own crate's root.
use keyd::{audit, exchange, policy, secret, sys, vault};

// A module of `policy` in unit tests alone, and this is none.
#[path = "../src/policy/fixture.rs"]
#[allow(dead_code, clippy::duplicate_mod)]
mod fixture;

use exchange::scrub::patterns::Patterns;
use exchange::scrub::stream::Stream;
use policy::decide::{Asked, Sent, decide};
use policy::identity::Identity;
use policy::live::Live;

/// keyd's own, for what it costs is part of the figures.
#[global_allocator]
static ALLOCATOR: sys::WipingAllocator = sys::WipingAllocator;

fn main() {
    // `cargo test --all-targets` runs this too, to see that it compiles.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(9).max(7);
    let texts = texts();
    // Rounds are interleaved, so that a machine that is slow for a while is slow for all.
    let patterns = [1, 4, 16].map(|keys| (keys, Rc::new(patterns(keys))));
    let mut times = vec![[const { Vec::new() }; 3]; texts.len()];
    let (mut admission, mut leaves) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (text, times) in texts.iter().zip(&mut times) {
            for ((_, patterns), times) in patterns.iter().zip(times) {
                times.push(text.speed(patterns));
            }
        }
        admission.push(admission_time());
        leaves.push(leaf_time());
    }
    for (text, times) in texts.iter().zip(times) {
        for ((keys, _), times) in patterns.iter().zip(times) {
            print(&format!("scrub {}", text.name), *keys, "GiB/s", times);
        }
    }
    print("admit", 1, "ns", admission);
    print("sign a leaf", 1, "us", leaves);
}

/// For a host that was not asked for before, in microseconds.
fn leaf_time() -> f64 {
    let ca = vault::ca::new_key(1_800_000_000).expect("a key");
    let point = vault::ca::new_key(0).expect("a key").public_point;
    let authority: Authority = "api.example".parse().expect("an authority");
    let began = Used::now();
    for _ in 0..LEAVES {
        assert!(vault::ca::leaf(&ca, &authority, black_box(&point), 1_800_000_000).is_ok());
    }
    began.seconds() * 1e6 / f64::from(LEAVES)
}

fn print(what: &str, keys: usize, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (median, lowest, highest) = (values[values.len() / 2], values[0], values[values.len() - 1]);
    println!("{what}\t{keys}\t{median:.2}\t{unit}\t{lowest:.2}\t{highest:.2}");
}

/// A body, and the pieces in which it arrives.
struct Text {
    name: &'static str,
    bytes: Bytes,
    piece: usize,
}

impl Text {
    /// In GiB/s.
    fn speed(&self, patterns: &Rc<Patterns>) -> f64 {
        let began = Used::now();
        let mut stream = Stream::new(Rc::clone(patterns));
        let mut at = 0;
        while at < self.bytes.len() {
            let end = (at + self.piece).min(self.bytes.len());
            black_box(stream.push(self.bytes.slice(at..end)));
            at = end;
        }
        black_box(stream.finish());
        self.bytes.len() as f64 / began.seconds() / (1u64 << 30) as f64
    }
}

/// What comes next in a text.
type More = Box<dyn FnMut(&mut Random) -> Vec<u8>>;

fn texts() -> Vec<Text> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut filled = |name, piece, mut more: More| {
        let mut bytes = Vec::with_capacity(SIZE + 64 * 1024);
        while bytes.len() < SIZE {
            bytes.extend(more(&mut random));
        }
        Text { name, bytes: bytes.into(), piece }
    };
    let number = |random: &mut Random| f64::from(u32::try_from(random.next() >> 40).unwrap_or(0)) / 1e6;
    vec![
        filled("prose", RECORD, Box::new(|random| format!("{}. ", random.words(12)).into_bytes())),
        filled(
            "json",
            RECORD,
            Box::new(|random| {
                let (id, words) = (random.next(), random.words(6));
                format!("{{\"id\":\"obj_{id:016x}\",\"index\":{},\"delta\":{{\"content\":\"{words}\"}}}},", id % 100)
                    .into_bytes()
            }),
        ),
        filled(
            "sse of 100 bytes",
            100,
            Box::new(|random| {
                format!("data: {{\"delta\":\"{:.78}\"}}\n\n", format!("{:<78}", random.words(12))).into_bytes()
            }),
        ),
        filled("embeddings", RECORD, Box::new(move |random| format!("-{:.17},", number(random)).into_bytes())),
        filled(
            "ascii json of another script",
            RECORD,
            Box::new(|random| format!("\\u{:04x}", 0x4e00 + random.next() % 0x5000).into_bytes()),
        ),
        filled("base64", RECORD, Box::new(|random| vec![BASE64[usize::try_from(random.next() % 64).unwrap_or(0)]])),
        filled("hex", RECORD, Box::new(|random| format!("{:016x}", random.next()).into_bytes())),
        filled("random bytes", RECORD, Box::new(|random| random.next().to_le_bytes().to_vec())),
    ]
}

/// So many keys: two versions a credential, as long as those of the large providers.
fn patterns(keys: usize) -> Patterns {
    let mut random = Random(7);
    let mut key = || (0..51).map(|_| BASE64[usize::try_from(random.next() % 62).unwrap_or(0)]).collect::<Vec<u8>>();
    let mut contents = fixture::contents();
    for first in (0..keys).step_by(2) {
        let versions = (first..keys.min(first + 2)).map(|_| key()).collect::<Vec<_>>();
        let versions: Vec<&[u8]> = versions.iter().map(Vec::as_slice).collect();
        fixture::credential(&mut contents, &format!("name{first}"), "a.example", &versions);
    }
    Patterns::new(&Rc::new(Live::new(contents)), &authority(), 0)
}

/// One judgement over the usual head, in nanoseconds.
fn admission_time() -> f64 {
    let mut contents = fixture::contents();
    let credential = fixture::credential(&mut contents, "one", "a.example", &[b"sk-4f8a9b2c1d0e7f6a5b4c3d2e1f0a9b8c"]);
    let agent = fixture::agent(&mut contents, "agent");
    let placeholder = fixture::grant(&mut contents, credential, agent);
    let live = Live::new(contents);
    let authority = authority();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {placeholder}")).expect("a value"));
    for (name, value) in [("host", "a.example"), ("accept", "application/json"), ("content-type", "application/json")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let asked = Asked {
        authority: &authority,
        method: &Method::POST,
        target: "/v1/chat/completions",
        headers: &headers,
        body: Sent::Unread,
        identity: &Identity::UNKNOWN,
        bound: None,
        now: 1000,
    };
    let began = Used::now();
    for _ in 0..ADMISSIONS {
        assert!(black_box(decide(&live, black_box(&asked), |_| Duration::ZERO)).is_ok(), "it measures a refusal");
    }
    began.seconds() * 1e9 / f64::from(ADMISSIONS)
}

fn authority() -> Authority {
    "a.example".parse().expect("an authority")
}

/// Processor time of this thread: what other programs take does not count.
struct Used(Duration);

impl Used {
    fn now() -> Self {
        Self(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock").into())
    }

    fn seconds(&self) -> f64 {
        (Self::now().0 - self.0).as_secs_f64()
    }
}

/// xorshift, so that every run has the same texts.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn words(&mut self, count: usize) -> String {
        let mut word = || WORDS[usize::try_from(self.next() % WORDS.len() as u64).unwrap_or(0)];
        (0..count).map(|_| word()).collect::<Vec<_>>().join(" ")
    }
}

const WORDS: &[&str] = &[
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "which",
    "model",
    "answer",
    "question",
    "function",
    "returns",
    "however,",
    "understanding",
    "implementation",
    "(see",
    "below)",
    "example:",
    "characteristically",
    "information",
    "people",
    "time",
];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Bytes of each text.
const SIZE: usize = 8 * 1024 * 1024;
/// A TLS record.
const RECORD: usize = 16 * 1024;
/// Judgements in one round.
const ADMISSIONS: u32 = 20_000;
const LEAVES: u32 = 200;
