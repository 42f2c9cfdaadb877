//! A device in the image.
//!
//! The runtime gives the container a /dev with six harmless devices. But a node is a file like any other: the root filesystem, which
//! may come from anyone, brings along one for the disk, or the machine's memory, wherever it likes and with mode 666.
//! Nobody inside has to make it.
//!
//! The node here is that of the kernel's log, /dev/kmsg, and it is opened for writing: whoever writes there writes lines into the
//! machine's log, in the kernel's name. Nothing is written.
//!
//! Chapter 8 stops it: what is mounted in a user namespace, as the overlay is, has no devices, whatever nodes lie in it. That does
//! not depend on a flag that the runtime could forget. (For an ordinary user the node opens what it opens without
//! a container.)

use std::fs::File;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::{Error, Result};

/// Major and minor number of /dev/kmsg.
pub const LOG: (u64, u64) = (1, 11);
pub const NODE: &str = "breakout-log";

pub const ATTACK: Attack = Attack {
    name: "device-image",
    title: "a device node that lies in the image, as for the kernel's log",
    won: "held the kernel's log open for writing",
    harmless: "",
    end: End::Chapter(8),
    because: "what is mounted in a user namespace has no devices",
    prepare: |arena: &mut Arena| -> Result<()> {
        if arena.user {
            arena.nothing_to_attack("it opens no more than its user can without a container");
            return Ok(());
        }
        plant(arena, "rootfs")
    },
    attack: |_: &Inside| -> std::result::Result<String, Stopped> { open("/") },
    judge: |arena: &mut Arena, _| arena.holds_device(NODE, makedev(LOG.0, LOG.1)),
};

/// Makes the node in this directory of the arena, for everybody.
pub fn plant(arena: &mut Arena, directory: &str) -> Result<()> {
    if arena.has_no_cgroup() {
        arena.nothing_to_attack("it is run without a cgroup here, and so nobody says which devices there are");
        return Ok(());
    }
    const STEP: &str = "plant a device node";
    let name = format!("{directory}/{NODE}");
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&arena.path(&name), SFlag::S_IFCHR, mode, makedev(LOG.0, LOG.1))
        .map_err(|errno| Error::call(STEP, "mknod()", errno))?;
    arena.give(&name, 0, 0o666)
}

/// Opens it, and leaves it open for the judge.
pub fn open(directory: &str) -> std::result::Result<String, Stopped> {
    let log = File::options().write(true).open(format!("{directory}{NODE}")).at("open(the device)")?;
    std::mem::forget(log);
    Ok(String::new())
}
