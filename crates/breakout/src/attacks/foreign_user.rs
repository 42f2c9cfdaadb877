//! A user outside of one's own range.
//!
//! To have somebody's files one has to become that somebody. Root may: setresuid(2) and chown(2) take any number. The
//! number here is one that another container would have, or a user of the host.
//!
//! Chapter 8 stops it: in a user namespace there are the users of its map, and no call can name another.

use std::os::unix::fs::{MetadataExt, chown};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::Result;

/// The second user of the second range that chapter 8 takes from.
const FOREIGN: u32 = 0x7001_0001;

pub const ATTACK: Attack = Attack {
    name: "foreign-user",
    title: "a user whose number another container has",
    won: "made a file that belongs to somebody else",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace there are the users of its map and no others",
    prepare,
    attack,
    judge: |arena: &mut Arena, _| {
        let place = if arena.chapter < 3 { "rootfs/mnt/made" } else { "volume/made" };
        std::fs::metadata(arena.path(place)).is_ok_and(|found| found.uid() == FOREIGN)
    },
};

fn prepare(arena: &mut Arena) -> Result<()> {
    if arena.chapter >= 3 {
        arena.open_volume()?;
    }
    Ok(())
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    std::fs::write("/mnt/made", "").at("write(/mnt/made)")?;
    chown("/mnt/made", Some(FOREIGN), None).at("chown(a foreign user)").map(|()| String::new())
}
