//! keyd's side of the control connection for the key client's tests: blocking calls on a thread.
//!
//! It refuses the descriptors that come with a message: to own them takes unsafe code.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, listen, recv, send, socket,
};
use strongroom_protocol::exchange::{GatewayMessage, KeydMessage, Route};
use strongroom_protocol::frame::{EXCHANGE_LIMIT, decode_packet, encode};

/// keyd's side, in blocking calls on a thread: descriptors that come along are not taken.
pub struct Keyd(OwnedFd);

impl Keyd {
    pub fn bind(path: &Path) -> Self {
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        listen(&listener, Backlog::new(4).unwrap()).unwrap();
        Self(listener)
    }

    pub fn accept(&self) -> Line {
        Line(accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap())
    }
}

pub struct Line(RawFd);

impl Line {
    pub fn hear(&self) -> Option<GatewayMessage> {
        let mut buffer = vec![0; 70_000];
        match recv(self.0, &mut buffer, MsgFlags::empty()).unwrap() {
            0 => None,
            length => Some(decode_packet(&buffer[..length], EXCHANGE_LIMIT).unwrap()),
        }
    }

    pub fn say(&self, message: &KeydMessage) {
        self.send(&encode(message, EXCHANGE_LIMIT).unwrap());
    }

    pub fn send(&self, packet: &[u8]) {
        send(self.0, packet, MsgFlags::empty()).unwrap();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        nix::unistd::close(self.0).unwrap();
    }
}

pub fn routes(first: bool, last: bool, name: &str) -> KeydMessage {
    let route = Route {
        name: name.parse().unwrap(),
        authority: "a.example:443".parse().unwrap(),
        fields: Vec::new(),
        bodies: Vec::new(),
    };
    KeydMessage::Routes { first, last, routes: vec![route] }
}
