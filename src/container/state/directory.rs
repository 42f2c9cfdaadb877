//! Before the story: where this user's runtimes keep what they have to know of each other.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::geteuid;

use super::claim::Claim;
use crate::told::errors::{Error, Result};

/// The directory: `/run/cooperage` for root, otherwise one that nobody else can write to.
pub fn state_directory() -> Result<&'static Path> {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    if let Some(directory) = DIRECTORY.get() {
        return Ok(directory);
    }
    let uid = geteuid();
    let mut candidates = Vec::new();
    if uid.is_root() {
        candidates.push(PathBuf::from("/run/cooperage"));
    } else if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        candidates.push(Path::new(&runtime).join("cooperage"));
    }
    candidates.push(PathBuf::from(format!("/tmp/cooperage-{uid}")));
    let mut failure = None;
    for candidate in candidates {
        match private_directory(&candidate) {
            Ok(()) => return Ok(DIRECTORY.get_or_init(|| candidate)),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::new("find a place for notes", "there is none")))
}

fn private_directory(path: &Path) -> Result<()> {
    const STEP: &str = "make the directory for the runtime's notes";
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(Error::io(STEP, path, &error)),
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(|error| Error::io(STEP, path, &error))?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
        let detail = format!("{} is not a directory that only this user can write to", path.display());
        return Err(Error::new(STEP, detail).remedy("remove it"));
    }
    // Is it ours to write in? (In a user namespace "root" may find the real root's /run/cooperage.)
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK)
        .map_err(|errno| Error::call(STEP, format!("access({}, W_OK)", path.display()), errno))
}

/// Waits for the lock `name` of this user: for the few steps that two runtimes must not take at the same time.
pub fn lock(name: &str) -> Result<Claim> {
    Claim::wait(&state_directory()?.join(name))
}

/// The files in `directory`, sorted.
pub fn list(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
