//! A stream socket of which another process may hold a duplicate.
//!
//! O_NONBLOCK belongs to the open file description, which duplicates share: a hostile gatewayd could clear it, and a
//! plain read(2) would then stop keyd's only thread. So every call here carries MSG_DONTWAIT, and MSG_NOSIGNAL for
//! good measure. For the same reason closing is not enough to end a connection: dropping shuts it down first, and
//! [`super::closer`] closes it.
//!
//! A Unix stream reports room whenever its peer has read, wanted or not, and each report would wake keyd once more: so
//! it is registered for that only once it was full.
//!
//! A Unix stream can bring descriptors, which a plain recv(2) would close here and now, and wait for. So they are
//! received, and are an error. An out-of-band byte can hide some from recvmsg too: it is looked for before, and should
//! it come in between, `alarm` ends the wait. So it does where the holder of a duplicate keeps a lock of the kernel's, as
//! one of TLS in the kernel above TCP. Several such waits end the connection. It refuses to know what the bytes mean.
//!
//! What the kernel holds of what was sent and not read is ours to account for. A duplicate can raise the limit of it: it is
//! looked at before each call that sends, and a socket whose limit has grown is broken. Only what one call sends can come
//! in between, and that is counted for each.
//!
//! Called by the exchange, for both sockets of a channel, and for connections to admin.sock.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

use super::closer::{self, PassedDescriptor};
use super::descriptor::{is_layered, socket_option, watched_for};
use super::packet::receive_bytes;
use super::send_queue;
use super::{checked, checked_length};

/// An asynchronous stream over a descriptor that was passed to us, or whose peer is not trusted.
#[derive(Debug)]
pub struct PassedSocket {
    /// There but for the moment in which it is registered anew.
    socket: Option<AsyncFd<PassedDescriptor>>,
    /// It can bring descriptors.
    is_unix: bool,
    /// It is registered for room to write.
    watches_room: bool,
    /// Who waits to read while it is not.
    reader: Option<Waker>,
    /// What the kernel may hold of what is sent, when it was passed.
    queue: usize,
    /// It is read though many descriptors wait to be closed.
    urgent: bool,
}

impl PassedSocket {
    /// Registers a stream socket with the running runtime. Check what it is with [`super::socket_kind`] before.
    ///
    /// # Errors
    /// Where the kernel cannot watch it, as with a file.
    pub fn new(socket: impl Into<PassedDescriptor>) -> io::Result<Self> {
        let socket = socket.into();
        let is_unix = socket_option(socket.as_fd(), libc::SO_DOMAIN)? == libc::AF_UNIX;
        let interest = if is_unix { UNIX_READ } else { Interest::READABLE | Interest::WRITABLE };
        let queue = send_queue::limit(socket.as_fd())?;
        let socket = Some(watched_for(socket, interest).map_err(|(_, error)| error)?);
        Ok(Self { socket, is_unix, watches_room: !is_unix, reader: None, queue, urgent: false })
    }

    /// The same for a connection that is served whatever others do: an admin's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn urgent(socket: impl Into<PassedDescriptor>) -> io::Result<Self> {
        let mut socket = Self::new(socket)?;
        socket.urgent = true;
        Ok(socket)
    }

    /// What the kernel may hold of what is sent, in its own count, whatever a duplicate does to its limit.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.queue.max(ONE_CALL)
    }

    /// Its descriptor, for whoever waits until it can be let go; none where it is lost.
    #[must_use]
    pub fn descriptor(&self) -> Option<PassedDescriptor> {
        self.socket.as_ref().map(|socket| socket.get_ref().shared())
    }

    /// Ends the connection, whoever has a duplicate.
    pub fn end(&self) {
        // That the peer is gone already is no error.
        if let Some(socket) = &self.socket {
            let _ = shut_down(socket, libc::SHUT_RDWR);
        }
    }

    /// Looks whether the limit of the queue is what it was.
    fn is_as_it_was(&self, socket: &AsyncFd<PassedDescriptor>) -> io::Result<()> {
        if self.is_unix && send_queue::limit(socket.get_ref().as_fd())? > self.queue {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "somebody has raised what its queue may hold"));
        }
        Ok(())
    }

    /// From now on a report of room wakes the writer.
    fn watch_room(&mut self) -> io::Result<()> {
        let Some(socket) = self.socket.take().map(AsyncFd::into_inner) else { return Err(lost()) };
        self.watches_room = true;
        self.socket = match watched_for(socket, UNIX_READ | Interest::WRITABLE) {
            Ok(socket) => Some(socket),
            Err((socket, error)) => {
                let _ = shut_down(&socket, libc::SHUT_RDWR);
                return Err(error);
            }
        };
        // Whoever waits to read waits with the old registration.
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn receive(&self, socket: &AsyncFd<PassedDescriptor>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        unhindered(socket.get_ref().as_fd(), self.is_unix, || {
            if self.is_unix {
                if has_urgent_byte(socket) {
                    let error = "an out-of-band byte may hide what it brings";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                return receive_bytes(socket.get_ref(), buffer);
            }
            let (start, room) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: recv writes at most `room` bytes from `start`, the buffer that is borrowed mutably here.
            checked_length(unsafe { libc::recv(socket.as_raw_fd(), start, room, libc::MSG_DONTWAIT) })
        })
    }
}

/// Makes a call that never waits. Where it took long, this thread did not get its turn, and that passes; or whoever has a
/// duplicate holds a lock above TCP; or it closed a descriptor that lingers, where it may bring some. That comes again and
/// again. A signal ends a wait and no work.
fn unhindered<T>(socket: BorrowedFd<'_>, brings: bool, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let begin = Instant::now();
    let outcome = call();
    let was_ended = matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::Interrupted);
    if !was_ended && begin.elapsed() <= STALL {
        return outcome;
    }
    let counts = was_ended || brings;
    if is_layered(socket) || counts && STALLS.with(|stalls| stalls.borrow_mut().is_one_too_many(begin)) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    outcome
}

/// Whether an out-of-band byte lies in the queue. The kernel is asked right before it is received from: what epoll said
/// a while ago, the holder of a duplicate may have taken back since.
fn has_urgent_byte(socket: &AsyncFd<PassedDescriptor>) -> bool {
    let mut byte = 0u8;
    let flags = libc::MSG_OOB | libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: recv writes at most the one byte that is borrowed mutably here. Peeking takes nothing out of the queue,
    // so it closes nothing.
    unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, flags) > 0 }
}

impl AsyncRead for PassedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_unix && !self.urgent {
            ready!(closer::poll_room(context));
        }
        let this = &mut *self;
        let Some(socket) = &this.socket else { return Poll::Ready(Err(lost())) };
        loop {
            let Poll::Ready(guard) = socket.poll_read_ready(context) else {
                if !this.watches_room {
                    this.reader.get_or_insert_with(|| context.waker().clone()).clone_from(context.waker());
                }
                return Poll::Pending;
            };
            let mut guard = guard?;
            // SAFETY: nothing uninitialised is read or written to the unfilled part; receiving only fills it from its
            // start.
            let unfilled = unsafe { buffer.unfilled_mut() };
            let room = unfilled.len();
            match this.receive(socket, unfilled) {
                Ok(length) => {
                    // A short read has taken all there was: the next one waits without asking the kernel first. On a Unix
                    // stream it also ends in front of descriptors. Those are found with the next bytes, or go to the
                    // closer with the socket.
                    if 0 < length && length < room {
                        guard.clear_ready_matching(Ready::READABLE);
                    }
                    // SAFETY: the first `length` bytes of the unfilled part have just been initialised.
                    unsafe { buffer.assume_init(length) };
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => guard.clear_ready(),
                    io::ErrorKind::Interrupted => {}
                    _ => return Poll::Ready(Err(error)),
                },
            }
        }
    }
}

impl AsyncWrite for PassedSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // SAFETY: msghdr is plain data of the C library, for which all bits zero is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        // IoSlice has the layout of iovec, by its documentation; sendmsg does not write through it.
        message.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
        message.msg_iovlen = parts.len().min(MOST_PARTS) as _;
        loop {
            let Some(socket) = &self.socket else { return Poll::Ready(Err(lost())) };
            let guard = if self.watches_room { Some(ready!(socket.poll_write_ready(context))?) } else { None };
            self.is_as_it_was(socket)?;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let sent = unhindered(socket.get_ref().as_fd(), false, || {
                // SAFETY: `message` points to at most parts.len() slices, each readable, all borrowed for this call.
                checked_length(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
            });
            match sent {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => match guard {
                        Some(mut guard) => guard.clear_ready(),
                        None => self.watch_room()?,
                    },
                    io::ErrorKind::Interrupted => {}
                    _ => return Poll::Ready(Err(error)),
                },
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered here.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &self.socket else { return Poll::Ready(Err(lost())) };
        match shut_down(socket, libc::SHUT_WR) {
            // The peer was faster: there is nothing left to say goodbye to.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl Drop for PassedSocket {
    fn drop(&mut self) {
        // A duplicate elsewhere would keep the connection open. The descriptor itself goes to the closer with its field.
        self.end();
    }
}

fn shut_down(socket: &impl AsRawFd, how: libc::c_int) -> io::Result<()> {
    // SAFETY: shutdown takes integers.
    checked(unsafe { libc::shutdown(socket.as_raw_fd(), how) }).map(drop)
}

/// It could not be registered anew.
fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// What one call sends at most, by the kernel's count: what waits in front of a channel, and the piece that came last. It is
/// less than what a pair holds that nobody has changed.
const ONE_CALL: usize = 192 * 1024;
/// What a Unix stream is registered for at first. Out-of-band bytes make it readable too.
const UNIX_READ: Interest = Interest::READABLE;
/// A call that does not wait takes microseconds, and longer only where others have the processor.
const STALL: Duration = Duration::from_millis(30);
/// So many in a second may be a busy machine's.
const MOST_STALLS: u32 = 3;

thread_local! {
    static STALLS: RefCell<Stalls> = const { RefCell::new(Stalls { since: None, count: 0 }) };
}

/// Calls that took long, counted by the second.
struct Stalls {
    since: Option<Instant>,
    count: u32,
}

impl Stalls {
    fn is_one_too_many(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) > Duration::from_secs(1)) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count > MOST_STALLS
    }
}

/// UIO_MAXIOV: sendmsg refuses more parts than this with EMSGSIZE.
const MOST_PARTS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::lingering_fixture::{LINGER, lingering};
    use super::*;

    fn in_runtime<F: Future>(task: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), task).await.expect("in time") })
    }

    #[test]
    fn bytes_go_both_ways_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
        let expected = sent.clone();
        let echo = std::thread::spawn(move || {
            let (mut reader, mut writer) = (theirs.try_clone().unwrap(), theirs);
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            writer.write_all(&all).unwrap();
        });
        let back = in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            socket.write_all(&sent).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut back = Vec::new();
            socket.read_to_end(&mut back).await.unwrap();
            back
        });
        echo.join().unwrap();
        assert!(back == expected);
    }

    #[test]
    fn a_queue_that_somebody_raises_breaks_the_socket() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let duplicate = ours.try_clone().unwrap();
        // Whoever reads, so that there is room all the time.
        std::thread::spawn(move || std::io::copy(&mut theirs, &mut std::io::sink()));
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            assert_eq!(socket.queue(), super::super::own_queue().unwrap());
            let piece = [0; 16 * 1024];
            for _ in 0..64 {
                socket.write_all(&piece).await.unwrap();
            }
            let raised = setsockopt(&duplicate, sockopt::SndBuf, &(socket.queue() * 3 / 4));
            raised.unwrap();
            let mut written = 0;
            let error = loop {
                match socket.write_all(&piece).await {
                    Ok(()) => written += piece.len(),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(written, 0);
        });
    }

    #[test]
    fn a_queue_that_was_made_small_counts_for_what_may_come_before_the_next_look() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        setsockopt(&ours, sockopt::SndBuf, &1).unwrap();
        in_runtime(async move {
            let socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            assert_eq!(socket.queue(), ONE_CALL);
        });
    }

    #[test]
    fn what_nobody_has_read_is_known_until_it_is_read_or_nobody_can() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (alone, other) = UnixStream::pair().unwrap();
        let duplicates = [ours.try_clone().unwrap(), alone.try_clone().unwrap()];
        let unread = move || duplicates.each_ref().map(|one| send_queue::is_unread(one.as_fd()));
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            let mut second = PassedSocket::new(OwnedFd::from(alone)).unwrap();
            assert_eq!(unread(), [false; 2]);
            socket.write_all(&[0; 10_000]).await.unwrap();
            second.write_all(&[0; 10_000]).await.unwrap();
            socket.end();
            second.end();
            assert_eq!(unread(), [true; 2]);
            theirs.read_to_end(&mut Vec::new()).unwrap();
            drop(other);
            assert_eq!(unread(), [false; 2]);
        });
    }

    #[test]
    fn parts_are_written_in_one_call() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            assert!(socket.is_write_vectored());
            assert_eq!(
                socket.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")]).await.unwrap(),
                4
            );
            let many = vec![IoSlice::new(b"x"); 3000];
            assert_eq!(socket.write_vectored(&many).await.unwrap(), 1024);
        });
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        assert_eq!(&all[..4], b"abcd");
        assert_eq!(all.len(), 4 + 1024);
    }

    /// The peer keeps a duplicate and makes the shared description blocking: a read of nothing must not stop us.
    #[test]
    fn a_peer_that_clears_o_nonblock_stops_nothing() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let duplicate = ours.try_clone().unwrap();
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            duplicate.set_nonblocking(false).unwrap();
            theirs.write_all(b"x").unwrap();
            assert_eq!(socket.read_u8().await.unwrap(), b'x');
            // Fill the other direction until it would block, then read where there is nothing: each stays pending.
            let filling = async {
                loop {
                    socket.write_all(&[0; 65536]).await.unwrap();
                }
            };
            assert!(tokio::time::timeout(Duration::from_millis(50), filling).await.is_err());
            assert!(tokio::time::timeout(Duration::from_millis(50), socket.read_u8()).await.is_err());
            theirs.write_all(b"y").unwrap();
            assert_eq!(socket.read_u8().await.unwrap(), b'y');
        });
    }

    /// Being registered anew, for room, must not leave a reader behind that waited with the old registration.
    #[test]
    fn who_waits_to_read_is_woken_though_a_writer_filled_the_socket_meanwhile() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        in_runtime(async move {
            let (mut reading, mut writing) = tokio::io::split(PassedSocket::new(OwnedFd::from(ours)).unwrap());
            let reader = tokio::spawn(async move { reading.read_u8().await.unwrap() });
            tokio::task::yield_now().await;
            let peer = std::thread::spawn(move || {
                theirs.read_exact(&mut vec![0; 1_000_000]).unwrap();
                theirs.write_all(b"z").unwrap();
                theirs
            });
            writing.write_all(&vec![0; 1_000_000]).await.unwrap();
            assert_eq!(reader.await.unwrap(), b'z');
            drop(tokio::task::spawn_blocking(move || peer.join().unwrap()).await.unwrap());
        });
    }

    #[test]
    fn dropping_ends_the_connection_though_a_duplicate_lives() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let duplicate = ours.try_clone().unwrap();
        in_runtime(async move { drop(PassedSocket::new(OwnedFd::from(ours)).unwrap()) });
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        drop(duplicate);
    }

    #[test]
    fn writing_to_a_dead_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            assert_eq!(socket.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    /// Sends a byte with a socket that lingers beside it, the last reference to it.
    fn pass_what_lingers(theirs: &UnixStream, flags: MsgFlags) -> TcpStream {
        let (socket, peer) = lingering();
        let raw = [socket.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&raw)];
        sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(b"x")], &rights, flags, None).unwrap();
        peer
    }

    #[test]
    fn dropping_a_socket_that_lingers_keeps_nobody_waiting() {
        closer::start().unwrap();
        let (plain, _peer) = lingering();
        let start = Instant::now();
        drop(plain);
        assert!(start.elapsed() >= LINGER - Duration::from_millis(500), "the twin waits");
        let (passed, _peer) = lingering();
        in_runtime(async move {
            let passed = PassedSocket::new(passed).unwrap();
            let start = Instant::now();
            drop(passed);
            assert!(start.elapsed() < Duration::from_secs(1));
        });
    }

    #[test]
    fn a_descriptor_in_the_stream_is_an_error_and_keeps_nobody_waiting() {
        closer::start().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let _peer = pass_what_lingers(&theirs, MsgFlags::empty());
        let start = Instant::now();
        assert_eq!(ours.read(&mut [0; 4]).unwrap(), 1);
        assert!(start.elapsed() >= LINGER - Duration::from_millis(500), "the twin waits");
        (&theirs).write_all(b"ab").unwrap();
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            let mut buffer = [0; 8];
            assert_eq!(socket.read(&mut buffer).await.unwrap(), 2, "bytes alone are welcome");
            let _peer = pass_what_lingers(&theirs, MsgFlags::empty());
            let start = Instant::now();
            assert_eq!(socket.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
            drop(socket);
            assert!(start.elapsed() < Duration::from_secs(1));
        });
    }

    #[test]
    fn a_thread_that_waits_its_turn_now_and_then_ends_nothing() {
        let (mut stalls, begin) = (Stalls { since: None, count: 0 }, Instant::now());
        let mut at = |millis| stalls.is_one_too_many(begin + Duration::from_millis(millis));
        assert_eq!([0, 100, 200, 300, 400].map(&mut at), [false, false, false, true, true]);
        assert_eq!([1500, 1600, 2600].map(&mut at), [false, false, false]);
    }

    #[test]
    fn calls_that_a_signal_had_to_end_or_that_took_long_break_the_socket() {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        let (socket, _other) = UnixStream::pair().unwrap();
        let call = |result: io::Result<u8>| unhindered(socket.as_fd(), false, || result).map_err(|error| error.kind());
        for _ in 0..10 {
            assert_eq!([call(Ok(1)), call(Err(WouldBlock.into()))], [Ok(1), Err(WouldBlock)], "at once");
        }
        let ended = [(); 5].map(|()| call(Err(Interrupted.into())).unwrap_err());
        assert_eq!(ended, [Interrupted, Interrupted, Interrupted, TimedOut, TimedOut]);
        let slow = |brings| {
            unhindered(socket.as_fd(), brings, || {
                std::thread::sleep(STALL * 2);
                Ok(())
            })
        };
        assert_eq!(slow(true).unwrap_err().kind(), TimedOut);
        assert!(slow(false).is_ok(), "on a busy machine every call is slow at times");
        assert_eq!(call(Ok(1)), Ok(1));
    }

    #[test]
    fn an_out_of_band_byte_is_an_error_and_keeps_nobody_waiting() {
        closer::start().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let _peer = pass_what_lingers(&theirs, MsgFlags::MSG_OOB);
        ours.set_nonblocking(true).unwrap();
        let start = Instant::now();
        assert_eq!(ours.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(start.elapsed() >= LINGER - Duration::from_millis(500), "the twin waits");
        let _peer = pass_what_lingers(&theirs, MsgFlags::MSG_OOB);
        in_runtime(async move {
            let mut socket = PassedSocket::new(OwnedFd::from(ours)).unwrap();
            let start = Instant::now();
            assert_eq!(socket.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
            drop(socket);
            assert!(start.elapsed() < Duration::from_secs(1));
        });
    }

    /// It comes after the look and before the read: the guard's alarm is what is left.
    #[test]
    fn an_out_of_band_byte_that_is_not_seen_stops_a_guarded_thread_for_a_moment_only() {
        super::super::alarm::guard_this_thread().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let _peer = pass_what_lingers(&theirs, MsgFlags::MSG_OOB);
        let start = Instant::now();
        let ours = PassedDescriptor::from(OwnedFd::from(ours));
        let error = receive_bytes(&ours, &mut [MaybeUninit::uninit(); 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_pair_waits_for_the_closer_and_an_admin_does_not() {
        closer::start().unwrap();
        let (slow, _peers): (Vec<_>, Vec<_>) = (0..2).map(|_| lingering()).unzip();
        let (many, _others): (Vec<_>, Vec<_>) = (0..400).map(|_| UnixStream::pair().unwrap()).unzip();
        let all = slow.into_iter().chain(many.into_iter().map(OwnedFd::from));
        let all: Vec<_> = all.map(PassedDescriptor::from).collect();
        let ((pair, mut pair_peer), (admin, mut admin_peer)) =
            (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        pair_peer.write_all(b"p").unwrap();
        admin_peer.write_all(b"a").unwrap();
        in_runtime(async move {
            let mut pair = PassedSocket::new(OwnedFd::from(pair)).unwrap();
            let mut admin = PassedSocket::urgent(OwnedFd::from(admin)).unwrap();
            tokio::task::yield_now().await;
            drop(all);
            assert_eq!(admin.read_u8().await.unwrap(), b'a');
            assert!(closer::backlog() > 64, "the admin was served first");
            assert_eq!(pair.read_u8().await.unwrap(), b'p');
            assert!(closer::backlog() <= 64);
        });
    }
}
