//! Switching off the host's network.
//!
//! Network devices, addresses, routes and firewall rules belong to a network namespace. Root in a container
//! that shares the host's can do with them what ip(8) can: switch a device off, take its address, send the
//! host's traffic through itself. Here it switches the loopback device off, and the host can't talk to itself
//! any more.
//!
//! Chapter 5 stops it: the loopback device that it switches off then is its own.

use nix::errno::Errno;

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "network-config",
    title: "ip link set lo down",
    won: "switched off one of the host's network devices",
    harmless: "it switched its own device off",
    end: End::Chapter(5),
    because: "in a network namespace of its own it changes its own devices, addresses and routes only",
    prepare: arena::nothing,
    attack,
    judge: |_: &mut Arena, _| flags(None).is_ok_and(|flags| flags & libc::IFF_UP as i16 == 0),
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    let up = flags(None).at("ioctl(SIOCGIFFLAGS, lo)")?;
    flags(Some(up & !(libc::IFF_UP as i16))).at("ioctl(SIOCSIFFLAGS, lo)").map(|_| String::new())
}

/// The flags of the loopback device: see netdevice(7). With `new` they are set first.
fn flags(new: Option<i16>) -> nix::Result<i16> {
    use std::os::fd::AsRawFd;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    if let Some(new) = new {
        request.ifr_ifru.ifru_flags = new;
        // SAFETY: the kernel reads the request, which is of the type that this ioctl takes.
        Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })?;
    }
    // SAFETY: the kernel writes the flags into the request.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the flags were just written.
    Ok(unsafe { request.ifr_ifru.ifru_flags })
}
