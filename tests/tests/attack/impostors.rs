//! Servers that are not the one that the credential names, and roads to the true one that are tampered with.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::ServerConfig;
use strongroom_ctl::demo::certificate::self_signed;

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

#[test]
fn what_the_environment_calls_roots_is_no_root() {
    let evil = Root::new("The attacker's root").unwrap();
    let upstream = Upstream::start(evil.server(HOST).unwrap(), echo).unwrap();
    let strongroom = Strongroom::new().created();
    let file = strongroom.write("evil.pem", evil.pem());
    let mut up = strongroom.command(&[&["up"], strongroom.users()].concat());
    up.env("SSL_CERT_FILE", &file).env("SSL_CERT_DIR", file.parent().unwrap());
    process::run(&mut up, b"").assert_code(0);
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
    for at in (0..length).step_by(length / 60 + 1) {
        for up in [true, false] {
            let flip: Tamper = Arc::new(move |direction, place, bytes: &mut Vec<u8>| {
                if direction == up && (place..place + bytes.len()).contains(&at) {
                    bytes[at - place] ^= 1;
                }
                true
            });
            let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &flip)).ask(&siege.ask("/flipped"));
            if is_whole(&heard) {
                assert!(heard.text().contains("/flipped"), "byte {at}: a changed answer looks whole");
            }
            let cut: Tamper = Arc::new(move |direction, place, bytes: &mut Vec<u8>| {
                let goes_on = direction != up || place + bytes.len() < at;
                if !goes_on {
                    bytes.truncate(at.saturating_sub(place));
                }
                goes_on
            });
            let heard = siege.gateway.channel(HOST, relay(&siege, &seen, &cut)).ask(&siege.ask("/cut"));
            assert!(!is_whole(&heard) || heard.text().contains("/cut"), "byte {at}: a cut answer looks whole");
        }
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
