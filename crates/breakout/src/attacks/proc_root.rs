//! Through another process's root.
//!
//! /proc/PID/root and /proc/PID/cwd look like symbolic links, and are none: whoever opens them is
//! immediately where that process has its root, or stands, with no path walked. Whoever sees a host process
//! in a /proc, and may trace it, has the host's files. In chapter 1 there is no /proc, but root mounts one:
//! it shows all processes of the host.
//!
//! Chapter 2 stops it: in a PID namespace of its own the container sees, and can mount, only a /proc that has
//! its own processes. An ordinary user could not even in chapter 1: a /proc is mounted by whoever owns the PID
//! namespace.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "proc-root",
    title: "/proc/1/root, and /proc/PID/cwd of every process in sight",
    won: "read a host file through another process's root",
    harmless: "",
    end: End::Chapter(2),
    because: "in a PID namespace of its own, /proc shows no process whose root is the host's",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    for entry in std::fs::read_dir("/proc").at("open(/proc)")?.flatten() {
        let process = entry.path();
        let root = format!("{}/root{}", process.display(), me.text("canary"));
        for place in [root, format!("{}/cwd/secret", process.display())] {
            if let Ok(text) = std::fs::read_to_string(place) {
                return Ok(text);
            }
        }
    }
    Err(nix::errno::Errno::ENOENT).at("open(/proc/PID/root/the canary)")
}
