//! What is known of a container between two commands: a directory for each, with a file that is replaced at once.
//!
//! There is no daemon. So each command reads what the one before has written, looks at what the kernel says of the process,
//! and does not believe the file where the two differ.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cooperage::told::errors::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::unistd::{Pid, geteuid};
use oci_spec::runtime::Hooks;
use serde::{Deserialize, Serialize};

use crate::bundle::Bundle;
use crate::cgroups::Cgroups;
use crate::cli::{Global, is_ordinary_user};
use crate::log::rfc3339;

/// The file.
const FILE: &str = "state.json";
/// The container's config.json.
const CONFIG: &str = "config.json";
/// The socket at which a container that was created waits.
const GATE: &str = "start";
/// Its name as long as the container is being made.
const CLOSED_GATE: &str = "start.new";

/// What is written there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The version of the specification that its config.json follows.
    pub version: String,
    /// The bundle.
    pub bundle: PathBuf,
    /// The root directory.
    pub rootfs: PathBuf,
    /// The first process; 0 as long as there is none.
    pub pid: i32,
    /// When that process was born, in the kernel's ticks: its number may be another's by now.
    pub born: u64,
    /// When it was created.
    pub created: String,
    /// What clients have written there.
    pub annotations: HashMap<String, String>,
    /// Its cgroups.
    pub cgroups: Cgroups,
    /// The unit of systemd's that they are, if it has made them.
    pub scope: Option<String>,
    /// Has it a PID namespace that ends with its first process?
    pub own_pids: bool,
    /// The programs that are still to be run.
    pub hooks: Option<Hooks>,
}

/// How it is with a container. See runtime.md, "State".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits to be started.
    Created,
    /// Its command runs.
    Running,
    /// It runs, and stands still.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's place, locked: one command at a time changes anything.
pub struct Place {
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    /// The directory that all are below.
    pub fn above(global: &Global) -> PathBuf {
        if let Some(root) = &global.root {
            return root.clone();
        }
        if !is_ordinary_user() {
            return "/run/cooperage/oci".into();
        }
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(directory) if !directory.is_empty() => Path::new(&directory).join("cooperage/oci"),
            _ => format!("/tmp/cooperage-oci-{}", geteuid()).into(),
        }
    }

    // ANCHOR: place-claim
    /// A new place. The directory is made by one call, so of two who want the same name one gets it.
    pub fn claim(global: &Global, id: &str) -> Result<Place> {
        check_id(id)?;
        let above = Place::above(global);
        let step = format!("create the container {id:?}");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&above)
            .map_err(|error| Error::io(&step, &above, &error))?;
        let directory = above.join(id);
        DirBuilder::new().mode(0o700).create(&directory).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::new(&step, "a container with that ID already exists"),
            _ => Error::io(&step, &directory, &error),
        })?;
        Place::lock(directory)
    }
    // ANCHOR_END: place-claim

    /// The place of a container that there is.
    pub fn find(global: &Global, id: &str) -> Result<Place> {
        let place = Place::lock(directory_of(global, id)?)?;
        // It may have been removed while it was waited for.
        directory_of(global, id)?;
        Ok(place)
    }

    fn lock(directory: PathBuf) -> Result<Place> {
        const STEP: &str = "have the container for oneself";
        let file = File::open(&directory).map_err(|error| Error::io(STEP, &directory, &error))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::call(STEP, format!("flock({})", directory.display()), errno))?;
        Ok(Place { directory, _lock: lock })
    }

    /// What is written there.
    pub fn read(&self) -> Result<Record> {
        read(&self.directory)
    }

    // ANCHOR: place-write
    /// Writes it: whoever reads finds the old text or the new one, and never half of it, even if the machine fails.
    pub fn write(&self, record: &Record) -> Result<()> {
        const STEP: &str = "note what is known of the container";
        let (file, new) = (self.directory.join(FILE), self.directory.join("state.json.new"));
        let text = serde_json::to_vec(record).map_err(|error| Error::new(STEP, error.to_string()))?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut opened| opened.write_all(&text).and_then(|()| opened.sync_all()))
            .and_then(|()| fs::rename(&new, &file))
            .map_err(|error| Error::io(STEP, &file, &error))
    }
    // ANCHOR_END: place-write

    /// Keeps config.json as it is now: what becomes of it later is nothing to a container that was created.
    pub fn keep_config(&self, text: &[u8]) -> Result<()> {
        let file = self.directory.join(CONFIG);
        fs::write(&file, text).map_err(|error| Error::io("keep config.json", &file, &error))
    }

    /// In a child: lets go of the lock, without opening it for others. The two share it, so a child that lived on would keep it
    /// when its maker was killed, and nobody could ever delete the container.
    pub fn leave_to_maker(&self) -> Result<()> {
        const STEP: &str = "leave the lock to the runtime";
        let nothing = File::open("/dev/null").map_err(|error| Error::io(STEP, "/dev/null", &error))?;
        // SAFETY: numbers are all that it takes; the lock's descriptor stays this value's, and stands for something else now.
        let result = unsafe { libc::dup3(nothing.as_raw_fd(), self._lock.as_raw_fd(), libc::O_CLOEXEC) };
        Errno::result(result).map(drop).map_err(|errno| Error::call(STEP, "dup3()", errno))
    }

    /// Removes it, with all that is in it.
    pub fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.directory)
            .map_err(|error| Error::io("remove what is known of the container", &self.directory, &error))
    }

    // ANCHOR: gate
    /// The gate at which the container will wait: a socket, and who connects to it starts the container. The name is a short
    /// one, since a socket's name may have 107 bytes and directories have long names.
    pub fn gate(&self) -> Result<OwnedFd> {
        const STEP: &str = "make the gate at which the container waits";
        let failed = |call: &str, errno| Error::call(STEP, call, errno);
        let flags = SockFlag::SOCK_CLOEXEC;
        let gate = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|errno| failed("socket(AF_UNIX)", errno))?;
        let address = self.address(CLOSED_GATE)?;
        bind(gate.as_raw_fd(), &address).map_err(|errno| failed("bind()", errno))?;
        listen(&gate, Backlog::new(1).unwrap_or(Backlog::MAXCONN))
            .map_err(|errno| failed("listen()", errno))?;
        Ok(gate)
    }

    /// Connects to the gate; `None` if nobody waits there any more.
    pub fn knock(&self) -> Result<Option<OwnedFd>> {
        const STEP: &str = "start the container";
        let flags = SockFlag::SOCK_CLOEXEC;
        let knocking = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|errno| Error::call(STEP, "socket(AF_UNIX)", errno))?;
        match connect(knocking.as_raw_fd(), &self.address(GATE)?) {
            Ok(()) => Ok(Some(knocking)),
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::call(STEP, "connect()", errno)),
        }
    }
    // ANCHOR_END: gate

    /// The container is made, and waits: now the gate has the name by which it is found.
    pub fn show_gate(&self) -> Result<()> {
        let (from, to) = (self.directory.join(CLOSED_GATE), self.directory.join(GATE));
        fs::rename(from, &to).map_err(|error| Error::io("let the container be started", &to, &error))
    }

    /// Nobody waits there any more.
    pub fn remove_gate(&self) {
        let _ = fs::remove_file(self.directory.join(GATE));
    }

    fn address(&self, name: &str) -> Result<UnixAddr> {
        let name = format!("/proc/self/fd/{}/{name}", self._lock.as_raw_fd());
        UnixAddr::new(name.as_str()).map_err(|errno| Error::call("name the gate", "sockaddr_un", errno))
    }
}

/// The directory of a container that there is.
fn directory_of(global: &Global, id: &str) -> Result<PathBuf> {
    check_id(id)?;
    let directory = Place::above(global).join(id);
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(Error::new(format!("find the container {id:?}"), "container does not exist"))
}

/// What is known of a container, by anybody who only wants to look.
pub fn look(global: &Global, id: &str) -> Result<(Record, Status)> {
    let directory = directory_of(global, id)?;
    let record = read(&directory)?;
    let status = status_in(&record, &directory);
    Ok((record, status))
}

/// Its config.json, as it was when it was created.
pub fn config(global: &Global, id: &str, record: &Record) -> Result<Bundle> {
    let file = directory_of(global, id)?.join(CONFIG);
    let text =
        fs::read(&file).map_err(|error| Error::io("read what is known of the container", &file, &error))?;
    Bundle::read(record.bundle.clone(), record.rootfs.clone(), text)
}

/// All containers, by their names. One that is being removed, or was never finished, is left out.
pub fn all(global: &Global) -> Vec<(Record, Status)> {
    let entries = fs::read_dir(Place::above(global)).into_iter().flatten().flatten();
    let mut found: Vec<(Record, Status)> = entries
        .filter_map(|entry| {
            let record = read(&entry.path()).ok()?;
            let status = status_in(&record, &entry.path());
            Some((record, status))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    found
}

fn read(directory: &Path) -> Result<Record> {
    const STEP: &str = "read what is known of the container";
    let file = directory.join(FILE);
    let text = fs::read(&file).map_err(|error| {
        Error::io(STEP, &file, &error)
            .remedy("it was never finished: `delete --force` removes what is left of it")
    })?;
    serde_json::from_slice(&text).map_err(|error| Error::new(STEP, format!("{}: {error}", file.display())))
}

impl Place {
    /// How it is with it now.
    pub fn status(&self, record: &Record) -> Status {
        status_in(record, &self.directory)
    }
}

// ANCHOR: status-in
/// How it is with a container. The file says which process it was; the kernel, whether that one lives: a number is given to
/// another process sooner or later, and then that one was born at another time.
fn status_in(record: &Record, directory: &Path) -> Status {
    match born(record.pid) {
        _ if record.pid == 0 => Status::Creating,
        Some(born) if born == record.born => match directory.join(GATE).exists() {
            true => Status::Created,
            false if directory.join(CLOSED_GATE).exists() => Status::Creating,
            false if record.cgroups.is_frozen() => Status::Paused,
            false => Status::Running,
        },
        _ => Status::Stopped,
    }
}

/// When a process was born, in the kernel's ticks; `None` if there is none, or only a zombie. See proc_pid_stat(5).
pub fn born(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name stands in brackets, and may have brackets and spaces itself.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}
// ANCHOR_END: status-in

impl Record {
    /// What is known before there is a process.
    pub fn new(id: &str, bundle: &Bundle, cgroups: Cgroups, own_pids: bool) -> Record {
        Record {
            id: id.to_string(),
            version: bundle.spec.version().clone(),
            bundle: bundle.directory.clone(),
            rootfs: bundle.rootfs.clone(),
            pid: 0,
            born: 0,
            created: rfc3339(SystemTime::now()),
            annotations: bundle.spec.annotations().clone().unwrap_or_default(),
            cgroups,
            scope: None,
            own_pids,
            hooks: bundle.spec.hooks().clone(),
        }
    }

    /// The first process.
    pub fn process(&self) -> Pid {
        Pid::from_raw(self.pid)
    }

    /// What state.json is to others, and what hooks read. See runtime.md, "State".
    pub fn state(&self, status: Status) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.version,
            "id": self.id,
            "status": status.word(),
            "bundle": self.bundle,
        });
        if status != Status::Stopped && self.pid != 0 {
            state["pid"] = self.pid.into();
        }
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }
}

/// What a container may be called: its name is that of a directory.
fn check_id(id: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || [".", ".."].contains(&id) || !id.chars().all(good) {
        return Err(Error::new(
            "name a container",
            format!("{id:?}: letters, digits and _ + - . make an ID"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for id in ["a", "web-1", "A_b+c.d", "0123456789abcdef"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "/a", "a b", "a\n", "ü", "a\0"] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn this_process_was_born() {
        let own = std::process::id() as i32;
        assert_eq!(born(own), born(own));
        assert!(born(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(born(i32::MAX), None);
    }
}
