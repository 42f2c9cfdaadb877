//! A set-user-ID program, planted for the host.
//!
//! The container's root writes a program into a volume, makes it set-user-ID, and waits, or asks somebody on the host
//! to start it: whoever does is root there. `nosuid` on the container's mount would not help: the bit is honoured
//! where the file is started, and that is elsewhere.
//!
//! Chapter 8 stops it: what the container's root makes belongs to a number that is nobody on the host. A volume whose
//! owners are mapped, `idmap`, would bring the trick back: so the runtime refuses one that others can reach.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::Result;

pub const ATTACK: Attack = Attack {
    name: "setuid-volume",
    title: "a set-user-ID program of root's, written to a volume for the host",
    won: "left a set-user-ID program of the host's root in a volume",
    harmless: "the program that it left belongs to nobody on the host",
    end: End::Chapter(8),
    because: "what the container's root makes belongs to a number that is nobody on the host",
    prepare: |arena: &mut Arena| -> Result<()> {
        arena.share_volume("the container's root is the user himself").map(drop)
    },
    attack,
    judge: |arena: &mut Arena, _| {
        let planted = std::fs::metadata(arena.path("volume/planted"));
        planted.is_ok_and(|found| found.mode() & 0o4000 != 0 && found.uid() == 0)
    },
};

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    std::fs::write("/mnt/planted", "#!/bin/sh\n").at("write(/mnt/planted)")?;
    let setuid = Permissions::from_mode(0o4755);
    std::fs::set_permissions("/mnt/planted", setuid).at("chmod(/mnt/planted)").map(|()| String::new())
}
