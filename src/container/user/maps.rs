//! Chapter 8: the maps of a user namespace, which say who a user of it is outside.
//!
//! `/proc/PID/uid_map` and `gid_map` are written once, from outside, before anything else happens in the namespace. Until
//! then everybody in it is the overflow user, 65534. See user_namespaces(7), "User and group ID mappings".

use std::fmt;
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;

use super::namespace::in_first_user_namespace;
use super::person::User;
use super::range::Range;
use crate::container::process::{Child, Parent};
use crate::container::sys::{self, CloneFlags};
use crate::told::errors::{Advise, Error, Result};
use crate::told::explain;

/// Which users a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Users of its own: its root is nobody outside
    Private,
    /// The host's users: its root is root
    Host,
}

/// One line of a map: `count` users in a row, who they are inside and who outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first of them, inside.
    pub inside: u32,
    /// The same one, outside: in the namespace of whoever reads or writes the map.
    pub outside: u32,
    /// How many there are.
    pub count: u32,
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

/// Who is who: all lines of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Map(pub Vec<Extent>);

impl Map {
    /// The map in this file of /proc.
    pub fn read(file: &str) -> Result<Map> {
        let text = sys::read_file(Path::new(file))
            .map_err(|error| Error::io("see who is who here", file, &error))?;
        Ok(Map::parse(&text))
    }

    fn parse(text: &str) -> Map {
        let extent = |line: &str| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
            Some(Extent { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
        };
        Map(text.lines().filter_map(extent).collect())
    }

    // ANCHOR: one-to-one
    /// For a namespace below one that has this map: whoever has a number there has the same in here.
    pub fn one_to_one(&self) -> Map {
        Map(self.0.iter().map(|extent| Extent { outside: extent.inside, ..*extent }).collect())
    }
    // ANCHOR_END: one-to-one

    /// Who is this inside, seen from outside? `None`: there is no such user.
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.0.iter().find_map(|extent| {
            let offset = inside.checked_sub(extent.inside).filter(|&offset| offset < extent.count)?;
            extent.outside.checked_add(offset)
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|extent| u64::from(extent.count)).sum()
    }

    /// As the kernel wants it: a line for each extent.
    fn text(&self) -> String {
        self.0.iter().map(|extent| format!("{extent}\n")).collect()
    }
}

/// "0 to 65535"
impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for extent in &self.0 {
            let (first, end) = (u64::from(extent.inside), u64::from(extent.inside) + u64::from(extent.count));
            match spans.last_mut() {
                Some((_, last)) if *last == first => *last = end,
                _ => spans.push((first, end)),
            }
        }
        for (index, (first, end)) in spans.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match end - first {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first} to {}", end - 1)?,
            }
        }
        Ok(())
    }
}

/// A container's users and groups, seen from the runtime.
pub struct Users {
    /// Who they are outside.
    pub uids: Map,
    /// The same for groups.
    pub gids: Map,
    mode: Mode,
    /// Its alone, as long as this lives.
    range: Option<Range>,
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
        let here = (Map::read("/proc/self/uid_map")?, Map::read("/proc/self/gid_map")?);
        let one_to_one = Users { uids: here.0.one_to_one(), gids: here.1.one_to_one(), mode, range: None };
        if mode == Mode::Host {
            return Ok(one_to_one);
        }
        if !in_first_user_namespace()? {
            let (uids, gids) = (&one_to_one.uids, &one_to_one.gids);
            explain::remark(&format!(
                "this is a user namespace already: the container shares its users {uids} and groups {gids}"
            ));
            return Ok(one_to_one);
        }
        let range = Range::take()?;
        Ok(Users { uids: range.uids(), gids: range.gids(), mode, range: Some(range) })
    }
    // ANCHOR_END: users-new

    /// The namespace that the child is made in.
    pub fn namespace(&self) -> CloneFlags {
        match self.mode {
            Mode::Private => CloneFlags::CLONE_NEWUSER,
            Mode::Host => CloneFlags::empty(),
        }
    }

    /// Are they others than the users who own the files outside?
    pub fn differ(&self) -> bool {
        self.range.is_some()
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
        // The kernel forgets that with each change of the user.
        parent.die_with_runtime()
    }
    // ANCHOR_END: become-root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(u32, u32, u32)]) -> Map {
        Map(lines.iter().map(|&(inside, outside, count)| Extent { inside, outside, count }).collect())
    }

    #[test]
    fn a_map_is_three_columns() {
        let read = Map::parse("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(read, map(&[(0, 1000, 1), (1, 100_000, 65536)]));
        assert_eq!(read.text(), "0 1000 1\n1 100000 65536\n");
        assert_eq!((read.outside(0), read.outside(65536)), (Some(1000), Some(165_535)));
        assert_eq!(read.outside(65537), None);
        assert_eq!(read.count(), 65537);
        assert_eq!(Map::parse("0 0\nx y z\n"), map(&[]));
    }

    #[test]
    fn below_everybody_keeps_the_number() {
        let below = map(&[(0, 1000, 1), (5, 100_000, 10)]).one_to_one();
        assert_eq!(below, map(&[(0, 0, 1), (5, 5, 10)]));
        assert_eq!(map(&[(0, 0, u32::MAX)]).outside(u32::MAX), None);
    }

    #[test]
    fn spans_are_told_in_words() {
        assert_eq!(map(&[(0, 7, 1)]).to_string(), "0");
        assert_eq!(map(&[(0, 7, 1), (1, 100, 65536)]).to_string(), "0 to 65536");
        assert_eq!(map(&[(0, 7, 1), (5, 100, 2)]).to_string(), "0, 5 to 6");
    }
}
