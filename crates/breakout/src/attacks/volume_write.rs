//! Another container's files, changed in a volume that both have.
//!
//! As `volume-other` reads them: what one of two containers has written with mode 600 is not for the other to write to, either.
//! If the root of both is user 0 of the host, nothing keeps it from that.
//!
//! Chapter 8 stops it: root's containers have users of their own.

use std::io::Write;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "volume-write",
    title: "a change of another container's file, in a volume that both have",
    won: "changed another container's file",
    harmless: "",
    end: End::Chapter(8),
    because: "each of root's containers has users of its own, and none of them is the other's root",
    prepare,
    attack,
    judge: Arena::was_let,
};

fn prepare(arena: &mut Arena) -> cooperage::told::errors::Result<()> {
    if !arena.share_volume("a user's containers have the same users")? {
        return Ok(());
    }
    arena.start_another("umask 077; echo theirs > /mnt/theirs")
}

fn attack(_: &Inside) -> Result<String, Stopped> {
    std::fs::OpenOptions::new()
        .append(true)
        .open("/mnt/theirs")
        .and_then(|mut file| file.write_all(b"mine"))
        .at("open(the other's file, O_WRONLY)")
        .map(|()| String::new())
}
