//! The hostile gateway: a program with gatewayd's uid and all its sockets tries to take a key, and others try too.
//!
//! Every test names what it tries. Its upstream says back all that it gets, key included, so that there is a key to be
//! taken in every answer; each test shows first that the attacker's own requests get through. `make attack` runs this
//! suite and prints it as a table; `LONG=1` makes the runs that are drawn at random longer.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cycles;
mod descriptors;
mod doors;
mod framing;
mod identity;
mod impostors;
mod limits;
mod messages;
mod oracles;
mod policy;
mod pressure;
mod room;
mod sessions;
mod standstill;
mod strangers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use strongroom_ctl::admin_client::AdminClient;
use strongroom_protocol::home::Home;
use strongroom_tests::hostile::{Answer, Ask, Channel, Heard, Hostile, Loot};
use strongroom_tests::prelude::*;

/// A Strongroom under siege: the attacker's control connection beside the honest gateway's.
struct Siege {
    /// Ended before the daemons are.
    watch: Watch,
    scene: Scene,
    gateway: Hostile,
    loot: Loot,
    /// keyd and the honest gateway; `status` shows the one that connected last.
    daemons: [u32; 2],
}

impl Siege {
    /// Whose upstream says back every byte of a request.
    fn lay() -> Self {
        Self::before(Scene::with(echo))
    }

    fn before(scene: Scene) -> Self {
        let loot = Loot::default();
        let daemons = [scene.strongroom.keyd(), scene.strongroom.gatewayd()];
        let gateway = Hostile::connect(&scene.strongroom, &loot);
        let watch = Watch::begin(scene.strongroom.home().clone());
        let siege = Self { watch, scene, gateway, loot, daemons };
        siege.prove();
        siege
    }

    /// The attacker speaks well enough to be served: the key was there to be taken, and came back masked.
    #[track_caller]
    fn prove(&self) {
        let before = self.scene.upstream.count();
        let text = self.dial().ask(&self.ask("/proof")).text();
        assert!(text.contains("/proof"), "{text}");
        assert!(text.contains(&"*".repeat(self.scene.key.len())), "the upstream says the key back: {text}");
        assert_eq!(self.scene.upstream.count(), before + 1);
        let last = self.scene.upstream.received().pop().unwrap();
        assert_eq!(last.head.value("authorization"), Some(format!("Bearer {}", self.scene.key)));
    }

    /// A channel to the true upstream.
    #[track_caller]
    fn dial(&self) -> Channel {
        self.gateway.dial(HOST, self.scene.upstream.address())
    }

    /// A good request.
    fn ask(&self, target: &str) -> Ask {
        Ask::bearer("GET", target, &self.scene.placeholder)
    }

    /// Nothing was taken, keyd lives and answers its admin, and an honest gateway is served.
    #[track_caller]
    fn hold(self) {
        self.hold_with(&[]);
    }

    /// The same, with more keys than the scene's.
    #[track_caller]
    fn hold_with(mut self, keys: &[&str]) {
        self.loot.assert_without(&[&[&*self.scene.key], keys].concat());
        self.watch.end();
        let answer = self.scene.get("/openai/honest").send();
        assert_eq!(answer.status(), 200, "an honest gateway is served afterwards: {answer:?}");
    }
}

/// Says back the request line, all fields and the body.
fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let body = exchange.body()?;
    let mut text = exchange.head().start_line.clone();
    for (name, value) in &exchange.head().fields {
        text.push_str(&format!("\n{name}: {}", String::from_utf8_lossy(value)));
    }
    let answer = [text.as_bytes(), b"\n\n", &body, b"\n"].concat();
    exchange.respond("200 OK", &[("content-type", "text/plain")], &answer)
}

/// How long an admin waits for an answer over admin.sock.
#[track_caller]
fn admin_answers(home: &Home) -> Duration {
    let begin = Instant::now();
    let status = AdminClient::connect(home).and_then(|mut admin| admin.status());
    assert!(status.is_ok(), "the admin is not answered");
    begin.elapsed()
}

/// An admin that asks all the while.
struct Watch {
    over: Arc<AtomicBool>,
    asking: Option<JoinHandle<Vec<Duration>>>,
}

impl Watch {
    fn begin(home: Home) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let asking = std::thread::spawn(move || {
            let mut waits = Vec::new();
            while !ends.load(Ordering::SeqCst) {
                let begin = Instant::now();
                let status = AdminClient::connect(&home).and_then(|mut admin| admin.status());
                assert!(status.is_ok() || ends.load(Ordering::SeqCst), "the admin is not answered");
                waits.push(begin.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            waits
        });
        Self { over, asking: Some(asking) }
    }

    /// Three of four answers came within 100 ms, and none late enough to matter: this machine has other work too, and the
    /// attacker's part of it takes as much of the processors as it gets.
    #[track_caller]
    fn end(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let mut waits = self.asking.take().expect("ended once").join().expect("every question was answered");
        waits.sort_unstable();
        let (usual, longest) = (waits[waits.len() * 3 / 4], waits[waits.len() - 1]);
        eprintln!("{} questions of the admin's; three of four within {usual:?}, all within {longest:?}", waits.len());
        assert!(usual < Duration::from_millis(100), "three of four answers within {usual:?}");
        assert!(longest < Duration::from_secs(5), "an answer after {longest:?}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// How many rounds a random run has: more where somebody has the time.
fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// Whether it is an answer that came to its end.
fn is_whole(heard: &Heard) -> bool {
    matches!(heard, Heard::Answer(Answer { is_whole: true, .. }))
}
