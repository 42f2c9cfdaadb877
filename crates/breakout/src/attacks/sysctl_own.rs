//! A setting of the network, written in /proc/sys.
//!
//! The settings in /proc/sys look like one list for the machine. Many belong to a namespace: what is read and
//! written under /proc/sys/net is that of the process's network namespace, and kernel/msgmax and
//! kernel/shmmax are the IPC namespace's. A container in the host's network namespace changes the host's:
//! here, how many hops its packets may take; ip_forward or accept_redirects would do more.
//!
//! Chapter 5 stops it for this one: the same file is another setting. For settings that are in no namespace
//! see `sysctl-host`.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

const FILE: &str = "/proc/sys/net/ipv4/ip_default_ttl";
const VALUE: &str = "77";

pub const ATTACK: Attack = Attack {
    name: "sysctl-own",
    title: "a setting in /proc/sys that belongs to a namespace",
    won: "changed a setting of the host's network",
    harmless: "it changed the setting of its own network",
    end: End::Chapter(5),
    because: "the setting is the network namespace's, and the container has its own",
    prepare: arena::nothing,
    attack,
    judge: |_: &mut Arena, _| std::fs::read_to_string(FILE).is_ok_and(|text| text.trim() == VALUE),
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    std::fs::write(FILE, VALUE).at("open(/proc/sys/net/ipv4/ip_default_ttl)").map(|()| String::new())
}
