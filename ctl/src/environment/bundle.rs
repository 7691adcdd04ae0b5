//! The file of certificates that an agent's programs trust: the public roots, and our certificate authority.
//!
//! Most programs take one file in place of their own roots, so it holds both. It is put in place whole, by renaming, so
//! that nobody reads half of it and no link is followed. It refuses directories that others can write to: whoever can
//! put a file there chooses what the agent trusts. The directory that was judged is the one that is written to, and root
//! follows no link where others could put one: they would choose where. Called by `env` and `run`.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_native_certs::CertificateResult;
use rustls_pki_types::CertificateDer;
use strongroom_protocol::home::Home;

use crate::error::{CtlError, Outcome};
use crate::{certificates, directories, output, ownership};

/// The bundle's text.
#[derive(Debug)]
pub struct Bundle(String);

impl Bundle {
    /// Of this certificate authority and the public roots.
    #[must_use]
    pub fn new(ca: &[u8]) -> Self {
        let roots = public_roots();
        if roots.is_empty() {
            output::note(
                "No public roots were found, so programs will trust granted hosts alone. Install ca-certificates.",
            );
        }
        let mut text = format!("{MARK}\n{}", certificates::to_pem(ca));
        roots.iter().for_each(|root| text += &certificates::to_pem(root));
        Self(text)
    }

    /// Puts it where everybody of this home can read it; none where that is not ours to write to, or no text: a variable
    /// has to name it.
    #[must_use]
    pub fn put_into_home(&self, home: &Home) -> Option<PathBuf> {
        home.run.to_str()?;
        self.put(&home.run).ok()
    }

    /// Puts it into a user's cache directory.
    ///
    /// # Errors
    /// Where that cannot be, or others can write to it.
    pub fn put_into_cache(&self, cache: Option<PathBuf>) -> Outcome<PathBuf> {
        let failed = |what: String| CtlError::failed(format!("{what}. Set XDG_CACHE_HOME to a directory of your own."));
        let folder =
            cache.ok_or_else(|| failed("there is no directory for certificates".to_owned()))?.join("strongroom");
        let unusable =
            |error: io::Error| failed(format!("certificates cannot be written to {}: {error}", folder.display()));
        if others_could_exchange(&folder) {
            return Err(failed(format!(
                "certificates are not written to {}, where another user could put another directory",
                folder.display()
            )));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
        self.put(&folder).map_err(unusable)
    }

    fn put(&self, folder: &Path) -> io::Result<PathBuf> {
        self.put_into(&open(folder)?)?;
        Ok(folder.join(NAME))
    }

    /// Into this directory, whatever its name leads to by now.
    fn put_into(&self, folder: &File) -> io::Result<()> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the kernel gave no random bytes"))?;
        let new = format!(".ca-bundle-{:016x}", u64::from_ne_bytes(random));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = File::from(openat(folder, new.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let put = self.write(file).and_then(|()| Ok(renameat(folder, new.as_str(), folder, NAME)?));
        if put.is_err() {
            // What failed is what is told.
            let _ = unlinkat(folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        put
    }

    fn write(&self, mut file: File) -> io::Result<()> {
        file.write_all(self.0.as_bytes())?;
        // Certificates are no secret, and the umask may be narrow.
        file.set_permissions(Permissions::from_mode(0o644))
    }
}

/// The caller's cache directory, by the XDG specification.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

/// Whether, of root, somebody else could put another directory in this one's place.
fn others_could_exchange(folder: &Path) -> bool {
    geteuid().is_root() && !ownership::is_path_below_root_alone(folder)
}

/// Opens only root's directories and our own, where nobody else can put anything. Links that others could put on the way
/// are not followed: so they lead to what is theirs, and to nothing else of root's.
fn open(folder: &Path) -> io::Result<File> {
    let opened = directories::open(folder)?;
    let metadata = opened.metadata()?;
    let is_ours = metadata.uid() == 0 || metadata.uid() == geteuid().as_raw();
    if is_ours && metadata.mode() & 0o022 == 0 { Ok(opened) } else { Err(others_can_write()) }
}

fn others_can_write() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "other users can write there")
}

fn public_roots() -> Vec<CertificateDer<'static>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let CertificateResult { certs, .. } = match named {
        // Set by an environment that we made before: it would bring an old authority of ours along.
        Some(file) if is_a_bundle(&file) => {
            let platform = openssl_probe::probe();
            let dir = platform.cert_dir.first().map(PathBuf::as_path);
            let file = platform.cert_file.filter(|file| !is_a_bundle(file));
            rustls_native_certs::load_certs_from_paths(file.as_deref(), if file.is_some() { None } else { dir })
        }
        _ => rustls_native_certs::load_native_certs(),
    };
    certs
}

fn is_a_bundle(file: &Path) -> bool {
    let mut start = vec![0; MARK.len()];
    File::open(file).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == MARK.as_bytes()
}

/// The file's first line. What reads PEM passes over text before the first certificate.
const MARK: &str = "# Made by strongroom: its certificate authority, then the public roots.";
const NAME: &str = "ca-bundle.pem";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn ca() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap().self_signed(&key).unwrap().der().to_vec()
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn everybody_can_read_it_and_it_holds_our_authority_first() {
        let (folder, ca) = (folder(), ca());
        let home = Home::under(folder.path());
        let bundle = Bundle::new(&ca);
        assert_eq!(bundle.put_into_home(&home), None, "there is no directory yet");
        fs::create_dir(&home.run).unwrap();
        fs::set_permissions(&home.run, Permissions::from_mode(0o755)).unwrap();
        let path = bundle.put_into_home(&home).unwrap();
        assert_eq!((path.metadata().unwrap().mode() & 0o777, path.as_path()), (0o644, home.run.join(NAME).as_path()));
        assert_eq!(certificates::read(&path).unwrap()[0], ca);
        assert!(is_a_bundle(&path) && !is_a_bundle(folder.path()));
        assert_eq!(fs::read_dir(&home.run).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_link_in_its_place_is_replaced_and_not_followed() {
        let folder = folder();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let home = Home::under(folder.path());
        fs::create_dir(&home.run).unwrap();
        fs::set_permissions(&home.run, Permissions::from_mode(0o755)).unwrap();
        symlink(&victim, home.run.join(NAME)).unwrap();
        let path = Bundle::new(&ca()).put_into_home(&home).unwrap();
        assert!(!path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }

    /// A home whose directory for sockets is there, and beside it a directory to which we may write.
    fn with_victim(folder: &tempfile::TempDir) -> (Home, PathBuf) {
        let (home, victim) = (Home::under(&folder.path().join("above/home")), folder.path().join("victim"));
        for made in [&home.run, &victim] {
            DirBuilder::new().recursive(true).mode(0o755).create(made).unwrap();
            fs::set_permissions(made, Permissions::from_mode(0o755)).unwrap();
        }
        (home, victim)
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn a_link_in_the_directorys_place_is_not_followed() {
        let folder = folder();
        let (home, victim) = with_victim(&folder);
        let bundle = Bundle::new(&ca());
        assert!(bundle.put_into_home(&home).is_some(), "the positive twin");
        fs::remove_dir_all(&home.run).unwrap();
        symlink(&victim, &home.run).unwrap();
        assert_eq!(bundle.put_into_home(&home), None);
        symlink(&victim, folder.path().join("strongroom")).unwrap();
        assert_eq!(bundle.put_into_cache(Some(folder.path().to_owned())).unwrap_err().code(), 1);
        assert!(is_empty(&victim));
    }

    #[test]
    fn a_directory_that_is_exchanged_after_the_look_is_still_the_one_that_is_written_to() {
        let folder = folder();
        let (home, victim) = with_victim(&folder);
        let judged = open(&home.run).unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&home.run, &moved).unwrap();
        symlink(&victim, &home.run).unwrap();
        Bundle::new(&ca()).put_into(&judged).unwrap();
        assert!(is_empty(&victim) && is_a_bundle(&moved.join(NAME)));
    }

    #[test]
    fn nothing_is_left_behind_where_it_cannot_be_put_in_place() {
        let folder = folder();
        let (home, _) = with_victim(&folder);
        fs::create_dir(home.run.join(NAME)).unwrap();
        assert_eq!(Bundle::new(&ca()).put_into_home(&home), None);
        assert_eq!(fs::read_dir(&home.run).unwrap().count(), 1);
    }

    #[test]
    #[ignore = "needs root: a directory of another user's"]
    fn root_does_not_write_where_another_user_could_put_another_directory() {
        let folder = folder();
        let (home, _) = with_victim(&folder);
        let above = folder.path().join("above");
        let bundle = Bundle::new(&ca());
        let aside = folder.path().join("aside");
        for (owner, mode, is_written) in
            [(61_001, 0o755, false), (0, 0o775, false), (0, 0o777, false), (0, 0o1777, true), (0, 0o755, true)]
        {
            chown(&above, Some(owner), None).unwrap();
            fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
            assert!(bundle.put_into_home(&home).is_some(), "a home of another user's, as it was made");
            // A link, further up than the directory itself, that leads to one of root's.
            fs::rename(above.join("home"), &aside).unwrap();
            symlink(&aside, above.join("home")).unwrap();
            fs::remove_file(aside.join("run").join(NAME)).unwrap();
            assert_eq!(bundle.put_into_home(&home).is_some(), is_written, "{owner} {mode:o}");
            assert_eq!(aside.join("run").join(NAME).exists(), is_written, "{owner} {mode:o}");
            fs::remove_file(above.join("home")).unwrap();
            fs::rename(&aside, above.join("home")).unwrap();
            let cache = above.join(format!("cache-{mode:o}"));
            assert_eq!(bundle.put_into_cache(Some(cache.clone())).is_ok(), is_written, "{owner} {mode:o}");
            assert_eq!(cache.exists(), is_written, "{owner} {mode:o}");
            let _ = fs::remove_dir_all(cache);
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let folder = folder();
        let bundle = Bundle::new(&ca());
        let shared = folder.path().join("strongroom");
        fs::create_dir(&shared).unwrap();
        for mode in [0o777, 0o1777, 0o775] {
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            let error = bundle.put_into_cache(Some(folder.path().to_owned())).unwrap_err();
            assert!(error.code() == 1 && error.to_string().contains("XDG_CACHE_HOME"), "{mode:o}: {error}");
        }
        fs::set_permissions(&shared, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(bundle.put_into_cache(Some(folder.path().to_owned())), Ok(shared.join(NAME)));
        assert_eq!(bundle.put_into_cache(None).unwrap_err().code(), 1);
    }

    #[test]
    #[ignore = "needs root: a directory of another user's"]
    fn another_users_directory_is_refused() {
        let folder = folder();
        let home = Home::under(folder.path());
        fs::create_dir(&home.run).unwrap();
        fs::set_permissions(&home.run, Permissions::from_mode(0o755)).unwrap();
        chown(&home.run, Some(61_001), Some(61_001)).unwrap();
        assert_eq!(Bundle::new(&ca()).put_into_home(&home), None);
    }
}
