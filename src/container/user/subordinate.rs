//! Chapter 8: the numbers that an ordinary user may hand out.
//!
//! The kernel lets an ordinary user map one user, oneself. More is a matter of trust: who may have which numbers stands in
//! /etc/subuid and /etc/subgid, which root writes, and newuidmap(1) and newgidmap(1), which are set-user-ID root,
//! write the map of whoever asks for what stands there. They look up the asker outside, so somebody who has stayed outside
//! has to call them.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid};

use super::map::{Extent, Map};
use super::range::Entry;
use crate::container::programs;
use crate::container::sys::{self, CloneFlags};
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// What an ordinary user can do about having one user only.
pub const REMEDY: &str = "have a range of users: apt install uidmap, and a line USER:100000:65536 in /etc/subuid and in \
                          /etc/subgid (sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER)";

const STEP: &str = "give an ordinary user's containers more users than one";

/// The users and groups that an ordinary user's containers can have: oneself as 0, and the subordinate ones from 1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subordinate {
    /// The users.
    pub uids: Map,
    /// The groups.
    pub gids: Map,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl Subordinate {
    // ANCHOR: subordinate-find
    /// What stands in /etc/subuid and /etc/subgid for this user. The error says what is missing.
    pub fn find(user: Uid, group: Gid) -> Result<Subordinate> {
        let program = |name: &str| {
            programs::find(name, &[]).ok_or_else(|| missing(&format!("the program {name} is not there")))
        };
        let (newuidmap, newgidmap) = (program("newuidmap")?, program("newgidmap")?);
        let name = nix::unistd::User::from_uid(user).ok().flatten().map(|user| user.name);
        let map = |file: &str, own: u32| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            map_of(&text, &[name.as_deref(), Some(&user.to_string())], own)
                .ok_or_else(|| missing(&format!("{file} has no line for this user")))
        };
        Ok(Subordinate {
            uids: map("/etc/subuid", user.as_raw())?,
            gids: map("/etc/subgid", group.as_raw())?,
            newuidmap,
            newgidmap,
        })
    }
    // ANCHOR_END: subordinate-find

    /// Has this process's user namespace as many users and groups?
    pub fn are_those_of(&self, pid: Pid) -> bool {
        let is = |file: &str, map: &Map| {
            Map::read(&format!("/proc/{pid}/{file}")).is_ok_and(|read| read.count() >= map.count())
        };
        is("uid_map", &self.uids) && is("gid_map", &self.gids)
    }

    // ANCHOR: scribes
    /// Two children who stay outside, and will call the two programs for this process.
    pub fn scribes(&self) -> Result<Scribes> {
        let this = Pid::this();
        Ok(Scribes {
            users: Scribe::hire(&self.newuidmap, this, &self.uids)?,
            groups: Scribe::hire(&self.newgidmap, this, &self.gids)?,
        })
    }
}

/// Those who have stayed outside.
pub struct Scribes {
    users: Scribe,
    groups: Scribe,
}

impl Scribes {
    /// The namespace is there: they write its maps. False if that is not to be had, and nothing is written.
    pub fn write(self) -> Result<bool> {
        if let Err(error) = self.users.write() {
            explain::remark(&format!("one user only, oneself: {}", error.reason()));
            return Ok(false);
        }
        self.groups.write().map(|()| true)
    }
    // ANCHOR_END: scribes
}

/// A child that has stayed outside, to become one of the two programs.
struct Scribe {
    pid: Option<Pid>,
    ready: Option<File>,
    said: File,
    program: PathBuf,
}

impl Scribe {
    fn hire(program: &Path, target: Pid, map: &Map) -> Result<Scribe> {
        let (ready_read, ready_write) = sys::pipe(STEP)?;
        let (said_read, said_write) = sys::pipe(STEP)?;
        let why = "leave somebody outside, who may write the map";
        // SAFETY: this is the start of the runtime, which has one thread.
        if let Some(pid) = unsafe { sys::clone(why, CloneFlags::empty())? } {
            return Ok(Scribe {
                pid: Some(pid),
                ready: Some(File::from(ready_write)),
                said: File::from(said_read),
                program: program.to_path_buf(),
            });
        }
        drop((ready_write, said_read));
        if matches!(File::from(ready_read).read(&mut [0]), Ok(1)) {
            // What it says is for the runtime to tell; narrated, it may say it itself.
            if !explain::enabled() {
                let _ = nix::unistd::dup2_stderr(&said_write);
            }
            let _ = become_program(program, target, map);
        }
        sys::exit(1)
    }

    /// The namespace is there: let it write.
    fn write(mut self) -> Result<()> {
        if let Some(mut ready) = self.ready.take() {
            let _ = ready.write_all(b"!");
        }
        let mut said = String::new();
        let _ = self.said.read_to_string(&mut said);
        match self.wait() {
            Some(WaitStatus::Exited(_, 0)) => Ok(()),
            _ => Err(Error::new(STEP, format!("{} failed: {}", self.program.display(), said.trim()))),
        }
    }

    /// Waits for its end. One that was told nothing ends when the pipe does.
    fn wait(&mut self) -> Option<WaitStatus> {
        self.ready = None;
        let pid = self.pid.take()?;
        loop {
            match waitpid(pid, None) {
                Err(Errno::EINTR) => {}
                ended => return ended.ok(),
            }
        }
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.wait();
    }
}

/// newuidmap PID INSIDE OUTSIDE COUNT ...
fn become_program(program: &Path, target: Pid, map: &Map) -> Result<std::convert::Infallible> {
    let no_zero = |_| Error::new(STEP, "a path has a zero byte in it");
    let path = CString::new(program.as_os_str().as_bytes()).map_err(no_zero)?;
    let mut arguments = vec![path.clone(), CString::new(target.to_string()).map_err(no_zero)?];
    for extent in &map.0 {
        for number in [extent.inside, extent.outside, extent.count] {
            arguments.push(CString::new(number.to_string()).map_err(no_zero)?);
        }
    }
    Err(sys::execve("write the map, as root allows it", &path, &arguments, &[]))
}

fn missing(what: &str) -> Error {
    Error::new(STEP, what).remedy(REMEDY)
}

// ANCHOR: subordinate-map
/// Oneself as 0, and from 1 on what these lines of subuid(5) give to one of `owners`. `None` if that is nothing.
fn map_of(text: &str, owners: &[Option<&str>], own: u32) -> Option<Map> {
    let mut map = vec![Extent { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for entry in text.lines().filter_map(Entry::parse) {
        // The kernel takes 340 lines, and nobody twice.
        let taken =
            |extent: &Extent| entry.meets(extent.outside, extent.outside.saturating_add(extent.count));
        if owners.contains(&Some(entry.owner)) && map.len() < 340 && !map.iter().any(taken) {
            let count = entry.count.min(u32::MAX - next);
            map.push(Extent { inside: next, outside: entry.start, count });
            next += count;
        }
    }
    (map.len() > 1).then_some(Map(map))
}
// ANCHOR_END: subordinate-map

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Option<Vec<String>> {
        let map = map_of(text, &[Some("alice"), Some("1000")], 1000)?;
        Some(map.0.iter().map(Extent::to_string).collect())
    }

    #[test]
    fn oneself_comes_first_and_then_what_is_given() {
        let text = "bob:100000:65536\nalice:165536:65536\n1000:300000:10\n";
        assert_eq!(
            lines(text),
            Some(vec!["0 1000 1".into(), "1 165536 65536".into(), "65537 300000 10".into()])
        );
    }

    #[test]
    fn nothing_given_is_nothing() {
        for text in ["", "bob:100000:65536\n", "alice:x:1\n", "alice:1000:1\n", "alice:4294967295:5\n"] {
            assert_eq!(lines(text), None, "{text}");
        }
    }

    #[test]
    fn nobody_is_mapped_twice() {
        let text = "alice:900:200\nalice:5000:10\nalice:5009:3\nalice:7000:1\n";
        assert_eq!(lines(text), Some(vec!["0 1000 1".into(), "1 5000 10".into(), "11 7000 1".into()]));
    }
}
