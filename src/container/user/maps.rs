//! Chapter 8: a container's users: whom they are outside, and how that is said.
//!
//! `/proc/PID/uid_map` and `gid_map` are written once, from outside, before anything else happens in the namespace. Until
//! then everybody in it is the overflow user, 65534. See user_namespaces(7), "User and group ID mappings".

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;

use super::map::Map;
use super::person::User;
use super::range::Range;
use crate::container::process::{Child, Parent};
use crate::container::sys::{self, CloneFlags};
use crate::told::errors::{Advise, Result};
use crate::told::explain;

/// Which users a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Users of its own: its root is nobody outside
    Private,
    /// The host's users: its root is root
    Host,
}

/// A container's users and groups, seen from the runtime.
pub struct Users {
    /// Who they are outside.
    pub uids: Map,
    /// The same for groups.
    pub gids: Map,
    mode: Mode,
    differ: bool,
    /// Its alone, as long as this lives.
    _range: Option<Range>,
}

impl Users {
    // ANCHOR: users-new
    /// The runtime's half, before the child is made: whom the container's users will be outside.
    ///
    /// Root gives every container a range of its own. In a user namespace, which an ordinary user's runtime has entered
    /// at its start, there are no others than its own few: the container has the same ones, one to one, in a
    /// namespace that is all the same its own. Then two containers of one user can touch each other's files, as with
    /// rootless Docker and Podman.
    pub fn new(mode: Mode) -> Result<Users> {
        let uids = Map::read("/proc/self/uid_map")?;
        if mode == Mode::Private && uids.is_the_first() {
            let range = Range::take()?;
            return Ok(Users {
                uids: range.uids(),
                gids: range.gids(),
                mode,
                differ: true,
                _range: Some(range),
            });
        }
        let (uids, gids) = (uids.one_to_one(), Map::read("/proc/self/gid_map")?.one_to_one());
        if mode == Mode::Private {
            explain::remark(&format!(
                "this is a user namespace already: the container shares its users {uids} and groups {gids}"
            ));
        }
        Ok(Users { uids, gids, mode, differ: false, _range: None })
    }
    // ANCHOR_END: users-new

    /// These users and these groups, which somebody else has chosen.
    pub fn mapped(uids: Map, gids: Map) -> Users {
        Users { uids, gids, mode: Mode::Private, differ: true, _range: None }
    }

    /// The namespace that the child is made in.
    pub fn namespace(&self) -> CloneFlags {
        match self.mode {
            Mode::Private => CloneFlags::CLONE_NEWUSER,
            Mode::Host => CloneFlags::empty(),
        }
    }

    /// Are they others than the users who own the files outside?
    pub fn differ(&self) -> bool {
        self.differ
    }

    // ANCHOR: write-maps
    /// The runtime's half, once the child is made: the maps. Only a process outside may name more than one user, and it
    /// must have CAP_SETUID there. Each file is written once, with one write.
    ///
    /// Returns the namespace, for the mounts that are to be seen with its eyes.
    pub fn write_maps(&self, child: &mut Child) -> Result<Option<File>> {
        if self.mode == Mode::Host {
            return Ok(None);
        }
        let namespace = child.namespace("user")?;
        let pid = child.pid();
        let write = |why: &str, file: &str, map: &Map| {
            sys::write_file(why, Path::new(&format!("/proc/{pid}/{file}")), map.text()).remedy_for(
                Errno::EPERM,
                "the runtime lacks CAP_SETUID, CAP_SETGID or CAP_SETFCAP, or a container engine forbids this",
            )
        };
        write("say who the container's users are outside", "uid_map", &self.uids)?;
        write("say which groups its groups are outside", "gid_map", &self.gids)?;
        Ok(Some(namespace))
    }
    // ANCHOR_END: write-maps

    // ANCHOR: become-root
    /// The child's half, once the maps are written: it becomes user 0 of its namespace. Up to now it has all
    /// capabilities there, but is still the user outside who made it, a nobody inside.
    pub fn become_root(&self, parent: &Parent) -> Result<()> {
        if self.mode == Mode::Host {
            return Ok(());
        }
        User::root().become_it()?;
        parent.must_live()
    }
    // ANCHOR_END: become-root
}
