//! Writing to /sys.
//!
//! /sys shows the kernel's devices and knobs. Apart from the network devices none of it is in a namespace:
//! whoever writes there speaks to the machine, power/state puts it to sleep, and kernel/uevent_helper names a
//! program that the kernel starts as root. From chapter 3 on the container has a read-only /sys. But root may
//! mount it once more, or make it writable by one call: read-only is a flag of the mount, not a right that is
//! missing.
//!
//! A file is opened for writing, and nothing is written.
//!
//! Chapter 8 stops it: the files belong to the machine's root.

use std::fs::File;

use nix::mount::{MsFlags, mount};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

/// Harmless knobs; every kernel has one of them.
const FILES: [&str; 4] = [
    "/sys/kernel/rcu_expedited",
    "/sys/kernel/profiling",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
];

pub const ATTACK: Attack = Attack {
    name: "sys-write",
    title: "a knob in /sys, after mount -o remount,rw",
    won: "held a knob of the machine's kernel open for writing",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace the container's root is not the machine's, whose files they are",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| FILES.iter().any(|file| arena.holds_for_writing(&file[4..], SYSFS_MAGIC)),
};

/// See statfs(2).
const SYSFS_MAGIC: i64 = 0x6265_6572;

fn attack(_: &Inside) -> Result<String, Stopped> {
    let none = None::<&str>;
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    let _ = std::fs::create_dir("/sys");
    if std::path::Path::new("/sys/kernel").exists() {
        // The mount may be read-only, and the filesystem too.
        mount(none, "/sys", none, again, none).at("mount(/sys, MS_REMOUNT|MS_BIND)")?;
        mount(none, "/sys", none, MsFlags::MS_REMOUNT, none).at("mount(/sys, MS_REMOUNT)")?;
    } else {
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).at("mount(sysfs, /sys)")?;
        let _ = mount(none, "/sys", none, MsFlags::MS_REMOUNT, none);
    }
    let mut refused = Stopped::nothing("there is no knob");
    for file in FILES.iter().filter(|file| std::path::Path::new(file).exists()) {
        match File::options().write(true).open(file).at("open(a knob in /sys)") {
            Ok(open) => {
                std::mem::forget(open); // the judge looks at it
                return Ok(String::new());
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
