//! Another container's files, in a volume that both have.
//!
//! A volume is how containers exchange files, and permissions say which: what one of them writes with mode 600 is
//! not for the other. But permissions compare numbers. If the root of both containers is user 0 of the host, each of
//! them owns all that the other has.
//!
//! Chapter 8 stops it: root's containers have users of their own, and to one of them the other's root is a number
//! that is not in its map. (The containers of one ordinary user share his users, as with rootless Docker and
//! Podman: that user's files are theirs, and there is nothing to attack.)

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::Result;

pub const ATTACK: Attack = Attack {
    name: "volume-other",
    title: "another container's file of mode 600, in a volume that both have",
    won: "read another container's file",
    harmless: "",
    end: End::Chapter(8),
    because: "each of root's containers has users of its own, and none of them is the other's root",
    prepare,
    attack: |_: &Inside| -> std::result::Result<String, Stopped> {
        std::fs::read_to_string("/mnt/theirs").at("open(the other's file)")
    },
    judge: Arena::brought_back,
};

fn prepare(arena: &mut Arena) -> Result<()> {
    if !arena.share_volume("a user's containers have the same users")? {
        return Ok(());
    }
    let script = format!("umask 077; echo {} > /mnt/theirs", arena.word);
    arena.start_another(&script)
}
