//! Chapter 4: UTS and IPC namespaces.
//!
//! The container has a name of its own, and message queues, semaphores and shared memory of its own.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::CloneFlags;
use cooperage::container::{ipc, mount, root, uts};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command with a host name and message queues of its own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::Mounts,
    #[command(flatten)]
    names: cli::Names,
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

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let child = process::spawn(namespaces, |_| {
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        ipc::mount_mqueue(&root)?;
        uts::set_hostname(&hostname)?;
        uts::provide_names(&root, &hostname, uts::NO_NETWORK)?;
        for volume in &args.mounts.volumes {
            volume.mount(&root)?;
        }
        root::pivot_into(&root)?;
        process::exec(&args.common.command)
    })?;

    child.wait()
}
