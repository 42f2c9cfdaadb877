//! A cover that is a link: CVE-2025-31133.
//!
//! What tells of the whole machine is hidden under /dev/null. A runtime that takes the cover by that name takes what the name leads
//! to, and /dev comes from the image. There /dev/null is a symbolic link to a file in /proc: what should have covered
//! a file shows another, and one that can be written to. In runc it was /proc/sys/kernel/core_pattern.
//!
//! Here the link leads to /proc/interrupts. Followed, what should be hidden shows that file. It lies in the image, and in a volume that another container is given as its /dev.
//!
//! It never worked: chapter 9, the first that covers anything, makes a /dev of its own over the image's, does not follow a
//! link there, and sees that what covers is the device. With that volume the container does not start.

use std::os::unix::fs::symlink;

use crate::arena::Arena;
use crate::inside::{Inside, Stopped};
use crate::{Attack, End, Said};
use cooperage::told::errors::{Error, Result};

pub const ATTACK: Attack = Attack {
    name: "mask-link",
    title: "/dev/null as a link, so that what covers a file shows another (CVE-2025-31133)",
    won: "read the counters of the machine's devices through a cover",
    harmless: "",
    end: End::Never,
    because: "the cover is taken without following a link, and seen to be the device",
    prepare,
    attack,
    judge: |arena: &mut Arena, said: &Said| arena.was_let(said) || !arena.read("outside/shown").is_empty(),
};

/// The first chapter that covers files.
pub const COVERS: u8 = 9;

/// Where the link leads.
pub const SHOWN: &str = "/proc/interrupts";

/// What the covers show, in a script. (Not every runtime covers the file that the link leads to.)
pub const SHOW: &str = "cat /proc/keys /proc/timer_list 2>&-; true";

fn prepare(arena: &mut Arena) -> Result<()> {
    if arena.chapter < COVERS {
        arena.nothing_to_attack("files are covered from chapter 9 on");
        return Ok(());
    }
    let dev = arena.path("rootfs/dev");
    let null = dev.join("null");
    // Whatever there was.
    let _ = std::fs::create_dir(&dev);
    let _ = std::fs::remove_file(&null);
    for link in [null, arena.path("volume/null")] {
        symlink(SHOWN, &link).map_err(|error| Error::io("plant a link", &link, &error))?;
    }
    let volume = format!("{}:/dev", arena.path("volume").display());
    let shown = arena.try_script(&["--volume", &volume], SHOW)?.unwrap_or_default();
    arena.write("outside/shown", &shown)
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    let covered = ["keys", "timer_list", "kcore"];
    let shows = |name: &&&str| std::fs::read(format!("/proc/{name}")).is_ok_and(|bytes| !bytes.is_empty());
    match covered.iter().find(shows) {
        Some(name) => Ok(name.to_string()),
        None => Err(Stopped::nothing("the covers show nothing")),
    }
}
