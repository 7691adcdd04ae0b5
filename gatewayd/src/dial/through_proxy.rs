//! A tunnel through the HTTP proxy of `[upstream-proxy]`: CONNECT, and the head of the answer.
//!
//! Not one byte behind the head is read, for the socket is passed on as it is and what follows belongs to TLS. The
//! proxy resolves names, so no address rule holds for them; an address that the rules forbid is refused before the
//! proxy is asked. Refused too are heads without an end and what is no HTTP. Called by the dialler, within its time.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use strongroom_protocol::authority::Host;
use strongroom_protocol::exchange::DialFailure;
use strongroom_protocol::{Authority, SecretBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::lookups::Lookups;
use super::{Failure, NoSocket, address_rules};
use crate::config::{Config, UpstreamProxy};

/// Opens a tunnel to an authority.
///
/// # Errors
/// Why there is none.
pub(super) async fn connect(
    proxy: &UpstreamProxy,
    authority: &Authority,
    config: &Config,
    lookups: &Lookups,
) -> Result<TcpStream, Failure> {
    refuse_forbidden(authority, config)?;
    let mut stream = reach(proxy, config, lookups).await?;
    let request = request(proxy, authority);
    stream.write_all(request.expose()).await.map_err(|_| ProxyFault::HungUp)?;
    match status(&mut stream).await? {
        200..=299 => Ok(stream),
        status => Err(ProxyFault::Answered(status).into()),
    }
}

/// What the proxy did in place of opening a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyFault {
    /// It has no address, or none that answers.
    NotReached,
    /// It answered with this status.
    Answered(u16),
    /// It closed the connection before its answer ended.
    HungUp,
    /// Its answer is no HTTP.
    NoHttp,
    /// The head of its answer has no end within [`LONGEST_HEAD`].
    TooLong,
}

impl From<ProxyFault> for DialFailure {
    fn from(fault: ProxyFault) -> Self {
        match fault {
            ProxyFault::Answered(504) => Self::TimedOut,
            _ => Self::Unreachable,
        }
    }
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached => f.write_str("the proxy cannot be reached; check url in [upstream-proxy]"),
            Self::Answered(407) => {
                f.write_str("the proxy answered 407: it wants other credentials; check credentials-file")
            }
            Self::Answered(403) => f.write_str("the proxy answered 403: it forbids this destination"),
            Self::Answered(status) => write!(f, "the proxy answered {status}"),
            Self::HungUp => f.write_str("the proxy hung up before it had answered"),
            Self::NoHttp => f.write_str("the proxy's answer is no HTTP; check url in [upstream-proxy]"),
            Self::TooLong => f.write_str("the head of the proxy's answer has no end"),
        }
    }
}

/// Nothing is resolved here, so this judges addresses, and the names that mean loopback everywhere (RFC 6761, 6.3).
fn refuse_forbidden(authority: &Authority, config: &Config) -> Result<(), NoSocket> {
    let address = match authority.host() {
        Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => Ipv4Addr::LOCALHOST.into(),
        Host::Name(_) => return Ok(()),
        Host::V4(address) => IpAddr::V4(*address),
        Host::V6(address) => IpAddr::V6(*address),
    };
    if address_rules::may_dial(address, &config.allow_private_upstreams) {
        Ok(())
    } else {
        Err(DialFailure::ForbiddenAddress.into())
    }
}

/// Connects to the proxy itself: the operator's choice, so the address rules say nothing about it.
async fn reach(proxy: &UpstreamProxy, config: &Config, lookups: &Lookups) -> Result<TcpStream, Failure> {
    let not_reached = |no_socket| match no_socket {
        NoSocket::Upstream(_) => Failure::from(ProxyFault::NotReached),
        NoSocket::NoRoom => no_socket.into(),
    };
    let addresses = match config.resolve.address(proxy.authority()) {
        Some(address) => vec![address],
        None => super::look_up(proxy.authority(), lookups).await.map_err(not_reached)?,
    };
    super::connect(&super::interleave(addresses)).await.map_err(not_reached)
}

/// Wiped after use, for it holds the credentials; made in place, for what grows leaves copies behind.
fn request(proxy: &UpstreamProxy, authority: &Authority) -> SecretBytes {
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    let credentials = proxy.authorization().map(|value| [b"Proxy-Authorization: ", value, b"\r\n"]);
    let fields = credentials.iter().flatten().copied();
    let parts = || [head.as_bytes()].into_iter().chain(fields.clone()).chain([b"\r\n".as_slice()]);
    let mut bytes = Vec::with_capacity(parts().map(<[u8]>::len).sum());
    parts().for_each(|part| bytes.extend_from_slice(part));
    SecretBytes::new(bytes)
}

/// Reads the answer's head, and those of interim answers before it (RFC 9110, 15.2).
async fn status(stream: &mut TcpStream) -> Result<u16, ProxyFault> {
    let mut room = LONGEST_HEAD;
    loop {
        let head = read_head(stream, room).await?;
        match parse_status(&head).ok_or(ProxyFault::NoHttp)? {
            100 | 102..=199 => room -= head.len(),
            status => return Ok(status),
        }
    }
}

/// Looks at what has come, and takes no more of it than belongs to the head.
async fn read_head(stream: &mut TcpStream, room: usize) -> Result<Vec<u8>, ProxyFault> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let most = buffer.len().min(room - head.len());
        if most == 0 {
            return Err(ProxyFault::TooLong);
        }
        let come = match stream.peek(&mut buffer[..most]).await {
            Ok(0) | Err(_) => return Err(ProxyFault::HungUp),
            Ok(come) => come,
        };
        let before = head.len();
        head.extend_from_slice(&buffer[..come]);
        let end = end_of_head(&head, before);
        head.truncate(end.unwrap_or(head.len()));
        stream.read_exact(&mut buffer[..head.len() - before]).await.map_err(|_| ProxyFault::HungUp)?;
        if end.is_some() {
            return Ok(head);
        }
        // Another protocol's greeting may never have an empty line.
        if !head.iter().zip(VERSION).all(|(byte, expected)| byte == expected) {
            return Err(ProxyFault::NoHttp);
        }
    }
}

/// Just behind the empty line, of which nothing but its last byte may lie before `from`. A lone LF ends a line as well
/// (RFC 9112, 2.2).
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    let ends_an_empty_line =
        |&at: &usize| head[at] == b'\n' && (head[..at].ends_with(b"\n") || head[..at].ends_with(b"\n\r"));
    (from..head.len()).find(ends_an_empty_line).map(|at| at + 1)
}

/// Of `HTTP/1.x SSS`, with or without a reason.
fn parse_status(head: &[u8]) -> Option<u16> {
    match head.strip_prefix(VERSION)? {
        [b'0'..=b'9', b' ', digits @ ..] if digits.len() > 3 => {
            let (digits, rest) = digits.split_at(3);
            let is_whole = digits.iter().all(u8::is_ascii_digit) && matches!(rest[0], b' ' | b'\r' | b'\n');
            is_whole.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
        }
        _ => None,
    }
}

const VERSION: &[u8] = b"HTTP/1.";

/// Interim answers included. Proxies say a line or two; those that forbid something say it in the body.
const LONGEST_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::super::Dials;
    use super::*;

    /// A proxy for one connection: reads the head of a request, says each part in one write, and gives back what it
    /// read and its end.
    struct Proxy {
        port: u16,
        conversation: JoinHandle<(String, TcpStream)>,
    }

    async fn proxy(answer: &[&[u8]]) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer: Vec<_> = answer.iter().map(|part| part.to_vec()).collect();
        let conversation = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            for part in answer {
                if stream.write_all(&part).await.is_err() {
                    break; // The other side has heard enough.
                }
                sleep(Duration::from_millis(2)).await;
            }
            (String::from_utf8(request).unwrap(), stream)
        });
        Proxy { port, conversation }
    }

    fn config(port: u16, more: &str) -> Config {
        toml::from_str(&format!("{more}\n[upstream-proxy]\nurl = \"http://127.0.0.1:{port}\"")).unwrap()
    }

    fn authority(text: &str) -> Authority {
        text.parse().unwrap()
    }

    async fn dial(host: &str, config: &Config) -> Result<TcpStream, NoSocket> {
        let stream = crate::dial::dial(&authority(host), config, &Dials::default()).await?;
        assert!(stream.nodelay().unwrap());
        Ok(TcpStream::from_std(stream).unwrap())
    }

    /// What becomes of a proxy's answer.
    async fn after(answer: &[u8]) -> Failure {
        let proxy = proxy(&[answer]).await;
        let config = config(proxy.port, "");
        let table = config.upstream_proxy.as_ref().unwrap();
        let hang_up = async { drop(proxy.conversation.await.unwrap()) };
        let target = authority("api.example");
        let lookups = Lookups::default();
        let (result, ()) = tokio::join!(connect(table, &target, &config, &lookups), hang_up);
        result.expect_err("no tunnel")
    }

    /// A proxy that must not be asked; what it heard is looked at in the end.
    fn unasked() -> (u16, std::net::TcpListener) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        (listener.local_addr().unwrap().port(), listener)
    }

    fn assert_unasked(listener: &std::net::TcpListener) {
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn what_follows_the_head_is_left_for_whoever_gets_the_socket() {
        for answer in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200\r\nVia: a\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 299 Odd\nx: y\n\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            let proxy = proxy(&[&[answer.as_bytes(), b"\r\n\x16\x03first"].concat()]).await;
            let mut stream = dial("api.example", &config(proxy.port, "")).await.expect(answer);
            let (request, mut far) = proxy.conversation.await.unwrap();
            assert_eq!(request, "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n");
            far.write_all(b", second").await.unwrap();
            let mut bytes = [0; 17];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"\r\n\x16\x03first, second");
            stream.write_all(b"back").await.unwrap();
            far.read_exact(&mut bytes[..4]).await.unwrap();
            assert_eq!(&bytes[..4], b"back");
        }
    }

    #[tokio::test]
    async fn an_answer_may_be_cut_anywhere() {
        let answer = b"HTTP/1.1 200 OK\r\nVia: a\r\n\r\nrest";
        for at in 1..answer.len() {
            let proxy = proxy(&[&answer[..at], &answer[at..]]).await;
            let mut stream = dial("api.example", &config(proxy.port, "")).await.unwrap();
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"rest", "{at}");
        }
    }

    #[tokio::test]
    async fn credentials_are_sent_and_the_destination_is_as_it_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        std::fs::write(&path, "user:hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let proxy = proxy(&[b"HTTP/1.1 200 OK\r\n\r\n"]).await;
        let text = format!(
            "[upstream-proxy]\nurl = \"http://127.0.0.1:{}\"\ncredentials-file = \"{}\"",
            proxy.port,
            path.display()
        );
        dial("[2606:4700::1]:8443", &toml::from_str(&text).unwrap()).await.unwrap();
        let (request, _) = proxy.conversation.await.unwrap();
        let expected = "CONNECT [2606:4700::1]:8443 HTTP/1.1\r\nHost: [2606:4700::1]:8443\r\n\
                        Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n\r\n";
        assert_eq!(request, expected);
    }

    #[tokio::test]
    async fn other_answers_open_no_tunnel() {
        use ProxyFault::*;
        for (answer, expected) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", Answered(407)),
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!\n", Answered(403)),
            ("HTTP/1.1 302 Found\r\nLocation: http://login.example\r\n\r\n", Answered(302)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Answered(101)),
            ("HTTP/1.1 504 Gateway Timeout\r\n\r\n", Answered(504)),
            ("HTTP/1.1 2000 OK\r\n\r\n", NoHttp),
            ("HTTP/1.1 20\r\n\r\n", NoHttp),
            ("HTTP/1.1\r\n\r\n", NoHttp),
            ("HTTP/2 200 OK\r\n\r\n", NoHttp),
            ("\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", NoHttp),
            ("SSH-2.0-OpenSSH", NoHttp),
            ("\x15\x03\x01\x00\x02\x02\x50", NoHttp),
            ("HTTP/1.1 200 OK\r\nVia: a\r\n", HungUp),
            ("", HungUp),
        ] {
            let Failure { no_socket, fault } = after(answer.as_bytes()).await;
            assert_eq!(fault, Some(expected), "{answer}");
            let failure = if expected == Answered(504) { DialFailure::TimedOut } else { DialFailure::Unreachable };
            assert_eq!(no_socket, failure.into(), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_not_read_for_ever() {
        let field = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; 2 * LONGEST_HEAD]].concat();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(LONGEST_HEAD / 20);
        for endless in [field, interim] {
            assert_eq!(after(&endless).await.fault, Some(ProxyFault::TooLong));
        }
        let long = [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'x'; LONGEST_HEAD - 24], b"\r\n\r\n"].concat();
        let proxy = proxy(&[&long]).await;
        assert!(dial("api.example", &config(proxy.port, "")).await.is_ok());
    }

    #[tokio::test]
    async fn a_proxy_that_says_nothing_costs_the_time_of_a_dial() {
        for beginning in ["", "HTTP/1.1 200 OK\r\n"] {
            let proxy = proxy(&[beginning.as_bytes()]).await;
            let mut config = config(proxy.port, "");
            config.timeouts.dial = "300ms".to_owned().try_into().unwrap();
            assert_eq!(dial("api.example", &config).await.unwrap_err(), DialFailure::TimedOut.into());
        }
    }

    #[tokio::test]
    async fn a_proxy_where_nobody_listens_is_unreachable() {
        let (port, listener) = unasked();
        drop(listener);
        let config = config(port, "");
        let target = authority("api.example");
        let failure =
            connect(config.upstream_proxy.as_ref().unwrap(), &target, &config, &Lookups::default()).await.unwrap_err();
        assert_eq!(failure.fault, Some(ProxyFault::NotReached));
        assert_eq!(dial("api.example", &config).await.unwrap_err(), DialFailure::Unreachable.into());
    }

    #[tokio::test]
    async fn the_proxys_own_name_is_resolved_and_exempt_from_the_address_rules() {
        for (name, more) in [("proxy.example", "[resolve]\n\"proxy.example\" = \"127.0.0.1\""), ("localhost", "")] {
            let proxy = proxy(&[b"HTTP/1.1 200 OK\r\n\r\n"]).await;
            let text = format!("[upstream-proxy]\nurl = \"http://{name}:{}\"\n{more}", proxy.port);
            dial("api.example", &toml::from_str(&text).unwrap()).await.expect(name);
            assert!(proxy.conversation.await.unwrap().0.starts_with("CONNECT api.example:443 "));
        }
    }

    #[tokio::test]
    async fn what_the_operator_resolves_or_excepts_is_dialled_directly() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = upstream.local_addr().unwrap();
        let (port, listener) = unasked();
        let text = format!(
            "allow-private-upstreams = [\"127.0.0.0/8\", \"::1\"]\n[resolve]\n\"a.example\" = \"{place}\"\n\
             [upstream-proxy]\nurl = \"http://127.0.0.1:{port}\"\nno-proxy = [\"127.0.0.0/8\", \"localhost\"]"
        );
        let with_rules: Config = toml::from_str(&text).unwrap();
        for host in ["a.example".to_owned(), place.to_string(), format!("localhost:{}", place.port())] {
            assert_eq!(dial(&host, &with_rules).await.expect(&host).peer_addr().unwrap(), place);
        }
        // Excepted from the proxy is not excepted from the address rules.
        let config = Config { allow_private_upstreams: Vec::new(), ..with_rules };
        assert!(dial("a.example", &config).await.is_ok());
        for host in [place.to_string(), format!("localhost:{}", place.port())] {
            assert_eq!(dial(&host, &config).await.unwrap_err(), DialFailure::ForbiddenAddress.into(), "{host}");
        }
        assert_unasked(&listener);
    }

    #[tokio::test]
    async fn forbidden_addresses_are_refused_before_the_proxy_is_asked() {
        let (port, listener) = unasked();
        for host in
            ["10.1.2.3", "127.0.0.1:8443", "169.254.169.254:80", "[::1]", "[fd00:ec2::254]", "localhost", "a.localhost"]
        {
            let failure = dial(host, &config(port, "")).await.unwrap_err();
            assert_eq!(failure, DialFailure::ForbiddenAddress.into(), "{host}");
        }
        assert_unasked(&listener);
        for host in ["10.1.2.3", "1.1.1.1"] {
            let proxy = proxy(&[b"HTTP/1.1 200 OK\r\n\r\n"]).await;
            let allowing = config(proxy.port, "allow-private-upstreams = [\"10.0.0.0/8\"]");
            assert!(dial(host, &allowing).await.is_ok(), "{host}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_log_names_the_proxy_and_its_status() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let proxy = proxy(&[b"HTTP/1.1 407 No\r\n\r\n"]).await;
        dial("api.example", &config(proxy.port, "")).await.unwrap_err();
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        for word in ["no upstream socket", "api.example:443", &format!("127.0.0.1:{}", proxy.port), "answered 407"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(text.lines().count(), 1);
    }

    proptest! {
        #[test]
        fn the_end_of_a_head_does_not_depend_on_the_cuts(head in "[ab\r\n]{0,12}", at in 0_usize..12) {
            let head = head.as_bytes();
            let at = at.min(head.len());
            let in_two = end_of_head(&head[..at], 0).or_else(|| end_of_head(head, at));
            prop_assert_eq!(in_two, end_of_head(head, 0));
        }

        #[test]
        fn no_head_panics(head in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_status(&[VERSION, &head].concat());
            let _ = parse_status(&head);
        }
    }
}
