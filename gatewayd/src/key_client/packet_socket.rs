//! The packet socket to keyd: whole messages out, with descriptors; whole messages in.
//!
//! It refuses messages over the limit by the frame's own rules, and never receives a descriptor: keyd passes none.
//! Used by the key client alone.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, recv, socket, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_protocol::frame::{self, EXCHANGE_LIMIT, FrameError, HEADER};
use strongroom_protocol::socket_passing::send_packet;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// One connection.
///
/// tokio has no type for SOCK_SEQPACKET, and registering a bare descriptor takes unsafe code. Its datagram socket serves:
/// it keeps packets apart too, and nothing but its readiness is used.
#[derive(Debug)]
pub struct PacketSocket(UnixDatagram);

impl PacketSocket {
    /// Connects; a socket of the file system is there at once or not at all.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Self::register(socket)
    }

    fn register(socket: OwnedFd) -> io::Result<Self> {
        UnixDatagram::from_std(socket.into()).map(Self)
    }

    /// Who listens at the other end.
    ///
    /// # Errors
    /// The kernel's.
    pub fn peer(&self) -> io::Result<UnixCredentials> {
        Ok(getsockopt(&self.0, sockopt::PeerCredentials)?)
    }

    /// Sends one message, waiting while the socket is full.
    ///
    /// # Errors
    /// The kernel's, and messages that are too large.
    pub async fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        let packet = frame::encode(message, EXCHANGE_LIMIT).map_err(LinkError::Frame)?;
        let sent = self.0.async_io(Interest::WRITABLE, || send_packet(self.0.as_fd(), &packet, descriptors));
        sent.await.map_err(LinkError::Io)
    }

    /// Receives one message; nothing when the other end has closed.
    ///
    /// # Errors
    /// The kernel's, and messages that are none.
    pub async fn receive<T: DeserializeOwned>(&self, buffer: &mut Vec<u8>) -> Result<Option<T>, LinkError> {
        // One byte more than the largest message, so that a larger one cannot look like it.
        buffer.resize(HEADER + EXCHANGE_LIMIT + 1, 0);
        let received =
            self.0.async_io(Interest::READABLE, || Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?));
        match received.await.map_err(LinkError::Io)? {
            0 => Ok(None),
            length => frame::decode_packet(&buffer[..length], EXCHANGE_LIMIT).map(Some).map_err(LinkError::Frame),
        }
    }
}

/// Why the link does not work.
#[derive(Debug)]
pub enum LinkError {
    /// The kernel's word.
    Io(io::Error),
    /// The peer's bytes, or a message of ours that is too large.
    Frame(FrameError),
    /// The other end closed the connection.
    Closed,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Closed => f.write_str("keyd closed the connection; its log says why"),
        }
    }
}

impl std::error::Error for LinkError {}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, accept, bind, listen, setsockopt};
    use strongroom_protocol::exchange::{GatewayMessage, KeydMessage};

    use super::*;

    fn pair() -> (PacketSocket, PacketSocket) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = nix::sys::socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (PacketSocket::register(one).unwrap(), PacketSocket::register(other).unwrap())
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order() {
        let (gatewayd, keyd) = pair();
        let mut buffer = Vec::new();
        for version in ["1", "2"] {
            let hello = GatewayMessage::Hello { version: version.to_owned(), checks: Vec::new() };
            gatewayd.send(&hello, &[]).await.unwrap();
        }
        for expected in ["1", "2"] {
            let message: Option<GatewayMessage> = keyd.receive(&mut buffer).await.unwrap();
            assert!(matches!(message, Some(GatewayMessage::Hello { version, .. }) if version == expected));
        }
        drop(gatewayd);
        assert!(keyd.receive::<GatewayMessage>(&mut buffer).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn garbage_and_oversized_packets_are_errors() {
        let (gatewayd, keyd) = pair();
        let mut buffer = Vec::new();
        setsockopt(&keyd.0, sockopt::SndBuf, &(1 << 20)).unwrap();
        for packet in [b"x".to_vec(), b"SR\x02\x00\x00\x00\x00\x00".to_vec(), vec![b'S'; EXCHANGE_LIMIT + 100]] {
            send_packet(keyd.0.as_fd(), &packet, &[]).unwrap();
            let received = gatewayd.receive::<KeydMessage>(&mut buffer).await;
            assert!(matches!(received, Err(LinkError::Frame(_))), "{received:?}");
        }
    }

    #[tokio::test]
    async fn the_peer_is_the_process_that_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.sock");
        assert_eq!(PacketSocket::connect(&path).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let socket = PacketSocket::connect(&path).unwrap();
        assert_eq!(socket.peer().unwrap().pid(), nix::unistd::getpid().as_raw());
        accept(listener.as_raw_fd()).unwrap();
    }
}
