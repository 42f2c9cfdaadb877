//! Chapter 8: users. Who is who, and in which user namespace. (The chapters before need little of it.)

use std::fs::File;
use std::path::Path;

use nix::unistd::{Gid, Uid};

use super::sys;
use crate::told::errors::{Error, Result};

/// A user, with the groups that files are checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: Uid,
    /// The number of the user's group.
    pub gid: Gid,
    /// The numbers of further groups.
    pub groups: Vec<Gid>,
}

impl User {
    /// Becomes this user. The groups first: afterwards nobody has the right to change them any more.
    pub fn become_it(&self) -> Result<()> {
        sys::setgroups("belong to these groups alone", &self.groups)?;
        sys::setresgid("run with the group that was asked for", self.gid)?;
        sys::setresuid("run as the user that was asked for", self.uid)
    }
}

// ANCHOR: same-namespace
/// Is this open namespace the one that the process is in already?
pub fn same_namespace(namespace: &File, kind: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(format!("/proc/self/ns/{kind}"));
    match (namespace.metadata(), own) {
        (Ok(theirs), Ok(own)) => theirs.ino() == own.ino() && theirs.dev() == own.dev(),
        _ => false,
    }
}
// ANCHOR_END: same-namespace

/// Is this process in the first user namespace, where root is really root?
pub fn in_first_user_namespace() -> Result<bool> {
    let map = sys::read_file(Path::new("/proc/self/uid_map"))
        .map_err(|error| Error::io("see who is who here", "/proc/self/uid_map", &error))?;
    let numbers: Vec<&str> = map.split_whitespace().collect();
    Ok(numbers == ["0", "0", "4294967295"])
}
