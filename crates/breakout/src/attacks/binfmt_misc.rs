//! A file format of its own.
//!
//! The filesystem binfmt_misc tells the kernel which program is to start files that begin with certain bytes: that is how a
//! machine runs the programs of another architecture. What is registered there holds for everybody. A container that
//! registers its own program for, say, all set-user-ID files of the host's distribution has it started on the host,
//! with the rights of whoever starts such a file.
//!
//! The file `register` is opened for writing, and nothing is written. The arena has mounted the machine's as well, and compares.
//!
//! Chapter 8 stops it: an ordinary kernel before Linux 6.7 lets nobody in a user namespace mount it, and since then each user
//! namespace has formats of its own, which hold for its own processes. (So the row of an ordinary user says `held`, whatever the
//! kernel.)

use std::fs::File;

use nix::mount::{MsFlags, mount};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::{Error, Result};

pub const ATTACK: Attack = Attack {
    name: "binfmt-misc",
    title: "a file format that the machine starts with the container's program",
    won: "held the machine's list of file formats open for writing",
    harmless: "what it registers holds for its own processes",
    end: End::Chapter(8),
    because: "a user namespace has file formats of its own, or none",
    prepare,
    attack,
    judge: |arena: &mut Arena, _| arena.holds_itself_for_writing("formats/register"),
};

fn prepare(arena: &mut Arena) -> Result<()> {
    arena.make_directory("formats")?;
    if let Err(errno) = show(&arena.path("formats").display().to_string())
        && !arena.user
    {
        let call = "mount(binfmt_misc)";
        return match errno {
            nix::errno::Errno::ENODEV => {
                arena.nothing_to_attack("this kernel has no binfmt_misc");
                Ok(())
            }
            errno => Err(Error::call("see the machine's file formats", call, errno)),
        };
    }
    Ok(())
}

fn show(place: &str) -> nix::Result<()> {
    let kind = Some("binfmt_misc");
    mount(kind, place, kind, MsFlags::empty(), None::<&str>)
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    if show("/mnt").is_err() {
        return Err(Stopped::nothing("it can mount no list of file formats"));
    }
    let list = File::options().write(true).open("/mnt/register").at("open(register)")?;
    std::mem::forget(list); // the judge looks at it
    Ok(String::new())
}
