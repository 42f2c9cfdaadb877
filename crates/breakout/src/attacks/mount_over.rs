//! Mounting where the host sees it.
//!
//! A mount is not a change of a directory: it is an entry in a table that all processes of a mount namespace
//! share. Root in a chroot that mounts something on its own /mnt has changed the table of the whole machine.
//! On a path that the host uses that covers what was there; and who mounts once a second fills the table.
//!
//! Chapter 3 stops it: the container has a mount namespace, and make_private cuts the tie by which mounts in
//! a copy appear in the original. An ordinary user's runtime has had one from the start, because without one
//! its user namespace would not let it mount at all.

use nix::mount::{MsFlags, mount};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "mount-over",
    title: "a mount in the host's tree",
    won: "mounted something that the whole host sees",
    harmless: "only the container sees its mount",
    end: End::Chapter(3),
    because: "the container has a mount namespace of its own, and its mounts are private",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.is_mounted("rootfs/mnt"),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let how = MsFlags::empty();
    mount(Some("over"), "/mnt", Some("tmpfs"), how, None::<&str>).at("mount(tmpfs, /mnt)")?;
    Ok(String::new())
}
