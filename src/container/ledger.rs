//! What the kernel does not undo by itself.
//!
//! Namespaces, and the mounts, links and processes in them, vanish with their last process. A mount in
//! the host's namespace, a directory, a cgroup and a bridge do not. A runtime writes each of these down
//! before it makes it, and clears up by its notes at the end. When it is killed, the next run finds the
//! notes and does that. A page of notes is in use as long as its file is locked with flock(2): the kernel
//! gives the lock back when its holder dies, whatever it died of.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Pid, geteuid};
use serde::{Deserialize, Serialize};

use super::{cgroup, network, pid};
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// The lock for opening and sweeping pages.
pub(super) const LEDGER: &str = "lock";

// ANCHOR: leftover
/// Something that outlives its maker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leftover {
    /// A mount in the host's mount namespace (chapter 2).
    Mount(PathBuf),
    /// A directory with all that is in it (chapter 3: overlay's work directory).
    Directory(PathBuf),
    /// A cgroup with all that runs in it (chapter 6, and the lab).
    Cgroup(PathBuf),
}
// ANCHOR_END: leftover

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Mount(path) => write!(f, "the mount {}", path.display()),
            Leftover::Directory(path) => write!(f, "the directory {}", path.display()),
            Leftover::Cgroup(path) => write!(f, "the cgroup {}", path.display()),
        }
    }
}

impl Leftover {
    /// Undoes it. It is no error if there is nothing to undo.
    fn clear(&self) -> Result<()> {
        match self {
            Leftover::Mount(path) => pid::unmount_dead(path),
            Leftover::Directory(path) => match fs::remove_dir_all(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(Error::io("remove a directory of the container's", path, &error))
                }
                _ => Ok(()),
            },
            Leftover::Cgroup(path) => cgroup::destroy(path),
        }
    }
}

/// The notes of one runtime.
pub struct Ledger {
    file: Flock<File>,
    path: PathBuf,
    notes: Vec<Leftover>,
}

impl Ledger {
    /// Clears up after dead runtimes, then opens a page for this one. The caller holds the ledger's lock.
    pub(super) fn open(lock: &Lock) -> Result<Ledger> {
        let pages = pages()?;
        for what in sweep_some(lock, &pages, GLANCE)? {
            explain::remark(&format!("swept {what}, which a killed runtime had left"));
        }
        let (file, path) = new_page(&pages)?;
        let file = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::call("lock the ledger", "flock(LOCK_EX)", errno))?;
        Ok(Ledger { file, path, notes: Vec::new() })
    }

    /// Notes what is about to be made.
    pub fn note(&mut self, leftover: &Leftover) -> Result<()> {
        let mut line = serde_json::to_vec(leftover)
            .map_err(|error| Error::new("write to the ledger", error.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| Error::io("write to the ledger", &self.path, &error))?;
        self.notes.push(leftover.clone());
        Ok(())
    }
}

// ANCHOR: ledger-end
impl Drop for Ledger {
    /// The end: what was made last is undone first. A page with something that could not be undone is
    /// kept, and the next run tries again.
    fn drop(&mut self) {
        let left = self.notes.iter().rev().filter(|leftover| leftover.clear().is_err()).count();
        if left == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}
// ANCHOR_END: ledger-end

/// Clears up after all dead runtimes, and says what there was.
pub fn sweep() -> Result<Vec<String>> {
    sweep_some(&lock(LEDGER)?, &pages()?, usize::MAX)
}

/// How many pages a start looks at. Where hundreds of runtimes are alive, looking at all of them would cost
/// the next one more than all the rest of its start; each looks at others, so that none is overlooked for long.
const GLANCE: usize = 16;

// ANCHOR: ledger-sweep
fn sweep_some(_: &Lock, pages: &Path, most: usize) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    let mut somebody_died = false;
    let mut pages = list(pages);
    let first = std::process::id() as usize % pages.len().max(1);
    pages.rotate_left(first);
    for path in pages.into_iter().take(most) {
        let Ok(file) = File::open(&path) else { continue };
        let Ok(_file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        somebody_died = true;
        let mut all_clear = true;
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let Ok(leftover) = serde_json::from_str::<Leftover>(line) else { continue };
            match leftover.clear() {
                // The killed runtime's container may be dying still: then it is for the next run.
                Ok(()) if matches!(&leftover, Leftover::Mount(path) if pid::is_alive(path)) => {
                    all_clear = false
                }
                Ok(()) => swept.push(leftover.to_string()),
                // Kept for a run that may do it: this one may lack the right.
                Err(_) => all_clear = false,
            }
        }
        if all_clear {
            let _ = fs::remove_file(&path);
        }
    }
    if network::sweep(somebody_died)? {
        swept.push("the bridge".to_string());
    }
    Ok(swept)
}
// ANCHOR_END: ledger-sweep

/// The runtimes of this user that are alive.
pub fn living() -> Result<impl Iterator<Item = Pid>> {
    let pid = |path: PathBuf| {
        let file = File::open(&path).ok()?;
        let in_use = Flock::lock(file, FlockArg::LockSharedNonblock).is_err();
        let name = path.file_name()?.to_str()?.split('.').next()?;
        name.parse().ok().filter(|_| in_use).map(Pid::from_raw)
    };
    Ok(list(&pages()?).into_iter().filter_map(pid))
}

/// Where this user's runtimes keep what they have to know of each other: `/run/cooperage` for root,
/// otherwise a directory that nobody else can write to.
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
    // Is it ours to write in? (In a user namespace "root" may find a /run/cooperage of the real root's.)
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK)
        .map_err(|errno| Error::call(STEP, format!("access({}, W_OK)", path.display()), errno))
}

fn pages() -> Result<PathBuf> {
    let pages = state_directory()?.join("runtimes");
    match fs::create_dir(&pages) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::io("make the directory for the runtime's notes", &pages, &error))
        }
        _ => Ok(pages),
    }
}

/// The files in `directory`.
pub(super) fn list(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// An empty page. One that is there already, of a process that had the same id, holds what could not be undone.
fn new_page(pages: &Path) -> Result<(File, PathBuf)> {
    let pid = std::process::id();
    let mut number = 0;
    loop {
        let path = pages.join(format!("{pid}.{number}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("write to the ledger", &path, &error)),
            Ok(file) => return Ok((file, path)),
        }
    }
}

/// A lock that one runtime at a time can hold, for the few steps that two must not take at once.
pub(super) type Lock = Flock<File>;

/// Waits for the lock `name` of this user.
pub(super) fn lock(name: &str) -> Result<Lock> {
    let path = state_directory()?.join(name);
    let how = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = how.map_err(|error| Error::io("wait for the other runtimes", &path, &error))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::call("wait for the other runtimes", "flock(LOCK_EX)", errno))
}
