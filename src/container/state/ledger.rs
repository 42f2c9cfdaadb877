//! Before the story: what the kernel does not undo by itself.
//!
//! Namespaces, and the mounts, links and processes in them, vanish with their last process. A mount in
//! the host's namespace, a directory, a cgroup and a bridge do not. A runtime writes each of these down
//! before it makes it, and clears up by its notes at the end. When it is killed, the next run finds the
//! notes and does that ([`sweep`](crate::container::sweep)). A page of notes is in use as long as it is locked.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::FlockArg;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::directory::list;
pub use super::directory::state_directory;
use crate::told::errors::{Error, Result};

/// The lock for opening and sweeping pages.
pub const LOCK: &str = "lock";

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

/// The notes of one runtime.
pub struct Ledger {
    page: Claim,
    notes: Vec<Leftover>,
    ordinary_user: bool,
}

impl Ledger {
    /// Opens a page for this runtime. The caller holds the ledger's lock, so that nobody sweeps the page before it
    /// is locked.
    pub fn open(_: &Claim, ordinary_user: bool) -> Result<Ledger> {
        Ok(Ledger { page: new_page(&pages()?)?, notes: Vec::new(), ordinary_user })
    }

    /// Notes what is about to be made.
    pub fn note(&mut self, leftover: &Leftover) -> Result<()> {
        let mut line = serde_json::to_vec(leftover)
            .map_err(|error| Error::new("write to the ledger", error.to_string()))?;
        line.push(b'\n');
        self.page
            .file()
            .write_all(&line)
            .map_err(|error| Error::io("write to the ledger", self.page.path(), &error))?;
        self.notes.push(leftover.clone());
        Ok(())
    }

    /// Was the runtime started by someone other than root? Then it is root of a user namespace only.
    pub fn ordinary_user(&self) -> bool {
        self.ordinary_user
    }

    /// What was noted.
    pub fn notes(&self) -> &[Leftover] {
        &self.notes
    }

    /// Removes the page, once there is nothing left to undo.
    pub fn close(&mut self) {
        let _ = fs::remove_file(self.page.path());
    }
}

// ANCHOR: read-page
/// What a page says, line by line. `None` is a line that this program cannot read: a newer one has
/// written it.
pub fn read(page: &Path) -> Vec<Option<Leftover>> {
    let text = fs::read_to_string(page).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).ok()).collect()
}
// ANCHOR_END: read-page

/// The pages of all runtimes of this user, living or dead.
pub fn all_pages() -> Result<Vec<PathBuf>> {
    Ok(list(&pages()?))
}

/// The runtimes of this user that are alive.
pub fn living() -> Result<impl Iterator<Item = Pid>> {
    let pid = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.split('.').next()?;
        name.parse().ok().filter(|_| Claim::is_held(&path)).map(Pid::from_raw)
    };
    Ok(all_pages()?.into_iter().filter_map(pid))
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

/// An empty page. One that is there already, of a process that had the same id, holds what could not be undone.
fn new_page(pages: &Path) -> Result<Claim> {
    const STEP: &str = "write to the ledger";
    let pid = std::process::id();
    for number in 0.. {
        let path = pages.join(format!("{pid}.{number}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(STEP, &path, &error)),
            Ok(file) => {
                let claim = Claim::on(file, &path, FlockArg::LockExclusive)?;
                return claim.ok_or_else(|| Error::new(STEP, "somebody else has locked the new page"));
            }
        }
    }
    Err(Error::new(STEP, "there is no number left for a page"))
}
