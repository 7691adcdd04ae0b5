//! A stream socket of which another process may hold a duplicate.
//!
//! O_NONBLOCK belongs to the open file description, which duplicates share: a hostile gatewayd could clear it, and a
//! plain read(2) would then stop keyd's only thread. So every call here carries MSG_DONTWAIT, and MSG_NOSIGNAL for
//! good measure. For the same reason closing is not enough to end a connection: dropping shuts it down first.
//! It refuses to know what the bytes mean.
//!
//! Called by the exchange, for both sockets of a channel.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::descriptor::watched;
use super::{checked, checked_length};

/// An asynchronous stream over a descriptor that was passed to us.
#[derive(Debug)]
pub struct PassedSocket {
    socket: AsyncFd<OwnedFd>,
}

impl PassedSocket {
    /// Registers a stream socket with the running runtime. Check what it is with [`super::socket_kind`] before.
    ///
    /// # Errors
    /// Where the kernel cannot watch it, as with a file.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: watched(socket)? })
    }

    fn number(&self) -> libc::c_int {
        self.socket.as_raw_fd()
    }
}

impl AsFd for PassedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl AsyncRead for PassedSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.socket.poll_read_ready(context))?;
            // SAFETY: nothing uninitialised is read or written to the unfilled part; recv only fills it from its start.
            let unfilled = unsafe { buffer.unfilled_mut() };
            let (start, room) = (unfilled.as_mut_ptr().cast(), unfilled.len());
            // SAFETY: recv writes at most `room` bytes from `start`, the buffer that is borrowed mutably here.
            let received = unsafe { libc::recv(self.number(), start, room, libc::MSG_DONTWAIT) };
            match checked_length(received) {
                Ok(length) => {
                    if length > 0 && length < room {
                        // The socket is drained: the next bytes raise a new edge, so no EAGAIN has to be fetched.
                        guard.clear_ready();
                    }
                    // SAFETY: recv has initialised the first `length` bytes of the unfilled part.
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
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // SAFETY: msghdr is plain data of the C library, for which all bits zero is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        // IoSlice has the layout of iovec, by its documentation; sendmsg does not write through it.
        message.msg_iov = parts.as_ptr().cast::<libc::iovec>().cast_mut();
        message.msg_iovlen = parts.len().min(MOST_PARTS) as _;
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(context))?;
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: `message` points to at most parts.len() slices, each readable, all borrowed for this call.
            let sent = unsafe { libc::sendmsg(self.number(), &raw const message, flags) };
            match checked_length(sent) {
                Ok(length) => return Poll::Ready(Ok(length)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => guard.clear_ready(),
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
        match shut_down(self.number(), libc::SHUT_WR) {
            // The peer was faster: there is nothing left to say goodbye to.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl Drop for PassedSocket {
    fn drop(&mut self) {
        // A duplicate elsewhere would keep the connection open. That the peer is gone already is no error.
        let _ = shut_down(self.number(), libc::SHUT_RDWR);
    }
}

fn shut_down(socket: libc::c_int, how: libc::c_int) -> io::Result<()> {
    // SAFETY: shutdown takes integers.
    checked(unsafe { libc::shutdown(socket, how) }).map(drop)
}

/// UIO_MAXIOV: sendmsg refuses more parts than this with EMSGSIZE.
const MOST_PARTS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
            let mut socket = PassedSocket::new(ours.into()).unwrap();
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
    fn parts_are_written_in_one_call() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        in_runtime(async move {
            let mut socket = PassedSocket::new(ours.into()).unwrap();
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
            let mut socket = PassedSocket::new(ours.into()).unwrap();
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

    #[test]
    fn dropping_ends_the_connection_though_a_duplicate_lives() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let duplicate = ours.try_clone().unwrap();
        in_runtime(async move { drop(PassedSocket::new(ours.into()).unwrap()) });
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        drop(duplicate);
    }

    #[test]
    fn writing_to_a_dead_peer_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        in_runtime(async move {
            let mut socket = PassedSocket::new(ours.into()).unwrap();
            assert_eq!(socket.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
