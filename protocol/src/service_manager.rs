//! What a daemon says to the service manager that started it: ready, how it is, alive, reloading, stopping.
//!
//! The protocol is sd_notify(3): datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names, a path or,
//! behind `@`, an abstract name. The socket is connected when it is made, before a cage closes that allows neither; what
//! is left to do then is a plain write. A daemon whose manager is absent, deaf or slow runs all the same: nothing that
//! fails is an error, and nothing waits for the manager but the first word, for a moment. It refuses to feed a watchdog
//! that waits for another process.
//!
//! Also here: whether standard error is the journal's ([`is_journal`]), and how much a line weighs there.
//!
//! Called by keyd and gatewayd.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The variables that [`ServiceManager::find`] and [`is_journal`] read.
pub const VARIABLES: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"];

/// The way to the service manager, where there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Connects to the manager that these variables name; the second value says why there is no way to one that was
    /// named. `pid` is ours: a watchdog that waits for another process is not ours to feed.
    #[must_use]
    pub fn find<'a>(variable: impl Fn(&str) -> Option<&'a OsStr>, pid: u32) -> (Self, Option<io::Error>) {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return (Self::default(), None);
        };
        match connect(name) {
            Ok(socket) => {
                let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), pid);
                (Self { socket: Some(socket), watchdog }, None)
            }
            Err(error) => (Self::default(), Some(error)),
        }
    }

    /// How often [`Self::alive`] has to be said: twice in the time after which the manager ends a silent daemon.
    #[must_use]
    pub fn pace(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Everything is listened on; `status` is one line for people.
    pub fn ready(&self, status: &str) {
        let text = with_status("READY=1", status);
        // A manager that never hears this ends us after its time: it is busy at boot, when its queue may be full.
        for _ in 0..ATTEMPTS {
            match self.tell(&text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BETWEEN_ATTEMPTS),
                _ => return,
            }
        }
    }

    /// One line for people.
    pub fn status(&self, status: &str) {
        let _ = self.tell(&with_status("", status));
    }

    /// The main loop goes round.
    pub fn alive(&self) {
        let _ = self.tell("WATCHDOG=1");
    }

    /// The configuration is being read again, since this moment of CLOCK_MONOTONIC; [`Self::ready`] says that it was.
    pub fn reloading(&self, since: Duration) {
        let _ = self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", since.as_micros()));
    }

    /// The end has begun.
    pub fn stopping(&self, status: &str) {
        let _ = self.tell(&with_status("STOPPING=1", status));
    }

    /// A manager whose queue is full hears the next word; one that is gone needs none.
    fn tell(&self, text: &str) -> io::Result<()> {
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(text.as_bytes()).map(drop))
    }
}

/// A line that others' words may be in must stay one line, or they would speak to the manager.
fn with_status(word: &str, status: &str) -> String {
    let mut text = if word.is_empty() { "STATUS=".to_owned() } else { format!("{word}\nSTATUS=") };
    text.extend(status.chars().take(LONGEST_STATUS).map(|letter| if letter.is_control() { ' ' } else { letter }));
    text
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is no path and no abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

fn watchdog(limit: Option<&OsStr>, whose: Option<&OsStr>, pid: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str().and_then(|text| text.parse::<u64>().ok());
    if whose.is_some_and(|whose| number(whose) != Some(pid.into())) {
        return None;
    }
    // A pace below a few milliseconds would be all that the daemon does.
    number(limit?).map(Duration::from_micros).filter(|limit| *limit >= SHORTEST_WATCHDOG)
}

/// Whether standard error is the stream that `JOURNAL_STREAM` names. Whoever redirects it gets plain lines.
#[must_use]
pub fn is_journal(stream: Option<&OsStr>) -> bool {
    is_stream(stream, io::stderr().as_fd())
}

fn is_stream(stream: Option<&OsStr>, descriptor: BorrowedFd<'_>) -> bool {
    let named = stream.and_then(OsStr::to_str).and_then(|text| text.split_once(':'));
    let Some((device, inode)) = named else { return false };
    let metadata = descriptor.try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
    metadata.is_ok_and(|own| device.parse() == Ok(own.dev()) && inode.parse() == Ok(own.ino()))
}

/// Makes of a line of the log one for the journal: behind `<N>`, its weight as syslog(3) counts it. A line that holds
/// others' words stays one line: a second could pretend to be another daemon's last word.
#[must_use]
pub fn journal_line(weight: u8, text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 4);
    // Writing to a String cannot fail.
    let _ = write!(line, "<{weight}>");
    let text = text.strip_suffix('\n').unwrap_or(text);
    line.extend(text.chars().map(|letter| if letter == '\n' || letter == '\r' { ' ' } else { letter }));
    line.push('\n');
    line
}

/// syslog(3)'s weights.
pub mod weight {
    /// What is broken.
    pub const ERROR: u8 = 3;
    /// What may be.
    pub const WARNING: u8 = 4;
    /// What changes.
    pub const INFO: u8 = 6;
    /// Everything else.
    pub const DEBUG: u8 = 7;
}

const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(10);
const LONGEST_STATUS: usize = 200;

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn receiver(address: &SocketAddr) -> UnixDatagram {
        let receiver = UnixDatagram::bind_addr(address).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        receiver
    }

    fn hear(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn find(variables: &[(&str, &str)]) -> (ServiceManager, Option<io::Error>) {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, OsString::from(value))).collect();
        ServiceManager::find(
            |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_os_str()),
            7,
        )
    }

    #[test]
    fn every_word_arrives_at_a_path_and_at_an_abstract_name() {
        let folder = std::env::temp_dir().join(format!("strongroom-notify-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        let name = format!("strongroom-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let path_address = SocketAddr::from_pathname(&path).unwrap();
        for (address, named) in
            [(path_address, path.to_str().unwrap().to_owned()), (abstract_address, format!("@{name}"))]
        {
            let receiver = receiver(&address);
            let (manager, error) =
                find(&[("NOTIFY_SOCKET", &named), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")]);
            assert!(error.is_none(), "{error:?}");
            assert_eq!(manager.pace(), Some(Duration::from_millis(1500)));
            manager.ready("locked");
            assert_eq!(hear(&receiver), "READY=1\nSTATUS=locked");
            manager.status("a\nMAINPID=1");
            assert_eq!(hear(&receiver), "STATUS=a MAINPID=1", "others' words stay words");
            manager.alive();
            assert_eq!(hear(&receiver), "WATCHDOG=1");
            manager.reloading(Duration::from_micros(12));
            assert_eq!(hear(&receiver), "RELOADING=1\nMONOTONIC_USEC=12");
            manager.stopping("bye");
            assert_eq!(hear(&receiver), "STOPPING=1\nSTATUS=bye");
            drop(receiver);
            // Nobody is there any more: nothing happens.
            manager.alive();
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_deaf_manager_is_not_waited_for() {
        let name = format!("strongroom-deaf-{}", std::process::id());
        let receiver = receiver(&SocketAddr::from_abstract_name(&name).unwrap());
        let (manager, _) = find(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
        // Far more than any queue holds; this test ends.
        (0..100_000).for_each(|_| manager.alive());
        manager.ready("");
        assert_eq!(hear(&receiver), "WATCHDOG=1");
    }

    #[test]
    fn an_absent_or_bad_socket_means_silence() {
        for (named, has_reason) in
            [("", false), ("relative", true), ("/nowhere/at/all", true), ("@", true), ("@gone-7", true)]
        {
            let (manager, error) = find(&[("NOTIFY_SOCKET", named), ("WATCHDOG_USEC", "3000000")]);
            assert_eq!(error.is_some(), has_reason, "{named}: {error:?}");
            assert_eq!(manager.pace(), None);
            manager.ready("");
        }
        assert!(find(&[]).1.is_none());
    }

    #[test]
    fn a_watchdog_that_waits_for_another_process_is_not_fed() {
        let time = |limit: &str, whose: Option<&str>| watchdog(Some(limit.as_ref()), whose.map(OsStr::new), 7);
        assert_eq!(time("30000000", Some("7")), Some(Duration::from_secs(30)));
        assert_eq!(time("30000000", None), Some(Duration::from_secs(30)));
        for (limit, whose) in [("30000000", Some("8")), ("30000000", Some("x")), ("0", None), ("-1", None), ("x", None)]
        {
            assert_eq!(time(limit, whose), None, "{limit} {whose:?}");
        }
    }

    #[test]
    fn the_journal_is_known_by_its_stream_and_a_line_stays_one() {
        let file = File::open("/dev/null").unwrap();
        let own = file.metadata().unwrap();
        let stream = |device: u64, inode: u64| OsString::from(format!("{device}:{inode}"));
        assert!(is_stream(Some(&stream(own.dev(), own.ino())), file.as_fd()));
        assert!(!is_stream(Some(&stream(own.dev(), own.ino() + 1)), file.as_fd()));
        for text in ["", ":", "x:y", "1"] {
            assert!(!is_stream(Some(text.as_ref()), file.as_fd()), "{text}");
        }
        assert!(!is_stream(None, file.as_fd()));
        assert_eq!(journal_line(weight::WARNING, "one\n<0>two\r\n"), "<4>one <0>two \n");
    }
}
