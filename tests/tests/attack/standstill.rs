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

/// Two channels that served before, and a page that comes when it is told to.
struct Standstill {
    siege: Siege,
    held: Channel,
    other: Channel,
    page: SlowPage,
    duplicate: TcpStream,
    /// Requests that the upstream had.
    before: usize,
}

impl Standstill {
    fn prepare() -> Self {
        let siege = Siege::lay();
        let (mut held, mut other) = (siege.dial(), siege.dial());
        for channel in [&mut held, &mut other] {
            assert_eq!(channel.ask(&siege.ask("/before")).status(), Some(200));
        }
        // How long admins wait is ours to say here.
        siege.watch.over.store(true, Ordering::SeqCst);
        let before = siege.scene.upstream.count();
        let duplicate = held.upstream.as_ref().unwrap().try_clone().unwrap();
        Self { siege, held, other, page: SlowPage::new(), duplicate, before }
    }

    /// Runs `meanwhile` while keyd waits, and a request lies before it; then the page comes.
    fn during(&mut self, meanwhile: impl FnOnce(&Siege)) {
        let head = self.siege.ask("/held").payload();
        thread::scope(|scope| {
            let (page, duplicate) = (&self.page, &self.duplicate);
            let holder = scope.spawn(move || page.send_on(duplicate));
            page.until_wanted();
            self.held.frame(HEAD, &head).unwrap();
            within(Duration::from_secs(20), "keyd waits for the lock", || {
                process::status_field(self.siege.daemons[0], "State")?.starts_with('D').then_some(())
            });
            self.other.frame(HEAD, &self.siege.ask("/other").payload()).unwrap();
            assert_eq!(self.other.within(Duration::from_millis(500)), []);
            meanwhile(&self.siege);
            assert_eq!(self.siege.scene.upstream.count(), self.before, "no key is used");
            page.come();
            assert_eq!(holder.join().unwrap().unwrap(), PAGE);
        });
    }
}

#[test]
#[ignore = "needs root: has the kernel wait for a page"]
fn while_a_socket_is_held_locked_no_key_is_used_and_afterwards_nothing_is_lost() {
    let mut still = Standstill::prepare();
    let home = still.siege.scene.strongroom.home().clone();
    let mut waiting = None;
    still.during(|_| {
        let asked = thread::spawn(move || admin_answers(&home));
        thread::sleep(Duration::from_millis(500));
        assert!(!asked.is_finished(), "the admin waits too");
        waiting = Some(asked);
    });
    waiting.unwrap().join().expect("and is answered then");
    assert_eq!(still.other.hear().status(), Some(200));
    still.siege.loot.assert_without(&[&still.siege.scene.key]);
    assert_eq!(still.siege.scene.get("/openai/honest").send().status(), 200);
}

/// Whoever cannot wait for the holder's end has a last word: keyd does nothing more, whenever it is let go.
#[test]
#[ignore = "needs root: has the kernel wait for a page"]
fn a_kill_while_a_socket_is_held_locked_comes_before_any_further_use() {
    let mut still = Standstill::prepare();
    let keyd = still.siege.daemons[0];
    still.during(|_| {
        process::signal(keyd, process::Signal::SIGKILL);
        assert!(process::is_alive(keyd), "the kernel still waits");
    });
    process::wait_until_gone(keyd, Duration::from_secs(20));
    assert_eq!(still.other.within(Duration::from_millis(100)), []);
    assert_eq!(still.siege.scene.upstream.count(), still.before);
    still.siege.loot.assert_without(&[&still.siege.scene.key]);
}
