//! Exercise 6: cgroups.
//!
//! A container whose use of the machine is limited and counted from its first instruction on, and a
//! runtime that can tell why it ended. The program has chapter 6's command line, and one option more:
//!
//! - `--stats FILE` writes, when the container has ended, what it used.
//!
//! What is done already: every container gets a cgroup of its own, and it is removed at the end (see
//! [`Cgroup`]). On a machine with version 1 that is one directory for each controller, with version 2 it
//! is a single one. What to do with them is yours.
#![allow(unused, clippy::all, clippy::diverging_sub_expression, clippy::todo)]

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cooperage::container::cgroup::v1::V1;
use cooperage::container::cgroup::v2::V2;
use cooperage::container::cgroup::{Hierarchy, Limits, Mount, membership};
use cooperage::container::host::Host;
use cooperage::container::ledger::Leftover;
use cooperage::container::network::Network;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::{self, CloneFlags};
use cooperage::container::{ipc, mount, root, uts};
use cooperage::told::errors::{Error, Result};
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command that cannot use more than it is given, and tell what it used.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::Mounts,
    #[command(flatten)]
    names: cli::Names,
    #[command(flatten)]
    networks: cli::Networks,
    #[command(flatten)]
    resources: Resources,
    /// File to write to what the container used, when it has ended
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
}

/// What the container may use. None is no limit.
#[derive(clap::Args)]
struct Resources {
    /// Memory limit, as it was written: a number and b, k, m or g, such as 64m
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Number of processors, such as 0.5
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Limit of processes and threads
    #[arg(long, value_name = "N")]
    pids_limit: Option<u32>,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;
    let hostname = args.names.hostname()?;
    let network = Network::new(&mut host, args.networks.network)?;
    let cgroup = Cgroup::new(&mut host)?;

    let wanted = &args.resources;
    if wanted.memory.is_some() || wanted.cpus.is_some() || wanted.pids_limit.is_some() {
        limit(&cgroup, wanted)?;
    }

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | network.namespace();
    let mut child = process::spawn(namespaces, |parent| -> Result<Infallible> {
        enter(&cgroup)?;
        sys::unshare("see this cgroup as the root of all cgroups", CloneFlags::CLONE_NEWCGROUP)?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        ipc::mount_mqueue(&root)?;
        uts::set_hostname(&hostname)?;
        uts::provide_names(&root, &hostname, network.address())?;
        network.provide_resolver(&root)?;
        for volume in &args.mounts.volumes {
            volume.mount(&root)?;
        }
        root::pivot_into(&root)?;
        parent.until_released()?;
        network.set_up_inside()?;
        process::exec(&args.common.command)
    })?;

    network.plug_in(&mut child)?;
    let child = child.release()?;
    let status = child.wait()?;

    if status == Status::Killed(libc::SIGKILL) && killed_for_memory(&cgroup)? {
        eprintln!("cooperage: out of memory: the kernel killed the container at its limit");
    }
    if let Some(file) = &args.stats {
        write_stats(&cgroup, file)?;
    }
    Ok(status)
}

/// Task 6.1 (5 points, two stars, 20 minutes): in the cgroup before the first instruction.
///
/// The container's first process calls this before all else. Put it into the container's cgroup: into
/// each of `cgroup.directories`.
///
/// Done when the command, and every process that it starts, however early, is in the container's cgroup
/// for each controller, with or without a limit; and the runtime itself is not.
fn enter(cgroup: &Cgroup) -> Result<()> {
    todo!("task 6.1")
}

/// Task 6.2 (5 points, one star, 25 minutes): limits in their units.
///
/// The runtime calls this before it makes the container, if there is a limit. Write each limit that is
/// wanted into the kernel's file for it, in that file's unit. The names of the files, and
/// sometimes their format, differ between `cgroup.version` 1 and 2; [`Cgroup::file`] makes a path of them.
///
/// Done when for `--cpus 0.5` the kernel grants half of each period, whatever its length; for `--memory 64m`
/// the limit is 64 times 1024 times 1024 bytes (b, k and g work as well, and a number alone is bytes); for
/// `--pids-limit 100` it is 100; and a size that makes no sense is an error before the command runs.
fn limit(cgroup: &Cgroup, wanted: &Resources) -> Result<()> {
    todo!("task 6.2")
}

/// Task 6.3 (5 points, two stars, 20 minutes): out of memory, or killed by someone?
///
/// The runtime calls this when SIGKILL has ended the container. The status alone does not say who sent it:
/// ask the kernel, which counts the kills of this cgroup that were its own doing.
///
/// Done when a container that reaches its memory limit ends with status 137 and a line with "out of memory"
/// on stderr; and one that was killed otherwise, by `kill -9` for example, ends with 137 and no such line,
/// whatever has happened to other containers.
fn killed_for_memory(cgroup: &Cgroup) -> Result<bool> {
    todo!("task 6.3")
}

/// Task 6.4 (5 points, two stars, 25 minutes): what did it use?
///
/// The runtime calls this for `--stats FILE`, when the container has ended. Write three lines to `file`:
///
/// ```text
/// peak_memory 41943040     the most memory that it ever used, in bytes
/// cpu_usec 1250000         processor time of all its processes, in microseconds
/// nr_throttled 12          in how many periods it wanted more than its quota
/// ```
///
/// (A word, a space, a number; without the explanations.) Done when the numbers are the kernel's own.
fn write_stats(cgroup: &Cgroup, file: &Path) -> Result<()> {
    todo!("task 6.4")
}

/// The container's cgroup: made and empty.
struct Cgroup {
    /// Which version is in force on this machine: 1 or 2.
    version: u8,
    /// Version 1: a directory for each controller. Version 2: a single one.
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the container's cgroup without any limit. It is noted, and removed at the end.
    fn new(host: &mut Host) -> Result<Cgroup> {
        let read = |file| {
            fs::read_to_string(file).map_err(|error| Error::io("see which cgroups there are", file, &error))
        };
        let memberships = read("/proc/self/cgroup")?;
        let mounts = Mount::all(&read("/proc/self/mountinfo")?);
        let name = format!("exercise-{}", std::process::id());

        if let Some(v2) = V2::find(&name, &mounts, &memberships)? {
            return Cgroup::make(host, 2, &v2);
        }
        let v1 = V1::find(&name, &mounts, &memberships)?
            .ok_or_else(|| Error::new("make a cgroup", "no cgroup controller is mounted"))?;
        let mut cgroup = Cgroup::make(host, 1, &v1)?;
        // In version 1 a controller of its own counts processor time; often it shares cpu's directory.
        let counting = |mount: &&Mount| mount.options.iter().any(|option| option == "cpuacct");
        if let Some(mount) = mounts.iter().find(counting)
            && let Some(own) =
                membership(&memberships, Some("cpuacct")).and_then(|own| mount.directory_of(own))
            && !own.join(&name).exists()
        {
            let directory = own.join(&name);
            host.note(&Leftover::Cgroup(directory.clone()))?;
            fs::create_dir(&directory).map_err(|error| Error::io("make a cgroup", &directory, &error))?;
            cgroup.directories.push(directory);
        }
        Ok(cgroup)
    }

    fn make(host: &mut Host, version: u8, hierarchy: &dyn Hierarchy) -> Result<Cgroup> {
        let directories: Vec<PathBuf> = hierarchy.directories().iter().map(|path| path.into()).collect();
        for directory in &directories {
            host.note(&Leftover::Cgroup(directory.clone()))?;
        }
        hierarchy.create(&Limits::default())?;
        Ok(Cgroup { version, directories })
    }

    /// The path of a file of the cgroup's, by its name in version 1 and its name in version 2.
    fn file(&self, v1: &str, v2: &str) -> Result<PathBuf> {
        let name = if self.version == 1 { v1 } else { v2 };
        let paths = self.directories.iter().map(|directory| directory.join(name));
        paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            Error::new(format!("find {name:?}"), "no directory of the cgroup has such a file")
                .remedy("`cargo run --bin doctor` shows which controllers this machine has")
        })
    }

    /// The number that a kernel file holds.
    fn number(&self, file: &Path) -> Result<u64> {
        let text = fs::read_to_string(file).map_err(|error| Error::io("read a number", file, &error))?;
        text.trim().parse().map_err(|_| Error::new("read a number", format!("{} holds none", file.display())))
    }

    /// The number after a word, in a kernel file with a word and a number in each line.
    fn value(&self, file: &Path, key: &str) -> Result<u64> {
        let text = fs::read_to_string(file).map_err(|error| Error::io("read a number", file, &error))?;
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
            .ok_or_else(|| Error::new("read a number", format!("{} has no {key}", file.display())))
    }
}
