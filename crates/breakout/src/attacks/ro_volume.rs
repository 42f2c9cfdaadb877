//! Writing to a read-only volume.
//!
//! `--volume DIR:/mnt:ro` gives the container a mount that is read-only. Read-only is a flag of that mount,
//! and CAP_SYS_ADMIN over the mount namespace is the right to change flags: `mount -o remount,rw,bind /mnt`.
//! The host's directory is then as writable as its permissions allow.
//!
//! Chapter 8 stops it: the runtime sets the flag before the container takes its copy of the mounts, and the copy goes to a
//! less privileged user namespace, where such flags are locked (mount_namespaces(7)). Up to chapter 7 an ordinary
//! user's runtime sets it inside, where nothing is locked: that is why this one works as a user, too.

use nix::mount::{MsFlags, mount};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::Result;

pub const ATTACK: Attack = Attack {
    name: "ro-volume",
    title: "mount -o remount,rw,bind on a read-only volume",
    won: "wrote to a host directory that it was only to read",
    harmless: "",
    end: End::Chapter(8),
    because: "the flags of mounts that come from a more privileged user namespace are locked",
    prepare,
    attack,
    judge: |arena: &mut Arena, _| arena.read("volume/changed") == "changed",
};

fn prepare(arena: &mut Arena) -> Result<()> {
    if arena.chapter < 3 {
        arena.nothing_to_attack("volumes come with chapter 3");
    } else {
        arena.option("--volume", &format!("{}:/mnt:ro", arena.path("volume").display()));
    }
    Ok(())
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    let none = None::<&str>;
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(none, "/mnt", none, again, none).at("mount(/mnt, MS_REMOUNT|MS_BIND)")?;
    std::fs::write("/mnt/changed", "changed").at("write(/mnt/changed)").map(|()| String::new())
}
