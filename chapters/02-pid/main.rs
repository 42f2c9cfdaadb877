//! Chapter 2: a PID namespace.
//!
//! The command is process 1 of a numbering of its own, and has a /proc that shows it. That /proc is
//! mounted for the whole host to see: when this runtime is killed, it stays behind.

use std::process::ExitCode;

use clap::Parser;
use cooperage::container::host::Host;
use cooperage::container::process::{self, Status};
use cooperage::container::sys::CloneFlags;
use cooperage::container::{pid, root};
use cooperage::told::errors::Result;
use cooperage::workshop::cli;
use cooperage::workshop::rootfs::Rootfs;

/// Run a command that sees no process but its own.
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
    let mut host = Host::enter()?;
    let rootfs = Rootfs::find(args.common.rootfs.as_deref())?;
    // Noted first, and taken away at the end. If this runtime is killed by SIGKILL it has no end: then the
    // mount stays, for everyone to see, until the next run finds the note.
    pid::note_proc(&mut host, rootfs.path())?;

    let child = process::spawn(CloneFlags::CLONE_NEWPID, |_| {
        root::chroot_into(rootfs.path())?;
        pid::mount_proc()?;
        process::exec(&args.common.command)
    })?;

    child.wait()
}
