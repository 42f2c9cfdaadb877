//! Chapter 7: an init.
//!
//! Process 1 has duties: it waits for orphans, passes signals on, and ends in time. The command is not
//! written for them, so it runs as the child of one that is.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::cgroup::Cgroup;
use cooperage::container::host::Host;
use cooperage::container::network::Network;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::CloneFlags;
use cooperage::container::{init, ipc, mount, root, uts};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command under an init that reaps and forwards signals.
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
    resources: cli::Resources,
    #[command(flatten)]
    ending: cli::Ending,
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
    let cgroup = Cgroup::new(&mut host, &args.resources.limits())?;

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | network.namespace();
    let mut child = process::spawn_into(cgroup.open()?, namespaces, |parent| {
        cgroup.enter(parent)?;
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        cgroup.mount_view(&root)?;
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
        if args.ending.init() {
            init::run(parent, || process::exec(&args.common.command))
        } else {
            process::exec(&args.common.command)
        }
    })?;

    network.plug_in(&mut child)?;
    let status = child.release()?.wait_or_stop(args.ending.grace(), || cgroup.thaw());
    cli::complain(cgroup.memory_report());
    status
}
