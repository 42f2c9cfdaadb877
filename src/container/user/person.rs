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
    ///
    /// With each change of the user the kernel forgets whose death this process was to die with.
    pub fn become_it(&self) -> Result<()> {
        let death = nix::sys::prctl::get_pdeathsig().ok().flatten();
        // Where an ordinary user has mapped oneself alone, the kernel lets nobody give up a group.
        if !self.groups.is_empty() || may_set_groups() {
            sys::setgroups("belong to these groups alone", &self.groups)?;
        }
        sys::setresgid("be in this group", self.gid)?;
        sys::setresuid("be this user from here on", self.uid)?;
        death.map_or(Ok(()), |signal| {
            sys::set_parent_death_signal("die when the runtime dies, also as this user", signal)
        })
    }
    // ANCHOR_END: become-user
}

/// May processes of this user namespace change their groups? See user_namespaces(7), "The /proc/pid/setgroups file".
pub fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |word| word.trim() != "deny")
}
