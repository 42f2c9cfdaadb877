//! Lifting one's own limit.
//!
//! A limit is a file, and the container sees the file: /sys/fs/cgroup shows it its own cgroup, read-only.
//! Root mounts the same hierarchy a second time, writable, writes `max`, and the limit is gone. The cgroup
//! namespace hides all other cgroups; it does not make one's own any less one's own.
//!
//! Chapter 8 stops it: the file belongs to the machine's root. (Where cgroups are version 2 and delegated, as
//! systemd does, the kernel refuses it at the border of the namespace as well: cgroups(7), "nsdelegate".)

use nix::mount::{MsFlags, mount};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped, child};
use crate::{Attack, End};
use cooperage::told::errors::Result;

pub const ATTACK: Attack = Attack {
    name: "cgroup-limit",
    title: "max, written over its own --pids-limit 20",
    won: "lifted its own limit, and had 60 processes",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace the container's root is not the machine's, whose cgroup it is",
    prepare,
    attack,
    judge: |arena: &mut Arena, _| arena.new_processes() >= 60,
};

fn prepare(arena: &mut Arena) -> Result<()> {
    if arena.chapter < 6 {
        arena.nothing_to_attack("limits come with chapter 6");
        return Ok(());
    }
    arena.limit_or_nothing("--pids-limit", "20")
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    let how = MsFlags::empty();
    mount(Some("pids"), "/mnt", Some("cgroup"), how, Some("pids"))
        .or_else(|_| mount(Some("cgroup2"), "/mnt", Some("cgroup2"), how, None::<&str>))
        .at("mount(its cgroup)")?;
    std::fs::write("/mnt/pids.max", "max").at("write(pids.max)")?;
    for _ in 0..60 {
        child(nix::unistd::pause).at("fork()")?;
    }
    Ok(String::new())
}
