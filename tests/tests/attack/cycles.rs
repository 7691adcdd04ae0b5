//! Ends of the attacker's that nobody has open any more, and that lie in the queues of sockets which keyd has open: a keyd
//! that waits for them to close waits for itself.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use strongroom_protocol::exchange::{DialFailure, GatewayMessage, Upstream as Dialled};
use strongroom_tests::hostile::hello;

use super::*;

/// Puts a descriptor into the queue of the other end.
fn pass(through: &UnixStream, what: BorrowedFd<'_>) {
    let raw = [what.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(through.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
}

/// A pair whose end that goes to keyd has sent what nobody reads, and has before it more than one read of what is no frame:
/// keyd ends the channel at once, and what lies behind stays in the queue.
fn spoiled() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    setsockopt(&ours, sockopt::SndBuf, &(1024 * 1024)).unwrap();
    (&theirs).write_all(&[b'u'; 8192]).unwrap();
    (&ours).write_all(&[0xff; 150_000]).unwrap();
    (ours, theirs)
}

/// Channels each of whose ends lies in the queue of the next one's other end, and so in a ring; whether keyd took them.
fn ring(gateway: &Hostile, length: usize) -> bool {
    let pairs: Vec<_> = (0..length).map(|_| spoiled()).collect();
    for (index, (ours, _)) in pairs.iter().enumerate() {
        pass(ours, pairs[(index + 1) % length].0.as_fd());
    }
    let failed = Dialled::Failed(DialFailure::Unreachable);
    pairs.iter().all(|(_, theirs)| gateway.offer(HOST, failed, &[theirs.as_fd()]).is_ok())
}

#[test]
fn channels_whose_own_ends_lie_in_their_queues_are_let_go() {
    let siege = Siege::before(Scene::build(Strongroom::new().descriptors(400), echo));
    let mut refused = 0;
    for _ in 0..60 {
        for length in [1, 2, 5] {
            // A hundred are all that keyd has at one time: as many have to go as come.
            within(Duration::from_secs(20), "room for a ring", || {
                let is_taken = ring(&siege.gateway, length);
                refused += usize::from(!is_taken);
                is_taken.then_some(())
            });
        }
    }
    eprintln!("{refused} rings found no room at once");
    siege.hold();
}

/// Whether a gateway that comes now is welcomed.
fn is_welcome(siege: &Siege) -> bool {
    let gateway = Hostile::silent(&siege.scene.strongroom, &siege.loot);
    gateway.say(&hello(), &[]).is_ok() && gateway.hear().is_some()
}

/// The control connection itself, held by a channel that waits for its own end.
#[test]
fn control_connections_whose_ends_lie_in_channels_are_let_go() {
    let siege = Siege::lay();
    for _ in 0..12 {
        let gateway = within(Duration::from_secs(20), "a place for a gateway", || {
            let gateway = Hostile::silent(&siege.scene.strongroom, &siege.loot);
            (gateway.say(&hello(), &[]).is_ok() && gateway.hear().is_some()).then_some(gateway)
        });
        let (ours, theirs) = spoiled();
        pass(&ours, ours.as_fd());
        pass(&ours, gateway.as_fd());
        let failed = Dialled::Failed(DialFailure::Unreachable);
        assert_eq!(gateway.offer(HOST, failed, &[theirs.as_fd()]), Ok(()));
    }
    within(Duration::from_secs(20), "a place for a gateway", || is_welcome(&siege).then_some(()));
    siege.hold();
}

/// And one that leaves its replies unread, with its own end in its own queue.
#[test]
fn control_connections_whose_own_ends_lie_in_their_queues_are_let_go() {
    let siege = Siege::lay();
    let mut laid = 0;
    for _ in 0..12 {
        let gateway = within(Duration::from_secs(20), "a place for a gateway", || {
            let gateway = Hostile::silent(&siege.scene.strongroom, &siege.loot);
            (gateway.say(&hello(), &[]).is_ok() && gateway.hear().is_some()).then_some(gateway)
        });
        // A channel without a descriptor is refused, each with a reply.
        let nothing = GatewayMessage::OpenChannel {
            channel: 1,
            authority: HOST.parse().unwrap(),
            upstream: Dialled::Failed(DialFailure::Unreachable),
        };
        for _ in 0..40 {
            gateway.say(&nothing, &[]).unwrap();
        }
        // Until the replies lie in the queue; nothing but a read would tell.
        thread::sleep(Duration::from_millis(100));
        // keyd may be faster than the second of these.
        let sent = gateway.packet(b"no message", &[]).and_then(|()| gateway.packet(b"x", &[gateway.as_fd()]));
        laid += usize::from(sent.is_ok());
    }
    assert!(laid > 0, "keyd was faster every time");
    within(Duration::from_secs(20), "a place for a gateway", || is_welcome(&siege).then_some(()));
    siege.hold();
}
