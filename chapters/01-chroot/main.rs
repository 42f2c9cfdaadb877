//! Chapter 1: chroot.
//!
//! A child process changes its root directory and becomes the command. It cannot name a file outside
//! any more. That is all the isolation there is: it sees every process, and root gets out.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::process::{self, Status};
use cooperage::container::root;
use cooperage::container::sys::CloneFlags;
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command with another root directory.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: cli::Common,
}

fn main() -> ExitCode {
    cli::exit_with(run(&Args::parse()))
}

fn run(args: &Args) -> Result<Status> {
    args.common.begin();
    let _host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;

    let child = process::spawn(CloneFlags::empty(), |_| {
        root::chroot_into(rootfs.path())?;
        process::exec(&args.common.command)
    })?;

    child.wait()
}
