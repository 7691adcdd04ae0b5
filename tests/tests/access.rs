//! Taking away is immediate, and a new key disturbs nobody: under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use strongroom_tests::prelude::*;
use strongroom_tests::strongroom::random_key;

/// Endless events where the path says so, else a plain answer.
fn serve(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    if !exchange.head().target().starts_with("/endless") {
        return exchange.respond("200 OK", &[], b"hello");
    }
    exchange.begin("200 OK", &[("content-type", "text/event-stream")])?;
    loop {
        exchange.chunk(b"data: still here\n\n")?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rotating_under_load_fails_no_request() {
    let scene = Scene::with(serve);
    // What is under test is rotating, not the default rate, which a fast machine would reach.
    scene.strongroom.must(&["agent", "add", "busy"]);
    let busy = scene.grant(CREDENTIAL, "busy", &["--rate", "1000000/hour"]);
    let get = |target: &str| scene.strongroom.request("GET", target).bearer(&busy);
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut keys = vec![scene.key.clone()];
    let mut running = get("/openai/endless").stream();
    running.read_text("data: still here\n\n");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
                while !stop.load(Ordering::SeqCst) {
                    let answer = get("/openai/x").send_over(&mut connection).expect("no request fails by rotating");
                    assert_eq!(answer.status(), 200, "{answer:?}");
                    sent.fetch_add(1, Ordering::SeqCst);
                    // A load, not a flood: rotating has to get its turn on a small machine.
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        for _ in 0..5 {
            let key = random_key("sk-");
            scene.strongroom.must_with(&["credential", "rotate", CREDENTIAL], key.as_bytes());
            keys.push(key);
            let so_far = sent.load(Ordering::SeqCst);
            within(Duration::from_secs(10), "requests go on", || {
                (sent.load(Ordering::SeqCst) > so_far + 6).then_some(())
            });
        }
        stop.store(true, Ordering::SeqCst);
    });
    running.read_text("data: still here\n\n");
    assert_eq!(get("/openai/last").send().status(), 200);
    let received = scene.upstream.received();
    let key_of = |index: usize| received[index].head.value("authorization").unwrap_or_default();
    for index in 0..received.len() {
        assert!(keys.iter().any(|key| key_of(index) == format!("Bearer {key}")), "an unknown key: {}", key_of(index));
    }
    assert_eq!(key_of(received.len() - 1), format!("Bearer {}", keys[5]), "the newest is the one in use");
}

/// Begins streams, takes something away, and sees them end within a second.
fn cuts_within_a_second(scene: &Scene, take_away: &[&str], refusal: Refusal) {
    let mut streams: Vec<_> = (0..5).map(|_| scene.get("/openai/endless").stream()).collect();
    for stream in &mut streams {
        stream.read_text("data: still here\n\n");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // Before it is 200, afterwards refused: both are right while it happens.
                    let _ = scene.get("/openai/x").try_send();
                }
            });
        }
        scene.strongroom.must(take_away);
        let at = Instant::now();
        for stream in &mut streams {
            stream.connection.set_patience(Duration::from_secs(5)).unwrap();
            assert!(stream.rest().is_err(), "a stream that is cut does not end cleanly");
        }
        let took = at.elapsed();
        stop.store(true, Ordering::SeqCst);
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
    scene.get("/openai/x").send().assert_refused(refusal);
}

#[test]
fn revoking_a_grant_cuts_its_streams() {
    let scene = Scene::with(serve);
    scene.strongroom.must(&["agent", "add", "other"]);
    let others = scene.grant(CREDENTIAL, "other", &[]);
    let mut other = scene.strongroom.request("GET", "/openai/endless").bearer(&others).stream();
    cuts_within_a_second(&scene, &["grant", "revoke", CREDENTIAL, "--agent", AGENT], Refusal::Revoked);
    other.read_text("data: still here\n\n");
    assert_eq!(
        scene.strongroom.request("GET", "/openai/x").bearer(&others).send().status(),
        200,
        "another agent's grant stands"
    );
}

#[test]
fn revoking_an_agent_cuts_its_streams() {
    let scene = Scene::with(serve);
    cuts_within_a_second(&scene, &["agent", "revoke", AGENT], Refusal::Revoked);
}

#[test]
fn locking_cuts_every_stream() {
    let scene = Scene::with(serve);
    cuts_within_a_second(&scene, &["lock"], Refusal::VaultLocked);
    scene.strongroom.must(&["unlock"]);
    let answer = within(Duration::from_secs(5), "service again", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.refusal().is_none())
    });
    assert_eq!(answer.status(), 200, "the same placeholder works after unlocking");
}

#[test]
fn an_expiring_grant_ends_its_streams() {
    let scene = Scene::with(serve);
    scene.strongroom.must(&["agent", "add", "brief"]);
    let brief = scene.grant(CREDENTIAL, "brief", &["--expires", "4s"]);
    let mut stream = scene.strongroom.request("GET", "/openai/endless").bearer(&brief).stream();
    stream.read_text("data: still here\n\n");
    let begin = Instant::now();
    stream.connection.set_patience(Duration::from_secs(10)).unwrap();
    assert!(stream.rest().is_err(), "cut, not ended");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn one_connection_may_carry_requests_of_several_agents_but_no_upstream_connection_does() {
    let scene = Scene::with(serve);
    scene.strongroom.must(&["agent", "add", "other"]);
    let others = scene.grant(CREDENTIAL, "other", &[]);
    let mut connection = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    for round in 0..4 {
        for (agent, placeholder) in [("own", &scene.placeholder), ("other", &others)] {
            let request = scene.strongroom.request("GET", &format!("/openai/{agent}/{round}")).bearer(placeholder);
            assert_eq!(request.send_over(&mut connection).unwrap().status(), 200);
        }
    }
    let received = scene.upstream.received();
    assert_eq!(received.len(), 8);
    for one in &received {
        let agent = |target: &str| target.split('/').nth(1).unwrap_or_default().to_owned();
        let mixed = received
            .iter()
            .any(|two| one.connection == two.connection && agent(one.head.target()) != agent(two.head.target()));
        assert!(!mixed, "connection {} served two agents", one.connection);
    }
    assert!(scene.upstream.connections() < 8, "and connections are used again");
}
