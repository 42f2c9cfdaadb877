//! Using up the filesystem that all share.
//!
//! A filesystem has room for so many bytes and for so many files. A million empty files take no space worth
//! the name and leave no inode for anyone: "No space left on device", says the host, and df(1) shows half of
//! it free. In chapters 1 and 2 what the container writes lies on the host's filesystem beside everything
//! else.
//!
//! Chapter 3 stops it: the layer that is written to is a filesystem that belongs to the container alone, in
//! memory. (That memory counts as the container's, which chapter 6 can limit. With `--upper` on the host's
//! disk the attack is back; against that there are quotas, which no chapter has.)

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "inodes",
    title: "empty files until the shared filesystem takes no more",
    won: "left the host no room for another file",
    harmless: "it filled a layer of its own",
    end: End::Chapter(3),
    because: "the layer that is written to is a filesystem that belongs to the container alone",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| arena.write("rootfs/one-more", "").is_err(),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    std::fs::create_dir("/flood").at("mkdir(/flood)")?;
    for number in 0..6000 {
        if std::fs::write(format!("/flood/{number}"), "").is_err() {
            break;
        }
    }
    Ok(String::new())
}
