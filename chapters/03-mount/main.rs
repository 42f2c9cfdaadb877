//! Chapter 3: a mount namespace.
//!
//! What the container mounts, nobody else sees, and it is gone with the container. Its root is an
//! overlay, so that the root filesystem below stays as it is; the host's own tree is let go of.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::overlay::Overlay;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::CloneFlags;
use cooperage::container::{mount, root};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command with file systems of its own.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
    #[command(flatten)]
    mounts: cli::Mounts,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    let overlay = Overlay::new(&mut host, rootfs.path(), args.mounts.upper.as_deref())?;

    let namespaces = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    let child = process::spawn(namespaces, |_| {
        mount::make_private()?;
        let root = overlay.mount()?;
        mount::furnish(&root)?;
        for volume in &args.mounts.volumes {
            volume.mount(&root)?;
        }
        root::pivot_into(&root)?;
        process::exec(&args.common.command)
    })?;

    child.wait()
}
