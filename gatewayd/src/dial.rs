//! From an authority to a connected socket: names, address rules, connecting.
//!
//! The address that was checked is the one that is connected to: nothing is resolved twice. It refuses to dial what
//! the rules forbid and what is this machine's own, whatever the name; `[resolve]` is the operator's choice and exempt. Where `[upstream-proxy]` says
//! so, the proxy resolves and connects in its place ([`through_proxy`]); but for that, no byte is sent or read. How many
//! names are resolved at one time is [`lookups`]' to say.
//! Called when a channel or a tunnel is opened.

pub mod address_rules;
pub mod lookups;
mod own_addresses;
mod through_proxy;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use strongroom_protocol::Authority;
use strongroom_protocol::authority::Host;
use strongroom_protocol::exchange::DialFailure;
use strongroom_protocol::log::Brake;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::field::display;

use self::lookups::Lookups;
use self::through_proxy::ProxyFault;
use crate::config::{Config, UpstreamProxy};

/// What all dials share.
#[derive(Default)]
pub struct Dials {
    lookups: Lookups,
    /// On lines about dials that failed.
    brake: Brake,
}

/// Why there is no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSocket {
    /// The upstream's name or network does not give one: keyd is told, and has the request on record.
    Upstream(DialFailure),
    /// This process or machine has no descriptor or memory left. Nothing is wrong with the upstream.
    NoRoom,
}

impl From<DialFailure> for NoSocket {
    fn from(failure: DialFailure) -> Self {
        Self::Upstream(failure)
    }
}

/// Connects to an authority within the time that the configuration gives.
///
/// The socket comes back outside the event loop, for it is about to be passed to keyd. What fails at the upstream or
/// the proxy is logged, as far as the brake lets it pass.
///
/// # Errors
/// Why there is no socket.
pub async fn dial(authority: &Authority, config: &Config, dials: &Dials) -> Result<std::net::TcpStream, NoSocket> {
    let proxy = proxy_for(authority, config);
    let attempt = async {
        let stream = match proxy {
            Some(proxy) => through_proxy::connect(proxy, authority, config, &dials.lookups).await?,
            None => connect(&addresses(authority, config, &dials.lookups).await?).await?,
        };
        detached(stream).map_err(|error| Failure::from(no_socket(&error)))
    };
    let in_time = timeout(config.timeouts.dial.get(), attempt).await;
    in_time.unwrap_or(Err(NoSocket::from(DialFailure::TimedOut).into())).map_err(|failure| {
        failure.log(authority, proxy, &dials.brake);
        failure.no_socket
    })
}

/// A failed attempt: what the caller is told, and what the proxy did, for the log.
#[derive(Debug)]
struct Failure {
    no_socket: NoSocket,
    fault: Option<ProxyFault>,
}

impl Failure {
    /// What this machine lacks is no news about the upstream, and the agent is told.
    fn log(&self, authority: &Authority, proxy: Option<&UpstreamProxy>, brake: &Brake) {
        if let NoSocket::Upstream(failure) = self.no_socket
            && let Some(held) = brake.pass(Instant::now())
        {
            let (proxy, reason) = (proxy.map(|proxy| display(proxy.authority())), self.fault.map(display));
            tracing::warn!(%authority, ?failure, proxy, reason, held, "no upstream socket");
        }
    }
}

impl From<NoSocket> for Failure {
    fn from(no_socket: NoSocket) -> Self {
        Self { no_socket, fault: None }
    }
}

impl From<ProxyFault> for Failure {
    fn from(fault: ProxyFault) -> Self {
        Self { no_socket: DialFailure::from(fault).into(), fault: Some(fault) }
    }
}

/// The proxy, unless the operator says where this authority is or that it is dialled directly.
fn proxy_for<'a>(authority: &Authority, config: &'a Config) -> Option<&'a UpstreamProxy> {
    let proxy = config.upstream_proxy.as_ref()?;
    (config.resolve.address(authority).is_none() && proxy.is_for(authority)).then_some(proxy)
}

/// What may be dialled, in the order in which it is tried.
async fn addresses(authority: &Authority, config: &Config, lookups: &Lookups) -> Result<Vec<SocketAddr>, NoSocket> {
    if let Some(address) = config.resolve.address(authority) {
        return Ok(vec![address]);
    }
    let found = look_up(authority, lookups).await?;
    if found.is_empty() {
        return Err(DialFailure::Unreachable.into());
    }
    let allowed: Vec<_> = found.into_iter().filter(|address| may_dial(address.ip(), config)).collect();
    if allowed.is_empty() { Err(DialFailure::ForbiddenAddress.into()) } else { Ok(interleave(allowed)) }
}

fn may_dial(address: IpAddr, config: &Config) -> bool {
    let listed = &config.allow_private_upstreams;
    address_rules::may_dial(address, listed)
        && (address_rules::is_listed(address, listed) || !own_addresses::is_own(address))
}

/// What the system's resolver says, or the address itself.
async fn look_up(authority: &Authority, lookups: &Lookups) -> Result<Vec<SocketAddr>, NoSocket> {
    let port = authority.port();
    Ok(match authority.host() {
        Host::V4(address) => vec![(*address, port).into()],
        Host::V6(address) => vec![(*address, port).into()],
        Host::Name(name) => lookups.find(name, port).await?,
    })
}

/// Families by turns, each in the resolver's order (RFC 8305, section 4), so that one broken family costs one step.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            mixed.truncate(MOST_ADDRESSES);
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}

/// Tries addresses one after another without waiting for a slow one; the first that answers wins.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, NoSocket> {
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.iter().copied();
    let mut failure = DialFailure::Unreachable.into();
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let next = attempts.join_next();
        let finished = if waiting.len() > 0 { timeout(STAGGER, next).await.ok() } else { Some(next.await) };
        match finished {
            Some(Some(Ok(Ok(stream)))) => return Ok(stream),
            Some(Some(Ok(Err(error)))) if no_socket(&error) == NoSocket::NoRoom => failure = NoSocket::NoRoom,
            Some(None) if waiting.len() == 0 => return Err(failure),
            _ => {}
        }
    }
}

fn no_socket(error: &io::Error) -> NoSocket {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => NoSocket::NoRoom,
        _ => DialFailure::Unreachable.into(),
    }
}

/// Without Nagle's delay, and out of this process's event loop: keyd registers it with its own.
fn detached(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// Time between two attempts (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// A zone with hundreds of addresses gets no hundreds of attempts.
const MOST_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {

    use tokio::net::TcpSocket;

    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn authority(text: &str) -> Authority {
        text.parse().unwrap()
    }

    async fn dial(authority: &Authority, config: &Config) -> Result<std::net::TcpStream, NoSocket> {
        super::dial(authority, config, &Dials::default()).await
    }

    /// Gives no answer to whoever connects: a backlog of one that is full, as long as what is returned lives.
    fn silent(at: &str) -> std::io::Result<(SocketAddr, impl Sized)> {
        let at: SocketAddr = at.parse().unwrap();
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(at)?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let fill = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
        let full: Vec<_> = std::iter::from_fn(|| fill().ok()).collect();
        Ok((address, (listener, full)))
    }

    #[tokio::test]
    async fn a_resolved_name_is_dialled_although_it_leads_to_loopback() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = config(&format!("[resolve]\n\"a.example\" = \"127.0.0.1:{port}\""));
        let stream = dial(&authority("a.example"), &config).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn forbidden_addresses_are_not_dialled_even_where_somebody_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let failure = dial(&authority(&format!("{host}:{port}")), &Config::default()).await.unwrap_err();
            assert_eq!(failure, DialFailure::ForbiddenAddress.into());
        }
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let allowing = config("allow-private-upstreams = [\"127.0.0.0/8\"]");
        assert!(dial(&authority(&format!("127.0.0.1:{port}")), &allowing).await.is_ok());
        assert!(listener.accept().is_ok());
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_unreachable() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = config(&format!("[resolve]\n\"a.example\" = \"127.0.0.1:{port}\""));
        assert_eq!(dial(&authority("a.example"), &config).await.unwrap_err(), DialFailure::Unreachable.into());
    }

    #[tokio::test]
    async fn the_second_address_is_tried_where_the_first_refuses() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let bad = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(connect(&[bad, good]).await.unwrap().peer_addr().unwrap(), good);
        assert_eq!(connect(&[bad, bad]).await.unwrap_err(), DialFailure::Unreachable.into());
    }

    #[tokio::test]
    async fn silence_ends_with_the_time_limit() {
        let (address, _full) = silent("127.0.0.1:0").unwrap();
        let config = config(&format!("[resolve]\n\"a.example\" = \"{address}\"\n[timeouts]\ndial = \"300ms\""));
        assert_eq!(dial(&authority("a.example"), &config).await.unwrap_err(), DialFailure::TimedOut.into());
    }

    #[tokio::test]
    async fn a_family_that_does_not_answer_costs_a_step_for_each_of_its_addresses() {
        // A machine without IPv6 shows the same with IPv4 alone.
        let (first, _full) = silent("[::1]:0").or_else(|_| silent("127.0.0.1:0")).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        for (addresses, steps) in [(vec![first, good], 1), (vec![first, first, good], 2), (vec![good, first], 0)] {
            let start = Instant::now();
            assert_eq!(connect(&addresses).await.unwrap().peer_addr().unwrap(), good);
            let passed = start.elapsed();
            // Room for a busy machine; a silent address alone would take minutes.
            assert!(passed >= STAGGER * steps && passed < STAGGER * steps + Duration::from_secs(2), "{passed:?}");
        }
    }

    #[test]
    fn what_this_machine_lacks_is_not_the_upstreams_fault() {
        for number in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS] {
            assert_eq!(no_socket(&number.into()), NoSocket::NoRoom);
        }
        assert_eq!(no_socket(&Errno::ECONNREFUSED.into()), DialFailure::Unreachable.into());
    }

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let mixed = interleave(parse(&["[2a00::1]:1", "[2a00::2]:1", "1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"]));
        assert_eq!(mixed, parse(&["[2a00::1]:1", "1.1.1.1:1", "[2a00::2]:1", "1.1.1.2:1", "1.1.1.3:1"]));
    }
}
