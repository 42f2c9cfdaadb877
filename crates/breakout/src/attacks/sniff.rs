//! Listening in on the host's network.
//!
//! A packet socket gets a copy of everything that goes over a network device, in either direction; that is
//! how tcpdump(8) works. Whoever has CAP_NET_RAW over a network namespace may open one. A container in the
//! host's hears all that the host says and is told, on the loopback device too, where nobody encrypts
//! anything.
//!
//! Chapter 5 stops it: in a network namespace of its own there is its own cable, and the host's devices are
//! not there. (What goes over the bridge from one container to another is a different matter:
//! CVE-2020-13401.)

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{SetSockOpt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::arena::{self, Arena};
use crate::inside::{At, Inside, Stopped};
use crate::victim::WORD;
use crate::{Attack, End};

pub const ATTACK: Attack = Attack {
    name: "sniff",
    title: "a packet socket on the host's network devices",
    won: "heard what processes of the host say to each other",
    harmless: "",
    end: End::Chapter(5),
    because: "in a network namespace of its own it hears its own devices only",
    prepare: arena::nothing,
    attack,
    judge: Arena::brought_back,
};

fn attack(_: &Inside) -> Result<String, Stopped> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    // SAFETY: numbers are all that this call takes.
    let socket = Errno::result(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all) });
    let socket = socket.at("socket(AF_PACKET)")?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    ReceiveTimeout.set(&socket, &TimeVal::milliseconds(100)).at("setsockopt(SO_RCVTIMEO)")?;
    let begun = Instant::now();
    let mut frame = [0; 2048];
    // What is said is said many times a second.
    while begun.elapsed() < Duration::from_millis(1500) {
        let Ok(count) = nix::unistd::read(&socket, &mut frame) else { continue };
        if let Some(word) = payload(&frame[..count]) {
            return Ok(String::from_utf8_lossy(word).into_owned());
        }
    }
    Err(Stopped::nothing("it heard nothing from the host"))
}

/// What a UDP packet to port 9 says: after 14 bytes of Ethernet, 20 of IPv4 and 8 of UDP.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let is_udp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17;
    let to_discard = frame.get(36..38)? == [0, 9];
    frame.get(42..42 + WORD).filter(|_| is_udp && to_discard)
}
