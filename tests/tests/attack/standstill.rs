//! What the kernel itself makes keyd wait for, whatever flags its calls carry.
//!
//! Whoever has a duplicate of a passed socket and sends on it from memory whose page has yet to come holds the socket's
//! lock until it does, and whoever else uses the socket waits (`lock_sock`, in the kernel's net/core/sock.c): keyd does,
//! with its one thread. SECURITY.md says so; here is what holds all the same.

use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{io, ptr, thread};

use strongroom_tests::hostile::HEAD;

use super::*;

/// Memory of one page that comes when it is told to: userfaultfd(2).
struct SlowPage {
    faults: OwnedFd,
    start: usize,
}

impl SlowPage {
    fn new() -> Self {
        // SAFETY: the call takes flags and gives a descriptor.
        let faults = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        assert!(faults >= 0, "{}", io::Error::last_os_error());
        // SAFETY: it is new, and nobody else's.
        let faults = unsafe { OwnedFd::from_raw_fd(i32::try_from(faults).unwrap()) };
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, to which nobody makes a reference.
        let start = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let page = Self { faults, start: start as usize };
        page.control(UFFDIO_API, &mut [VERSION, 0, 0]);
        page.control(UFFDIO_REGISTER, &mut [page.start as u64, PAGE as u64, MODE_MISSING, 0]);
        page
    }

    /// Sends the page on a socket: that waits for the page, and with it whoever uses the socket.
    fn send_on(&self, socket: &TcpStream) -> io::Result<usize> {
        // SAFETY: the kernel reads the page, which is mapped for as long as the process lives.
        let sent = unsafe { libc::send(socket.as_raw_fd(), self.start as *const _, PAGE, libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Comes back when somebody waits for the page.
    fn until_wanted(&self) {
        let mut event = [0; 32];
        assert_eq!(nix::unistd::read(&self.faults, &mut event), Ok(event.len()));
    }

    /// There it is.
    fn come(&self) {
        self.control(UFFDIO_ZEROPAGE, &mut [self.start as u64, PAGE as u64, 0, 0]);
    }

    fn control(&self, request: u64, argument: &mut [u64]) {
        // SAFETY: `argument` has the size that the request's number holds, and is borrowed mutably.
        let done = unsafe { libc::ioctl(self.faults.as_raw_fd(), request as _, argument.as_mut_ptr()) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}

// linux/userfaultfd.h; its structures are numbers of 64 bits alone.
const VERSION: u64 = 0xaa;
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_ZEROPAGE: u64 = 0xc020_aa04;
const MODE_MISSING: u64 = 1;
const PAGE: usize = 4096;

#[test]
#[ignore = "needs root: has the kernel wait for a page"]
fn while_a_socket_is_held_locked_no_key_is_used_and_afterwards_nothing_is_lost() {
    let siege = Siege::lay();
    siege.scene.strongroom.must(&["agent", "add", "gone"]);
    let gone = siege.scene.grant(CREDENTIAL, "gone", &[]);
    let (mut held, mut other) = (siege.dial(), siege.dial());
    for channel in [&mut held, &mut other] {
        assert_eq!(channel.ask(&siege.ask("/before")).status(), Some(200));
    }
    let (before, strongroom) = (siege.scene.upstream.count(), &siege.scene.strongroom);
    let page = SlowPage::new();
    let duplicate = held.upstream.as_ref().unwrap().try_clone().unwrap();
    thread::scope(|scope| {
        let holder = scope.spawn(|| page.send_on(&duplicate));
        page.until_wanted();
        held.frame(HEAD, &siege.ask("/held").payload()).unwrap();
        within(Duration::from_secs(20), "keyd waits for the lock", || {
            process::status_field(siege.daemons[0], "State")?.starts_with('D').then_some(())
        });
        let revocation = scope.spawn(|| strongroom.must(&["agent", "revoke", "gone"]));
        other.frame(HEAD, &siege.ask("/other").payload()).unwrap();
        assert_eq!(other.within(Duration::from_secs(1)), []);
        assert!(!revocation.is_finished(), "the admin waits too");
        assert_eq!(siege.scene.upstream.count(), before, "no key is used");
        page.come();
        assert_eq!(holder.join().unwrap().unwrap(), PAGE);
        assert_eq!(other.hear().status(), Some(200));
        revocation.join().unwrap();
    });
    let heard = siege.dial().ask(&Ask::bearer("GET", "/gone", &gone));
    assert_eq!(heard.refusal(), Some(Refusal::Revoked));
    siege.hold();
}
