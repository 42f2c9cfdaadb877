//! Chapter 5: a network namespace.
//!
//! The child is born into a network without any device. The parent plugs a cable into it, whose other
//! end is in a bridge that all containers share.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::network::Network;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::CloneFlags;
use cooperage::container::{ipc, mount, root, uts};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command with a network of its own.
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

    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | network.namespace();
    let mut child = process::spawn(namespaces, |parent| {
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
    child.release()?.wait()
}
