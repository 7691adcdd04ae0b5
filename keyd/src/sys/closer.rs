//! Closes what came from outside, on threads where waiting harms nobody.
//!
//! Whoever passes a socket to keyd can make its last close(2) wait for as long as they like (SO_LINGER, and a peer that
//! does not read), and can put such sockets into the queue of any Unix socket that keyd holds, where they are closed
//! with it. So no such descriptor is closed by the runtime's thread: dropping a [`PassedDescriptor`] only hands it over.
//! Nor does that thread empty a queue for what lies in it: [`PassedDescriptor::empty`] has it done here too.
//!
//! ```text
//!   drop ──> queue ──> two threads, each with an alarm that cuts a close short
//!              └── too long: nothing more is received ([`poll_room`]) until it is short again
//! ```
//!
//! It refuses to decide what is received. Called by the other files of `sys`, and by `main.rs` to start the threads.

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::alarm::Alarm;
use super::checked_length;

/// A descriptor that another process made, or may have put something into. Dropping it never waits.
#[derive(Debug)]
pub struct PassedDescriptor(ManuallyDrop<Arc<OwnedFd>>);

impl PassedDescriptor {
    /// The same one for another owner: it is closed when both have dropped it.
    pub(super) fn shared(&self) -> Self {
        Self(ManuallyDrop::new(Arc::clone(&self.0)))
    }

    /// Throws away what a socket has not received, and closes what lies beside it; comes back when that is done. It must
    /// have been shut down, so that nothing more comes.
    pub(super) async fn empty(&self) {
        let (done, wait) = oneshot::channel();
        hand_over(Job::Empty(Arc::clone(&self.0), done));
        // Nothing is sent: whoever has done it drops the other end.
        let _ = wait.await;
    }
}

impl From<OwnedFd> for PassedDescriptor {
    fn from(descriptor: OwnedFd) -> Self {
        Self(ManuallyDrop::new(Arc::new(descriptor)))
    }
}

impl AsFd for PassedDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PassedDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for PassedDescriptor {
    fn drop(&mut self) {
        // SAFETY: it is taken once, here, and `self` is gone right after.
        hand_over(Job::Close(unsafe { ManuallyDrop::take(&mut self.0) }));
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
    for _ in 0..THREADS {
        let (started, running) = mpsc::sync_channel(1);
        thread::Builder::new().name("keyd-close".to_owned()).stack_size(STACK).spawn(move || {
            let alarm = Alarm::of_this_thread();
            let _ = started.send(alarm.as_ref().map(drop).map_err(|error| io::Error::from(error.kind())));
            if let Ok(alarm) = alarm {
                close_for_ever(&alarm);
            }
        })?;
        running.recv().map_err(|_| io::Error::other("a closing thread ended at once"))??;
    }
    Ok(())
}

/// How many descriptors wait to be closed or are being closed.
#[must_use]
pub fn backlog() -> usize {
    queue().backlog()
}

/// Whether few descriptors wait, so that more may be received.
#[must_use]
pub fn has_room() -> bool {
    backlog() <= MOST_WAITING
}

/// Ready while there is room. Whatever could receive more of them waits for this first.
pub fn poll_room(context: &Context<'_>) -> Poll<()> {
    let mut queue = queue();
    if queue.backlog() <= MOST_WAITING {
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

fn hand_over(job: Job) {
    if !STARTED.load(Ordering::Relaxed) {
        return job.run();
    }
    queue().jobs.push_back(job);
    FILLED.notify_one();
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

fn close_for_ever(alarm: &Alarm) {
    let mut queue = queue();
    loop {
        let Some(job) = queue.jobs.pop_front() else {
            queue = FILLED.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.closing += 1;
        drop(queue);
        // Without its alarm a close waits as long as its maker wants, which holds up this thread and no other.
        let _ = alarm.every(PATIENCE);
        job.run();
        let _ = alarm.never();
        queue = self::queue();
        queue.closing -= 1;
        if queue.backlog() <= MOST_WAITING && !queue.sleepers.is_empty() {
            let sleepers = std::mem::take(&mut queue.sleepers);
            drop(queue);
            sleepers.into_iter().for_each(Waker::wake);
            queue = self::queue();
        }
    }
}

struct Queue {
    jobs: VecDeque<Job>,
    closing: usize,
    sleepers: Vec<Waker>,
}

impl Queue {
    fn backlog(&self) -> usize {
        self.jobs.len() + self.closing
    }
}

fn queue() -> MutexGuard<'static, Queue> {
    // Nothing here panics between two writes to the queue, so a poisoned one is still right.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

static STARTED: AtomicBool = AtomicBool::new(false);
static QUEUE: Mutex<Queue> = Mutex::new(Queue { jobs: VecDeque::new(), closing: 0, sleepers: Vec::new() });
static FILLED: Condvar = Condvar::new();

/// More than one, so that a socket that lingers does not hold up all others.
const THREADS: usize = 2;
/// Room for a signal's frame, which holds all registers of the processor: up to 12 KiB.
const STACK: usize = 64 * 1024;
/// More packets than a queue has room for, where each takes half a kilobyte at least.
const MOST_EMPTY: usize = 4096;
/// A close that is not made to wait takes microseconds.
const PATIENCE: Duration = Duration::from_micros(300);
/// A few packets' worth; what the end of thousands of channels leaves behind is gone in a fraction of a second.
const MOST_WAITING: usize = 64;

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
