//! Where the daemons' programs are: beside our own, in the lib folder of the same prefix, where packages put them, or in
//! PATH. Refuses to guess further.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{CtlError, Outcome};

/// Finds `strongroom-keyd` or `strongroom-gatewayd`.
///
/// # Errors
/// Where it is in none of the places.
pub fn find(name: &str) -> Outcome<PathBuf> {
    let folder = env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let beside = folder.iter().flat_map(|folder| [folder.join(name), folder.join("../lib/strongroom").join(name)]);
    let packaged = ["/usr/lib/strongroom", "/usr/libexec/strongroom"].map(|folder| PathBuf::from(folder).join(name));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>();
    let found = beside.chain(packaged).chain(in_path).find(|candidate| candidate.is_file());
    found.ok_or_else(|| {
        CtlError::configuration(format!(
            "the program {name} is not installed beside strongroom. Install all three programs together."
        ))
    })
}
