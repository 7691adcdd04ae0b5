//! Connections that take long to close, as many as anybody can make: a stranger's at `admin.sock`, and at `gateway.sock` those of
//! a gateway that keyd does not serve.
//!
//! An inotify descriptor that watches something is one whose last close takes milliseconds, and no signal cuts it short. A
//! few dozen lie in the queue of a connection, and are closed with it.

use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, sendmsg, socket,
};
use strongroom_tests::hostile::{with_gateways_uid, with_uid};

use super::*;

/// One that watches a directory, where this user may have another.
fn watching() -> Option<OwnedFd> {
    // SAFETY: the call takes flags and gives a descriptor.
    let raw = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    if raw < 0 {
        return None;
    }
    // SAFETY: it is new, and nobody else's.
    let watching = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: the path is a C string.
    unsafe { libc::inotify_add_watch(raw, c"/tmp".as_ptr(), libc::IN_MODIFY) };
    Some(watching)
}

/// A connection in whose queue they lie, behind what is no message; it does not wait for a place.
fn connect_laden(path: &Path, kind: SockType) {
    let Some(all) = (0..40).map(|_| watching()).take_while(Option::is_some).collect::<Option<Vec<_>>>() else { return };
    let raw: Vec<_> = all.iter().map(AsRawFd::as_raw_fd).collect();
    let Some(connection) = connect_to(path, kind) else { return };
    let _ = send(connection.as_raw_fd(), b"no message", MsgFlags::MSG_NOSIGNAL);
    let rights = [ControlMessage::ScmRights(&raw)];
    // keyd may have gone already.
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let _ = sendmsg::<()>(connection.as_raw_fd(), &[IoSlice::new(b"x")], control, MsgFlags::MSG_NOSIGNAL, None);
}

fn connect_to(path: &Path, kind: SockType) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connection = socket(AddressFamily::Unix, kind, flags, None).ok()?;
    connect(connection.as_raw_fd(), &UnixAddr::new(path).ok()?).ok()?;
    Some(connection)
}

/// Connections without end, and how many were tried.
#[derive(Clone, Default)]
struct Flood {
    over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
}

impl Flood {
    fn run(&self, path: &Path, kind: SockType) {
        while !self.over.load(Ordering::SeqCst) {
            for _ in 0..3 {
                connect_laden(path, kind);
            }
            for _ in 0..2000 {
                drop(connect_to(path, kind));
            }
            self.rounds.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A siege whose keyd has few descriptors; how long admins wait is ours to say here.
fn besieged() -> Siege {
    let siege = Siege::before(Scene::build(Strongroom::new().descriptors(400), echo));
    siege.watch.over.store(true, Ordering::SeqCst);
    siege
}

/// Rounds of a flood, each of which would fill what keyd has.
const ROUNDS: usize = 30;

#[test]
#[ignore = "needs root: floods as another user"]
fn a_stranger_whose_connections_close_slowly_keeps_no_revocation_from_the_disk() {
    const STRANGER: u32 = 61_051;
    let siege = besieged();
    let strongroom = &siege.scene.strongroom;
    let vault = strongroom.home().vault();
    let (flood, path) = (Flood::default(), strongroom.home().admin_socket());
    let flooding = thread::spawn({
        let flood = flood.clone();
        move || with_uid(STRANGER, move || flood.run(&path, SockType::Stream))
    });
    let mut number = 0;
    while flood.rounds.load(Ordering::SeqCst) < ROUNDS || number < 10 {
        let name = format!("during-the-flood-{number}");
        for operation in [&["agent", "add", &name], &["agent", "revoke", &name]] {
            let before = fs::metadata(&vault).unwrap().ino();
            strongroom.must(operation);
            assert_ne!(fs::metadata(&vault).unwrap().ino(), before, "{operation:?} is on the disk");
        }
        assert_eq!(siege.dial().ask(&siege.ask("/during")).status(), Some(200), "on the same control connection");
        number += 1;
    }
    flood.over.store(true, Ordering::SeqCst);
    flooding.join().unwrap();
    strongroom.must(&["agent", "revoke", AGENT]);
    siege.scene.get("/openai/x").send().assert_refused(Refusal::Revoked);
    siege.loot.assert_without(&[&siege.scene.key]);
}

#[test]
fn gateways_that_are_turned_away_and_close_slowly_cost_another_nothing() {
    let siege = besieged();
    let (flood, path) = (Flood::default(), siege.scene.strongroom.home().gateway_socket());
    let flooding = thread::spawn({
        let flood = flood.clone();
        move || with_gateways_uid(move || flood.run(&path, SockType::SeqPacket))
    });
    let mut number = 0;
    while flood.rounds.load(Ordering::SeqCst) < ROUNDS || number < 10 {
        assert_eq!(siege.dial().ask(&siege.ask("/during")).status(), Some(200), "on the same control connection");
        assert_eq!(siege.scene.get("/openai/during").send().status(), 200, "and by the honest gateway");
        assert!(admin_answers(siege.scene.strongroom.home()) < Duration::from_secs(5));
        siege.scene.strongroom.must(&["agent", "add", &format!("during-the-flood-{number}")]);
        number += 1;
    }
    flood.over.store(true, Ordering::SeqCst);
    flooding.join().unwrap();
    siege.hold();
}
