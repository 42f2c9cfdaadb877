//! The host of a submission, which is the check's lab: what is there, and what a run has done to it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;

use cooperage::container::mountinfo::{self, Mounted};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::verdict::PROCESSES;

pub(super) type Announce = Box<dyn Fn(&str)>;

/// What all runs of a check share.
pub(super) struct Host {
    proc: OwnedFd,
    /// The task whose `todo!()` was reached.
    pub(super) todo: RefCell<Option<String>>,
    /// Is told each command line before it runs.
    pub(super) announce: RefCell<Announce>,
}

impl Host {
    /// Takes hold of /proc, whatever is done to it later.
    pub(super) fn new() -> std::io::Result<Host> {
        let proc = nix::fcntl::open("/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Host { proc, todo: RefCell::new(None), announce: RefCell::new(Box::new(|_| {})) })
    }

    pub(super) fn read(&self, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.read_bytes(name)?).into_owned())
    }

    fn read_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let how = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&self.proc, name, how, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    pub(super) fn mounts(&self) -> Vec<Mounted> {
        let mut mounts = mountinfo::parse(&self.read_bytes("self/mountinfo").unwrap_or_default());
        mounts.sort_by_cached_key(ToString::to_string);
        mounts
    }

    /// What a run has done to its host that is nobody's task.
    pub(super) fn damage(&self, mounts: &[Mounted]) -> Option<(String, String)> {
        let limited = "the grader's lab holds it, but the check cannot go on".to_string();
        let now = self.mounts();
        let is_there = |mount: &Mounted| now.iter().any(|other| other.point == mount.point);
        if let Some(gone) = mounts.iter().find(|mount| !is_there(mount)) {
            let point = gone.point.display();
            let lesson = "a container has its own mount namespace, in which it may unmount; or it \
                          unmounts only what it has mounted itself";
            return Some((format!("it unmounted {point} on its host"), lesson.to_string()));
        }
        for file in ["/sys/fs/cgroup/pids/pids.events", "/sys/fs/cgroup/pids.events"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            let times = text.lines().find_map(|line| line.strip_prefix("max ")).unwrap_or("0");
            if times.trim() != "0" {
                return Some((
                    format!("it reached the limit of {PROCESSES} processes: a fork bomb"),
                    limited,
                ));
            }
        }
        for directory in ["/tmp", "/run", "/var/tmp", "/dev/shm"] {
            if let Ok(found) = nix::sys::statvfs::statvfs(directory)
                && found.blocks() > 0
                && found.blocks_free() == 0
            {
                let size = found.blocks() * found.fragment_size() / (1024 * 1024);
                return Some((format!("it filled the disk: all {size} MiB of {directory}"), limited));
            }
        }
        None
    }

    /// Ends every process in the lab but this one and the lab's init.
    pub(super) fn kill_all(&self) {
        // Once would do: a process that has been sent SIGKILL cannot fork. `Trial::new` has seen to it that
        // this is a lab.
        for _ in 0..3 {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
    }
}

/// Makes a process with this number, which is free, and does nothing: by clone3(2), or where that is forbidden, by telling the kernel
/// which number was the last.
pub(super) fn occupy(pid: i32) -> std::io::Result<()> {
    // SAFETY: all of it may be zero.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.exit_signal = libc::SIGCHLD as u64;
    how.set_tid = &raw const pid as u64;
    how.set_tid_size = 1;
    // SAFETY: the arguments outlive the call. The child makes system calls only, on a copy of this stack.
    let mut born = unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of_val(&how)) };
    if born < 0 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        // SAFETY: see above.
        born = unsafe { libc::fork() }.into();
    }
    match born {
        0 => loop {
            // SAFETY: it has no precondition.
            unsafe { libc::pause() };
        },
        born if born == i64::from(pid) => Ok(()),
        born if born < 0 => Err(std::io::Error::last_os_error()),
        _ => Err(std::io::Error::other("somebody else was faster")),
    }
}

/// The children of a process.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found
}

/// All processes that descend from a process, in order of their depth.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() && found.len() < 10_000 {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// A namespace of a process, such as `net:[4026531840]`.
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// A line of /proc/PID/status: the words after `key:`.
pub fn status_of(pid: i32, key: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().split_whitespace().map(str::to_string).collect()
}

/// Is an error only that nothing is there?
pub fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
