//! A root filesystem that lies: links that lead outside.
//!
//! A runtime mounts on, writes to and makes things in a directory that somebody else has filled. Is its /dev
//! a symbolic link to the host's /home, a runtime that follows it mounts there; is /etc/resolv.conf one to
//! the host's /etc/shadow, it overwrites that. It has happened again and again: CVE-2017-1002101 (Kubernetes,
//! a volume), CVE-2019-16884 and CVE-2019-19921 (runc, /proc and volumes), CVE-2021-30465 (runc, a volume's
//! target that is exchanged in time).
//!
//! It never worked here: chapters 1 and 2 touch nothing in the rootfs but /proc, and refuse one that is a
//! link; from chapter 3 on every path in the rootfs is looked up by openat2(2) with RESOLVE_IN_ROOT, and used
//! by descriptor.

use std::os::unix::fs::symlink;

use crate::arena::Arena;
use crate::inside::{Inside, Stopped};
use crate::{Attack, End, Said};
use cooperage::told::errors::{Error, Result};

pub const ATTACK: Attack = Attack {
    name: "rootfs-links",
    title: "/dev, /proc, /etc/resolv.conf and a volume's target as links that lead outside",
    won: "had the runtime follow a link to the host's files",
    harmless: "the links were followed inside, or replaced",
    end: End::Never,
    because: "paths in the rootfs are looked up by openat2(2) with RESOLVE_IN_ROOT",
    prepare,
    attack,
    judge,
};

/// Name in the rootfs, and of what it leads to outside.
const LINKS: [(&str, &str); 4] =
    [("dev", "dev"), ("proc", "proc"), ("etc/resolv.conf", "resolv.conf"), ("opt", "target")];

fn prepare(arena: &mut Arena) -> Result<()> {
    for (inside, outside) in LINKS {
        let (link, target) = (arena.path("rootfs").join(inside), arena.path("outside").join(outside));
        let was_file = link.is_file();
        let removed = if was_file { std::fs::remove_file(&link) } else { std::fs::remove_dir_all(&link) };
        let made = removed.and_then(|()| symlink(&target, &link));
        made.map_err(|error| Error::io("plant a link", &link, &error))?;
        if was_file {
            arena.write(&format!("outside/{outside}"), "untouched")?;
        } else {
            arena.make_directory(&format!("outside/{outside}"))?;
        }
    }
    if arena.chapter >= 3 {
        arena.option("--volume", &format!("{}:/opt", arena.path("volume").display()));
    }
    Ok(())
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    // What the runtime has mounted or made through the links could be written to now.
    for file in ["/dev/changed", "/proc/changed", "/etc/resolv.conf"] {
        let _ = std::fs::write(file, "changed");
    }
    Ok(String::new())
}

fn judge(arena: &mut Arena, _: &Said) -> bool {
    LINKS.iter().any(|(_, outside)| {
        let name = format!("outside/{outside}");
        let entries = std::fs::read_dir(arena.path(&name)).map_or(0, Iterator::count);
        let text = arena.read(&name);
        entries > 0 || !text.is_empty() && text != "untouched" || arena.is_mounted(&name)
    })
}
