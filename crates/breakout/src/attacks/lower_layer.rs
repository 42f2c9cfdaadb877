//! Writing to the rootfs that all containers share.
//!
//! Without a layer of its own, what a container writes it writes into the rootfs: the next container finds it
//! there. One that is broken into can leave a changed /bin/sh for all that come.
//!
//! Chapter 3 stops it, by an overlay: what the container writes goes into its own upper layer. (An image in
//! Docker is read-only for the same reason. CVE-2023-0386 and CVE-2021-3493 were faults in overlayfs itself,
//! which let a user copy a setuid program up from a lower layer of his own.)

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "lower-layer",
    title: "a write to the rootfs that all containers share",
    won: "changed the rootfs for every other container",
    harmless: "it wrote, into a layer of its own",
    end: End::Chapter(3),
    because: "the overlay puts what the container writes into a layer of its own, and only reads the rootfs",
    prepare: |arena| arena.write("rootfs/etc/motd", "welcome\n"),
    attack,
    judge: |arena: &mut Arena, _| arena.read("rootfs/etc/motd") != "welcome\n",
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    std::fs::write("/etc/motd", "changed\n").at("write(/etc/motd)").map(|()| String::new())
}
