//! Exercise 4: UTS and IPC namespaces.
//!
//! A runtime like chapter 4's, with one option more: `--join PID` runs the command in a container that
//! runs already, as `docker exec` does. PID is the host's number of that container's first process.
//!
//!     cargo run --bin exercise04 -- --hostname web -- sh -c "hostname; cat /etc/hosts"
//!     cargo run --bin exercise04 -- --join 4242 -- ps
//!
//! The root, the mounts and /proc come from the library. What is yours says `todo!`.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::root::NewRoot;
use cooperage::container::sys::{self, CloneFlags, MsFlags};
use cooperage::container::uts::Hostname;
use cooperage::container::{mount, root};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;
use cooperage::workshop::task::as_far_as_written;
use nix::unistd::Pid;

/// Run a command with a host name and message queues of its own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::Mounts,
    #[command(flatten)]
    names: cli::Names,

    /// Run the command in a running container: the host's number of its first process
    #[arg(long, value_name = "PID")]
    join: Option<i32>,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    if let Some(pid) = args.join {
        drop(host); // its notes are on the host, and we are about to leave that
        return join(Pid::from_raw(pid), args);
    }
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;
    let hostname = args.names.hostname()?;

    // Two namespaces are missing here: your tasks make them.
    let child = process::spawn(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS, |_| {
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        as_far_as_written("4.1", || take_a_name(&root, &hostname))?;
        as_far_as_written("4.2", || keep_messages_apart(&root))?;
        for volume in &args.mounts.volumes {
            volume.mount(&root)?;
        }
        root::pivot_into(&root)?;
        process::exec(&args.common.command)
    })?;
    child.wait()
}

/// Task 4.1 (6 points, one star, 15 minutes): names that agree.
///
/// This is called by the process that becomes the container, while `root` is being furnished.
///
/// Done when `--hostname web` gives a container in which `hostname` says web, /etc/hostname says web, and
/// /etc/hosts knows both web and localhost; and when the host keeps its own name all the while.
fn take_a_name(root: &NewRoot, name: &Hostname) -> Result<()> {
    // answer 4.1
    sys::unshare("have a name that is nobody else's", CloneFlags::CLONE_NEWUTS)?;
    sys::sethostname("have a name of its own", name.as_str())?;
    root.provide_file("etc/hostname", &format!("{}\n", name.as_str()))?;
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{}\n", name.as_str());
    root.provide_file("etc/hosts", &hosts)
    // end of answer 4.1
}

/// Task 4.2 (6 points, two stars, 20 minutes): IPC that is not shared.
///
/// This is called by the same process, next. There is a second half to it that is easily forgotten:
/// POSIX message queues can also be seen as files, and a container expects them in /dev/mqueue.
///
/// Done when the container sees none of the host's System V shared memory, semaphores and message queues,
/// nor the host any of the container's; and when /dev/mqueue inside shows the queues of the container,
/// and those only: a file made there is a queue inside, and none outside.
fn keep_messages_apart(root: &NewRoot) -> Result<()> {
    // answer 4.2
    sys::unshare("have message queues of its own", CloneFlags::CLONE_NEWIPC)?;
    let target = root.directory("dev/mqueue")?;
    let how = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (source, why) = (Path::new("mqueue"), "see the queues of this namespace as files");
    sys::mount(why, Some(source), target.path(), Some("mqueue"), how, None)
    // end of answer 4.2
}

/// Task 4.3 (8 points, three stars, 40 minutes): join a container that is running.
///
/// `pid` is the container's first process, as the host numbers it. Run `args.common.command` in that
/// container; [`process::exec()`] becomes it, and [`process::spawn()`] makes a child (with no flag, it is made
/// in the namespaces that its parent's children are born into).
///
/// Done when the command is in every namespace that the container has (see /proc/PID/ns), and in its list of
/// processes; when its root and its working directory are the container's root; when its exit status is
/// returned, 128+N after signal N; and when the container goes on as if nothing had happened.
fn join(pid: Pid, args: &Args) -> Result<Status> {
    // answer 4.3
    // All of it in hand first: once among the container's mounts, /proc is another, and there the number
    // means somebody else.
    let theirs = Theirs::open(pid)?;
    for (namespace, kind) in &theirs.namespaces {
        sys::setns("be where the container is", namespace, *kind)?;
    }
    nix::unistd::fchdir(&theirs.root).map_err(|errno| Error::call("go inside", "fchdir(root)", errno))?;
    sys::chroot("have the container's root as the root", Path::new("."))?;
    // A process cannot change its own PID namespace, only that of the children it will have.
    let child = process::spawn(CloneFlags::empty(), |_| process::exec(&args.common.command))?;
    child.wait()
    // end of answer 4.3
}

// answer 4.3
/// What a process of the container gives away about it.
struct Theirs {
    namespaces: Vec<(File, CloneFlags)>,
    root: File,
}

impl Theirs {
    fn open(pid: Pid) -> Result<Theirs> {
        const KINDS: [(&str, CloneFlags); 7] = [
            ("user", CloneFlags::CLONE_NEWUSER), // first: it gives the right to enter the others
            ("cgroup", CloneFlags::CLONE_NEWCGROUP),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("net", CloneFlags::CLONE_NEWNET),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        let open = |path: String| {
            File::open(&path).map_err(|error| {
                let error = Error::io("find the container to join", &path, &error);
                error.remedy("PID is the host's number of the container's first process, and that one lives")
            })
        };
        let mut namespaces = Vec::new();
        for (kind, flag) in KINDS {
            let path = format!("/proc/{pid}/ns/{kind}");
            let shared =
                std::fs::read_link(&path).ok() == std::fs::read_link(format!("/proc/self/ns/{kind}")).ok();
            let namespace = open(path)?;
            if !shared {
                namespaces.push((namespace, flag));
            }
        }
        Ok(Theirs { namespaces, root: open(format!("/proc/{pid}/root"))? })
    }
}
// end of answer 4.3
