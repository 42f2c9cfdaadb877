//! Root again, by a program in the image.
//!
//! A server that gives up root for a user of its own is safe from its own faults only as long as that user cannot become root
//! again. Every distribution's image has programs that are set-user-ID: su, mount, passwd. A fault in one of them is enough
//! (CVE-2021-4034 in pkexec), and a file of the image may be made for that.
//!
//! Chapter 9 stops it: with no_new_privs, which is on by default, execve(2) gives no one more than he has. (An ordinary user's
//! container that has one user only has nobody who could become root.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "set-user-id",
    title: "a program in the image that makes root of any user",
    won: "was root again",
    harmless: "",
    end: End::Chapter(9),
    because: "with no_new_privs no program gives more rights than one has",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    const PROGRAM: &str = "/set-user-id";
    fs::copy("/usr/bin/witness", PROGRAM)
        .and_then(|_| fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o4755)))
        .at("open(a program, O_CREAT)")?;
    // As a server does it that starts as root.
    let mut program = Command::new(PROGRAM);
    let done = program.uid(1000).gid(1000).stdin(Stdio::inherit()).output().at("setuid(1000)")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if said.contains("\"euid\": 0,") { Ok(String::new()) } else { Err(Stopped::nothing("execve(a set-user-ID program)")) }
}
