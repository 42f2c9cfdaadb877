//! Calling an abstract Unix socket of the host.
//!
//! A Unix socket usually is a file, and the root directory and the mount namespace decide who finds it. An
//! *abstract* one has a name that begins with a zero byte and is no file: it has neither permissions nor a
//! place. Its names are those of the network namespace, of all things. X servers and D-Bus used to listen
//! there; containerd's shims did, until CVE-2020-15257: a container with the host's network could call them,
//! and have them start what it liked.
//!
//! Chapter 5 stops it with a network namespace, and `--network host` brings it back.

use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::victim::SOCKET;
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "abstract-socket",
    title: "a call to an abstract Unix socket of the host (CVE-2020-15257)",
    won: "talked to a host process",
    harmless: "",
    end: End::Chapter(5),
    because: "abstract names belong to the network namespace, and the container has its own",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let address = SocketAddr::from_abstract_name(SOCKET).at("the name")?;
    let mut stream = UnixStream::connect_addr(&address).at("connect(the victim's socket)")?;
    let mut word = String::new();
    stream.read_to_string(&mut word).at("read(the victim's socket)").map(|_| word)
}
