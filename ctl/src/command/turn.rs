//! One at a time: whoever starts or ends a home's daemons holds its lock.
//!
//! Two `up` would take each other's sockets for dead ones, and a `down` beside an `up` would end what that still waits
//! for. It refuses to follow a link in the lock's place. The file is ours alone, so that no other user can hold the lock.
//! Called by `up` and `down`.

use std::fs::{File, TryLockError};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use strongroom_protocol::home::Home;

use crate::error::{CtlError, Outcome};
use crate::files;

/// Waits for the lock, and gives up after this long. It is held until the file is dropped.
///
/// # Errors
/// Where it cannot be taken, or somebody holds it all the time.
pub fn take(home: &Home, patience: Duration) -> Outcome<File> {
    let path = home.run.join("up.lock");
    let failed = |error: io::Error| {
        let words =
            format!("the lock {} cannot be taken: {error}. Check the owners of it and its directory.", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied => CtlError::not_permitted(words),
            _ => CtlError::configuration(words),
        }
    };
    let file = files::append(&path).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(CtlError::failed(format!(
                    "another 'strongroom up' or 'down' has been at work on this home for {} s. Wait for it or end it, then try again.",
                    patience.as_secs()
                )));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(POLL),
        }
    }
}

const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn one_has_it_the_next_waits_and_gives_up_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.run).unwrap();
        let held = take(&home, Duration::ZERO).unwrap();
        assert_eq!(take(&home, Duration::from_millis(50)).unwrap_err().code(), 1);
        thread::scope(|scope| {
            let next = scope.spawn(|| take(&home, Duration::from_secs(30)));
            drop(held);
            next.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.run).unwrap();
        symlink(folder.path().join("planted"), home.run.join("up.lock")).unwrap();
        assert_eq!(take(&home, Duration::ZERO).unwrap_err().code(), 78);
        assert!(!folder.path().join("planted").exists());
    }
}
