//! Before the story: a claim, which is a locked file.
//!
//! Runtimes know nothing of each other, and any of them can be killed at any moment. So whatever belongs to one of
//! them, a page of notes, an address, a place at the bridge, a layer, goes with a file that it has locked with
//! flock(2). The kernel gives the lock back when its holder ends, whatever that died of.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::told::errors::{Error, Result};

/// A file, or a directory, that this process has locked.
#[derive(Debug)]
pub struct Claim {
    file: Flock<File>,
    path: PathBuf,
}

impl Claim {
    // ANCHOR: claim-on
    /// Locks an open file, alone or (`LOCK_SH`) together with others. `None`: somebody else has a lock
    /// on it, and `how` says not to wait (`LOCK_NB`).
    pub fn on(mut file: File, path: &Path, how: FlockArg) -> Result<Option<Claim>> {
        loop {
            match Flock::lock(file, how) {
                Ok(file) => return Ok(Some(Claim { file, path: path.to_path_buf() })),
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((again, Errno::EINTR)) => file = again,
                Err((_, errno)) => {
                    return Err(Error::call(
                        "lock a file",
                        format!("flock({}, {how:?})", path.display()),
                        errno,
                    ));
                }
            }
        }
    }
    // ANCHOR_END: claim-on

    /// Locks the file `path`, which is made if it is not there; waits for whoever has it.
    pub fn wait(path: &Path) -> Result<Claim> {
        const STEP: &str = "wait for the other runtimes";
        let claim = Claim::on(Claim::open(STEP, path)?, path, FlockArg::LockExclusive)?;
        claim.ok_or_else(|| Error::call(STEP, "flock(LOCK_EX)", Errno::EWOULDBLOCK))
    }

    /// Locks the file `path`, which is made if it is not there, unless somebody else has.
    pub fn take(step: &str, path: &Path) -> Result<Option<Claim>> {
        Claim::on(Claim::open(step, path)?, path, FlockArg::LockExclusiveNonblock)
    }

    /// Takes the claim of somebody who has died. `None` if the holder is alive, or nothing is there.
    pub fn inherit(path: &Path) -> Option<Claim> {
        let file = File::open(path).ok()?;
        Claim::on(file, path, FlockArg::LockExclusiveNonblock).ok().flatten()
    }

    /// Does a living process have a claim on this file?
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        Claim::on(file, path, FlockArg::LockSharedNonblock).is_ok_and(|claim| claim.is_none())
    }

    fn open(step: &str, path: &Path) -> Result<File> {
        let how = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        how.map_err(|error| Error::io(step, path, &error))
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has a shared claim no other holder? If so, it is now this one's alone: see [`Claim::share`].
    pub fn is_last(&self) -> bool {
        self.file.relock(FlockArg::LockExclusiveNonblock).is_ok()
    }

    /// From now on others may share it.
    pub fn share(&self) -> Result<()> {
        self.file.relock(FlockArg::LockShared).map_err(|errno| {
            Error::call("share a lock", format!("flock({}, LOCK_SH)", self.path.display()), errno)
        })
    }

    /// Gives it up, and removes the file. While it is locked nobody else can believe that the file is theirs.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_persons_until_it_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("claim");
        assert!(!Claim::is_held(&path) && Claim::inherit(&path).is_none(), "nothing is there");
        let claim = Claim::take("try", &path).expect("no error").expect("nobody has it");
        assert!(Claim::is_held(&path) && Claim::inherit(&path).is_none());
        assert!(Claim::take("try", &path).expect("no error").is_none());
        drop(claim);
        assert!(!Claim::is_held(&path) && path.exists());
        Claim::inherit(&path).expect("its holder is gone").remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_shared_claim_knows_who_is_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("claim");
        let join = || {
            let file = File::create(&path).expect("writable");
            Claim::on(file, &path, FlockArg::LockShared).expect("no error").expect("it waits")
        };
        let (one, other) = (join(), join());
        assert!(!one.is_last());
        one.share().expect("others may");
        drop(other);
        assert!(one.is_last());
    }
}
