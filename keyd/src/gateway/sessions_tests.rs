//! Sockets that are an agent's, and all the others that a hostile gateway could pass for one.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

fn passed(socket: impl Into<OwnedFd>) -> PassedDescriptor {
    PassedDescriptor::from(socket.into())
}

#[test]
fn the_accepted_end_of_agent_sock_is_an_agents() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let caller = agents_socket(&passed(accepted), &path).unwrap();
    assert_eq!(caller.uid, nix::unistd::geteuid().as_raw());
    // On the client's end the credentials are those of whoever listens.
    assert_eq!(agents_socket(&passed(client), &path).unwrap_err(), Refusal::BadRequest);
    assert_eq!(agents_socket(&passed(listener), &path).unwrap_err(), Refusal::BadRequest);
}

#[test]
fn everything_else_is_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("agent.sock"), directory.path().join("other.sock"));
    let (_listener, elsewhere) = (UnixListener::bind(&path).unwrap(), UnixListener::bind(&other).unwrap());
    let _client = UnixStream::connect(&other).unwrap();
    let (accepted_elsewhere, _) = elsewhere.accept().unwrap();
    let (one, _two) = UnixStream::pair().unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let (pipe, _end) = nix::unistd::pipe().unwrap();
    let sockets = [passed(accepted_elsewhere), passed(one), passed(tcp), passed(stream), passed(file), passed(pipe)];
    for (index, socket) in sockets.iter().enumerate() {
        assert_eq!(agents_socket(socket, &path).unwrap_err(), Refusal::BadRequest, "socket {index}");
    }
}

#[test]
fn a_named_peer_is_a_socket_that_somebody_bound_to_deceive() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, connect, socket};
    use std::os::fd::AsRawFd;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(client.as_raw_fd(), &UnixAddr::new(&directory.path().join("me.sock")).unwrap()).unwrap();
    connect(client.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(agents_socket(&passed(accepted), &path).unwrap_err(), Refusal::BadRequest);
}

#[test]
fn a_hang_up_is_seen_and_a_half_close_is_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut gone = std::pin::pin!(sys::hung_up(passed(ours)));
        let moment = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(moment, gone.as_mut()).await.is_err());
        std::io::Write::write_all(&mut &theirs, b"bytes").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(tokio::time::timeout(moment, gone.as_mut()).await.is_err(), "it still reads");
        drop(theirs);
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("seen");
    });
}
