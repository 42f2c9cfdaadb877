//! Exercise 10: the standard.
//!
//! A small OCI runtime. Each of its commands is a program that ends at once; between two of them nothing of it is running
//! but the container itself.
//!
//!     exercise10 create --bundle DIR [--pid-file FILE] ID
//!     exercise10 start ID
//!     exercise10 state ID
//!     exercise10 kill ID [SIGNAL]
//!     exercise10 delete [--force] ID
//!
//! `--root DIR`, before the command, says where containers are noted. Of config.json it reads `root.path`, `process` with
//! `args`, `env` and `cwd`, `hooks.createRuntime` and `annotations`. It is for root: try it in the lab.
//!
//! What is done already: the container, and what is noted of it. What waits, what looks, what is run for others and where the
//! command begins is yours.
#![allow(unused, clippy::all, clippy::diverging_sub_expression, clippy::todo)]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use cooperage::container::process::{self, Newborn, Process, bear};
use cooperage::container::root::NewRoot;
use cooperage::container::sys::{self, CloneFlags, MsFlags};
use cooperage::container::{mount, root};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::task::as_far_as_written;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A runtime for containers, as far as this exercise needs it.
#[derive(Parser)]
struct Args {
    /// Where containers are noted
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/cooperage/exercise10")]
    root: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a container, which then waits to be started
    Create {
        /// The directory with config.json
        #[arg(long, value_name = "DIR", default_value = ".")]
        bundle: PathBuf,
        /// Write the first process's number there
        #[arg(long, value_name = "FILE")]
        pid_file: Option<PathBuf>,
        /// Its name
        id: String,
    },
    /// Start a container that waits
    Start { id: String },
    /// Print what is known of a container
    State { id: String },
    /// Send a signal to its first process
    Kill {
        id: String,
        /// By name or number
        #[arg(default_value = "TERM")]
        signal: String,
    },
    /// Remove what is left of a container
    Delete {
        /// Even one that runs
        #[arg(long)]
        force: bool,
        id: String,
    },
}

fn main() -> ExitCode {
    let Args { root, command } = Args::parse();
    let done = match &command {
        Verb::Create { bundle, pid_file, id } => {
            Place::claim(&root, id).and_then(|place| create(&place, id, bundle, pid_file.as_deref()))
        }
        Verb::Start { id } => Place::find(&root, id).and_then(|place| start(&place)),
        Verb::State { id } => Place::find(&root, id).and_then(|place| state(&place)),
        Verb::Kill { id, signal } => Place::find(&root, id).and_then(|place| send(&place, signal)),
        Verb::Delete { force, id } => Place::find(&root, id).and_then(|place| delete(place, *force)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cooperage: {error}");
            ExitCode::from(error.status)
        }
    }
}

/// `create`
fn create(place: &Place, id: &str, bundle: &Path, pid_file: Option<&Path>) -> Result<()> {
    let mut unfinished = Unfinished { place: Some(place), pid: None };
    let bundle = fs::canonicalize(bundle).map_err(|error| Error::io("find the bundle", bundle, &error))?;
    let config = Config::read(&bundle)?;
    let rootfs = bundle.join(&config.root.path);
    let mut gate = None;
    as_far_as_written("10.1", || {
        gate = Some(make_gate(&place.directory)?);
        Ok(())
    })?;

    let mut newborn = make_container(&rootfs, &config, gate)?;
    unfinished.pid = Some(newborn.pid());
    newborn.until_arrival()?;
    let pid = newborn.pid().as_raw();
    let at_birth = sys::read_file(Path::new(&format!("/proc/{pid}/stat"))).unwrap_or_default();
    let Config { version, annotations, hooks, .. } = config;
    let record = Record { id: id.to_string(), version, bundle, annotations, pid, at_birth, started: false };
    place.write(&record)?;
    let state = record.state("creating", true).to_string();
    for hook in &hooks.create_runtime {
        run_hook(hook, &state)?;
    }
    newborn.release();
    newborn.until_arrival()?;
    if let Some(file) = pid_file {
        fs::write(file, pid.to_string()).map_err(|error| Error::io("write the pid file", file, &error))?;
    }
    unfinished.place = None;
    Ok(())
}

fn make_container(rootfs: &Path, config: &Config, gate: Option<OwnedFd>) -> Result<Newborn> {
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    bear(None, namespaces, |parent| {
        sys::setsid("begin a session of its own: nobody outside is in it")?;
        mount::make_private()?;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        sys::mount("make the root a mount", Some(rootfs), rootfs, None, bind, None)?;
        let root = NewRoot::new(rootfs.to_path_buf(), PathBuf::from("/nowhere"))?;
        mount::furnish(&root)?;
        parent.report_arrival();
        parent.until_released()?;
        root::pivot_into(&root)?;
        // There it is since it has moved in.
        if config.process.cwd != Path::new("/") {
            go_to(&config.process.cwd)?;
        }
        parent.report_arrival();
        if let Some(gate) = gate {
            wait_at_gate(gate)?;
        }
        let arguments: Vec<_> = config.process.args.iter().map(Into::into).collect();
        let environment = config.process.env.iter().map(Into::into).collect();
        process::exec(Process { environment, ..Process::new(&arguments) })
    })
}

/// Task 10.1 (6 points, three stars, 40 minutes): a gate.
///
/// The container's first process waits until it is started, and nobody knows who will do that: `create` has ended by then. Three
/// functions make a gate that is in the container's `place`, a directory of the host's. `make_gate` is called by `create`, before
/// there is a container; `wait_at_gate` by the container's process, which has no way to that directory any more; `open_gate` by
/// `start`. The chapter's gate is a socket. runc's is a FIFO, of which fifo(7) tells who waits for whom.
///
/// Done when the process stands still until `start`, without using the processor and without being woken meanwhile, and no other
/// process waits with it; when it then is the one that becomes the command; and when `start` fails, and does not wait, if
/// nobody waits at the gate: because the container has been started, or because its process is dead.
fn make_gate(place: &Path) -> Result<OwnedFd> {
    todo!("task 10.1")
}

/// See task 10.1.
fn wait_at_gate(gate: OwnedFd) -> Result<()> {
    todo!("task 10.1")
}

/// See task 10.1.
fn open_gate(place: &Path) -> Result<()> {
    todo!("task 10.1")
}

/// Task 10.2 (5 points, two stars, 25 minutes): is it still that one?
///
/// `at_birth` is what /proc/PID/stat said of the container's first process when it had been made. Does this process live? `state`,
/// `kill` and `delete` ask. The text is a line of fields with spaces between them, which proc_pid_stat(5) counts: the third
/// is the state, the twenty-second the time of birth. Many others change while a process lives, and so does the second: its name,
/// in brackets, is whatever the process calls itself.
/// [`sys::read_file`] reads a file.
///
/// Done when `state` says `stopped` of a process that is gone, that is a zombie, or whose number was given to another; and not of
/// one that lives, whatever its name.
fn lives(pid: i32, at_birth: &str) -> bool {
    todo!("task 10.2")
}

/// Task 10.3 (5 points, two stars, 30 minutes): a hook has so long, and no longer.
///
/// Run a hook. Its arguments are `hook.args`, of which the first is its name and not an argument; its environment is
/// `hook.env` (NAME=VALUE each) and nothing else; and on its stdin it finds `state`, which may be longer than what fits into a pipe, and
/// which it need not read. `hook.timeout` is in seconds; without it there is no limit. [`ends_within`] waits.
///
/// Done when `create` fails if a hook cannot be run, ends with another status than 0, is ended by a signal, or is not done in
/// time, and then all that it has started is ended with it; and when nothing is ended that a hook which has done its work in time leaves
/// behind, nor waited for.
fn run_hook(hook: &Hook, state: &str) -> Result<()> {
    todo!("task 10.3")
}

/// Task 10.4 (4 points, two stars, 20 minutes): begin inside.
///
/// The container's process, which has moved into its root, goes to the directory `cwd` of config.json, in which the command then begins. A directory
/// that is not there is made. What is no absolute path, or no directory, is an error.
/// config.json may come from somebody who means harm, the root filesystem too; and whoever has called us may have left a directory of the host's open:
/// /proc/self/fd/20 leads to it. To begin there would be to begin outside (CVE-2024-21626 in runc).
///
/// Done when the command begins in the directory that was asked for, as it is inside, and is not run where that leads out of the container.
fn go_to(cwd: &Path) -> Result<()> {
    todo!("task 10.4")
}

/// `start`
fn start(place: &Place) -> Result<()> {
    let record = place.read()?;
    as_far_as_written("10.1", || open_gate(&place.directory))?;
    place.write(&Record { started: true, ..record })
}

/// `state`
fn state(place: &Place) -> Result<()> {
    let record = place.read()?;
    let status = match (lives(record.pid, &record.at_birth), record.started) {
        (false, _) => "stopped",
        (true, false) => "created",
        (true, true) => "running",
    };
    println!("{:#}", record.state(status, status != "stopped"));
    Ok(())
}

/// `kill`
fn send(place: &Place, signal: &str) -> Result<()> {
    let record = place.read()?;
    let step = "send the container a signal";
    let name = format!("SIG{}", signal.to_uppercase().trim_start_matches("SIG"));
    let signal = match signal.parse::<i32>() {
        Ok(number) => Signal::try_from(number),
        Err(_) => Signal::from_str(&name),
    };
    let signal = signal.map_err(|_| Error::new(step, "there is no such signal"))?;
    // Held before it is looked at: what is held is the process, whoever gets its number.
    let process = open_process(record.pid).map_err(|errno| Error::call(step, "pidfd_open()", errno))?;
    if !lives(record.pid, &record.at_birth) {
        return Err(Error::new(step, "container not running"));
    }
    // SAFETY: numbers and a null pointer: no further information comes along.
    let sent = unsafe {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, nothing, 0)
    };
    Errno::result(sent).map(drop).map_err(|errno| Error::call(step, "pidfd_send_signal()", errno))
}

/// `delete`
fn delete(place: Place, force: bool) -> Result<()> {
    let record = place.read()?;
    if lives(record.pid, &record.at_birth) {
        if !force {
            return Err(Error::new("delete the container", "it is not stopped"));
        }
        send(&place, "KILL")?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while lives(record.pid, &record.at_birth) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    place.remove()
}

/// What has been made so far. If it is not finished, nothing of it stays.
struct Unfinished<'a> {
    place: Option<&'a Place>,
    pid: Option<Pid>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        if let Some(pid) = self.pid {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
        let _ = place.remove();
    }
}

/// What is read of config.json.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "ociVersion")]
    version: String,
    root: Root,
    process: Wanted,
    #[serde(default)]
    hooks: Hooks,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Wanted {
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    cwd: PathBuf,
}

#[derive(Deserialize, Default)]
struct Hooks {
    #[serde(rename = "createRuntime", default)]
    create_runtime: Vec<Hook>,
}

/// Somebody else's program.
#[derive(Deserialize)]
struct Hook {
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<u64>,
}

impl Config {
    fn read(bundle: &Path) -> Result<Config> {
        let (file, step) = (bundle.join("config.json"), "read config.json");
        let text = fs::read(&file).map_err(|error| Error::io(step, &file, &error))?;
        serde_json::from_slice(&text).map_err(|error| Error::new(step, error.to_string()))
    }
}

/// What is noted of a container.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    version: String,
    bundle: PathBuf,
    annotations: BTreeMap<String, String>,
    pid: i32,
    /// What /proc/PID/stat said when it had been made.
    at_birth: String,
    started: bool,
}

impl Record {
    fn state(&self, status: &str, with_pid: bool) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.version,
            "id": self.id,
            "status": status,
            "bundle": self.bundle,
            "annotations": self.annotations,
        });
        if with_pid {
            state["pid"] = self.pid.into();
        }
        state
    }
}

/// A container's directory, where it is noted.
struct Place {
    directory: PathBuf,
}

impl Place {
    fn claim(root: &Path, id: &str) -> Result<Place> {
        let directory = root.join(id);
        let failed = |error: std::io::Error| Error::io(format!("create {id:?}"), &directory, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        Ok(Place { directory })
    }

    fn find(root: &Path, id: &str) -> Result<Place> {
        let directory = root.join(id);
        if directory.is_dir() {
            return Ok(Place { directory });
        }
        Err(Error::new(format!("find the container {id:?}"), "there is none"))
    }

    fn read(&self) -> Result<Record> {
        let (file, step) = (self.directory.join("record.json"), "read what is noted");
        let text = fs::read(&file).map_err(|error| Error::io(step, &file, &error))?;
        serde_json::from_slice(&text).map_err(|error| Error::new(step, error.to_string()))
    }

    fn write(&self, record: &Record) -> Result<()> {
        let (file, new) = (self.directory.join("record.json"), self.directory.join("record.new"));
        let text = serde_json::to_vec(record).map_err(|error| Error::new("note it", error.to_string()))?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &file))
            .map_err(|error| Error::io("note it", &file, &error))
    }

    fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.directory)
            .map_err(|error| Error::io("remove what is noted", &self.directory, &error))
    }
}

/// A descriptor that stays with a process: see pidfd_open(2).
fn open_process(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: numbers are all that it takes; the result is a new descriptor that nobody else owns.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Waits until a child has ended, or its time is up: has it ended? It is still to be waited for.
fn ends_within(child: &Child, patience: Option<Duration>) -> Result<bool> {
    use std::os::fd::AsFd;
    let failed = |errno| Error::call("wait for a hook", "poll(pidfd)", errno);
    let process = open_process(child.id() as i32).map_err(failed)?;
    let timeout = patience
        .map_or(PollTimeout::NONE, |patience| PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX));
    let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut watched, timeout).map(|count| count > 0).map_err(failed)
}
