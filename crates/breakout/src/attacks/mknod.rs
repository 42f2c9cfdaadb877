//! Making a device node.
//!
//! A device node is a file with two numbers, and the numbers are the device. Whoever can make one with those of
//! the disk that the rootfs is on, and open it, reads and writes every file of the host, below all
//! permissions: `debugfs` does it in one line. That the container's /dev has no disk means nothing as long as
//! it may make one.
//!
//! The node that is made here is one for /dev/zero, and it is opened and read: the right and the door are the
//! same as for the disk's, which differs in two numbers. The disk itself is left alone, and where cgroups are
//! version 1 the lab's devices cgroup would refuse it.
//!
//! Chapter 8 stops it: in a user namespace nobody can make a device node. Chapter 9 drops CAP_MKNOD for
//! containers that have none. Docker leaves the right, and has a devices cgroup refuse what such a node leads
//! to.

use std::fs::File;
use std::io::Read;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

/// Major and minor number of /dev/zero.
const ZERO: (u64, u64) = (1, 5);

pub const ATTACK: Attack = Attack {
    name: "mknod",
    title: "a device node of its own making, as for the disk under the rootfs",
    won: "made a device node and opened it",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace nobody can make a device node",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.holds_device("breakout-node", makedev(ZERO.0, ZERO.1)),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let device = makedev(ZERO.0, ZERO.1);
    mknod("/breakout-node", SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), device).at("mknod(a device)")?;
    let mut node = File::open("/breakout-node").at("open(the device)")?;
    node.read_exact(&mut [1; 16]).at("read(the device)")?;
    std::mem::forget(node); // the judge looks at it
    Ok(String::new())
}
