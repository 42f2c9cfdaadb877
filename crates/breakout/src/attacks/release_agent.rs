//! The release agent of cgroups version 1: CVE-2022-0492.
//!
//! At the root of a version 1 hierarchy there is a file release_agent. The kernel starts the program that it
//! names, as root and outside of every container, when the last process leaves a cgroup in which
//! notify_on_release is 1. Root in a container mounts a hierarchy, writes there the path of its own program
//! (as the host sees it), makes a cgroup, leaves it, and is out: Felix Wilhelm's exploit of 2019 fits into a
//! tweet. Until Linux 5.17 (CVE-2022-0492) the kernel did not even ask whether the writer was root of the
//! machine.
//!
//! Nothing is written to release_agent: that would be the machine's. The attack shows that it has the host's
//! hierarchy, writable, by a cgroup in it that the host sees and in which it has set notify_on_release. (In
//! the lab, whose own cgroup namespace hides it, release_agent would not be in sight either.)
//!
//! Chapter 6 stops it: with a cgroup namespace of its own, what the container can mount begins at its own
//! cgroup, and release_agent is only at the root. An ordinary user's container may write to none of it: the
//! hierarchy is the machine's root's.

use nix::mount::{MsFlags, mount};

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::told::errors::Result;

/// Hierarchies of version 1, one of which a machine that has any has.
const HIERARCHIES: [&str; 3] = ["freezer", "pids", "memory"];
const NAME: &str = "breakout-canary";

pub const ATTACK: Attack = Attack {
    name: "release-agent",
    title: "the host's cgroups of version 1, writable (CVE-2022-0492)",
    won: "set notify_on_release in a cgroup of the host's hierarchy",
    harmless: "it made a cgroup below its own",
    end: End::Chapter(6),
    because: "what can be mounted in a cgroup namespace begins at its own cgroup; release_agent is higher up",
    prepare,
    attack,
    judge: |_: &mut Arena, _| {
        let set = |name: &&str| {
            let file = format!("/sys/fs/cgroup/{name}/{NAME}/notify_on_release");
            std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
        };
        HIERARCHIES.iter().any(set)
    },
};

fn prepare(arena: &mut Arena) -> Result<()> {
    let is_there = |name: &&str| std::path::Path::new("/sys/fs/cgroup").join(name).join("tasks").exists();
    if !HIERARCHIES.iter().any(is_there) {
        arena.nothing_to_attack("this machine has no cgroups of version 1");
    }
    Ok(())
}

fn attack(_: &Inside) -> std::result::Result<String, Stopped> {
    let mut mounted = Err(nix::errno::Errno::ENODEV);
    let how = MsFlags::empty();
    for name in HIERARCHIES {
        mounted = mounted.or_else(|_| mount(Some("cgroup"), "/mnt", Some("cgroup"), how, Some(name)));
    }
    mounted.at("mount(cgroup)")?;
    let cgroup = std::path::Path::new("/mnt").join(NAME);
    std::fs::create_dir(&cgroup).at("mkdir(a cgroup)")?;
    std::fs::write(cgroup.join("notify_on_release"), "1").at("write(notify_on_release)")?;
    Ok(String::new())
}
