//! Cgroups, version 2: one tree for all controllers.
//!
//! Two rules of its own, both in the kernel's admin-guide/cgroup-v2 document. A cgroup has the files of a
//! controller only if its parent's `cgroup.subtree_control` names it. And a cgroup whose
//! subtree_control names any may hold no process itself ("no internal processes"), unless it is the root.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, geteuid};

use super::devices;
use super::hierarchy::{
    Hierarchy, Mount, make_directory, number_in, own_directory, value_of, write_disk_limit, write_limit,
};
use super::limits::{Cpus, Limits};
use crate::container::pid::PROC_FLAGS;
use crate::container::root::NewRoot;
use crate::container::sys::{self, MsFlags};
use crate::told::errors::{Advise, Error, Result};

/// The controllers that a container is put under.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

const DELEGATE: &str = "run as root, or in a cgroup delegated to you: \
     systemd-run --user --scope -p Delegate=yes cargo run --bin chapter06 -- ...";

/// Where processes go that were in the way: see `make_room`.
pub const LEAF: &str = "runtimes";

/// A container's cgroup.
pub struct V2 {
    directory: PathBuf,
}

impl V2 {
    /// A place for the cgroup `name`; `None` where no cgroup2 hierarchy has a controller to offer (on a
    /// hybrid machine version 1 has them).
    pub fn find(name: &str, mounts: &[Mount], memberships: &str) -> Result<Option<V2>> {
        let Some((mount, own)) = own_directory(mounts, memberships, None) else { return Ok(None) };
        let offered = words(&mount.point.join("cgroup.controllers"));
        if !CONTROLLERS.iter().any(|controller| offered.iter().any(|word| word == controller)) {
            return Ok(None);
        }
        Ok(Some(V2 { directory: V2::parent(mount, own).join(name) }))
    }

    /// The cgroup below which a process in the cgroup `own` makes others. Root makes them at the top, which
    /// is exempt from the rule about internal processes. (What only looks like the top, in a container,
    /// has a cgroup.type.) Others make them in the cgroup that was delegated to them: their own, or the one
    /// above if room was made there before.
    pub fn parent(mount: &Mount, own: PathBuf) -> PathBuf {
        let at_top = geteuid().is_root()
            && !mount.point.join("cgroup.type").exists()
            && nix::unistd::access(&mount.point, nix::unistd::AccessFlags::W_OK).is_ok();
        match own.parent() {
            _ if at_top => mount.point.clone(),
            Some(above) if own.ends_with(LEAF) => above.to_path_buf(),
            _ => own,
        }
    }

    /// The cgroup at `directory`, wherever that is.
    pub fn at(directory: PathBuf) -> V2 {
        V2 { directory }
    }

    // ANCHOR: v2-offer
    /// Lets the children of `parent` have these controllers.
    pub fn offer(parent: &Path, controllers: &[&str]) -> Result<()> {
        let given = words(&parent.join("cgroup.subtree_control"));
        let missing: Vec<_> = controllers
            .iter()
            .filter(|name| !given.iter().any(|word| word == *name))
            .map(|name| format!("+{name}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let file = parent.join("cgroup.subtree_control");
        let why = "let cgroups below have these controllers";
        match sys::write_file(why, &file, missing.join(" ")) {
            Err(error) if error.errno() == Some(Errno::EBUSY) => {
                V2::make_room(parent)?;
                sys::write_file(why, &file, missing.join(" ")).remedy_for(
                    Errno::EBUSY,
                    "processes that are not yours to move are in this cgroup, and then the cgroups below it can \
                     have no controller: systemd-run --user --scope -p Delegate=yes gives you one of your own",
                )
            }
            result => {
                result.remedy_for(Errno::EACCES, DELEGATE).remedy_for(Errno::EPERM, DELEGATE).remedy_for(
                    Errno::ENOENT,
                    "the cgroup above does not hand that controller on: its owner can write +NAME to its \
                     cgroup.subtree_control; or run in one that systemd delegates: \
                     systemd-run --user --scope -p Delegate=yes",
                )
            }
        }
    }
    // ANCHOR_END: v2-offer

    // ANCHOR: v2-make-room
    /// "No internal processes": moves those of `parent` into a leaf beside the container's.
    fn make_room(parent: &Path) -> Result<()> {
        let leaf = parent.join(LEAF);
        if !leaf.is_dir() {
            match make_directory(&leaf, DELEGATE) {
                Err(error) if error.errno() == Some(Errno::EEXIST) => {} // another runtime was faster
                made => made?,
            }
        }
        let moved = V2::move_all(parent, &leaf);
        if moved.is_err() {
            let _ = fs::remove_dir(&leaf); // which works only if it is empty
        }
        moved.remedy_for(
            Errno::EACCES,
            "processes are in the way that are not yours to move; \
             systemd-run --user --scope -p Delegate=yes gives you a cgroup with yours alone",
        )
    }

    fn move_all(from: &Path, to: &Path) -> Result<()> {
        // Not once: while they are moved they may make new ones.
        for _ in 0..10 {
            // 0 stands for one that can't be seen from this PID namespace.
            let pids: Vec<_> =
                words(&from.join("cgroup.procs")).into_iter().filter(|pid| pid != "0").collect();
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                let why = "make room: a cgroup with cgroups below may hold no process";
                match sys::write_file(why, &to.join("cgroup.procs"), pid) {
                    Err(error) if error.errno() == Some(Errno::ESRCH) => {} // it has ended
                    moved => moved?,
                }
            }
        }
        Ok(())
    }
    // ANCHOR_END: v2-make-room

    // ANCHOR: v2-limits
    /// Writes the limits into the files of the cgroup.
    fn set(&self, limits: &Limits) -> Result<()> {
        if let Some(memory) = limits.memory {
            write_limit("limit the memory", &self.directory, "memory.max", memory.bytes())?;
            // Not there when the kernel has no swap.
            if self.directory.join("memory.swap.max").exists() {
                write_limit("let it use no swap instead", &self.directory, "memory.swap.max", 0)?;
            }
        }
        if let Some(cpus) = limits.cpus {
            let value = format!("{} {}", cpus.quota(), Cpus::PERIOD);
            write_limit("limit the processor time in each period (us)", &self.directory, "cpu.max", value)?;
        }
        if let Some(pids) = limits.pids {
            write_limit("limit the number of processes", &self.directory, "pids.max", pids)?;
        }
        for rate in &limits.writes {
            let value = format!("{} wbps={}", rate.number()?, rate.bytes());
            write_disk_limit(&self.directory, "io.max", value)?;
        }
        Ok(())
    }
    // ANCHOR_END: v2-limits
}

impl Hierarchy for V2 {
    fn directories(&self) -> Vec<&Path> {
        vec![&self.directory]
    }

    fn create(&self, limits: &Limits) -> Result<()> {
        let parent = self.directory.parent().unwrap_or(Path::new("/"));
        let offered = words(&parent.join("cgroup.controllers"));
        let wanted = [
            ("memory", limits.memory.is_some()),
            ("cpu", limits.cpus.is_some()),
            ("pids", limits.pids.is_some()),
        ];
        let disks = (!limits.writes.is_empty()).then_some("io");
        // What is offered is taken along for its counters; what a limit needs must be there.
        let needed: Vec<&str> = CONTROLLERS
            .into_iter()
            .filter(|name| {
                offered.iter().any(|word| word == name)
                    || wanted.iter().any(|(need, yes)| need == name && *yes)
            })
            .chain(disks)
            .collect();
        V2::offer(parent, &needed)?;
        make_directory(&self.directory, DELEGATE)?;
        self.set(limits)?;
        limits.devices.as_ref().map_or(Ok(()), |rules| devices::allow(&self.directory, rules))
    }

    fn open(&self) -> Result<Option<OwnedFd>> {
        let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let shown = || format!("open({}, O_PATH|O_DIRECTORY)", self.directory.display());
        nix::fcntl::open(&self.directory, how, Mode::empty())
            .map(Some)
            .map_err(|errno| Error::call("open the new cgroup", shown(), errno))
    }

    // ANCHOR: v2-delegate
    /// What belongs to the container's root from then on is the directory, so that others can be made in it, and the
    /// files that the kernel lists: those that say who is where below. Not `memory.max` and its like: they are
    /// the host's word to the container. See cgroups(7), "Cgroups v2 delegation".
    fn delegate(&self, uid: Uid, gid: Gid) -> Result<()> {
        let listed = sys::read_file(Path::new("/sys/kernel/cgroup/delegate")).unwrap_or_default();
        let named = listed.lines().map(|name| self.directory.join(name)).filter(|file| file.exists());
        for path in [self.directory.clone()].into_iter().chain(named) {
            sys::chown("let the container's root make cgroups below its own", &path, uid, gid)?;
        }
        Ok(())
    }
    // ANCHOR_END: v2-delegate

    fn enter(&self) -> Result<()> {
        sys::write_file("enter the cgroup: 0 is the writer itself", &self.directory.join("cgroup.procs"), "0")
    }

    // ANCHOR: v2-thaw
    /// A frozen process of version 2 can be killed. It is thawed all the same, because a signal that it
    /// could handle has no effect before.
    fn thaw(&self) -> Result<()> {
        let file = self.directory.join("cgroup.freeze");
        if number_in(&file) == Some(1) {
            sys::write_file("let it go on", &file, "0")?;
        }
        Ok(())
    }
    // ANCHOR_END: v2-thaw

    // ANCHOR: v2-counters
    fn oom_kills(&self) -> Option<u64> {
        value_of(&self.directory.join("memory.events"), "oom_kill")
    }

    /// Since Linux 5.19.
    fn peak_memory(&self) -> Option<u64> {
        number_in(&self.directory.join("memory.peak"))
    }
    // ANCHOR_END: v2-counters

    // ANCHOR: v2-view
    fn mount_view(&self, root: &NewRoot) -> Result<()> {
        let mount = |why: &str, kind: &str| {
            let place = root.directory("sys/fs/cgroup")?;
            let how = PROC_FLAGS | MsFlags::MS_RDONLY;
            sys::mount(why, Some(Path::new(kind)), place.path(), Some(kind), how, None)
        };
        let mount_it = || mount("see its own limits and counters, and change none", "cgroup2");
        match mount_it() {
            // An ordinary user's container in the host's network has the host's /sys, where the host's cgroups
            // are mounted already. The kernel mounts no filesystem right on top of itself.
            Err(error) if error.errno() == Some(Errno::EBUSY) => {
                mount("put something between its view and the host's", "tmpfs").and_then(|()| mount_it())
            }
            result => result,
        }
    }
    // ANCHOR_END: v2-view
}

fn words(file: &Path) -> Vec<String> {
    sys::read_file(file).unwrap_or_default().split_whitespace().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    //! Over a directory that looks like a cgroup: the kernel's files are put there beforehand.

    use super::*;
    use crate::container::cgroup::{Cpus, Memory};

    type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

    fn tree(files: &[(&str, &str)]) -> std::io::Result<tempfile::TempDir> {
        let tree = tempfile::tempdir()?;
        for (name, text) in files {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            fs::write(path, text)?;
        }
        Ok(tree)
    }

    fn mount(point: &Path) -> Mount {
        Mount { root: "/".into(), point: point.into(), kind: "cgroup2".into(), options: vec!["rw".into()] }
    }

    #[test]
    fn limits_go_into_their_files() -> Outcome {
        let names = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"];
        let tree = tree(&names.map(|name| (name, "max")))?;
        let limits = Limits {
            memory: Some("64m".parse::<Memory>()?),
            cpus: Some("0.5".parse::<Cpus>()?),
            pids: Some(100),
            ..Limits::default()
        };
        V2::at(tree.path().into()).set(&limits)?;
        let written = names.map(|name| fs::read_to_string(tree.path().join(name)).unwrap_or_default());
        // The kernel's files are written as a whole; here the end of "max" may show through.
        assert_eq!(written[0], "67108864");
        assert_eq!(&written[1][..1], "0");
        assert_eq!(written[2], "50000 100000");
        assert_eq!(written[3], "100");
        Ok(())
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error() -> Outcome {
        let tree = tree(&[])?;
        let limits = Limits { pids: Some(100), ..Limits::default() };
        let error = V2::at(tree.path().into()).set(&limits).err().ok_or("it must fail")?;
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        assert!(error.advice().is_some_and(|advice| advice.contains("controller")), "{error}");
        assert!(!tree.path().join("pids.max").exists(), "a kernel file is never made");
        Ok(())
    }

    #[test]
    fn only_missing_controllers_are_handed_on() -> Outcome {
        let tree =
            tree(&[("cgroup.controllers", "cpu io memory pids"), ("cgroup.subtree_control", "cpu pids")])?;
        V2::offer(tree.path(), &["memory", "cpu", "pids"])?;
        assert_eq!(&fs::read_to_string(tree.path().join("cgroup.subtree_control"))?[..7], "+memory");
        fs::write(tree.path().join("cgroup.subtree_control"), "cpu memory pids")?;
        V2::offer(tree.path(), &["memory", "cpu", "pids"])?;
        assert_eq!(fs::read_to_string(tree.path().join("cgroup.subtree_control"))?, "cpu memory pids");
        Ok(())
    }

    #[test]
    fn counters_are_read() -> Outcome {
        let tree = tree(&[
            ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("memory.peak", "67108864\n"),
            ("cgroup.freeze", "1\n"),
            ("cgroup.procs", ""),
        ])?;
        let cgroup = V2::at(tree.path().into());
        assert_eq!((cgroup.oom_kills(), cgroup.peak_memory()), (Some(2), Some(64 << 20)));
        cgroup.thaw()?;
        assert!(fs::read_to_string(tree.path().join("cgroup.freeze"))?.starts_with('0'));
        cgroup.enter()?;
        assert_eq!(fs::read_to_string(tree.path().join("cgroup.procs"))?, "0");
        Ok(())
    }

    #[test]
    fn the_place_is_below_the_own_cgroup_unless_at_the_top() -> Outcome {
        let own = "/user.slice/run-1.scope";
        let membership = format!("0::{own}\n");
        let controllers = ("cgroup.controllers", "cpu memory pids");
        // A real top has no cgroup.type; what a container sees as the top has one.
        let procs = ("user.slice/run-1.scope/cgroup.procs", "");
        let delegated = tree(&[controllers, ("cgroup.type", "domain"), procs])?;
        let found = V2::find("c", &[mount(delegated.path())], &membership)?.ok_or("it is there")?;
        assert_eq!(found.directory, delegated.path().join("user.slice/run-1.scope/c"));
        if geteuid().is_root() {
            let top = tree(&[controllers, procs])?;
            let found = V2::find("c", &[mount(top.path())], &membership)?.ok_or("it is there")?;
            assert_eq!(found.directory, top.path().join("c"));
        }
        Ok(())
    }

    #[test]
    fn a_hierarchy_without_controllers_is_not_in_force() -> Outcome {
        let hybrid = tree(&[("cgroup.controllers", "")])?;
        assert!(V2::find("c", &[mount(hybrid.path())], "0::/\n")?.is_none());
        assert!(V2::find("c", &[], "0::/\n")?.is_none());
        Ok(())
    }
}
