//! Which namespaces a container has: new ones, or somebody else's, that are named by a path.
//!
//! A process enters another's namespace by setns(2). Two kinds are special. A PID namespace takes effect on children only, so who has
//! entered one has to give birth once more. And a user namespace decides what one may do with the others: one that belongs
//! to it can be entered only after it, and one that belongs to the machine only before.

use std::fs::File;
use std::path::Path;

use cooperage::container::process::Parent;
use cooperage::container::sys::{self, CloneFlags};
use cooperage::told::errors::{Error, Result};
use nix::errno::Errno;
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::bundle::wrong;

/// A container's namespaces.
pub struct Namespaces {
    /// These are new.
    pub new: CloneFlags,
    /// And these are there, open.
    join: Vec<(CloneFlags, File)>,
}

/// CLONE_NEWTIME, which nix has no name for.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    CloneFlags::from_bits_retain(kind as i32)
}

impl Namespaces {
    /// Those that config.json asks for.
    pub fn of(linux: &Linux) -> Result<Namespaces> {
        let mut found = Namespaces { new: CloneFlags::empty(), join: Vec::new() };
        for namespace in linux.namespaces().iter().flatten() {
            let kind = namespace.typ();
            match namespace.path() {
                None => found.new |= flag(kind),
                Some(path) => found.join.push((flag(kind), open(kind, path)?)),
            }
        }
        Ok(found)
    }

    /// All of a process, as far as they are others than this one's.
    pub fn of_process(pid: i32) -> Result<Namespaces> {
        let mut join = Vec::new();
        for (name, flag) in [
            ("user", CloneFlags::CLONE_NEWUSER),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("net", CloneFlags::CLONE_NEWNET),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("time", CLONE_NEWTIME),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ] {
            let path = format!("/proc/{pid}/ns/{name}");
            match File::open(&path) {
                Ok(file) if cooperage::container::user::same_namespace(&file, name) => {}
                Ok(file) => join.push((flag, file)),
                // A kernel without namespaces of that kind.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && name == "time" => {}
                Err(error) => return Err(Error::io("open the container's namespaces", &path, &error)),
            }
        }
        Ok(Namespaces { new: CloneFlags::empty(), join })
    }

    /// Is this kind new?
    pub fn has_new(&self, kind: CloneFlags) -> bool {
        self.new.contains(kind)
    }

    /// Has the container one of its own, or another container's?
    pub fn has(&self, kind: CloneFlags) -> bool {
        self.has_new(kind) || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    /// Is there one in which others are already?
    pub fn has_others(&self) -> bool {
        !self.join.is_empty()
    }

    /// Those that a child can be born in. With namespaces to enter first it is born in none.
    pub fn at_birth(&self) -> CloneFlags {
        if self.join.is_empty() { self.of_birth() } else { CloneFlags::empty() }
    }

    /// All new ones but two. A cgroup namespace begins where its maker stands, and so it waits until the cgroup has been
    /// entered. And mounts are copied when it is known who the users are.
    fn of_birth(&self) -> CloneFlags {
        self.new - CloneFlags::CLONE_NEWCGROUP - CLONE_NEWTIME
    }

    // ANCHOR: enter-namespaces
    /// The child's half: enters those that are there. Then it has to be born once more, into the new ones.
    pub fn enter(&self, parent: &Parent) -> Result<()> {
        if self.join.is_empty() {
            return Ok(());
        }
        let mut waiting: Vec<&(CloneFlags, File)> =
            self.join.iter().filter(|(kind, _)| *kind != CloneFlags::CLONE_NEWUSER).collect();
        let users = self.join.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWUSER);
        if let Some((kind, users)) = users {
            // Those of the machine first. What may not be entered yet may be after that.
            waiting.retain(|(kind, file)| !matches!(set(*kind, file), Ok(())));
            set(*kind, users)?;
        }
        for (kind, file) in waiting {
            set(*kind, file)?;
        }
        parent.hand_over(self.of_birth())
    }
    // ANCHOR_END: enter-namespaces
}

fn set(kind: CloneFlags, file: &File) -> Result<()> {
    sys::setns("enter a namespace that is there", file, kind)
}

fn open(kind: LinuxNamespaceType, path: &Path) -> Result<File> {
    let field = || format!("linux.namespaces: {kind}");
    let file = File::open(path).map_err(|error| wrong(field(), format!("{}: {error}", path.display())))?;
    // NS_GET_NSTYPE of ioctl_nsfs(2): what it is, before anything is made.
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: it takes no argument and returns a number.
    let found = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), NS_GET_NSTYPE) };
    match Errno::result(found) {
        Ok(found) if found == kind as i32 => Ok(file),
        Ok(_) => Err(wrong(field(), format!("{} is a namespace of another kind", path.display()))),
        Err(_) => Err(wrong(field(), format!("{} is no namespace", path.display()))),
    }
}
