//! One agent's requests on another's connections, one credential's key where another was proved, and who may connect.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use nix::unistd::geteuid;
use strongroom_ctl::demo::stage::KEYD_USER;
use strongroom_protocol::exchange::Upstream as Dialled;
use strongroom_tests::hostile::with_uid;

use super::*;

#[test]
fn a_channel_serves_one_agent_and_one_credential_alone() {
    let siege = Siege::lay();
    siege.scene.strongroom.must(&["agent", "add", "other"]);
    let others = siege.scene.grant(CREDENTIAL, "other", &[]);
    let key = siege.scene.add_credential("second", &["--host", HOST, "--header", "x-api-key: {}"]);
    let second = siege.scene.grant("second", AGENT, &[]);
    let before = siege.scene.upstream.count();

    let mut channel = siege.dial();
    assert_eq!(channel.ask(&siege.ask("/mine")).status(), Some(200));
    let heard = channel.ask(&Ask::bearer("GET", "/others", &others));
    assert_eq!(heard.status(), None, "another agent's placeholder: {heard:?}");

    let mut channel = siege.dial();
    assert_eq!(channel.ask(&siege.ask("/mine")).status(), Some(200));
    let both = siege.ask("/both").field("x-api-key", &second);
    assert_eq!(channel.ask(&both).status(), None, "one credential more than was proved");

    let mut channel = siege.dial();
    let mixed = Ask::bearer("GET", "/mixed", &others).field("x-api-key", &second);
    assert_eq!(channel.ask(&mixed).refusal(), Some(Refusal::AgentMismatch));

    // The positive twins, each on a channel of its own.
    assert_eq!(siege.dial().ask(&Ask::bearer("GET", "/others", &others)).status(), Some(200));
    assert_eq!(siege.dial().ask(&both).status(), Some(200));
    let received = siege.scene.upstream.received();
    let targets: Vec<_> = received[before..].iter().map(|one| one.head.target()).collect();
    assert_eq!(targets, ["/mine", "/mine", "/others", "/both"]);
    siege.hold_with(&[&key]);
}

/// A second credential for the same host, that trusts the attacker's root: its key, and the agent's placeholder.
fn add_loose(siege: &Siege, evil: &Root) -> (String, String) {
    let ca = siege.scene.strongroom.write("evil.pem", evil.pem());
    let key = strongroom_tests::strongroom::random_key("sk-");
    let add = ["credential", "add", "loose", "--host", HOST, "--header", "x-loose: {}", "--ca", ca.to_str().unwrap()];
    siege.scene.strongroom.must_with(&add, key.as_bytes());
    let placeholder = siege.scene.grant("loose", AGENT, &[]);
    (key, placeholder)
}

/// Both credentials name the host; one of them trusts the attacker's root. What that root proved is worth nothing to
/// the other, whatever becomes of the first request.
#[test]
fn a_handshake_that_one_credentials_roots_judged_serves_no_other() {
    let evil = Root::new("The attacker's root").unwrap();
    let impostor = Upstream::start(evil.server(HOST).unwrap(), echo).unwrap();
    let siege = Siege::lay();
    let (key, loose) = add_loose(&siege, &evil);
    let as_loose = |target: &str| Ask { fields: Vec::new(), ..siege.ask(target) }.field("x-loose", &loose);

    let mut channel = siege.gateway.dial(HOST, impostor.address());
    assert_eq!(channel.ask(&as_loose("/loose")).status(), Some(200), "it is the right server to that credential");
    let heard = channel.ask(&siege.ask("/tight"));
    assert_eq!(heard.status(), None, "{heard:?}");

    let mut channel = siege.gateway.dial(HOST, impostor.address());
    let heard = channel.ask(&siege.ask("/both").field("x-loose", &loose));
    assert!(matches!(heard.refusal(), Some(Refusal::UpstreamUntrusted)), "every credential's roots: {heard:?}");

    // The first request fails after its handshake: its target is refused then, its grant is spent, or it was revoked.
    let scarce = {
        siege.scene.strongroom.must(&["agent", "add", "scarce"]);
        siege.scene.grant("loose", "scarce", &["--rate", "1/hour"])
    };
    let tight = siege.scene.grant(CREDENTIAL, "scarce", &[]);
    let as_scarce = || Ask { fields: Vec::new(), ..siege.ask("/scarce") }.field("x-loose", &scarce);
    let mut waiting: Vec<Channel> = (0..3).map(|_| siege.gateway.dial(HOST, impostor.address())).collect();
    for channel in &mut waiting {
        channel.frame(strongroom_tests::hostile::HEAD, &as_scarce().payload()).unwrap();
    }
    for channel in &mut waiting {
        let _ = channel.hear();
        let heard = channel.ask(&Ask::bearer("GET", "/tight", &tight));
        assert_eq!(heard.status(), None, "{heard:?}");
    }
    let stolen: Vec<_> = impostor.received().iter().filter_map(|one| one.head.value("authorization")).collect();
    assert_eq!(stolen, Vec::<String>::new(), "the tight credential's key went to a server that it does not trust");
    siege.hold_with(&[&key]);
}

/// The handshake is held up until the grant is revoked; then the other credential is asked for.
#[test]
fn a_grant_that_is_revoked_in_the_handshake_leaves_no_proved_connection_behind() {
    let evil = Root::new("The attacker's root").unwrap();
    let tls = evil.server(HOST).unwrap();
    let (go_on, wait) = mpsc::channel::<()>();
    let (wait, seen) = (Mutex::new(wait), Arc::new(Mutex::new(Vec::new())));
    let taken = seen.clone();
    let impostor = Upstream::start_plain(move |mut socket: TcpStream| {
        wait.lock().unwrap().recv().map_err(std::io::Error::other)?;
        let mut connection = rustls::ServerConnection::new(tls.clone()).map_err(std::io::Error::other)?;
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            taken.lock().unwrap().extend_from_slice(&buffer[..length]);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
        Ok(())
    })
    .unwrap();
    let siege = Siege::lay();
    let (key, loose) = add_loose(&siege, &evil);
    let as_loose = Ask { fields: Vec::new(), ..siege.ask("/loose") }.field("x-loose", &loose);

    go_on.send(()).unwrap();
    let mut channel = siege.gateway.dial(HOST, impostor.address());
    assert_eq!(channel.ask(&as_loose).status(), Some(200), "its positive twin");
    drop(channel);
    seen.lock().unwrap().clear();

    let mut channel = siege.gateway.dial(HOST, impostor.address());
    channel.frame(strongroom_tests::hostile::HEAD, &as_loose.payload()).unwrap();
    siege.scene.strongroom.must(&["grant", "revoke", "loose", "--agent", AGENT]);
    go_on.send(()).unwrap();
    let heard = channel.hear();
    assert_eq!(heard.status(), None, "{heard:?}");
    let heard = channel.ask(&siege.ask("/tight"));
    assert_eq!(heard.status(), None, "{heard:?}");
    assert_eq!(String::from_utf8_lossy(&seen.lock().unwrap()), "", "nothing went to it any more");
    siege.hold_with(&[&key]);
}

#[test]
fn hosts_that_no_credential_names_get_no_channel() {
    let siege = Siege::lay();
    for authority in ["evil.example", "api.upstream.example:444", "upstream.example", "x.api.upstream.example"] {
        let tcp = TcpStream::connect(siege.scene.upstream.address()).unwrap();
        let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        use std::os::fd::AsFd;
        let verdict = siege.gateway.offer(authority, Dialled::Connected, &[theirs.as_fd(), tcp.as_fd()]);
        assert_eq!(verdict, Err(Some(Refusal::HostNotAllowed)), "{authority}");
    }
    siege.hold();
}

#[test]
#[ignore = "needs root: connects under other users"]
fn nobody_but_the_gateways_user_is_a_gateway() {
    assert!(geteuid().is_root());
    let siege = Siege::lay();
    let path = siege.scene.strongroom.home().gateway_socket();
    for uid in [0, KEYD_USER, 61_003, 65_534] {
        let path = path.clone();
        let connected = with_uid(uid, move || {
            use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, socket};
            use std::os::fd::AsRawFd;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
            connect(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap())?;
            // Accepted by the kernel, and closed by keyd before a word.
            recv(socket.as_raw_fd(), &mut [0], MsgFlags::empty())
        });
        assert!(matches!(connected, Ok(0) | Err(nix::Error::EACCES | nix::Error::ECONNRESET)), "{uid}: {connected:?}");
    }
    siege.hold();
}
