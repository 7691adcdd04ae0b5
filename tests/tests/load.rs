//! Many agents at once, slow ones among them: nobody is starved, memory is bounded, and access can be taken away all the
//! while. What is checked are properties, never times.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use strongroom_tests::many::{self, Line, Reply};
use strongroom_tests::prelude::*;

const MIB: u64 = 1024 * 1024;
/// How hyper says that an answer broke off behind its head.
const WITHIN_A_BODY: &str = "error reading a body from connection";

/// An upstream that answers with what it was asked.
fn echo(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    let text = exchange.head().target().to_owned();
    exchange.respond("200 OK", &[], text.as_bytes())
}

/// Agents by name, with their placeholders.
fn agents(scene: &Scene, count: usize) -> Vec<(String, String)> {
    let name = |number| format!("agent-{number}");
    let add = |number| {
        scene.strongroom.must(&["agent", "add", &name(number)]);
        (name(number), scene.grant(CREDENTIAL, &name(number), &["--rate", "100000/hour", "--burst", "100000"]))
    };
    (0..count).map(add).collect()
}

/// Asks until it is not told that there is too much to do; anything else is the answer, or that it broke off.
async fn persist(line: &mut Line, target: &str, token: &str) -> Result<Reply, String> {
    loop {
        let reply = line.ask("GET", target, token, b"").await.map_err(|error| format!("{target}: {error}"))?;
        if reply.refusal.as_deref() != Some("overloaded") {
            return Ok(reply);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_thousand_connections_are_served_and_access_is_taken_away_meanwhile() {
    const CONNECTIONS: usize = 1000;
    let scene = Scene::with(echo);
    let agents = agents(&scene, 8);
    let daemons = [scene.strongroom.keyd(), scene.strongroom.gatewayd()];
    let address = scene.strongroom.address();
    let revoked = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicUsize::new(0));
    let counts = many::run(async {
        let mut lines = Vec::new();
        for number in 0..CONNECTIONS {
            let mut line = Line::open(address).await.unwrap_or_else(|error| panic!("connection {number}: {error}"));
            let (_, token) = &agents[number % agents.len()];
            let target = format!("/openai/v1/first/{number}");
            let reply = persist(&mut line, &target, token).await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(reply.status, 200, "connection {number}");
            lines.push(line);
        }
        // All at once, on connections that stay open, until one agent has been revoked for a while.
        let tasks: Vec<_> = lines
            .into_iter()
            .enumerate()
            .map(|(number, mut line)| {
                let (name, token) = agents[number % agents.len()].clone();
                let (revoked, rounds) = (revoked.clone(), rounds.clone());
                tokio::spawn(async move {
                    let mut answers = Vec::new();
                    for round in 0.. {
                        let was_revoked = revoked.load(Ordering::SeqCst);
                        let target = format!("/openai/v1/{number}/{round}");
                        let reply = persist(&mut line, &target, &token).await;
                        if let Ok(reply) = &reply
                            && reply.status == 200
                        {
                            assert_eq!(reply.body, target.trim_start_matches("/openai"), "another request's answer");
                        }
                        let is_last = was_revoked || reply.is_err();
                        answers.push((was_revoked, reply.map(|reply| reply.refusal)));
                        rounds.fetch_add(1, Ordering::SeqCst);
                        if is_last {
                            break;
                        }
                    }
                    (name, answers)
                })
            })
            .collect();
        let strongroom = &scene.strongroom;
        tokio::task::block_in_place(|| {
            within(Duration::from_secs(100), "the load is there", || {
                (rounds.load(Ordering::SeqCst) > CONNECTIONS / 2).then_some(())
            });
            assert_eq!(strongroom.status()["state"], "unlocked");
            strongroom.must(&["agent", "revoke", &agents[0].0]);
            revoked.store(true, Ordering::SeqCst);
            strongroom.must(&["audit", "verify"]);
        });
        let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
        for task in tasks {
            let (name, answers) = task.await.unwrap();
            let count = counts.entry(name.clone()).or_default();
            for (was_revoked, outcome) in answers {
                match outcome.as_ref().map(Option::as_deref) {
                    Ok(None) => count[0] += 1,
                    Ok(Some("revoked")) => count[1] += 1,
                    // What was being answered at that moment is cut; what is asked later is refused with all its words.
                    Err(error) if name == agents[0].0 && !was_revoked && error.ends_with(WITHIN_A_BODY) => {}
                    other => panic!("{name}: {other:?}"),
                }
                count[2] += usize::from(was_revoked && outcome == Ok(None));
            }
        }
        counts
    });
    for (name, [served, refused, served_after]) in &counts {
        assert!(*served > 0, "{name} was starved: {counts:?}");
        assert_eq!(*refused > 0, *name == agents[0].0, "{counts:?}");
        assert_eq!(*served_after == 0, *name == agents[0].0, "{counts:?}");
    }
    for pid in daemons {
        let peak = process::peak_resident(pid);
        assert!(peak < 96 * MIB, "{:?} took {} MiB", process::status_field(pid, "Name"), peak / MIB);
    }
    assert_eq!([scene.strongroom.keyd(), scene.strongroom.gatewayd()], daemons, "nobody was restarted");
    let is_use = |line: &&serde_json::Value| line["decision"] == "allowed";
    let uses = scene.strongroom.audit().iter().filter(is_use).count();
    assert_eq!(uses, scene.upstream.count(), "each use is on record, and each record was a use");
}

/// A number that all streams of an upstream wait for.
#[derive(Default)]
struct Round(Mutex<usize>, Condvar);

impl Round {
    fn next(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, number: usize) -> std::io::Result<()> {
        let now = self.0.lock().unwrap();
        let (now, late) = self.1.wait_timeout_while(now, Duration::from_secs(60), |now| *now < number).unwrap();
        drop(now);
        if late.timed_out() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

#[test]
fn two_hundred_streams_go_on_event_by_event_beside_peers_that_stand_still() {
    const STREAMS: usize = 200;
    const STILL: usize = 40;
    const EVENTS: usize = 12;
    let (round, still) = (Arc::new(Round::default()), Arc::new(Round::default()));
    let standing = still.clone();
    let (release, waiting) = (round.clone(), Arc::new(AtomicUsize::new(0)));
    let count = waiting.clone();
    let scene = Scene::with(move |exchange| match exchange.head().target() {
        "/events" => {
            exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
            for number in 0..EVENTS {
                round.wait_for(number)?;
                exchange.chunk(format!("data: {number}\n").as_bytes())?;
            }
            exchange.end(&[])
        }
        "/large" => {
            exchange.begin("200 OK", &[])?;
            count.fetch_add(1, Ordering::SeqCst);
            (0..64).try_for_each(|_| exchange.chunk(&[b'\n'; 1024 * 1024]))?;
            exchange.end(&[])
        }
        "/upload" => {
            // It reads nothing of a body that never ends.
            count.fetch_add(1, Ordering::SeqCst);
            standing.wait_for(1)
        }
        _ => exchange.respond("200 OK", &[], b"hello"),
    });
    let agents = agents(&scene, 5);
    let daemons = [scene.strongroom.keyd(), scene.strongroom.gatewayd()];
    let before = daemons.map(process::resident);
    let address = scene.strongroom.address();

    // Those who read nothing of a large answer, and those whose upload nobody reads.
    let reading: Vec<_> = (0..STILL).map(|_| scene.get("/openai/large").stream()).collect();
    let uploading: Vec<_> = (0..STILL)
        .map(|_| {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            let head = scene.request("POST", "/openai/upload").field("Content-Length", "1000000000").bytes();
            socket.write_all(&head).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let mut filled = uploading;
    // As much as goes in, until nothing has for a while.
    within(Duration::from_secs(60), "the way up is full", || {
        let block = [b'x'; 64 * 1024];
        let fill = |socket: &mut std::net::TcpStream| {
            std::iter::repeat_with(|| socket.write(&block)).take_while(Result::is_ok).count()
        };
        let went: usize = filled.iter_mut().map(fill).sum();
        std::thread::sleep(Duration::from_millis(200));
        (went == 0).then_some(())
    });
    within(Duration::from_secs(30), "all of them are at the upstream", || {
        (waiting.load(Ordering::SeqCst) == 2 * STILL).then_some(())
    });

    many::run(async {
        let mut streams = Vec::new();
        for number in 0..STREAMS {
            let (_, token) = &agents[number % agents.len()];
            let mut line = Line::open(address).await.unwrap();
            streams.push((number, line.stream("GET", "/openai/events", token, b"").await.unwrap(), line));
        }
        for event in 0..EVENTS {
            let everyone = streams.iter_mut().map(|(number, stream, _)| async move {
                let line = tokio::time::timeout(Duration::from_secs(60), stream.line()).await;
                (*number, line.expect("in time"))
            });
            for one in everyone.collect::<Vec<_>>() {
                let (number, line) = one.await;
                assert_eq!(line.unwrap().unwrap(), format!("data: {event}"), "stream {number}");
            }
            // Nobody was sent the next one before all had this one.
            if event == EVENTS / 2 {
                tokio::task::block_in_place(|| scene.strongroom.must(&["agent", "revoke", &agents[0].0]));
                let cut = streams.extract_if(.., |(number, ..)| *number % agents.len() == 0).collect::<Vec<_>>();
                assert_eq!(cut.len(), STREAMS / agents.len());
                for (number, mut stream, _) in cut {
                    assert!(stream.line().await.is_err(), "stream {number} of a revoked agent goes on or ends well");
                }
            }
            release.next();
        }
        for (number, mut stream, _) in streams {
            assert_eq!(stream.line().await, Ok(None), "stream {number}");
        }
    });
    for (pid, before) in daemons.into_iter().zip(before) {
        let peak = process::peak_resident(pid);
        let grown = peak.saturating_sub(before) / MIB;
        assert!(grown < 96, "{:?} grew by {grown} MiB", process::status_field(pid, "Name"));
    }
    assert_eq!(scene.get("/openai/x").send().text(), "hello", "beside those that still stand");
    scene.strongroom.must(&["lock"]);
    still.next();
    drop((reading, filled));
    scene.get("/openai/x").send().assert_refused(Refusal::VaultLocked);
    assert_eq!([scene.strongroom.keyd(), scene.strongroom.gatewayd()], daemons, "nobody was restarted");
}
