//! Chapter 8: a user, and how a process becomes one.

use nix::unistd::{Gid, Uid};

use crate::container::sys;
use crate::told::errors::Result;

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
    /// User 0 in group 0, and in no other.
    pub fn root() -> User {
        User { uid: Uid::from_raw(0), gid: Gid::from_raw(0), groups: Vec::new() }
    }

    // ANCHOR: become-user
    /// Becomes this user. The groups first: afterwards nobody has the right to change them any more.
    pub fn become_it(&self) -> Result<()> {
        // Where an ordinary user has mapped oneself alone, the kernel lets nobody give up a group.
        if !self.groups.is_empty() || may_set_groups() {
            sys::setgroups("belong to these groups alone", &self.groups)?;
        }
        sys::setresgid("run with the group that was asked for", self.gid)?;
        sys::setresuid("run as the user that was asked for", self.uid)
    }
    // ANCHOR_END: become-user
}

/// May processes of this user namespace change their groups? See user_namespaces(7), "The /proc/pid/setgroups file".
pub fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |word| word.trim() != "deny")
}
