//! Servers that are not the one that the credential names, and roads to the true one that are tampered with.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use strongroom_ctl::demo::certificate::self_signed;
use strongroom_ctl::demo::stage::PROGRAMS;
use strongroom_tests::programs;
use tempfile::TempDir;

use super::*;

#[test]
fn no_server_without_the_right_certificate_gets_a_request() {
    let siege = Siege::lay();
    let root = &siege.scene.root;
    let other = Root::new("The attacker's root").unwrap();
    let impostors: Vec<(&str, Arc<ServerConfig>)> = vec![
        ("self-signed", self_signed(HOST).unwrap()),
        ("another name", root.server("api.upstream.example.evil.example").unwrap()),
        ("a parent's wildcard", root.server("*.example").unwrap()),
        ("another root", other.server(HOST).unwrap()),
        ("another root, ours in the chain", other.server_with_chain(HOST, |_| (), vec![root.der()]).unwrap()),
        (
            "expired",
            root.server_with(HOST, |params| {
                (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1))
            })
            .unwrap(),
        ),
        (
            "for clients",
            root.server_with(HOST, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
                .unwrap(),
        ),
    ];
    for (what, tls) in impostors {
        let impostor = Upstream::start(tls, echo).unwrap();
        let heard = siege.gateway.dial(HOST, impostor.address()).ask(&siege.ask("/x"));
        assert_eq!(heard.refusal(), Some(Refusal::UpstreamUntrusted), "{what}: {heard:?}");
        assert_eq!((impostor.count(), impostor.connections()), (0, 1), "{what}");
    }
    siege.hold();
}

/// Programs of which keyd's is started with these lines in front, by a shell: what `up` would not hand on, it does.
fn wrapped_keyd(before: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    // Copies: a program that finds others beside it looks where it really lies.
    for name in PROGRAMS {
        fs::copy(programs::path(name), directory.path().join(name)).unwrap();
    }
    let keyd = directory.path().join("strongroom-keyd");
    let script = format!("#!/bin/sh\n{before}\nexec '{}' \"$@\"\n", programs::path("strongroom-keyd").display());
    fs::write(&keyd, script).unwrap();
    for path in [directory.path(), &keyd] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

#[test]
fn what_the_environment_calls_roots_is_no_root() {
    let evil = Root::new("The attacker's root").unwrap();
    let upstream = Upstream::start(evil.server(HOST).unwrap(), echo).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), Permissions::from_mode(0o777)).unwrap();
    let (file, shown) = (outside.path().join("evil.pem"), outside.path().join("environment"));
    fs::write(&file, evil.pem()).unwrap();
    let programs = wrapped_keyd(&format!(
        "export SSL_CERT_FILE='{}' SSL_CERT_DIR='{}'\nenv >'{}'",
        file.display(),
        outside.path().display(),
        shown.display()
    ));
    let strongroom = Strongroom::new().programs(programs.path()).created();
    strongroom.up();
    let shown = fs::read_to_string(&shown).unwrap();
    assert!(shown.contains("SSL_CERT_FILE=/") && shown.contains("SSL_CERT_DIR=/"), "keyd was started with them");
    strongroom.must(&["unlock"]);
    strongroom.must(&["agent", "add", AGENT]);
    let file = file.to_str().unwrap();
    let loot = Loot::default();
    let mut keys = Vec::new();
    for (name, ca, expected) in [("plain", None, Some(Refusal::UpstreamUntrusted)), ("told", Some(file), None)] {
        let key = strongroom_tests::strongroom::random_key("sk-");
        let ca: Vec<&str> = ca.iter().flat_map(|file| ["--ca", file]).collect();
        let usual = ["credential", "add", name, "--host", HOST, "--bearer"];
        strongroom.must_with(&[&usual[..], &ca].concat(), key.as_bytes());
        let placeholder = strongroom.must(&["grant", "add", name, "--agent", AGENT]);
        let gateway = Hostile::connect(&strongroom, &loot);
        let heard = gateway.dial(HOST, upstream.address()).ask(&Ask::bearer("GET", "/x", placeholder.trim()));
        assert_eq!(heard.refusal(), expected, "{name}: {heard:?}");
        keys.push(key);
    }
    assert_eq!(upstream.count(), 1, "only the credential that names the root is used there");
    loot.assert_without(&keys.iter().map(String::as_str).collect::<Vec<_>>());
}

/// What a relay does to the bytes on the way, told the direction (true: to the upstream) and the place.
type Tamper = Arc<dyn Fn(bool, usize, &mut Vec<u8>) -> bool + Send + Sync>;

/// After which a relay gives up.
const SILENCE: Duration = Duration::from_secs(3);

/// A relay to the true server that keeps what it sees.
fn relay(siege: &Siege, seen: &Arc<Mutex<Vec<u8>>>, tamper: &Tamper) -> TcpStream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inside, _) = listener.accept().unwrap();
    let outside = TcpStream::connect(siege.scene.upstream.address()).unwrap();
    for (up, from, to) in [(true, &inside, &outside), (false, &outside, &inside)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (seen, tamper) = (seen.clone(), tamper.clone());
        // A length that was flipped makes the other end wait for more than comes.
        from.set_read_timeout(Some(SILENCE)).unwrap();
        thread::spawn(move || {
            let (mut place, mut buffer) = (0, vec![0; 16 * 1024]);
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut bytes = buffer[..length].to_vec();
                seen.lock().unwrap().extend_from_slice(&bytes);
                let goes_on = tamper(up, place, &mut bytes);
                place += length;
                if to.write_all(&bytes).is_err() || !goes_on {
                    break;
                }
            }
            // Either may be gone already.
            let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
        });
    }
    ours
}

#[test]
fn a_relay_reads_nothing_and_changes_nothing_unnoticed() {
    let siege = Siege::lay();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let honest: Tamper = Arc::new(|_, _, _| true);
    let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &honest)).ask(&siege.ask("/relayed"));
    assert!(heard.text().contains("/relayed"), "the relay relays");
    let length = seen.lock().unwrap().len();
    assert!(length > 1000, "and sees");
    let lengths = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (counts, honest) = (lengths.clone(), siege.ask("/flipped"));
    let count: Tamper = Arc::new(move |up, place, bytes: &mut Vec<u8>| {
        counts[usize::from(up)].store(place + bytes.len(), Ordering::SeqCst);
        true
    });
    let honest_answer = siege.gateway.channel(HOST, relay(&siege, &seen, &count)).ask(&honest).text();
    assert!(honest_answer.contains("/flipped"), "{honest_answer}");
    for up in [true, false] {
        let length = lengths[usize::from(up)].load(Ordering::SeqCst);
        let (mut flips, mut noticed) = (0, 0);
        for at in (0..length).step_by(length / 60 + 1) {
            let flipped = Arc::new(AtomicBool::new(false));
            let flips_one = flipped.clone();
            let flip: Tamper = Arc::new(move |direction, place, bytes: &mut Vec<u8>| {
                if direction == up && (place..place + bytes.len()).contains(&at) {
                    bytes[at - place] ^= 1;
                    flips_one.store(true, Ordering::SeqCst);
                }
                true
            });
            let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &flip)).ask(&honest);
            if flipped.load(Ordering::SeqCst) {
                flips += 1;
                noticed += usize::from(!is_whole(&heard));
            }
            // What comes after the answer, as a session ticket of the server's, concerns no answer.
            assert!(!is_whole(&heard) || heard.text() == honest_answer, "byte {at}: a changed answer looks whole");
            let cut: Tamper = Arc::new(move |direction, place, bytes: &mut Vec<u8>| {
                let goes_on = direction != up || place + bytes.len() < at;
                if !goes_on {
                    bytes.truncate(at.saturating_sub(place));
                }
                goes_on
            });
            let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &cut)).ask(&siege.ask("/cut"));
            let whole = honest_answer.replace("/flipped", "/cut");
            assert!(!is_whole(&heard) || heard.text() == whole, "byte {at}: a cut answer looks whole");
        }
        assert!(flips > 40 && noticed > flips / 2, "{noticed} of {flips} flips were noticed");
    }
    siege.hold();
}

#[test]
fn a_relay_sees_only_what_tls_shows() {
    let siege = Siege::lay();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let honest: Tamper = Arc::new(|_, _, _| true);
    for _ in 0..20 {
        let mut channel = siege.gateway.channel(HOST, relay(&siege, &seen, &honest));
        assert_eq!(channel.ask(&siege.ask("/relayed")).status(), Some(200));
    }
    let wire = Loot::default();
    wire.take(&seen.lock().unwrap());
    wire.assert_without(&[&siege.scene.key, &siege.scene.placeholder]);
    siege.hold();
}

/// A relay that strikes TLS 1.3 out of what keyd offers, or the protocols that it asks for, gets no connection: the whole
/// handshake is in what both ends sign (RFC 8446, 4.1.3 and 4.4.3).
#[test]
fn a_relay_can_talk_neither_version_nor_protocol_down() {
    let siege = Siege::lay();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    // supported_versions (43) with 1.3 and 1.2, and the name of a protocol in ALPN (16).
    for (what, from, to) in [
        (
            "another version",
            &[0x00, 0x2b, 0x00, 0x05, 0x04, 0x03, 0x04, 0x03, 0x03][..],
            &[0x00, 0x2b, 0x00, 0x05, 0x04, 0x03, 0x03, 0x03, 0x03][..],
        ),
        ("no versions", &[0x00, 0x2b, 0x00, 0x05, 0x04, 0x03, 0x04], &[0xfa, 0xfa, 0x00, 0x05, 0x04, 0x03, 0x04]),
        ("another protocol", b"\x08http/1.1", b"\x08http/1.0"),
        ("no protocols", &[0x00, 0x10, 0x00], &[0xfa, 0xfa, 0x00]),
    ] {
        let struck = Arc::new(AtomicBool::new(false));
        let strikes = struck.clone();
        let strike: Tamper = Arc::new(move |up, place, bytes: &mut Vec<u8>| {
            if up
                && place == 0
                && let Some(at) = memchr::memmem::find(bytes, from)
            {
                bytes[at..at + to.len()].copy_from_slice(to);
                strikes.store(true, Ordering::SeqCst);
            }
            true
        });
        let before = siege.scene.upstream.count();
        let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &strike)).ask(&siege.ask("/down"));
        assert!(struck.load(Ordering::SeqCst), "{what}: the hello has it");
        assert!(heard.refusal().is_some(), "{what}: {heard:?}");
        assert_eq!(siege.scene.upstream.count(), before, "{what}");
    }
    siege.hold();
}

/// Tickets that a server gives out are never shown again: to nobody, so to no other host.
#[test]
fn no_ticket_is_ever_used() {
    let siege = Siege::lay();
    let hellos: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    for _ in 0..3 {
        let (hellos, seen) = (hellos.clone(), Arc::default());
        let look: Tamper = Arc::new(move |up, place, bytes: &mut Vec<u8>| {
            if up && place == 0 {
                hellos.lock().unwrap().push(bytes.clone());
            }
            true
        });
        let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &look)).ask(&siege.ask("/ticket"));
        assert_eq!(heard.status(), Some(200));
    }
    for hello in hellos.lock().unwrap().iter() {
        assert_eq!((hello[0], hello[5]), (22, 1), "a ClientHello");
        let names = extensions(hello);
        assert!(names.contains(&43), "read well: {names:?}");
        // pre_shared_key, and session_ticket of TLS 1.2 (RFC 5077).
        assert!(!names.contains(&41) && !names.contains(&35), "{names:?}");
    }
    siege.hold();
}

/// The types of the extensions of a ClientHello that fits one record (RFC 8446, 4.1.2).
fn extensions(hello: &[u8]) -> Vec<u16> {
    let two = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    let session = 5 + 4 + 2 + 32;
    let suites = session + 1 + usize::from(hello[session]);
    let compressions = suites + 2 + two(suites);
    let mut at = compressions + 1 + usize::from(hello[compressions]);
    let end = at + 2 + two(at);
    at += 2;
    let mut names = Vec::new();
    while at + 4 <= end {
        names.push(u16::from_be_bytes([hello[at], hello[at + 1]]));
        at += 4 + two(at + 2);
    }
    names
}
