//! Descriptors that are no upstream's socket and no end of a pair, and duplicates that the attacker keeps.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
use strongroom_protocol::channel::frames::Frame;
use strongroom_protocol::exchange::Upstream as Dialled;
use strongroom_tests::deadline::until_still;
use strongroom_tests::hostile::{DATA, END, HEAD};

use super::room::{LARGE, large};
use super::*;

/// Things that are no connected stream, by name.
fn odd_things() -> Vec<(&'static str, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let directory = tempfile::tempdir().unwrap();
    let (packets, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let (reading, writing) = nix::unistd::pipe().unwrap();
    drop(other);
    vec![
        ("a file", File::open("/proc/version").unwrap().into()),
        ("a directory", File::open("/").unwrap().into()),
        ("a device", File::open("/dev/zero").unwrap().into()),
        ("a pipe to read", reading),
        ("a pipe to write", writing),
        ("UDP", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().into()),
        ("a TCP listener", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().into()),
        ("a Unix listener", UnixListener::bind(directory.path().join("s")).unwrap().into()),
        ("a Unix datagram socket", UnixDatagram::unbound().unwrap().into()),
        ("an unconnected Unix stream", socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap()),
        ("a packet socket", packets),
    ]
}

#[test]
fn only_a_tcp_stream_and_an_end_of_a_pair_make_a_channel() {
    let siege = Siege::lay();
    let tcp = TcpStream::connect(siege.scene.upstream.address()).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let offer = |descriptors: &[BorrowedFd<'_>]| siege.gateway.offer(HOST, Dialled::Connected, descriptors);
    for (what, odd) in odd_things() {
        assert_eq!(offer(&[theirs.as_fd(), odd.as_fd()]), Err(Some(Refusal::BadRequest)), "{what} as the upstream");
        assert_eq!(offer(&[odd.as_fd(), tcp.as_fd()]), Err(Some(Refusal::BadRequest)), "{what} as the pair");
    }
    assert_eq!(offer(&[tcp.as_fd(), theirs.as_fd()]), Err(Some(Refusal::BadRequest)), "the two exchanged");
    assert_eq!(offer(&[theirs.as_fd(), theirs.as_fd()]), Err(Some(Refusal::BadRequest)), "one for both");
    assert_eq!(offer(&[tcp.as_fd(), tcp.as_fd()]), Err(Some(Refusal::BadRequest)), "the other for both");
    assert_eq!(offer(&[theirs.as_fd()]), Err(Some(Refusal::BadRequest)), "one is missing");
    assert_eq!(offer(&[]), Err(Some(Refusal::BadRequest)), "both are missing");
    siege.hold();
}

#[test]
fn too_many_descriptors_end_the_connection_and_harm_nobody() {
    let siege = Siege::lay();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    for count in [3, 10, 250] {
        let gateway = Hostile::connect(&siege.scene.strongroom, &siege.loot);
        let many = vec![theirs.as_fd(); count];
        let verdict = gateway.offer(HOST, Dialled::Connected, &many);
        assert!(matches!(verdict, Err(None | Some(Refusal::BadRequest))), "{count}: {verdict:?}");
    }
    // Only root may look into an undumpable process.
    if nix::unistd::geteuid().is_root() {
        within(Duration::from_secs(20), "none of them stays", || {
            let open = std::fs::read_dir(format!("/proc/{}/fd", siege.daemons[0])).unwrap().count();
            (open < 150).then_some(())
        });
    }
    siege.hold();
}

#[test]
fn sockets_that_lead_nowhere_good_give_a_refusal_and_no_key() {
    let siege = Siege::lay();
    let plain = Upstream::start_plain(|mut socket| {
        use std::io::Write;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    })
    .unwrap();
    let unconnected: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let closed = TcpStream::connect(siege.scene.upstream.address()).unwrap();
    closed.shutdown(std::net::Shutdown::Both).unwrap();
    for (what, stream) in [
        ("the gateway's own door", TcpStream::connect(siege.scene.strongroom.address()).unwrap()),
        ("an upstream that speaks no TLS", TcpStream::connect(plain.address()).unwrap()),
        ("itself", to_itself()),
        ("nobody", TcpStream::from(unconnected)),
        ("somebody who was hung up on", closed),
    ] {
        let heard = siege.gateway.channel(HOST, stream).ask(&siege.ask("/x"));
        let refusal = heard.refusal().unwrap_or_else(|| panic!("{what}: {heard:?}"));
        let expected = [
            Refusal::UpstreamUnreachable,
            Refusal::UpstreamUntrusted,
            Refusal::UpstreamProtocol,
            Refusal::UpstreamTimeout,
        ];
        assert!(expected.contains(&refusal), "{what}: {refusal:?}");
    }
    siege.hold();
}

/// A TCP connection whose both ends are one socket (simultaneous open).
fn to_itself() -> TcpStream {
    use nix::sys::socket::{SockaddrIn, bind, connect, getsockname};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let own: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
    connect(socket.as_raw_fd(), &own).unwrap();
    TcpStream::from(socket)
}

#[test]
fn one_socket_in_two_channels_serves_neither_with_the_others_bytes() {
    let siege = Siege::lay();
    let stream = TcpStream::connect(siege.scene.upstream.address()).unwrap();
    let mut first = siege.gateway.channel(HOST, stream.try_clone().unwrap());
    let mut second = siege.gateway.channel(HOST, stream);
    let before = siege.scene.upstream.count();
    assert_eq!(first.ask(&siege.ask("/first")).status(), Some(200));
    let heard = second.ask(&siege.ask("/second"));
    assert_ne!(heard.status(), Some(200), "a second handshake inside the first is no handshake: {heard:?}");
    assert_eq!(siege.scene.upstream.count(), before + 1);
    siege.hold();
}

/// O_NONBLOCK belongs to the open file description: a plain read would stop keyd's only thread.
#[test]
fn duplicates_made_blocking_block_nobody() {
    let siege = Siege::lay();
    let mut channels: Vec<Channel> = (0..8).map(|_| siege.dial()).collect();
    for channel in &mut channels {
        channel.theirs.set_nonblocking(false).unwrap();
        channel.upstream.as_ref().unwrap().set_nonblocking(false).unwrap();
        assert_eq!(channel.ask(&siege.ask("/blocking")).status(), Some(200));
        channel.theirs.set_nonblocking(false).unwrap();
        assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(5));
    }
    siege.hold();
}

/// The answer of one channel and the body of another find no room, while both their sockets are made blocking again and
/// again: a write that waits would stop keyd's only thread.
#[test]
fn full_sockets_that_are_made_blocking_block_nobody() {
    const UPLOAD: usize = 32 * 1024 * 1024;
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let siege = Siege::before(Scene::with(move |exchange| {
        if exchange.head().target() != "/upload" {
            return large(exchange);
        }
        wait.lock().unwrap().recv().map_err(io::Error::other)?;
        let length = exchange.body()?.len();
        exchange.respond("200 OK", &[], length.to_string().as_bytes())
    }));
    let (mut download, mut upload) = (siege.dial(), siege.dial());
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let head = siege.ask("/upload").with_body().payload();
    let duplicates = [&download, &upload].map(|one| {
        (one.theirs.try_clone().unwrap(), one.upstream.as_ref().map(|socket| socket.try_clone().unwrap()).unwrap())
    });
    thread::scope(|scope| {
        let meddler = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::SeqCst) {
                for (pair, upstream) in &duplicates {
                    pair.set_nonblocking(false).unwrap();
                    upstream.set_nonblocking(false).unwrap();
                }
                rounds += 1;
                thread::sleep(Duration::from_millis(1));
            }
            rounds
        });
        download.frame(HEAD, &siege.ask("/large").payload()).unwrap();
        assert!(matches!(download.next_frame(), Some(Frame::Head(_))));
        let body = scope.spawn(|| {
            upload.frame(HEAD, &head).unwrap();
            for _ in 0..UPLOAD / 65_536 {
                upload.frame(DATA, &[b' '; 65_536]).unwrap();
                sent.fetch_add(65_536, Ordering::SeqCst);
            }
            upload.frame(END, b"").unwrap();
            upload.hear().text()
        });
        let stuck = until_still("the upload", || sent.load(Ordering::SeqCst));
        assert!(stuck < UPLOAD, "the upstream's socket is full");
        let mut length = 0;
        // Each piece that is taken makes room for the next one, and no more.
        for _ in 0..20 {
            let Some(Frame::Data(data)) = download.next_frame() else { panic!("no answer") };
            length += data.len();
            assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(1));
        }
        assert_eq!(sent.load(Ordering::SeqCst), stuck);
        go_on.send(()).unwrap();
        while length < LARGE {
            let Some(Frame::Data(data)) = download.next_frame() else { panic!("{length} bytes of the answer") };
            length += data.len();
        }
        assert_eq!(body.join().unwrap(), UPLOAD.to_string(), "both come whole when somebody reads");
        over.store(true, Ordering::SeqCst);
        assert!(meddler.join().unwrap() > 100, "they were blocking all the while");
    });
    siege.hold();
}

/// A byte of the attacker's in the upstream's socket breaks TLS, and reading from its duplicate steals cipher text.
#[test]
fn meddling_through_a_duplicate_of_the_upstreams_socket_gives_nothing() {
    use std::io::{Read, Write};
    let siege = Siege::lay();
    let mut channel = siege.dial();
    assert_eq!(channel.ask(&siege.ask("/before")).status(), Some(200));
    channel.upstream.as_mut().unwrap().write_all(b"\x17\x03\x03\x00\x05hello").unwrap();
    let heard = channel.ask(&siege.ask("/after"));
    assert_ne!(heard.status(), Some(200), "{heard:?}");

    let mut channel = siege.dial();
    let mut duplicate = channel.upstream.as_ref().unwrap().try_clone().unwrap();
    duplicate.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let loot = siege.loot.clone();
    let thief = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = duplicate.read(&mut buffer) {
            loot.take(&buffer[..length]);
        }
        let _ = duplicate.shutdown(std::net::Shutdown::Both);
    });
    // Whoever is faster gets the bytes; what the thief got is missing in keyd's TLS.
    let _ = channel.ask(&siege.ask("/stolen"));
    thief.join().unwrap();
    siege.hold();
}
