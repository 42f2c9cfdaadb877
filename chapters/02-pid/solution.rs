//! Exercise 2: a PID namespace.
//!
//! A whole program with chapter 2's command line. Its four tasks are functions of this file: look for
//! `Task 2.1` and so on. `cargo run --bin exercise02 -- ps` runs it, `cargo run --bin grade -- 2` grades it.
//!
//! One option is new: `--names PID` runs no command, but tells both names of every process in the container
//! of which process PID is one.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::pid::PROC_FLAGS;
use cooperage::container::process::{self, Status};
use cooperage::container::root;
use cooperage::container::sys::{self, CloneFlags, MntFlags};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use cooperage::workshop::task::if_done;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Run a command that sees no process but its own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,

    /// Run nothing: print a line "HOST INSIDE" for each process of this process's container (task 2.3)
    #[arg(long, value_name = "PID")]
    names: Option<i32>,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    if let Some(pid) = args.names {
        for (host, inside) in names(pid)? {
            println!("{host} {inside}");
        }
        return Ok(Status::Exited(0));
    }
    let _host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;

    let first = start(|| {
        let Err(error) = inside(args, rootfs.path());
        eprintln!("cooperage: {error}");
        std::process::exit(error.status.into())
    })?;
    let ended = match if_done("2.4", || await_end(first)) {
        Some(ended) => ended,
        None => waitpid(first, None)
            .map(|_| Status::Exited(0))
            .map_err(|errno| Error::call("wait for the container", "waitpid()", errno)),
    };
    if_done("2.2", || proc(Moment::Afterwards, rootfs.path())).transpose()?;
    ended
}

/// The child's half. It is in the new PID namespace already.
fn inside(args: &Args, rootfs: &Path) -> Result<Infallible> {
    sys::set_parent_death_signal("die when the runtime dies", Signal::SIGKILL)?;
    root::chroot_into(rootfs)?;
    if_done("2.2", || proc(Moment::Inside, Path::new("/"))).transpose()?;
    process::exec(&args.common.command)
}

/// Task 2.1 (5 points, one star, 20 minutes): be number one.
///
/// Makes a child in a new PID namespace, which calls `half` (that does not come back), and returns its process id as
/// the host knows it. It is done when the command, asked for its own number, says 1, and all that it starts
/// counts on from there.
///
/// This program has one thread, so fork(2) and clone(2) are safe to call.
fn start(half: impl FnOnce()) -> Result<Pid> {
    // answer 2.1
    sys::unshare("let the next child begin a new numbering", CloneFlags::CLONE_NEWPID)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child),
        Ok(ForkResult::Child) => {
            half();
            std::process::exit(125)
        }
        Err(errno) => Err(Error::call("make the first process", "fork()", errno)),
    }
    // end of answer 2.1
}

/// When [`proc`] is called.
#[derive(Clone, Copy)]
enum Moment {
    /// By the child, when the rootfs is its root directory and before it becomes the command.
    Inside,
    /// By the parent, when the container has ended, however that was.
    Afterwards,
}

/// Task 2.2 (6 points, two stars, 25 minutes): a /proc of its own, gone afterwards.
///
/// Called twice: see [`Moment`]. `root` is the path of the rootfs as the caller sees it: "/" for the child. It
/// has a directory `proc`. It is done when the command finds its own processes in /proc and no others, and when
/// the host has the same mounts afterwards as before, even if the command failed, was not found, or was
/// killed.
fn proc(moment: Moment, root: &Path) -> Result<()> {
    // answer 2.2
    let place = root.join("proc");
    match moment {
        Moment::Inside => {
            let why = "show the processes of this namespace only";
            sys::mount(why, Some(Path::new("proc")), &place, Some("proc"), PROC_FLAGS, None)
        }
        Moment::Afterwards => {
            let how = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            match sys::umount2("take the container's /proc away from the host", &place, how) {
                // It was never mounted: the child failed before.
                Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(()),
                result => result,
            }
        }
    }
    // end of answer 2.2
}

/// Task 2.3 (5 points, two stars, 25 minutes): both names of one process.
///
/// `first` is a process in a container, by the host's numbering. Returns, for every process in that container
/// and no other, the number by which the host knows it and the number that it has inside, sorted by the
/// first. It is done when `exercise02 --names PID` prints the same pairs that the kernel would.
///
/// Processes end while you look at them: that is no error. Nor is a process that you may not look at.
fn names(first: i32) -> Result<Vec<(i32, i32)>> {
    // answer 2.3
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let wanted = namespace(first)
        .map_err(|error| Error::io("look at the process", format!("/proc/{first}/ns/pid"), &error))?;
    let mut pairs = Vec::new();
    let entries =
        fs::read_dir("/proc").map_err(|error| Error::io("look at all processes", "/proc", &error))?;
    for entry in entries.flatten() {
        let Some(host) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if namespace(host).is_ok_and(|own| own == wanted)
            && let Some(inside) = innermost_name(host)
        {
            pairs.push((host, inside));
        }
    }
    pairs.sort();
    Ok(pairs)
    // end of answer 2.3
}

// answer 2.3
/// The last number of the line NSpid: that of the namespace that the process itself is in.
fn innermost_name(host: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{host}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}
// end of answer 2.3

/// Task 2.4 (4 points, one star, 15 minutes): say how it ended.
///
/// Waits for the end of the container's first process, and returns what this program has to report. When process
/// 1 dies, the kernel kills all the others, so this is the end of the container. It is done when
/// the exit status of this program is that of the command, and, for a command that was killed, the number that a
/// shell would give.
fn await_end(first: Pid) -> Result<Status> {
    // answer 2.4
    loop {
        match waitpid(first, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Status::Exited(code as u8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Status::Exited(128 + signal as u8)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("wait for the container", "waitpid()", errno)),
        }
    }
    // end of answer 2.4
}
