//! More of keyd's memory, descriptors and time than there is for a gateway.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use hyper::Response;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use strongroom_protocol::admin::Operation;
use strongroom_protocol::channel::REFUSAL;
use strongroom_protocol::channel::frames::Frame;
use strongroom_protocol::channel::head::AnswerHead;
use strongroom_protocol::exchange::{DialFailure, Upstream as Dialled};
use strongroom_tests::h2_upstream::{self, Script};
use strongroom_tests::hostile::{DATA, END, HEAD};
use strongroom_tests::memory_group::MemoryGroup;

use super::limits::scarce;
use super::*;

/// Heads upon heads, which wait for no answer, on one channel after another: each is cut, and the admin is answered
/// while they come.
#[test]
fn heads_without_end_keep_no_admin_waiting() {
    let siege = Siege::lay();
    let ask = Ask { flags: 0, method: b"GET".into(), target: b"/x?a=%41%42".into(), fields: Vec::new() };
    let ask = ask.field("host", "x").field("x-a", "%2541%2542");
    let mut patient = siege.failing(DialFailure::Unreachable);
    for _ in 0..100 {
        assert_eq!(patient.ask(&ask).refusal(), Some(Refusal::NoPlaceholder), "one at a time is answered");
    }
    let payload = ask.payload();
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let heads = [&[HEAD, a, b, c], &payload[..]].concat().repeat(20_000);
    let (strongroom, loot, stop) = (&siege.scene.strongroom, siege.loot.clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let gateway = Hostile::connect(strongroom, &loot);
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let channels: Vec<_> = (0..100).map(|_| piled(&gateway, &heads)).collect();
                channels.iter().for_each(assert_cut);
                rounds += 1;
            }
            rounds
        });
        let mut longest = Duration::ZERO;
        for _ in 0..30 {
            longest = longest.max(admin_answers(siege.scene.strongroom.home()));
            thread::sleep(Duration::from_millis(50));
        }
        let begin = Instant::now();
        let locked = AdminClient::connect(strongroom.home()).and_then(|mut admin| admin.ask(Operation::Lock));
        longest = longest.max(begin.elapsed());
        stop.store(true, Ordering::Relaxed);
        assert!(locked.is_ok() && longest < Duration::from_secs(1), "{longest:?}");
        assert!(flood.join().unwrap() > 0);
    });
    strongroom.must(&["unlock"]);
    siege.hold();
}

/// A channel on which heads lie before keyd sees it, as many as the socket takes.
fn piled(gateway: &Hostile, heads: &[u8]) -> UnixStream {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    setsockopt(&ours, sockopt::SndBuf, &heads.len()).unwrap();
    ours.set_nonblocking(true).unwrap();
    assert!(ours.write(heads).unwrap() > 50_000);
    ours.set_nonblocking(false).unwrap();
    let verdict = gateway.offer(HOST, Dialled::Failed(DialFailure::Unreachable), &[theirs.as_fd()]);
    assert!(matches!(verdict, Ok(()) | Err(Some(Refusal::VaultLocked))), "{verdict:?}");
    ours
}

/// keyd ends it, and answers nothing of what was asked too soon.
fn assert_cut(mut channel: &UnixStream) {
    channel.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut heard = Vec::new();
    match channel.read_to_end(&mut heard) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("keyd neither answers nor closes: {error}"),
        _ => assert!(heard.is_empty(), "{heard:?}"),
    }
}

#[test]
fn channels_without_end_leave_room_for_the_admin_and_for_others() {
    let scene = Scene::build(Strongroom::new().descriptors(400), echo);
    let siege = Siege::before(scene);
    let mut channels = Vec::new();
    let refusal = loop {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let tcp = TcpStream::connect(siege.scene.upstream.address()).unwrap();
        match siege.gateway.offer(HOST, Dialled::Connected, &[theirs.as_fd(), tcp.as_fd()]) {
            Ok(()) => channels.push((ours, theirs, tcp)),
            Err(refusal) => break refusal,
        }
        assert!(channels.len() < 1000, "no end of them");
    };
    assert_eq!(refusal, Some(Refusal::Overloaded));
    assert!((50..=150).contains(&channels.len()), "{} channels", channels.len());
    assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(5));
    siege.scene.strongroom.must(&["agent", "add", "during-the-flood"]);
    drop(channels);
    within(Duration::from_secs(20), "room is given back", || {
        siege.scene.get("/openai/x").send().status().eq(&200).then_some(())
    });
    siege.hold();
}

/// More than a channel and its pair hold.
pub const LARGE: usize = 2 * 1024 * 1024;

pub fn large(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    if exchange.head().target() != "/large" {
        return echo(exchange);
    }
    exchange.respond("200 OK", &[], &vec![b' '; LARGE])
}

/// A grant that no rate holds up.
pub fn plenty(siege: &Siege) -> String {
    siege.scene.strongroom.must(&["agent", "add", "plenty"]);
    siege.scene.grant(CREDENTIAL, "plenty", &["--rate", "100000/hour", "--burst", "100000"])
}

/// Opens channels and leaves their answers unread, until keyd has no room for one more.
fn unread_answers(siege: &Siege, upstream: SocketAddr, target: &str, placeholder: &str) -> Vec<Channel> {
    let mut unread = Vec::new();
    loop {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // As much as keyd takes: the more the kernel may hold for each, the fewer there are.
        setsockopt(&theirs, sockopt::SndBuf, &(256 * 1024)).unwrap();
        let tcp = TcpStream::connect(upstream).unwrap();
        let offered = siege.gateway.offer(HOST, Dialled::Connected, &[theirs.as_fd(), tcp.as_fd()]);
        if let Err(refusal) = offered {
            assert_eq!(refusal, Some(Refusal::Overloaded));
            return unread;
        }
        let mut channel = Channel::new(ours, theirs, Some(tcp), siege.loot.clone());
        channel.frame(HEAD, &Ask::bearer("GET", target, placeholder).payload()).unwrap();
        // The head is here, so the exchange is under way; or it is a refusal.
        if let Some(refusal) = refusal(&channel.next_frame().unwrap()) {
            assert_eq!(refusal, Refusal::Overloaded);
            return unread;
        }
        unread.push(channel);
        assert!(unread.len() < 1500, "no end of them");
    }
}

#[test]
fn answers_that_nobody_reads_fill_no_memory_and_one_that_ends_makes_room() {
    let siege = Siege::before(Scene::with(large));
    let (plenty, scarce) = (plenty(&siege), scarce(&siege));
    let mut waiting = siege.dial();
    let mut unread = unread_answers(&siege, siege.scene.upstream.address(), "/large", &plenty);
    assert!(unread.len() >= 500, "{} at once", unread.len());
    let peak = process::peak_resident(siege.daemons[0]);
    assert!(peak < 700 * 1024 * 1024, "keyd has {peak} bytes, and the kernel as many again for it");

    // A channel that was open before is refused too, and that takes nothing of a limit.
    for _ in 0..5 {
        let heard = waiting.ask(&Ask::bearer("GET", "/x", &scarce));
        assert_eq!(heard.refusal(), Some(Refusal::Overloaded), "{heard:?}");
    }
    assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(5));
    let mut read = unread.pop().unwrap();
    let mut length = 0;
    while let Some(Frame::Data(data)) = read.next_frame() {
        length += data.len();
    }
    assert_eq!(length, LARGE, "it comes whole when somebody reads");
    drop(read);
    within(Duration::from_secs(20), "room for another", || {
        let heard = waiting.ask(&Ask::bearer("GET", "/x", &scarce));
        (heard.refusal() != Some(Refusal::Overloaded)).then(|| assert_eq!(heard.status(), Some(200), "{heard:?}"))
    });
    for status in [200, 200] {
        assert_eq!(waiting.ask(&Ask::bearer("GET", "/x", &scarce)).status(), Some(status));
    }
    assert_eq!(waiting.ask(&Ask::bearer("GET", "/x", &scarce)).refusal(), Some(Refusal::RateLimited));
    drop((unread, waiting));
    within(Duration::from_secs(20), "memory is given back", || {
        (process::resident(siege.daemons[0]) < peak / 2).then_some(())
    });
    siege.hold();
}

fn refusal(frame: &Frame) -> Option<Refusal> {
    let Frame::Head(payload) = frame else { panic!("no answer begins with {frame:?}") };
    let head = AnswerHead::decode(payload.clone()).unwrap();
    head.fields.get(REFUSAL).map(|code| code.to_str().unwrap().parse().unwrap())
}

/// A gateway that has keyd ended has its limits begin anew, so the unit's limit must not be within its reach.
#[test]
fn the_most_that_answers_hold_unread_fits_in_what_the_unit_allows() {
    let siege = Siege::before(Scene::with(large));
    let http2 = h2_upstream::honest(&siege.scene.root, &["h2"], |_| async {
        Response::new(Script::whole(&vec![b' '; LARGE], None))
    });
    siege.scene.add_credential("second", &["--host", HOST, "--bearer", "--http2"]);
    let plenty = plenty(&siege);
    let second = siege.scene.grant("second", "plenty", &["--rate", "100000/hour", "--burst", "100000"]);
    let group = MemoryGroup::around(siege.daemons[0], MEMORY_MAX);
    let upstreams = [(siege.scene.upstream.address(), &plenty), (http2.address(), &second)];
    for (upstream, placeholder) in upstreams {
        let unread = unread_answers(&siege, upstream, "/large", placeholder);
        assert!(unread.len() >= 500, "{} at once", unread.len());
        drop(unread);
        within(Duration::from_secs(20), "memory is given back", || {
            (process::resident(siege.daemons[0]) < MEMORY_MAX / 4).then_some(())
        });
    }
    if let Some(group) = group {
        let peak = group.peak();
        assert!((MEMORY_MAX / 4..MEMORY_MAX - OTHER_ACCOUNTS).contains(&peak), "{peak} bytes");
    }
    siege.hold();
}

/// MemoryMax= of keyd's unit.
const MEMORY_MAX: u64 = 1024 * 1024 * 1024;
/// What decoders, whole bodies and heads may take beside: each kind has an account of its own.
const OTHER_ACCOUNTS: u64 = (128 + 16 + 16) * 1024 * 1024;

/// Messages of gRPC, each of whose ends is searched for the beginning of a key; and a key again and again, of which each
/// byte is compared.
#[test]
fn answers_that_make_all_the_work_there_is_keep_no_admin_waiting() {
    let siege = Siege::before(Scene::with(|exchange| match exchange.head().target() {
        "/messages" => {
            let message = [&[0, 0, 0, 0, 60][..], &[b'A'; 60]].concat();
            exchange.respond("200 OK", &[("content-type", "application/grpc-web")], &message.repeat(8000))
        }
        "/keys" => {
            let key = exchange.head().value("authorization").unwrap_or_default().replace("Bearer ", "");
            exchange.respond("200 OK", &[], format!("{key}%2d").repeat(5000).as_bytes())
        }
        _ => echo(exchange),
    }));
    for number in 0..20 {
        siege.scene.add_credential(&format!("other-{number}"), &["--host", HOST, "--header", "x-api-key: {}"]);
    }
    let placeholder = plenty(&siege);
    let slowest = thread::scope(|scope| {
        let ask = |target| siege.scene.strongroom.request("GET", target).bearer(&placeholder);
        let answers: Vec<_> = (0..40)
            .map(|number| ask(["/openai/messages", "/openai/keys"][number % 2]))
            .map(|request| scope.spawn(move || request.send()))
            .collect();
        let mut slowest = Duration::ZERO;
        while answers.iter().any(|answer| !answer.is_finished()) {
            slowest = slowest.max(admin_answers(siege.scene.strongroom.home()));
        }
        for answer in answers {
            let answer = answer.join().unwrap();
            assert!(answer.status() == 200 && answer.body.len() > 200_000, "{}", answer.body.len());
        }
        slowest
    });
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    siege.hold();
}

/// What lies in a pair that keyd has let go is still the kernel's to hold for it.
#[test]
fn channels_that_are_cut_and_never_read_count_until_their_end_is_closed() {
    let scene = Scene::build(Strongroom::new().descriptors(400), large);
    let siege = Siege::before(scene);
    let plenty = plenty(&siege);
    let mut unread = Vec::new();
    let full = loop {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let tcp = TcpStream::connect(siege.scene.upstream.address()).unwrap();
        match siege.gateway.offer(HOST, Dialled::Connected, &[theirs.as_fd(), tcp.as_fd()]) {
            Ok(()) => {}
            Err(refusal) => break refusal,
        }
        let mut channel = Channel::new(ours, theirs, Some(tcp), siege.loot.clone());
        channel.frame(HEAD, &Ask::bearer("GET", "/large", &plenty).payload()).unwrap();
        assert_eq!(refusal(&channel.next_frame().unwrap()), None);
        // Its end at the upstream breaks it; what came before lies unread.
        channel.upstream.as_ref().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
        unread.push(channel);
        assert!(unread.len() < 1000, "no end of them");
    };
    assert_eq!(full, Some(Refusal::Overloaded));
    drop(unread);
    within(Duration::from_secs(20), "room is given back", || {
        siege.scene.get("/openai/x").send().status().eq(&200).then_some(())
    });
    siege.hold();
}

#[test]
fn a_pair_that_holds_more_than_usual_is_refused_and_one_that_grows_is_broken() {
    let siege = Siege::before(Scene::with(large));
    let placeholder = plenty(&siege);
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let tcp = TcpStream::connect(siege.scene.upstream.address()).unwrap();
    let usual = getsockopt(&theirs, sockopt::SndBuf).unwrap();
    // Past what an unprivileged process may set, where there is root to do it.
    setsockopt(&theirs, sockopt::SndBufForce, &(2 * usual.max(512 * 1024))).unwrap();
    let verdict = siege.gateway.offer(HOST, Dialled::Connected, &[theirs.as_fd(), tcp.as_fd()]);
    assert_eq!(verdict, Err(Some(Refusal::BadRequest)));

    let mut channel = siege.dial();
    channel.frame(HEAD, &Ask::bearer("GET", "/large", &placeholder).payload()).unwrap();
    assert_eq!(refusal(&channel.next_frame().unwrap()), None);
    setsockopt(&channel.theirs, sockopt::SndBuf, &usual).unwrap();
    let mut length = 0;
    while let Some(frame) = channel.next_frame() {
        let Frame::Data(data) = frame else { panic!("it ends as if it were whole: {frame:?}") };
        length += data.len();
    }
    assert!(length < LARGE, "it was broken: {length}");
    siege.hold();
}

/// A relay to the true upstream that takes so many bytes for it and then no more, until it is told to. The end that keyd
/// sends on holds as little as the kernel lets it. The other does not: what comes in small segments shrinks a window of
/// two kilobytes to less than half of what it was, and from then on it is filled at each probe only, five times a second
/// (RFC 9293, 3.8.6.2.1).
pub fn narrow_relay(upstream: SocketAddr, most: usize, go_on: &Arc<AtomicBool>) -> (TcpStream, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
    let (inside, _) = listener.accept().unwrap();
    let outside = TcpStream::connect(upstream).unwrap();
    let (taken, go_on) = (Arc::new(AtomicUsize::new(0)), go_on.clone());
    let (up, mut answers, mut back) = (taken.clone(), outside.try_clone().unwrap(), inside.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut answers, &mut back).map(|_| back.shutdown(Shutdown::Both)));
    thread::spawn(move || {
        let (mut inside, mut outside, mut buffer) = (inside, outside, [0; 512]);
        while let Ok(length @ 1..) = inside.read(&mut buffer) {
            if outside.write_all(&buffer[..length]).is_err() {
                break;
            }
            if up.fetch_add(length, Ordering::SeqCst) + length >= most {
                while !go_on.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        let _ = outside.shutdown(Shutdown::Both);
    });
    (ours, taken)
}

/// The heads of requests whose bodies keyd waits for, before anything is judged: many fields, and many bytes.
#[test]
fn heads_whose_bodies_are_awaited_are_held_within_their_room() {
    let siege = Siege::lay();
    siege.scene.add_credential("login", &["--host", HOST, "--body-json", "POST /login#/key"]);
    let empty = Ask { flags: 1, method: b"POST".into(), target: b"/login".into(), fields: Vec::new() };
    let with = |count: usize, length: usize| {
        let ask = empty.clone().field("host", HOST).field("content-type", "application/json");
        (0..count).fold(ask, |ask, number| ask.field(format!("x{number:0length$}"), "v"))
    };
    for (what, ask) in [("large", with(1000, 240)), ("small, of many fields", with(1000, 4))] {
        let payload = ask.payload();
        let before = process::resident(siege.daemons[0]);
        let mut channels: Vec<Channel> = (0..CHANNELS).map(|_| siege.failing(DialFailure::Unreachable)).collect();
        // Where there is no room it is cut, in the middle too.
        channels.iter_mut().for_each(|channel| drop(channel.frame(HEAD, &payload)));
        let waiting = channels.iter_mut().filter_map(|channel| channel.frame(DATA, b"{").ok()).count();
        assert!((1..=CHANNELS).contains(&waiting), "{what}: {waiting} wait");
        let grown = process::resident(siege.daemons[0]).saturating_sub(before);
        assert!(grown < 48 * 1024 * 1024, "{what}: {grown} bytes more, {waiting} wait");
        drop(channels);
        within(Duration::from_secs(20), "room is given back", || {
            let mut channel = siege.failing(DialFailure::Unreachable);
            channel.frame(HEAD, &payload).ok()?;
            channel.frame(DATA, b"{\"key\":\"x\"}").and_then(|()| channel.frame(END, b"")).ok()?;
            channel.hear().refusal().is_some().then_some(())
        });
    }
    siege.hold();
}

/// Their heads would be 200 MB, and 100 MB where they have many small fields.
const CHANNELS: usize = 350;

/// What waits for an upstream that takes nothing is in keyd's memory, whoever holds it there.
#[test]
fn bodies_that_an_upstream_does_not_take_keep_their_room() {
    let siege = Siege::lay();
    // The same machine under another name, as far as keyd can tell.
    let elsewhere = format!("{HOST}:8443");
    let key = siege.scene.add_credential("login", &["--host", HOST, "--body-json", "POST /login#/key"]);
    let other = siege.scene.add_credential("other", &["--host", &elsewhere, "--body-json", "POST /login#/key"]);
    siege.scene.strongroom.must(&["agent", "add", "plenty"]);
    siege.scene.strongroom.must(&["agent", "add", "healthy"]);
    let pad = "x".repeat(1024 * 1024 - 200);
    let body = |credential, agent| {
        let placeholder = siege.scene.grant(credential, agent, &[]);
        format!("{{\"key\":\"{placeholder}\",\"pad\":\"{pad}\"}}")
    };
    let (healthy, body) = (body("other", "healthy"), body("login", "plenty"));
    let ask = Ask { flags: 1, method: b"POST".into(), target: b"/login".into(), fields: Vec::new() };
    let ask = ask.field("host", HOST).field("content-type", "application/json");
    let go_on = Arc::new(AtomicBool::new(false));
    let (mut waiting, mut refused) = (Vec::new(), 0);
    for _ in 0..24 {
        let (upstream, taken) = narrow_relay(siege.scene.upstream.address(), 3000, &go_on);
        let mut channel = siege.gateway.channel(HOST, upstream);
        channel.frame(HEAD, &ask.payload()).unwrap();
        // keyd may refuse before it has read all.
        let _ = channel.frame(DATA, body.as_bytes()).and_then(|()| channel.frame(END, b""));
        let heard = within(Duration::from_secs(20), "it is on its way or refused", || {
            let heard = channel.within(Duration::from_millis(5));
            (!heard.is_empty() || taken.load(Ordering::SeqCst) >= 3000).then_some(heard)
        });
        match heard.first().map(refusal) {
            None => waiting.push(channel),
            Some(code) => {
                assert_eq!(code, Some(Refusal::Overloaded));
                refused += 1;
            }
        }
    }
    assert_eq!((waiting.len(), refused), (8, 16), "half of 16 MiB");
    for _ in 0..3 {
        let mut channel = siege.gateway.dial(&elsewhere, siege.scene.upstream.address());
        assert_eq!(channel.ask_with(&ask, healthy.as_bytes()).status(), Some(200), "another's with another host");
    }
    go_on.store(true, Ordering::SeqCst);
    for mut channel in waiting {
        assert!(channel.hear().text().contains("/login"), "it comes whole when the upstream takes it");
    }
    assert_eq!(siege.dial().ask_with(&ask, body.as_bytes()).status(), Some(200), "and the room is back");
    siege.hold_with(&[&key, &other]);
}
