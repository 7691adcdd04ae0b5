//! What keyd does all day, inside its cage: the twin of every rule at once.
//!
//! Both listeners, a packet that passes a socket, an echo over it, timers, a write by the worker thread, memory that
//! comes and goes, a panic that is caught, and an end by SIGTERM. Whatever system call this needs must be allowed.
//! Called by `main`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::secret::Secret;
use crate::sys::{self, PassedDescriptor, PassedSocket};
use crate::{Outcome, Worker};

/// What is opened before the cage.
pub struct Serving {
    gateway: OwnedFd,
    admin: UnixListener,
    data: PathBuf,
    runtime: Option<Runtime>,
}

/// Opens both sockets in `data`.
pub fn prepare(data: &Path) -> io::Result<Serving> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let gateway = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(gateway.as_raw_fd(), &UnixAddr::new(&data.join("gateway.sock"))?)?;
    listen(&gateway, Backlog::MAXCONN)?;
    let admin = UnixListener::bind(data.join("admin.sock"))?;
    admin.set_nonblocking(true)?;
    Ok(Serving { gateway, admin, data: data.to_owned(), runtime: None })
}

impl Serving {
    /// Builds the runtime, whose descriptors the filter would not allow.
    pub fn with_runtime(mut self) -> io::Result<Self> {
        self.runtime = Some(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        Ok(self)
    }

    /// Serves until SIGTERM.
    pub fn run(mut self, worker: Option<&Worker>) -> Outcome {
        if self.runtime.is_none() {
            self = self.with_runtime()?;
        }
        let runtime = self.runtime.take().ok_or(io::ErrorKind::NotFound)?;
        let served = runtime.block_on(serve(self, worker))?;
        drop(runtime);
        Ok(format!("served {served}"))
    }
}

async fn serve(serving: Serving, worker: Option<&Worker>) -> io::Result<u64> {
    let gateway = sys::watched(serving.gateway)?;
    let admin = tokio::net::UnixListener::from_std(serving.admin)?;
    let mut end = signal(SignalKind::terminate())?;
    writeln!(io::stdout(), "ready")?;
    io::stdout().flush()?;

    // gateway.sock: one packet with one socket beside it; what the peer writes there comes back.
    let connection = accepted(&gateway).await?;
    let connection = sys::watched(connection)?;
    let mut buffer = [0; 1024];
    let packet = sys::next_packet(&connection, &sys::Account::default(), &mut buffer).await?;
    let passed = packet.descriptors.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
    if !sys::socket_kind(passed.as_fd())?.is_connected_unix_stream() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut passed = PassedSocket::new(passed)?;
    let echoed = echo(&mut passed).await?;
    drop(passed);
    while sys::closer::backlog() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // admin.sock: one byte in, one out, under a time limit.
    let (mut caller, _) = tokio::time::timeout(Duration::from_secs(20), admin.accept()).await??;
    nix::sys::socket::getsockopt(&caller, nix::sys::socket::sockopt::PeerCredentials)?;
    let byte = caller.read_u8().await?;
    caller.write_u8(byte).await?;
    caller.shutdown().await?;

    // Memory of every size, secret memory, random numbers, the worker, a timer, and a panic that is caught.
    for exponent in 4..26 {
        let mut block: Vec<u8> = Vec::with_capacity(1 << exponent);
        block.resize(1 << exponent, 1);
        block.shrink_to(1);
    }
    let secret = Secret::copy_from(b"a key").map_err(io::Error::other)?;
    let _ = std::hash::RandomState::new();
    if let Some(worker) = worker {
        let (answer, written) = tokio::sync::oneshot::channel();
        let path = serving.data.join("written");
        let job = move || {
            let result = File::create(&path).and_then(|mut file| {
                file.write_all(&vec![b'x'; 1 << 20])?;
                file.sync_all()
            });
            std::thread::sleep(Duration::from_millis(1));
            drop(answer.send(result));
        };
        worker.send(Box::new(job)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        written.await.map_err(io::Error::other)??;
        let copy = File::open(serving.data.join("written"))?.try_clone()?;
        if copy.metadata()?.len() != 1 << 20 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        fs::remove_file(serving.data.join("written"))?;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let panicking = tokio::spawn(async { panic!("in one exchange, on purpose") });
    if !panicking.await.is_err_and(|error| error.is_panic()) || !secret.matches(b"a key") {
        return Err(io::ErrorKind::Other.into());
    }
    end.recv().await;
    Ok(echoed)
}

async fn accepted(listener: &AsyncFd<OwnedFd>) -> io::Result<PassedDescriptor> {
    loop {
        let mut guard = listener.readable().await?;
        if let Ok(connection) = guard.try_io(|socket| sys::accept(socket.as_fd())) {
            return connection;
        }
    }
}

async fn echo(socket: &mut PassedSocket) -> io::Result<u64> {
    let mut buffer = vec![0; 16 * 1024];
    let mut echoed = 0;
    loop {
        let length = socket.read(&mut buffer).await?;
        if length == 0 {
            socket.shutdown().await?;
            return Ok(echoed);
        }
        socket.write_all(&buffer[..length]).await?;
        echoed += length as u64;
    }
}
