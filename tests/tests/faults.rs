//! What may happen to a machine: daemons that are killed at work, a disk that is full, descriptors that are used up, clocks
//! that jump. No allowed use is without its line, access can be taken away, and what passes leaves no trace.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use strongroom_tests::clock::Clock;
use strongroom_tests::disk;
use strongroom_tests::many::{self, Line};
use strongroom_tests::prelude::*;
use tokio::task::{JoinHandle, block_in_place};

fn hello(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.respond("200 OK", &[], b"hello")
}

/// Streams for as long as somebody reads; anything else is answered at once.
fn hello_or_stream(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    if exchange.head().target() != "/stream" {
        return hello(exchange);
    }
    exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
    loop {
        exchange.chunk(b"data: still here\n")?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Agents that ask without pause, each request with a path of its own, and note what they were told.
struct Traffic {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    told: Arc<Mutex<BTreeMap<String, usize>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(scene: &Scene, agents: usize) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let told = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let token = scene.grant(CREDENTIAL, AGENT_OF_TRAFFIC, &["--rate", "1000000/hour", "--burst", "1000000"]);
        let tasks = (0..agents).map(|agent| {
            let (stop, served, told) = (stop.clone(), served.clone(), Arc::clone(&told));
            let (address, token) = (scene.strongroom.address(), token.clone());
            tokio::spawn(async move {
                let mut line = None;
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let open = match line.take() {
                        Some(open) => Ok(open),
                        None => Line::open(address).await,
                    };
                    let Ok(mut open) = open else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    let target = format!("/openai/v1/{agent}/{number}");
                    let Ok(reply) = open.ask("GET", &target, &token, b"").await else { continue };
                    line = Some(open);
                    let word = reply.refusal.unwrap_or_else(|| reply.status.to_string());
                    if word == "200" {
                        served.fetch_add(1, Ordering::SeqCst);
                    } else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    *told.lock().unwrap().entry(word).or_default() += 1;
                }
            })
        });
        Self { tasks: tasks.collect(), stop, served, told }
    }

    /// Waits until so many more were served.
    #[track_caller]
    fn flows(&self, more: usize) {
        let goal = self.served.load(Ordering::SeqCst) + more;
        within(Duration::from_secs(60), "requests are served", || {
            (self.served.load(Ordering::SeqCst) >= goal).then_some(())
        });
    }

    /// Ends it, and gives what agents were told, with how often.
    async fn end(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let told = self.told.lock().unwrap();
        told.clone()
    }
}

const AGENT_OF_TRAFFIC: &str = "traffic";

/// Every request that the upstream saw, and so with the key, has a line that was written before; gives how many uses are
/// on record.
#[track_caller]
fn assert_all_uses_are_on_record(scene: &Scene) -> usize {
    let audit = scene.strongroom.audit();
    let allowed = audit.iter().filter(|line| line["decision"] == "allowed");
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    allowed.clone().for_each(|line| *lines.entry(line["path"].as_str().unwrap()).or_default() += 1);
    let received = scene.upstream.received();
    assert!(!received.is_empty(), "nothing was used");
    for request in &received {
        let left = lines.get_mut(request.head.target()).filter(|left| **left > 0);
        *left.unwrap_or_else(|| panic!("{} was used and is not on record", request.head.target())) -= 1;
    }
    let right = format!("Bearer {}", scene.key);
    assert!(received.iter().all(|request| request.head.values("authorization") == [right.as_str()]));
    scene.strongroom.must(&["audit", "verify"]);
    allowed.count()
}

/// So many open streams that every one has begun.
async fn streams(scene: &Scene, count: usize) -> Vec<(many::Stream, Line)> {
    let mut streams = Vec::new();
    // After a kill limits begin empty, and so many at once are more than the usual rate brings.
    let agent = format!("streams-{}", scene.upstream.count());
    scene.strongroom.must(&["agent", "add", &agent]);
    let token = scene.grant(CREDENTIAL, &agent, &[]);
    for _ in 0..count {
        let mut line = Line::open(scene.strongroom.address()).await.unwrap();
        let mut stream = line.stream("GET", "/openai/stream", &token, b"").await.unwrap();
        assert_eq!(stream.line().await.unwrap().as_deref(), Some("data: still here"));
        streams.push((stream, line));
    }
    streams
}

/// None of them ends as if it were whole.
async fn assert_broken(streams: Vec<(many::Stream, Line)>) {
    for (mut stream, _line) in streams {
        let end = async {
            loop {
                match stream.line().await {
                    Ok(Some(_)) => {}
                    other => return other,
                }
            }
        };
        let end = tokio::time::timeout(Duration::from_secs(30), end).await.expect("a stream of a dead daemon ends");
        assert!(end.is_err(), "a stream that was cut ended well");
    }
}

#[test]
fn a_keyd_that_is_killed_at_work_loses_no_line_and_takes_nobody_along() {
    let scene = Scene::with(hello_or_stream);
    scene.strongroom.must(&["agent", "add", AGENT_OF_TRAFFIC]);
    let gatewayd = scene.strongroom.gatewayd();
    let told = many::run(async {
        let traffic = Traffic::start(&scene, 24);
        for _ in 0..3 {
            let open = streams(&scene, 30).await;
            block_in_place(|| {
                traffic.flows(100);
                let keyd = scene.strongroom.keyd();
                process::signal(keyd, process::Signal::SIGKILL);
                process::wait_until_gone(keyd, Duration::from_secs(10));
            });
            assert_broken(open).await;
            block_in_place(|| {
                within(Duration::from_secs(10), "agents are told", || {
                    traffic.told.lock().unwrap().contains_key("keyd_unavailable").then_some(())
                });
                scene.strongroom.up();
                assert_eq!(scene.strongroom.status()["state"], "locked");
                scene.strongroom.must(&["unlock"]);
                traffic.flows(100);
            });
        }
        traffic.end().await
    });
    assert_eq!(scene.strongroom.gatewayd(), gatewayd, "gatewayd lived through it");
    // What is on its way when keyd dies may hear that the upstream is gone: nobody knows whether it was used.
    // And a run that follows a kill has only what its limits have gathered since.
    let codes = ["200", "keyd_unavailable", "vault_locked", "upstream_unreachable", "rate_limited"];
    assert!(told.keys().all(|word| codes.contains(&word.as_str())), "{told:?}");
    assert_all_uses_are_on_record(&scene);
}

#[test]
fn a_gatewayd_that_is_killed_at_work_leaves_nothing_running_in_keyd() {
    let scene = Scene::with(hello_or_stream);
    scene.strongroom.must(&["agent", "add", AGENT_OF_TRAFFIC]);
    let keyd = scene.strongroom.keyd();
    let told = many::run(async {
        let traffic = Traffic::start(&scene, 24);
        for _ in 0..3 {
            let open = streams(&scene, 30).await;
            block_in_place(|| {
                traffic.flows(100);
                let gatewayd = scene.strongroom.gatewayd();
                process::signal(gatewayd, process::Signal::SIGKILL);
                process::wait_until_gone(gatewayd, Duration::from_secs(10));
            });
            assert_broken(open).await;
            block_in_place(|| {
                within(Duration::from_secs(10), "keyd has ended what ran", || {
                    let status = scene.strongroom.status();
                    (status["gatewayd"].is_null() && status["exchanges"] == 0).then_some(())
                });
                scene.strongroom.up();
                assert_eq!(scene.strongroom.status()["state"], "unlocked", "nobody has to type anything");
                traffic.flows(100);
            });
        }
        traffic.end().await
    });
    assert_eq!(scene.strongroom.keyd(), keyd, "keyd lived through it");
    let codes = ["200", "keyd_unavailable"];
    assert!(told.keys().all(|word| codes.contains(&word.as_str())), "{told:?}");
    let uses = assert_all_uses_are_on_record(&scene);
    let ends = || scene.strongroom.audit().iter().filter(|line| line.get("bytes_out").is_some()).count();
    within(Duration::from_secs(10), "every use has its end on record", || (ends() == uses).then_some(()));
}

#[test]
fn a_log_that_cannot_be_written_ends_nobody() {
    let strongroom = Strongroom::new().created();
    let mut up = strongroom.command(&[&["up", "--foreground"], strongroom.users()].concat());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut up = up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(full).spawn().unwrap();
    within(Duration::from_secs(30), "both daemons are up", || {
        let status = strongroom.ctl(&["status", "--json"]).json();
        (status["keyd"].is_object() && status["gatewayd"].is_object()).then_some(())
    });
    strongroom.must(&["unlock"]);
    // Each is a line in gatewayd's log.
    for _ in 0..5 {
        strongroom.request("GET", "/nowhere/x").send().assert_refused(Refusal::HostNotAllowed);
    }
    assert!(up.try_wait().unwrap().is_none(), "a daemon has ended");
    process::signal(up.id(), process::Signal::SIGTERM);
    assert_eq!(within(Duration::from_secs(20), "'up' ends", || up.try_wait().unwrap()).code(), Some(0));
}

#[test]
#[ignore = "needs root: a disk of its own"]
fn a_full_disk_stops_every_use_and_nothing_else_and_passes_without_a_trace() {
    let scene = Scene::build(Strongroom::new().on_a_disk_of("2m"), hello_or_stream);
    let strongroom = &scene.strongroom;
    let daemons = [strongroom.keyd(), strongroom.gatewayd()];
    strongroom.must(&["agent", "add", "other"]);
    let other = scene.grant(CREDENTIAL, "other", &[]);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let mut before = scene.get("/openai/stream").stream();
    before.read_text("data: still here\n");

    let filling = disk::fill(&strongroom.root());
    // The last page of the log takes some lines more.
    let refused = within(Duration::from_secs(30), "the log is full", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.status() != 200)
    });
    refused.assert_refused(Refusal::AuditUnavailable);
    let seen = scene.upstream.count();
    for _ in 0..20 {
        scene.get("/openai/x").send().assert_refused(Refusal::AuditUnavailable);
    }
    assert_eq!(scene.upstream.count(), seen, "a use that is not on record was made");
    assert_eq!(strongroom.status()["audit_broken"], true);
    // The last bytes take a short line now and then, and after it nothing.
    within(Duration::from_secs(20), "CONNECT is refused before any 200", || {
        let mut proxied = TcpStream::connect(strongroom.address()).unwrap();
        proxied.write_all(format!("CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\n\r\n").as_bytes()).unwrap();
        let mut begin = [0; 12];
        proxied.read_exact(&mut begin).unwrap();
        (begin == *b"HTTP/1.1 503").then_some(())
    });
    before.read_text("data: still here\n");
    // What widens is not done, and what narrows is, at once.
    strongroom.ctl(&["agent", "add", "late"]).assert_code(1);
    let told = strongroom.ctl(&["agent", "revoke", "other"]);
    assert!(told.stderr.contains("taken away at once"), "{told:?}");
    told.assert_code(1);
    let told = strongroom.ctl(&["agent", "revoke", "other"]);
    assert!(told.stderr.contains("taken away at once"), "it is not on the disk yet: {told:?}");
    strongroom.request("GET", "/openai/x").bearer(&other).send().assert_refused(Refusal::Revoked);
    strongroom.must(&["lock"]);
    assert!(before.rest().is_err(), "locking cuts what runs");
    scene.get("/openai/x").send().assert_refused(Refusal::VaultLocked);
    strongroom.must(&["unlock"]);
    assert_eq!([strongroom.keyd(), strongroom.gatewayd()], daemons, "nobody died of it");
    strongroom.request("GET", "/openai/x").bearer(&other).send().assert_refused(Refusal::Revoked);
    let failed = || {
        let doctor = strongroom.ctl(&["doctor", "--json"]).json();
        let of_keyd = |check: &&serde_json::Value| check["of"] == "keyd" && check["state"] == "failed";
        let names =
            doctor.as_array().unwrap().iter().filter(of_keyd).map(|check| check["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(failed(), ["audit log", "vault"]);

    drop(filling);
    within(Duration::from_secs(20), "the log goes on by itself", || {
        (strongroom.status()["audit_broken"] == false).then_some(())
    });
    // What happened meanwhile comes late, and in its order.
    let audit = strongroom.audit();
    let place = |event: &str| {
        audit.iter().rposition(|line| line["event"] == event).unwrap_or_else(|| panic!("no {event} in {audit:#?}"))
    };
    let (gap, revoke, lock, unlock) =
        (place("audit.gap"), place("agent.revoke"), place("vault.lock"), place("vault.unlock"));
    assert!(gap < revoke && revoke < lock && lock < unlock, "{gap} {revoke} {lock} {unlock}");
    assert_eq!(audit[gap]["lines_lost"], 0);
    assert!(audit[gap]["time"].as_str() <= audit[revoke]["time"].as_str());
    let cut = |line: &serde_json::Value| line["failure"] == "vault_locked" && line["status"] == 200;
    assert!(audit[gap..].iter().any(cut), "the end of what locking cut: {audit:#?}");
    let answer = within(Duration::from_secs(20), "uses are recorded again", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.refusal().is_none())
    });
    assert_eq!(answer.text(), "hello");
    // Nobody has to say once more what was taken away.
    within(Duration::from_secs(20), "the file has all of it", || failed().is_empty().then_some(()));
    strongroom.must(&["agent", "add", "late"]);
    assert_eq!([strongroom.keyd(), strongroom.gatewayd()], daemons, "nobody was restarted");
    assert_all_uses_are_on_record(&scene);
    strongroom.must(&["audit", "verify"]);
    strongroom.must(&["down"]);
    strongroom.up();
    strongroom.must(&["unlock"]);
    strongroom.request("GET", "/openai/x").bearer(&other).send().assert_refused(Refusal::Revoked);
    assert!(!strongroom.audit().iter().any(|line| line["event"] == "vault.rolled-back"), "no false alarm");
}

/// Room again, and no second in which it would be written by itself.
#[test]
#[ignore = "needs root: a disk of its own"]
fn a_keyd_that_is_ended_writes_what_was_taken_away_before_it_goes() {
    let strongroom = Strongroom::new().on_a_disk_of("2m").start();
    for round in 0..3 {
        let name = format!("agent-{round}");
        strongroom.must(&["agent", "add", &name]);
        let filling = disk::fill(&strongroom.root());
        strongroom.ctl(&["agent", "revoke", &name]).assert_code(1);
        let keyd = strongroom.keyd();
        drop(filling);
        process::signal(keyd, Signal::SIGTERM);
        process::wait_until_gone(keyd, Duration::from_secs(20));
        strongroom.must(&["down"]);
        strongroom.up();
        strongroom.must(&["unlock"]);
        let agent = strongroom.ctl(&["agent", "show", &name, "--json"]).json();
        assert!(agent["revoked"].is_string(), "{agent}");
    }
}

/// A purge whose file could not be written is gone on with, by itself and when it is asked for again; no older file with
/// the value is left beside the vault then.
#[test]
#[ignore = "needs root: a disk of its own"]
fn a_purge_that_met_a_full_disk_comes_to_its_end() {
    let scene = Scene::build(Strongroom::new().on_a_disk_of("2m"), hello);
    let strongroom = &scene.strongroom;
    let file = |name: &str| std::fs::read(strongroom.home().data.join(name)).unwrap();
    strongroom.must(&["agent", "add", "other"]);
    assert_ne!(file("vault"), file("vault.bak"), "a backup of an older generation");
    let purge = ["credential", "remove", CREDENTIAL, "--purge", "--yes"];
    let filling = disk::fill(&strongroom.root());
    for _ in 0..2 {
        let told = strongroom.ctl(&purge);
        assert!(told.code == Some(1) && told.stderr.contains("taken away at once"), "{told:?}");
    }
    strongroom.must(&["lock"]);
    strongroom.must(&["unlock"]);
    assert_ne!(file("vault"), file("vault.bak"), "the purge is in no file yet");
    drop(filling);
    within(Duration::from_secs(20), "the older file is gone", || (file("vault") == file("vault.bak")).then_some(()));
    let told = within(Duration::from_secs(20), "nothing is left to purge", || {
        Some(strongroom.ctl(&purge)).filter(|told| told.code != Some(0))
    });
    assert!(told.stderr.contains("no") && told.code == Some(1), "{told:?}");
    strongroom.must(&["audit", "verify"]);
}

/// Stopping keyd then would give back what was taken away, with the next start.
#[test]
#[ignore = "needs root: a disk of its own"]
fn down_stays_its_hand_while_what_was_taken_away_is_not_on_the_disk() {
    let strongroom = Strongroom::new().on_a_disk_of("2m").start();
    let daemons = [strongroom.keyd(), strongroom.gatewayd()];
    strongroom.must(&["agent", "add", "other"]);
    let filling = disk::fill(&strongroom.root());
    strongroom.ctl(&["agent", "revoke", "other"]).assert_code(1);
    let refused = strongroom.ctl(&["down"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("Make room"), "{refused:?}");
    assert!(daemons.into_iter().all(process::is_ours), "they go on");
    drop(filling);
    within(Duration::from_secs(20), "it is on the disk", || (strongroom.ctl(&["down"]).code == Some(0)).then_some(()));
    assert!(!daemons.into_iter().any(process::is_ours));

    strongroom.up();
    strongroom.must(&["unlock"]);
    strongroom.must(&["agent", "add", "third"]);
    let daemons = [strongroom.keyd(), strongroom.gatewayd()];
    let _filling = disk::fill(&strongroom.root());
    strongroom.ctl(&["agent", "revoke", "third"]).assert_code(1);
    strongroom.must(&["down", "--yes"]);
    assert!(!daemons.into_iter().any(process::is_ours), "who says so loses it");
}

#[test]
fn used_up_descriptors_mean_overloaded_and_access_is_taken_away_all_the_same() {
    let scene = Scene::build(Strongroom::new().descriptors(128), hello_or_stream);
    let strongroom = &scene.strongroom;
    let daemons = [strongroom.keyd(), strongroom.gatewayd()];
    many::run(async {
        let address = strongroom.address();
        // More agents than descriptors, each with a stream if it gets one.
        let mut served = Vec::new();
        let mut waiting = Vec::new();
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..300 {
            let Ok(mut line) = Line::open(address).await else { continue };
            let asked = line.stream("GET", "/openai/stream", &scene.placeholder, b"");
            match tokio::time::timeout(Duration::from_millis(500), asked).await {
                Ok(Ok(stream)) => {
                    let refusal = stream.response.headers().get("strongroom-refusal");
                    let word = refusal.map_or("200", |code| code.to_str().unwrap()).to_owned();
                    if word == "200" {
                        served.push((stream, line));
                    } else {
                        waiting.push(line);
                    }
                    *told.entry(word).or_default() += 1;
                }
                // Closed at the door, or nobody takes the connection.
                Ok(Err(_)) => *told.entry("closed".to_owned()).or_default() += 1,
                Err(_) => {
                    *told.entry("no answer".to_owned()).or_default() += 1;
                    waiting.push(line);
                }
            }
        }
        assert!(!served.is_empty() && told.contains_key("overloaded"), "{told:?}");
        assert!(told.keys().all(|word| ["200", "overloaded", "closed"].contains(&word.as_str())), "{told:?}");
        block_in_place(|| {
            let status = strongroom.status();
            assert_eq!(status["state"], "unlocked");
            assert_eq!(status["exchanges"], served.len());
            assert_eq!(
                strongroom.request("GET", "/.strongroom/health").try_send().ok().map(|answer| answer.status()),
                Some(503)
            );
            strongroom.must(&["agent", "revoke", AGENT]);
        });
        assert_broken(served).await;
        drop(waiting);
    });
    strongroom.must(&["agent", "add", "next"]);
    let next = scene.grant(CREDENTIAL, "next", &[]);
    within(Duration::from_secs(20), "there is room again", || {
        let answer = strongroom.request("GET", "/openai/x").bearer(&next).try_send().ok()?;
        answer.refusal().is_none().then_some(())
    });
    assert_eq!([strongroom.keyd(), strongroom.gatewayd()], daemons, "nobody was restarted");
    assert_all_uses_are_on_record(&scene);
}

#[test]
fn a_wall_clock_that_jumps_moves_expiry_and_nothing_else() {
    const DAY: i64 = 24 * 3600;
    let clock = Clock::right();
    let scene = Scene::build(Strongroom::new().programs(clock.programs()), hello_or_stream);
    let strongroom = &scene.strongroom;
    let grant = |name: &str, more: &[&str]| {
        strongroom.must(&["agent", "add", name]);
        scene.grant(CREDENTIAL, name, more)
    };
    let (month, rare) = (grant("month", &["--expires", "30d"]), grant("rare", &["--rate", "1/day"]));
    let ask = |token: &str| strongroom.request("GET", "/openai/x").bearer(token).send();
    let time = || strongroom.audit().last().unwrap()["time"].as_str().unwrap().to_owned();
    for token in [&month, &rare, &scene.placeholder] {
        assert_eq!(ask(token).status(), 200);
    }
    ask(&rare).assert_refused(Refusal::RateLimited);
    let mut stream = scene.get("/openai/stream").stream();
    stream.read_text("data: still here\n");
    let mut ending = strongroom.request("GET", "/openai/stream").bearer(&month).stream();
    ending.read_text("data: still here\n");
    let before = time();

    clock.jump_to(60 * DAY);
    assert!(ending.rest().is_err(), "what ran is cut with its grant");
    ask(&month).assert_refused(Refusal::Expired);
    ask(&rare).assert_refused(Refusal::RateLimited);
    assert_eq!(ask(&scene.placeholder).status(), 200);
    stream.read_text("data: still here\n");
    assert!(time() > before, "keyd's clock did jump");

    clock.jump_to(-60 * DAY);
    assert_eq!(ask(&month).status(), 200, "its time is to come again");
    ask(&rare).assert_refused(Refusal::RateLimited);
    assert_eq!(ask(&scene.placeholder).status(), 200);
    stream.read_text("data: still here\n");
    assert!(time() < before, "keyd's clock did jump");
    assert_eq!(strongroom.status()["state"], "unlocked");

    clock.jump_to(0);
    assert_eq!(ask(&month).status(), 200);
    strongroom.must(&["agent", "revoke", AGENT]);
    assert!(stream.rest().is_err());
    assert_all_uses_are_on_record(&scene);
}
