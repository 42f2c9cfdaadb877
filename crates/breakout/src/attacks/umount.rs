//! Lifting a cover.
//!
//! What is mounted on a directory hides what is in it. Hosts do that on purpose: an empty filesystem over a
//! directory with keys hides them, as container engines hide parts of /proc. A container that may unmount
//! lifts the cover. In chapters 1 and 2 it is the host's own mount that goes. From chapter 3 on the container
//! has a copy of the mounts, and the copy of a volume comes with all that is mounted below it, cover and all,
//! so that unmounting harms nobody else, but what lay under it can be read.
//!
//! Chapter 8 stops it. Mounts that come into a user namespace from a more privileged one are locked together:
//! they can't be taken apart there (mount_namespaces(7), "Restrictions on mount namespaces"). An ordinary
//! user's container is in one from the start, and gets EINVAL.

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::{Error, Result};

pub const ATTACK: Attack = Attack {
    name: "umount",
    title: "umount2(2) of a cover, to see what lies under it",
    won: "read a file that the host had covered",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace the mounts that come from outside are locked together",
    prepare,
    attack,
    judge: Arena::brought_back,
};

fn prepare(arena: &mut Arena) -> Result<()> {
    let place = if arena.chapter < 3 { "rootfs/mnt" } else { "volume" };
    let covered = format!("{place}/covered");
    arena.make_directory(&covered)?;
    arena.write(&format!("{covered}/secret"), &arena.word.clone())?;
    let how = MsFlags::empty();
    mount(Some("cover"), &arena.path(&covered), Some("tmpfs"), how, None::<&str>)
        .map_err(|errno| Error::call("cover a directory", "mount(tmpfs)", errno))?;
    if arena.chapter >= 3 {
        arena.option("--volume", &format!("{}:/mnt", arena.path("volume").display()));
    }
    Ok(())
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    umount2("/mnt/covered", MntFlags::MNT_DETACH).at("umount2(the cover)")?;
    std::fs::read_to_string("/mnt/covered/secret").at("open(what lies under it)")
}
