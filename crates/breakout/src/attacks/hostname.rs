//! Renaming the host.
//!
//! The host name is one value in the kernel. Root may set it with sethostname(2), and root in a container
//! without a UTS namespace sets the host's. It sounds harmless; log files, shell prompts, licence servers and
//! cluster members that go by the name disagree.
//!
//! Chapter 4 stops it: the container has a UTS namespace, and a name of its own in it. An ordinary user's
//! container never could: the host's UTS namespace belongs to the first user namespace, and root of another
//! one has no right in it.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "hostname",
    title: "sethostname(2) for everyone",
    won: "renamed the host",
    harmless: "it renamed itself",
    end: End::Chapter(4),
    because: "the container has a UTS namespace, and renames itself only",
    prepare: arena::nothing,
    attack,
    judge: |_: &mut Arena, _| nix::unistd::gethostname().is_ok_and(|name| name == "broken-into"),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    nix::unistd::sethostname("broken-into").at("sethostname(broken-into)").map(|()| String::new())
}
