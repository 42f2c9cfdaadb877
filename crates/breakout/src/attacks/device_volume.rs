//! A device in a volume.
//!
//! As `device-image`, but the node lies in a directory of the host that the container was given: one with an old root filesystem
//! in it, a chroot, or the host's /dev itself. Such a volume is a mount of the machine's, and there a node is a device; what chapter
//! 8 does about the image does nothing about it. In a user namespace the container's root is somebody else, so it takes a node
//! that others may open. Then there is nothing between it and the driver.
//!
//! Chapter 9 stops it: the devices controller asks by number, wherever the node lies. (For an ordinary user the node opens
//! what it opens without a container.)

use nix::sys::stat::makedev;

use super::device_image::{LOG, NODE, open, plant};
use crate::arena::Arena;
use crate::inside::{Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::Result;

pub const ATTACK: Attack = Attack {
    name: "device-volume",
    title: "a device node of mode 666 that lies in a volume",
    won: "held the kernel's log open for writing",
    harmless: "",
    end: End::Chapter(9),
    because: "the devices controller asks by number, wherever the node lies",
    prepare: |arena: &mut Arena| -> Result<()> {
        if arena.share_volume("it opens no more than its user can without a container")? {
            plant(arena, "volume")?;
        }
        Ok(())
    },
    attack: |_: &Inside| -> std::result::Result<String, Stopped> { open("/mnt/") },
    judge: |arena: &mut Arena, _| arena.holds_device(NODE, makedev(LOG.0, LOG.1)),
};
