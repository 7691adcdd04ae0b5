//! A gateway that means ill: it has gatewayd's uid, speaks the protocol, and keeps a copy of all that keyd ever says.
//!
//! It holds duplicates of the descriptors that it passed, writes heads and frames that no library would, and is told by
//! each test what to do with them. What it got is searched in the end ([`Loot`]). It refuses to be root: its control
//! connection is made by a thread with gatewayd's uid, which is what the kernel then tells keyd. Used by the attack suite.

mod channel;
mod loot;

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;
use strongroom_ctl::demo::stage::GATEWAY_USER;
use strongroom_protocol::exchange::{GatewayMessage, KeydMessage, Upstream};
use strongroom_protocol::frame::{self, EXCHANGE_LIMIT, HEADER};
use strongroom_protocol::{Authority, Refusal};

pub use self::channel::{Answer, Ask, Channel, DATA, END, GO_ON, HEAD, Heard};
pub use self::loot::Loot;
use crate::strongroom::Strongroom;

/// A control connection.
pub struct Hostile {
    socket: OwnedFd,
    loot: Loot,
    next: Cell<u64>,
}

impl Hostile {
    /// Connects to `gateway.sock` and says nothing yet.
    ///
    /// # Panics
    /// Where keyd cannot be reached.
    #[track_caller]
    #[must_use]
    pub fn silent(strongroom: &Strongroom, loot: &Loot) -> Self {
        let path = strongroom.home().gateway_socket();
        let socket = with_gateways_uid(move || packet_socket(&path)).expect("keyd listens");
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0))
            .expect("a socket of ours");
        Self { socket, loot: loot.clone(), next: Cell::new(1) }
    }

    /// Connects and says hello, as gatewayd does.
    ///
    /// # Panics
    /// Where keyd does not welcome it.
    #[track_caller]
    #[must_use]
    pub fn connect(strongroom: &Strongroom, loot: &Loot) -> Self {
        let gateway = Self::silent(strongroom, loot);
        gateway.say(&hello(), &[]).expect("keyd reads");
        assert!(matches!(gateway.hear(), Some(KeydMessage::Welcome { .. })), "no welcome");
        gateway
    }

    /// Sends a message with descriptors.
    ///
    /// # Errors
    /// The socket's.
    pub fn say(&self, message: &GatewayMessage, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.packet(&frame::encode(message, EXCHANGE_LIMIT).expect("within the limit"), descriptors)
    }

    /// Sends any bytes as one packet, with any number of descriptors.
    ///
    /// # Errors
    /// The socket's.
    pub fn packet(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let parts = [io::IoSlice::new(bytes)];
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message; nothing where keyd has closed, or is silent for long.
    #[must_use]
    pub fn hear(&self) -> Option<KeydMessage> {
        let mut buffer = vec![0; HEADER + EXCHANGE_LIMIT + 1];
        let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok().filter(|length| *length > 0)?;
        self.loot.take(&buffer[..length]);
        Some(frame::decode_packet(&buffer[..length], EXCHANGE_LIMIT).expect("keyd speaks the protocol"))
    }

    /// What keyd has said by now, without waiting.
    ///
    /// # Panics
    /// Where it does not speak the protocol.
    #[must_use]
    pub fn heard_by_now(&self) -> Vec<KeydMessage> {
        let (mut messages, mut buffer) = (Vec::new(), vec![0; HEADER + EXCHANGE_LIMIT + 1]);
        while let Ok(length @ 1..) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            self.loot.take(&buffer[..length]);
            messages.push(frame::decode_packet(&buffer[..length], EXCHANGE_LIMIT).expect("keyd speaks the protocol"));
        }
        messages
    }

    /// Whether keyd has ended this connection; what it said before is kept.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        while self.hear().is_some() {}
        // A second look tells silence from the end.
        matches!(recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT), Ok(0) | Err(nix::Error::ECONNRESET))
    }

    /// Asks for a channel with any descriptors, and gives the verdict.
    ///
    /// # Errors
    /// keyd's refusal.
    ///
    /// # Panics
    /// Where keyd ends the connection instead of answering.
    #[track_caller]
    pub fn offer(
        &self,
        authority: &str,
        upstream: Upstream,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Option<Refusal>> {
        let channel = self.next.replace(self.next.get() + 1);
        let authority: Authority = authority.parse().expect("a test's authority");
        if self.say(&GatewayMessage::OpenChannel { channel, authority, upstream }, descriptors).is_err() {
            return Err(None);
        }
        loop {
            match self.hear() {
                Some(KeydMessage::Accepted { channel: of }) if of == channel => return Ok(()),
                Some(KeydMessage::Refused { channel: of, refusal }) if of == channel => return Err(Some(refusal)),
                Some(_) => {}
                None => return Err(None),
            }
        }
    }

    /// A channel whose upstream socket is this one; a duplicate stays here.
    ///
    /// # Panics
    /// Where keyd refuses it.
    #[track_caller]
    #[must_use]
    pub fn channel(&self, authority: &str, upstream: TcpStream) -> Channel {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let verdict = self.offer(authority, Upstream::Connected, &[theirs.as_fd(), upstream.as_fd()]);
        assert_eq!(verdict, Ok(()), "keyd takes a good channel");
        Channel::new(ours, theirs, Some(upstream), self.loot.clone())
    }

    /// A channel to what listens there.
    ///
    /// # Panics
    /// Where nobody listens, or keyd refuses the channel.
    #[track_caller]
    #[must_use]
    pub fn dial(&self, authority: &str, address: SocketAddr) -> Channel {
        self.channel(authority, TcpStream::connect(address).expect("an upstream of the test's"))
    }
}

impl AsFd for Hostile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// gatewayd's first message.
#[must_use]
pub fn hello() -> GatewayMessage {
    GatewayMessage::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), checks: Vec::new() }
}

/// Runs on a thread that has gatewayd's uid, where there is root to give it.
///
/// # Panics
/// Where the kernel refuses the uid, or `task` panics.
pub fn with_gateways_uid<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
    with_uid(GATEWAY_USER, task)
}

/// Runs on a thread that has this uid and gid, where there is root to give them; else on one with ours.
///
/// # Panics
/// Where the kernel refuses the uid, or `task` panics.
pub fn with_uid<T: Send + 'static>(uid: u32, task: impl FnOnce() -> T + Send + 'static) -> T {
    let run = move || {
        if geteuid().is_root() {
            // SAFETY: both take integers. The C library's wrappers would change every thread of the process.
            let changed = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
                    && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
                    && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
            };
            assert!(changed, "this thread cannot become {uid}: {}", io::Error::last_os_error());
        }
        task()
    };
    thread::spawn(run).join().expect("the task does not panic")
}

fn packet_socket(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// How long a keyd that says nothing is waited for. Only where something is wrong is it that long.
const PATIENCE: Duration = Duration::from_secs(20);
