//! An ear on the way from a client to the gateway: which HTTP the client speaks in its tunnels.
//!
//! What the handshake offers stands in the clear (ALPN, RFC 7301), and the gateway takes HTTP/2 where it is offered. It
//! passes on what it hears, and refuses to look any further. Used by the tests of real clients.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::strongroom::Strongroom;

/// It listens until the test's process ends.
pub struct Wire {
    address: SocketAddr,
    gateway: SocketAddr,
    heard: Arc<Mutex<BTreeSet<&'static str>>>,
}

impl Wire {
    /// Before this gateway.
    ///
    /// # Panics
    /// Where there is no port.
    #[must_use]
    pub fn before(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::new(Mutex::default());
        let hearing = Arc::clone(&heard);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heard = Arc::clone(&hearing);
                // A connection that ends in another way than it should is between the two of them.
                thread::spawn(move || pass_on(client, gateway, &heard).ok());
            }
        });
        Self { address, gateway, heard }
    }

    /// The agent's own proxy variables, but leading here.
    ///
    /// # Panics
    /// Where `strongroom env` has none.
    #[track_caller]
    #[must_use]
    pub fn variables(&self, strongroom: &Strongroom, agent: &str) -> Vec<(&'static str, String)> {
        let environment = strongroom.ctl(&["env", "--agent", agent, "--format", "json"]).json();
        let here = |name: &'static str| {
            let proxy = environment[name].as_str().unwrap_or_else(|| panic!("{name} in {environment}"));
            (name, proxy.replace(&self.gateway.to_string(), &self.address.to_string()))
        };
        ["HTTPS_PROXY", "https_proxy"].map(here).to_vec()
    }

    /// The versions that were spoken within tunnels.
    #[must_use]
    pub fn heard(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().copied().collect::<Vec<_>>().join(" and ")
    }
}

fn pass_on(mut client: TcpStream, gateway: SocketAddr, heard: &Mutex<BTreeSet<&'static str>>) -> io::Result<()> {
    let mut upstream = TcpStream::connect(gateway)?;
    let (mut back_from, mut back_to) = (upstream.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        // Either end may go first.
        let _ = io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Write);
    });
    let mut beginning = Some(Vec::new());
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return upstream.shutdown(Shutdown::Write);
        }
        if let Some(bytes) = &mut beginning {
            bytes.extend_from_slice(&buffer[..length]);
            if let Some(version) = version(bytes) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).insert(version);
                beginning = None;
            }
        }
        upstream.write_all(&buffer[..length])?;
    }
}

/// What a CONNECT and the handshake's first message behind it offer; nothing before both are there.
fn version(bytes: &[u8]) -> Option<&'static str> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let [22, _, _, high, low, hello @ ..] = &bytes[head..] else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let hello = hello.get(..length)?;
    Some(if memchr::memmem::find(hello, b"\x02h2").is_some() { "2" } else { "1.1" })
}
