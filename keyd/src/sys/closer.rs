//! Closes what came from outside, on threads where waiting harms nobody.
//!
//! Whoever passes a socket to keyd can make its last close(2) wait for as long as they like (SO_LINGER, and a peer that
//! does not read), and can put such sockets into the queue of any Unix socket that keyd holds, where they are closed
//! with it. So no such descriptor is closed by the runtime's thread: dropping a [`PassedDescriptor`] only hands it over.
//! Nor does that thread empty a queue for what lies in it: [`PassedDescriptor::empty`] has it done here too.
//!
//! Some cannot be cut short: an inotify descriptor that watches something takes milliseconds. So there are two queues,
//! each with threads of its own, and whoever can fill one is held up by it and nobody else:
//!
//! ```text
//!   came through a door ───> queue ──> a thread
//!                              └── too long: gateway.sock accepts nobody, and longer: nor does admin.sock
//!   passed by a gateway ───> queue ──> two threads, each with an alarm that cuts a close short, as the other has
//!                              ├── too long: no channel receives, and gateway.sock accepts nobody
//!                              └── too long for one connection: that one receives nothing ([`Account`])
//! ```
//!
//! It refuses to decide what is received. Called by the other files of `sys`, by `serve.rs` before it accepts, and by
//! `main.rs` to start the threads.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::alarm::Alarm;
use super::checked_length;

/// A descriptor that another process made, or may have put something into. Dropping it never waits.
#[derive(Debug)]
pub struct PassedDescriptor {
    descriptor: ManuallyDrop<Arc<OwnedFd>>,
    origin: Origin,
}

/// How a descriptor came to keyd. What comes through a socket is of the socket's origin.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// By a connection that was accepted, whoever made it.
    Door,
    /// In a packet of a gateway's that is served; for its account, where it has one.
    Gateway(Option<Account>),
}

/// What one gateway's connection has brought and is not closed yet.
#[derive(Debug, Clone, Default)]
pub struct Account(Arc<AtomicUsize>);

/// A socket on which connections come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `admin.sock`: who may do nothing there must be accepted to be told from an admin.
    Admin,
    /// `gateway.sock`.
    Gateway,
}

impl PassedDescriptor {
    pub(super) fn new(descriptor: OwnedFd, origin: Origin) -> Self {
        Self { descriptor: ManuallyDrop::new(Arc::new(descriptor)), origin }
    }

    /// The same one for another owner: it is closed when both have dropped it.
    pub(super) fn shared(&self) -> Self {
        Self { descriptor: ManuallyDrop::new(Arc::clone(&self.descriptor)), origin: self.origin.clone() }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Throws away what a socket has not received, and closes what lies beside it; comes back when that is done. It must
    /// have been shut down, so that nothing more comes.
    pub(super) async fn empty(&self) {
        let (done, wait) = oneshot::channel();
        hand_over(Job::Empty(Arc::clone(&self.descriptor), done), &self.origin);
        // Nothing is sent: whoever has done it drops the other end.
        let _ = wait.await;
    }
}

impl From<OwnedFd> for PassedDescriptor {
    fn from(descriptor: OwnedFd) -> Self {
        Self::new(descriptor, Origin::Gateway(None))
    }
}

impl AsFd for PassedDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for PassedDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl Drop for PassedDescriptor {
    fn drop(&mut self) {
        // SAFETY: it is taken once, here, and `self` is gone right after.
        hand_over(Job::Close(unsafe { ManuallyDrop::take(&mut self.descriptor) }), &self.origin);
    }
}

/// Starts the threads, and waits until they run; later calls do nothing. Before, and without it, descriptors are
/// closed where they are dropped.
///
/// # Errors
/// The kernel's, where it makes no thread or no timer.
pub fn start() -> io::Result<()> {
    if STARTED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    for line in THREADS {
        let (started, running) = mpsc::sync_channel(1);
        thread::Builder::new().name("keyd-close".to_owned()).stack_size(STACK).spawn(move || {
            let alarm = Alarm::of_this_thread();
            let _ = started.send(alarm.as_ref().map(drop).map_err(|error| io::Error::from(error.kind())));
            if let Ok(alarm) = alarm {
                close_for_ever(&alarm, line);
            }
        })?;
        running.recv().map_err(|_| io::Error::other("a closing thread ended at once"))??;
    }
    Ok(())
}

/// How many descriptors wait to be closed or are being closed.
#[must_use]
#[allow(dead_code, reason = "tests ask, the program in the cage of keyd's among them")]
pub fn backlog() -> usize {
    queue().lines.iter().map(Line::backlog).sum()
}

/// Ready while few wait that gateways passed. A channel that could receive more of them waits for this first.
pub fn poll_room(context: &Context<'_>) -> Poll<()> {
    poll(context, |queue| queue.lines[PASSED].backlog() <= MOST_WAITING)
}

/// Ready while so few wait that another connection may come: what lies in it has to be closed, whoever it is.
pub fn poll_door(context: &Context<'_>, door: Door) -> Poll<()> {
    poll(context, |queue| match door {
        Door::Admin => queue.lines[CAME].backlog() <= MOST_WAITING,
        Door::Gateway => {
            queue.lines[CAME].backlog() <= MOST_FOR_GATEWAYS && queue.lines[PASSED].backlog() <= MOST_WAITING
        }
    })
}

impl Account {
    /// Whether few of its descriptors wait, so that more may be received.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= MOST_WAITING
    }

    /// Ready while that is so.
    pub fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        poll(context, |_| self.has_room())
    }
}

fn poll(context: &Context<'_>, has_room: impl FnOnce(&Queue) -> bool) -> Poll<()> {
    let mut queue = queue();
    if has_room(&queue) {
        return Poll::Ready(());
    }
    if !queue.sleepers.iter().any(|sleeper| sleeper.will_wake(context.waker())) {
        queue.sleepers.push(context.waker().clone());
    }
    Poll::Pending
}

/// What waits to be done. The last owner of a descriptor closes it, and that is always one of these.
enum Job {
    Close(Arc<OwnedFd>),
    Empty(Arc<OwnedFd>, oneshot::Sender<()>),
}

impl Job {
    fn run(self) {
        match self {
            Self::Close(descriptor) => drop(descriptor),
            Self::Empty(socket, done) => {
                empty(socket.as_fd());
                drop((socket, done));
            }
        }
    }
}

fn hand_over(job: Job, origin: &Origin) {
    if !STARTED.load(Ordering::Relaxed) {
        return job.run();
    }
    let (line, account) = match origin {
        Origin::Door => (CAME, None),
        Origin::Gateway(account) => (PASSED, account.clone()),
    };
    let mut queue = queue();
    if let Some(Account(count)) = &account {
        count.fetch_add(1, Ordering::Relaxed);
    }
    queue.lines[line].jobs.push_back((job, account));
    drop(queue);
    FILLED[line].notify_one();
}

/// Where there is no room for the descriptors that come, the kernel closes them in the call: an out-of-band byte can hide
/// none, and the process needs no free numbers for them.
fn empty(socket: BorrowedFd<'_>) {
    let (mut buffer, mut nothing) = ([0u8; 8 * 1024], 0);
    while nothing < MOST_EMPTY {
        // SAFETY: recv writes at most the buffer's length to the buffer, which is borrowed mutably here.
        let received = checked_length(unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        });
        match received.map_err(|error| error.kind()) {
            // The end, or an empty packet: nothing tells which.
            Ok(0) => nothing += 1,
            Ok(_) => nothing = 0,
            Err(io::ErrorKind::Interrupted) => {}
            // Told once, in front of what lies there.
            Err(io::ErrorKind::ConnectionReset) => nothing += 1,
            Err(_) => return,
        }
    }
}

fn close_for_ever(alarm: &Alarm, line: usize) {
    let mut queue = queue();
    loop {
        let Some((job, account)) = queue.lines[line].jobs.pop_front() else {
            queue = FILLED[line].wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.lines[line].closing += 1;
        drop(queue);
        // Without its alarm a close waits as long as its maker wants, which holds up this thread and no other.
        let _ = alarm.every(PATIENCE);
        job.run();
        let _ = alarm.never();
        queue = self::queue();
        queue.lines[line].closing -= 1;
        // Each goes down by one at a time and under the lock, so that none skips the number at which somebody may go on.
        let is_few = [MOST_WAITING, MOST_FOR_GATEWAYS].contains(&queue.lines[line].backlog());
        let is_few_of_it =
            account.is_some_and(|Account(count)| count.fetch_sub(1, Ordering::Relaxed) == MOST_WAITING + 1);
        if (is_few || is_few_of_it) && !queue.sleepers.is_empty() {
            let sleepers = std::mem::take(&mut queue.sleepers);
            drop(queue);
            sleepers.into_iter().for_each(Waker::wake);
            queue = self::queue();
        }
    }
}

struct Queue {
    lines: [Line; 2],
    sleepers: Vec<Waker>,
}

/// What waits for the same threads.
struct Line {
    jobs: VecDeque<(Job, Option<Account>)>,
    closing: usize,
}

impl Line {
    const fn new() -> Self {
        Self { jobs: VecDeque::new(), closing: 0 }
    }

    fn backlog(&self) -> usize {
        self.jobs.len() + self.closing
    }
}

fn queue() -> MutexGuard<'static, Queue> {
    // Nothing here panics between two writes to the queue, so a poisoned one is still right.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

static STARTED: AtomicBool = AtomicBool::new(false);
static QUEUE: Mutex<Queue> = Mutex::new(Queue { lines: [Line::new(), Line::new()], sleepers: Vec::new() });
static FILLED: [Condvar; 2] = [Condvar::new(), Condvar::new()];

/// The line of what came through a door.
const CAME: usize = 0;
/// The line of what a gateway passed.
const PASSED: usize = 1;
/// The lines that they serve. Two for what is passed, so that a socket that lingers does not hold up all others.
const THREADS: [usize; 3] = [CAME, PASSED, PASSED];
/// Room for a signal's frame, which holds all registers of the processor: up to 12 KiB.
const STACK: usize = 64 * 1024;
/// More packets than a queue has room for, where each takes half a kilobyte at least.
const MOST_EMPTY: usize = 4096;
/// A close that is not made to wait takes microseconds.
const PATIENCE: Duration = Duration::from_micros(300);
/// A few packets' worth; what the end of thousands of channels leaves behind is gone in a fraction of a second.
const MOST_WAITING: usize = 64;
/// Connections that came and are to be closed, so that as many places again are left for those on admin.sock.
const MOST_FOR_GATEWAYS: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use strongroom_protocol::socket_passing::send_packet;

    use super::super::lingering_fixture::{LINGER, lingering};
    use super::*;

    const AT_ONCE: Duration = Duration::from_secs(1);

    fn time(work: impl FnOnce()) -> Duration {
        let start = Instant::now();
        work();
        start.elapsed()
    }

    #[test]
    fn dropping_a_descriptor_that_lingers_takes_no_time_and_closing_it_little() {
        start().unwrap();
        let (plain, _peer) = lingering();
        assert!(time(|| drop(plain)) >= LINGER - Duration::from_millis(500), "the twin waits");
        let (sockets, _peers): (Vec<_>, Vec<_>) = (0..4).map(|_| lingering()).unzip();
        let sockets: Vec<_> = sockets.into_iter().map(PassedDescriptor::from).collect();
        let began = Instant::now();
        drop(sockets);
        assert!(began.elapsed() < AT_ONCE);
        while backlog() > 0 {
            assert!(began.elapsed() < LINGER - Duration::from_millis(500), "the alarm cuts the wait short");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_open(door: Door) -> bool {
        poll_door(&Context::from_waker(Waker::noop()), door).is_ready()
    }

    #[test]
    fn connections_that_are_turned_away_hold_up_those_who_come_and_gateways_first() {
        start().unwrap();
        let descriptors = |slow: usize, many: usize| {
            let (slow, peers): (Vec<_>, Vec<_>) = (0..slow).map(|_| lingering()).unzip();
            let many = (0..many).map(|_| OwnedFd::from(UnixStream::pair().unwrap().0));
            (slow.into_iter().chain(many).collect::<Vec<_>>(), peers)
        };
        let came = |all: Vec<OwnedFd>| all.into_iter().map(|one| PassedDescriptor::new(one, Origin::Door));
        let (few, _peers) = descriptors(8, 30);
        let (more, _others) = descriptors(4, 100);
        let (few, more): (Vec<_>, Vec<_>) = (came(few).collect(), came(more).collect());
        assert!(is_open(Door::Admin) && is_open(Door::Gateway));
        drop(few);
        assert!(is_open(Door::Admin) && !is_open(Door::Gateway));
        drop(more);
        assert!(!is_open(Door::Admin) && !is_open(Door::Gateway));
        assert!(poll_room(&Context::from_waker(Waker::noop())).is_ready(), "what gateways pass has its own");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for door in [Door::Admin, Door::Gateway] {
            let room = std::future::poll_fn(|context| poll_door(context, door));
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), room).await.expect("in time") });
        }
    }

    #[test]
    fn what_waits_in_the_queue_of_a_socket_is_closed_elsewhere_too() {
        start().unwrap();
        let loaded = || {
            let (ours, theirs) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
            let (socket, peer) = lingering();
            send_packet(theirs.as_fd(), b"x", &[socket.as_fd()]).unwrap();
            (ours, theirs, peer)
        };
        let (ours, _theirs, _peer) = loaded();
        assert!(time(|| drop(ours)) >= LINGER - Duration::from_millis(500), "the twin waits");
        let (ours, _theirs, _peer) = loaded();
        let ours = PassedDescriptor::from(ours);
        assert!(time(|| drop(ours)) < AT_ONCE);
    }

    #[test]
    fn there_is_room_again_when_the_queue_is_short_again() {
        start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sockets, _others): (Vec<_>, Vec<_>) = (0..400).map(|_| UnixStream::pair().unwrap()).unzip();
        let (slow, _peers): (Vec<_>, Vec<_>) = (0..2).map(|_| lingering()).unzip();
        // Both threads are busy for a moment with what lingers, so that the rest waits.
        let all = slow.into_iter().chain(sockets.into_iter().map(OwnedFd::from));
        let all: Vec<_> = all.map(PassedDescriptor::from).collect();
        let paused = || poll_room(&Context::from_waker(Waker::noop())).is_pending();
        assert!(!paused());
        drop(all);
        assert!(paused());
        let room = std::future::poll_fn(|context| poll_room(context));
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), room).await.expect("in time") });
        assert!(!paused());
    }
}
