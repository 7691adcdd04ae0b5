//! For tests: a TCP socket whose last close waits.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// How long the close waits; long enough to be told from a slow machine, and no longer.
pub const LINGER: Duration = Duration::from_secs(3);

/// A socket that waits when it is closed, and the peer, which never reads, to be kept until then.
pub fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &4096).unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    setsockopt(&socket, sockopt::SndBuf, &4096).unwrap();
    socket.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = socket.write(&[0; 65536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    let linger = libc::linger { l_onoff: 1, l_linger: LINGER.as_secs() as i32 };
    setsockopt(&socket, sockopt::Linger, &linger).unwrap();
    (socket.into(), peer)
}
