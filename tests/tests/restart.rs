//! Daemons that die, and daemons that are asked to end.

use std::process::Stdio;
use std::time::Instant;

use strongroom_tests::prelude::*;

fn hello(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.respond("200 OK", &[], b"hello")
}

/// An answer that goes on until somebody breaks it off.
fn endless(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.begin("200 OK", &[])?;
    exchange.chunk(b"begin\n")?;
    exchange.peer_closes_within(Duration::from_secs(20));
    Ok(())
}

/// Waits until requests are served, and gives the first answer that is no refusal.
#[track_caller]
fn served_again(scene: &Scene) -> Answer {
    within(Duration::from_secs(10), "service again", || {
        let answer = scene.get("/openai/again").try_send().ok()?;
        answer.refusal().is_none().then_some(answer)
    })
}

#[test]
fn a_killed_keyd_means_503_at_once_and_service_after_it_is_back() {
    let scene = Scene::with(hello);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let gatewayd = scene.strongroom.gatewayd();
    let keyd = scene.strongroom.keyd();
    process::signal(keyd, process::Signal::SIGKILL);
    process::wait_until_gone(keyd, Duration::from_secs(5));
    let begin = Instant::now();
    let refused = within(Duration::from_secs(3), "gatewayd sees that keyd is gone", || {
        Some(scene.get("/openai/x").send()).filter(|answer| answer.refusal().as_deref() == Some("keyd_unavailable"))
    });
    refused.assert_refused(Refusal::KeydUnavailable);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let status = scene.strongroom.ctl(&["status", "--json"]);
    assert_eq!((status.code, status.json()["state"].as_str()), (Some(69), Some("unreachable")));

    scene.strongroom.up();
    assert_ne!(scene.strongroom.keyd(), keyd);
    assert!(process::is_ours(gatewayd), "gatewayd lived through it, or was replaced by up");
    assert_eq!(scene.strongroom.status()["state"], "locked", "a restarted keyd has no key in memory");
    scene.get("/openai/x").send().assert_refused(Refusal::VaultLocked);
    scene.strongroom.must(&["unlock"]);
    assert_eq!(served_again(&scene).text(), "hello");
    scene.strongroom.must(&["audit", "verify"]);
}

/// A hostile gateway that can make keyd die must gain nothing by it.
#[test]
fn a_killed_keyd_gives_no_limit_back_and_one_that_was_stopped_does() {
    let scene = Scene::with(hello);
    scene.strongroom.must(&["agent", "add", "scarce"]);
    let placeholder = scene.grant(CREDENTIAL, "scarce", &["--rate", "3/hour"]);
    let ask = |placeholder: &str| {
        scene.strongroom.must(&["unlock"]);
        within(Duration::from_secs(10), "an answer of keyd's", || {
            let answer = scene.strongroom.request("GET", "/openai/x").bearer(placeholder).try_send().ok()?;
            let is_too_early = matches!(answer.refusal().as_deref(), Some("keyd_unavailable" | "vault_locked"));
            (!is_too_early).then_some(answer)
        })
    };
    assert_eq!(ask(&placeholder).status(), 200);
    for _ in 0..2 {
        let keyd = scene.strongroom.keyd();
        process::signal(keyd, process::Signal::SIGKILL);
        process::wait_until_gone(keyd, Duration::from_secs(5));
        scene.strongroom.up();
        let refused = ask(&placeholder);
        refused.assert_refused(Refusal::RateLimited);
        let wait: u32 = refused.head.value("retry-after").expect("it says when").parse().unwrap();
        assert!((1000..=1200).contains(&wait), "a third of an hour, less what has passed: {wait}");
    }
    assert!(scene.strongroom.logs().contains("the last run did not end cleanly"));
    scene.strongroom.must(&["agent", "add", "new"]);
    let new = scene.grant(CREDENTIAL, "new", &["--rate", "3/hour"]);
    assert_eq!(ask(&new).status(), 200, "what nobody can have used before begins full");

    scene.strongroom.must(&["down"]);
    scene.strongroom.up();
    for _ in 0..3 {
        assert_eq!(ask(&placeholder).status(), 200);
    }
    ask(&placeholder).assert_refused(Refusal::RateLimited);
}

#[test]
fn a_killed_keyd_cuts_what_was_running() {
    let scene = Scene::with(endless);
    let mut stream = scene.get("/openai/long").stream();
    stream.read_text("begin\n");
    let begin = Instant::now();
    process::signal(scene.strongroom.keyd(), process::Signal::SIGKILL);
    assert!(stream.rest().is_err(), "what breaks off does not end cleanly");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn a_killed_gatewayd_leaves_keyd_unlocked() {
    let scene = Scene::with(hello);
    assert_eq!(scene.get("/openai/x").send().status(), 200);
    let (keyd, gatewayd) = (scene.strongroom.keyd(), scene.strongroom.gatewayd());
    process::signal(gatewayd, process::Signal::SIGKILL);
    process::wait_until_gone(gatewayd, Duration::from_secs(5));
    within(Duration::from_secs(5), "keyd sees that gatewayd is gone", || {
        scene.strongroom.status()["gatewayd"]["pid"].is_null().then_some(())
    });
    assert!(scene.get("/openai/x").try_send().is_err(), "nobody listens");
    scene.strongroom.up();
    assert_eq!(scene.strongroom.keyd(), keyd, "keyd is the same process");
    assert_eq!(served_again(&scene).text(), "hello");
}

#[test]
fn sigterm_lets_what_is_running_end() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let scene = Scene::with(move |exchange| {
        exchange.begin("200 OK", &[])?;
        exchange.chunk(b"begin\n")?;
        released.lock().unwrap().recv_timeout(Duration::from_secs(20)).map_err(std::io::Error::other)?;
        exchange.chunk(b"end\n")?;
        exchange.end(&[])
    });
    let gatewayd = scene.strongroom.gatewayd();
    let mut stream = scene.get("/openai/long").stream();
    stream.read_text("begin\n");
    process::signal(gatewayd, process::Signal::SIGTERM);
    within(Duration::from_secs(5), "gatewayd takes no more connections", || {
        std::net::TcpStream::connect(scene.strongroom.address()).is_err().then_some(())
    });
    assert!(process::is_ours(gatewayd), "it waits for what is running");
    release.send(()).unwrap();
    assert_eq!(stream.rest().unwrap(), b"end\n");
    process::wait_until_gone(gatewayd, Duration::from_secs(5));
}

#[test]
fn sigterm_with_nothing_running_ends_both_soon() {
    let scene = Scene::with(hello);
    // Kept open by an agent that may come back: nobody has to wait for that.
    let mut kept = Connection::open(&scene.strongroom.ways()[0]).unwrap();
    assert_eq!(scene.get("/openai/x").send_over(&mut kept).unwrap().status(), 200);
    for pid in [scene.strongroom.gatewayd(), scene.strongroom.keyd()] {
        process::signal(pid, process::Signal::SIGTERM);
        process::wait_until_gone(pid, Duration::from_secs(5));
    }
}

/// A parent that waits for signals blocks them first, and its children inherit that.
#[test]
fn daemons_whose_parent_blocks_signals_end_all_the_same() {
    let strongroom = Strongroom::new().created();
    let mut command = strongroom.command(&[&["up", "--foreground"], strongroom.users()].concat());
    let mut up = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let daemons = within(Duration::from_secs(20), "both daemons are up", || {
        let status = strongroom.ctl(&["status", "--json"]).json();
        let pid = |name: &str| status[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Some([pid("keyd")?, pid("gatewayd")?])
    });
    process::signal(up.id(), process::Signal::SIGTERM);
    let status = within(Duration::from_secs(10), "'up' ends with both", || up.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!daemons.into_iter().any(process::is_alive));
}

#[test]
fn a_keyd_that_is_stopped_writes_how_what_it_cut_has_ended() {
    let scene = Scene::with(endless);
    let mut stream = scene.get("/openai/long").stream();
    stream.read_text("begin\n");
    let id = stream.head.value("strongroom-request-id").unwrap();
    let keyd = scene.strongroom.keyd();
    process::signal(keyd, process::Signal::SIGTERM);
    process::wait_until_gone(keyd, Duration::from_secs(5));
    scene.strongroom.up();
    scene.strongroom.must(&["unlock"]);
    let lines = scene.strongroom.audit();
    let of_it: Vec<_> = lines.iter().filter(|line| line["request_id"] == *id).collect();
    assert_eq!(of_it.len(), 2, "{of_it:?}");
    assert_eq!(of_it.last().unwrap()["failure"], "vault_locked", "{of_it:?}");
}

#[test]
fn a_hang_up_signal_ends_no_keyd() {
    let scene = Scene::with(hello);
    let keyd = scene.strongroom.keyd();
    process::signal(keyd, process::Signal::SIGHUP);
    within(Duration::from_secs(10), "it says what it makes of it", || {
        scene.strongroom.logs().contains("SIGHUP").then_some(())
    });
    assert_eq!(scene.strongroom.status()["state"], "unlocked");
    assert_eq!((scene.strongroom.keyd(), scene.get("/openai/x").send().status()), (keyd, 200));
}
