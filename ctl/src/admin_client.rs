//! The conversation with keyd over admin.sock, from ctl's side.
//!
//! Before anything secret is asked for or sent, the kernel says who serves the socket: a program that set up a socket
//! of its own in keyd's place must not be given a passphrase. It refuses replies over the limit and waits for nothing
//! for ever. Called by the commands.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{User, geteuid, getuid};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::admin::{Failure, Operation, Reply, Request, Status};
use strongroom_protocol::frame::{self, ADMIN_LIMIT, FrameError, HEADER};
use strongroom_protocol::home::{Home, Kind};
use zeroize::Zeroizing;

use crate::error::{CtlError, Outcome};
use crate::{config_values, failure, output, ownership, systemd};

/// A connection with keyd.
pub struct AdminClient {
    stream: UnixStream,
    server: Server,
    home: Home,
}

/// Who serves the socket, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Its user when it began to listen.
    pub uid: u32,
    /// Its process then.
    pub pid: u32,
}

impl AdminClient {
    /// Connects, and checks who is there.
    ///
    /// # Errors
    /// 69 where nobody answers, 77 where this user may not connect or somebody else serves the socket.
    pub fn connect(home: &Home) -> Outcome<Self> {
        let path = home.admin_socket();
        let stream = UnixStream::connect(&path).map_err(|error| connect_error(home, &error))?;
        Self::over(stream, home)
    }

    /// Connects where this user may: nothing where the socket's mode keeps it out. Somebody else's socket is an error
    /// all the same.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_as_admin(home: &Home) -> Outcome<Option<Self>> {
        let path = home.admin_socket();
        match UnixStream::connect(&path) {
            Ok(stream) => Self::over(stream, home).map(Some),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(connect_error(home, &error)),
        }
    }

    fn over(stream: UnixStream, home: &Home) -> Outcome<Self> {
        for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
            set(&stream, Some(PATIENCE))
                .map_err(|error| CtlError::fault(format!("no time-out could be set: {error}. Try again.")))?;
        }
        let credentials = getsockopt(&stream, PeerCredentials).map_err(|error| {
            CtlError::unreachable(format!("the kernel does not say who serves admin.sock: {error}. Try again."))
        })?;
        let server = Server { uid: credentials.uid(), pid: u32::try_from(credentials.pid()).unwrap_or(0) };
        if !is_trusted(server.uid, home) {
            return Err(CtlError::not_permitted(format!(
                "{} is served by uid {}, which is not Strongroom's. Nothing was sent; find out who put it there.",
                home.admin_socket().display(),
                server.uid
            )));
        }
        Ok(Self { stream, server, home: home.clone() })
    }

    /// Who serves the socket.
    #[must_use]
    pub fn server(&self) -> Server {
        self.server
    }

    /// Whether whoever serves the socket may be given a secret; to be asked before a passphrase is asked for. Root looks
    /// at homes of other users, too, but what it knows it gives to nobody whom its own configuration does not name.
    ///
    /// # Errors
    /// 77 where it may not, 78 where somebody could put another home in this one's place.
    pub fn is_for_secrets(&self) -> Outcome<()> {
        ownership::check_above(&self.home)?;
        if !geteuid().is_root() || self.server.uid == 0 || Some(self.server.uid) == roots_keyd(&self.home) {
            return Ok(());
        }
        Err(CtlError::not_permitted(format!(
            "{} is served by uid {}, whom root's configuration does not name. Nothing was sent; use the account that the home belongs to.",
            self.home.admin_socket().display(),
            self.server.uid
        )))
    }

    /// Asks for something that needs no passphrase.
    ///
    /// # Errors
    /// keyd's refusal in words, and those of the connection.
    pub fn ask(&mut self, operation: Operation) -> Outcome<Reply> {
        self.send(&Request { proof: None, operation })
    }

    /// Asks for something that widens access.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_with(&mut self, proof: SecretBytes, operation: Operation) -> Outcome<Reply> {
        self.ask_perhaps_with(Some(proof), operation)
    }

    /// Asks for something that widens access where there is anything yet.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_perhaps_with(&mut self, proof: Option<SecretBytes>, operation: Operation) -> Outcome<Reply> {
        self.is_for_secrets()?;
        self.send(&Request { proof, operation })
    }

    /// keyd's state.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn status(&mut self) -> Outcome<Status> {
        match self.ask(Operation::Status)? {
            Reply::Status(status) => Ok(status),
            _ => Err(unexpected()),
        }
    }

    /// Sends it, and again where wrong passphrases were given before and this one has to wait its turn.
    fn send(&mut self, request: &Request) -> Outcome<Reply> {
        let bytes = frame::encode(request, ADMIN_LIMIT).map(Zeroizing::new);
        let bytes =
            bytes.map_err(|_| CtlError::failed("the request is too large. Use fewer or smaller certificates."))?;
        for _ in 0..MOST_TURNS {
            match self.exchange(&bytes)? {
                Reply::Failed(Failure::TooManyTries(seconds)) => {
                    output::note(&format!("Passphrases were wrong before; this one counts in {seconds} s."));
                    std::thread::sleep(Duration::from_secs(seconds.into()));
                    // keyd may have given this place to somebody who had something to say.
                    *self = Self::connect(&self.home)?;
                    self.is_for_secrets()?;
                }
                Reply::Failed(failure) => return Err(failure::about(failure, &request.operation)),
                reply => return Ok(reply),
            }
        }
        Err(CtlError::not_permitted(
            "somebody else gives wrong passphrases all the time. See 'strongroom audit', and try again.",
        ))
    }

    fn exchange(&mut self, bytes: &[u8]) -> Outcome<Reply> {
        // keyd answers a caller that may not ask and hangs up: then the answer says more than the failed write.
        let written = self.stream.write_all(bytes);
        match self.receive() {
            Err(_) if written.is_err() => Err(lost(written.err().as_ref())),
            outcome => outcome,
        }
    }

    fn receive(&mut self) -> Outcome<Reply> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).map_err(|error| lost(Some(&error)))?;
        let length = frame::payload_length(&header, ADMIN_LIMIT).map_err(|error| match error {
            FrameError::Version(version) => Failure::Version(version).into(),
            error => CtlError::unreachable(format!("{error}. Check that keyd is what serves admin.sock.")),
        })?;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).map_err(|error| lost(Some(&error)))?;
        frame::decode(&payload).map_err(|error| CtlError::fault(format!("{error}. Install programs of one release.")))
    }
}

/// A reply of the wrong kind.
#[must_use]
pub fn unexpected() -> CtlError {
    CtlError::fault(
        "keyd answered something else than what was asked. Install programs of one release and restart them.",
    )
}

fn connect_error(home: &Home, error: &io::Error) -> CtlError {
    let path = home.admin_socket();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            CtlError::not_permitted(format!("this user may not connect to {}. Use an admin's account.", path.display()))
        }
        _ if is_without_a_vault(home) => CtlError::unreachable(format!(
            "keyd does not answer at {}, and there is no vault yet. Run 'strongroom init'.",
            path.display()
        )),
        _ => CtlError::unreachable(format!(
            "keyd does not answer at {}. {}",
            path.display(),
            systemd::how_to_start(home)
        )),
    }
}

/// Not where it cannot be looked at, nor where a backup is left: `up` says what to do with that.
fn is_without_a_vault(home: &Home) -> bool {
    let vault = home.vault();
    [&vault, &vault.with_extension("bak")].iter().all(|file| matches!(file.try_exists(), Ok(false)))
}

fn lost(error: Option<&io::Error>) -> CtlError {
    // What the kernel says of a time-out is "try again". Where systemd holds the socket of a keyd that does not start,
    // this is all that shows.
    if error.is_some_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)) {
        return CtlError::unreachable(format!(
            "keyd does not answer; nothing came within {} s. Run 'strongroom config check', and see its log: 'strongroom status' says where.",
            PATIENCE.as_secs()
        ));
    }
    let reason = error.map_or_else(|| "it hung up".to_owned(), ToString::to_string);
    CtlError::unreachable(format!(
        "keyd was lost in the middle of the request ({reason}). Run 'strongroom status' to see what became of it."
    ))
}

/// Root, ourselves, the package's user, or whoever owns the vault's directory.
fn is_trusted(uid: u32, home: &Home) -> bool {
    let owner = fs::metadata(&home.data).map(|metadata| metadata.uid()).ok();
    let packaged = || User::from_name("strongroom-keyd").ok().flatten().map(|user| user.uid.as_raw());
    uid == 0 || uid == getuid().as_raw() || Some(uid) == owner || Some(uid) == packaged()
}

/// keyd's user by what root alone has said: the package's, or the one to whom it gave the vault of a home that names a
/// gateway's user beside.
fn roots_keyd(home: &Home) -> Option<u32> {
    if !ownership::is_below_root_alone(home) {
        return None;
    }
    if home.kind == Kind::System {
        return User::from_name("strongroom-keyd").ok().flatten().map(|user| user.uid.as_raw());
    }
    let is_roots = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.uid() == 0);
    let owner = fs::symlink_metadata(&home.data).ok()?.uid();
    let has_gateway = config_values::gateway_uid(home).is_some_and(|gateway| gateway != owner);
    (has_gateway && is_roots(&home.config) && is_roots(&home.keyd_config())).then_some(owner)
}

/// Others may come first, each time.
const MOST_TURNS: u32 = 10;

/// keyd answers in milliseconds; a vault on a slow disk may take seconds to be written.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_vault_it_is_init_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        let said = || connect_error(&home, &io::ErrorKind::NotFound.into());
        assert!(said().code() == 69 && said().to_string().contains("'strongroom init'"), "{}", said());
        fs::create_dir(&home.data).unwrap();
        for file in ["vault.bak", "vault"] {
            fs::write(home.data.join(file), "").unwrap();
            assert!(said().code() == 69 && said().to_string().contains("'strongroom up'"), "{}", said());
        }
    }

    #[test]
    fn silence_is_told_from_a_connection_that_broke() {
        for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut] {
            let error = lost(Some(&kind.into()));
            let words = error.to_string();
            assert!(error.code() == 69 && words.contains("config check") && !words.contains("os error"), "{words}");
        }
        let broken = lost(Some(&io::ErrorKind::ConnectionReset.into())).to_string();
        assert!(broken.contains("in the middle") && !broken.contains("config check"), "{broken}");
    }
}
