//! Chapter 5: rtnetlink, the language in which links, addresses and routes are asked for.
//!
//! There is no system call that makes a bridge. One opens a socket to the kernel, sends it a message,
//! and reads the answer: this is what ip(8) does, and here it is written out. netlink(7) and rtnetlink(7)
//! tell the format:
//!
//! ```text
//! header      length, type (RTM_NEWLINK ...), flags, sequence number, port
//! body        a small structure that depends on the type: ifinfomsg for links, rtmsg for routes ...
//! attributes  any number of: length, type (IFLA_IFNAME ...), value, padded to four bytes.
//!             A value can be attributes again.
//! ```
//!
//! All numbers are in the machine's own byte order, except those that also travel on a wire.
//!
//! A netlink socket belongs to the network namespace in which it was opened. That is why the container
//! opens its own, and why the hub of an ordinary user is entered before one is opened there.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::address::{Mac, Subnet};
use crate::told::errors::{Advise, Error, Result};
use crate::told::explain;

/// The kernel's names, from linux/netlink.h, if_link.h, if_addr.h, rtnetlink.h and veth.h. The libc
/// crate has them for some C libraries only.
mod uapi {
    pub const NLM_F_REQUEST: u16 = 0x1;
    pub const NLM_F_ACK: u16 = 0x4;
    pub const NLM_F_CAPPED: u16 = 0x100;
    pub const NLM_F_ACK_TLVS: u16 = 0x200;
    pub const NLM_F_DUMP: u16 = 0x300;
    pub const NLM_F_EXCL: u16 = 0x200;
    pub const NLM_F_CREATE: u16 = 0x400;
    pub const NLMSG_ERROR: u16 = 2;
    pub const NLMSG_DONE: u16 = 3;
    pub const NLMSGERR_ATTR_MSG: u16 = 1;
    pub const NETLINK_CAP_ACK: i32 = 10;
    pub const NETLINK_EXT_ACK: i32 = 11;

    pub const RTM_NEWLINK: u16 = 16;
    pub const RTM_DELLINK: u16 = 17;
    pub const RTM_GETLINK: u16 = 18;
    pub const RTM_SETLINK: u16 = 19;
    pub const RTM_NEWADDR: u16 = 20;
    pub const RTM_GETADDR: u16 = 22;
    pub const RTM_NEWROUTE: u16 = 24;
    pub const RTM_GETROUTE: u16 = 26;

    pub const IFLA_ADDRESS: u16 = 1;
    pub const IFLA_IFNAME: u16 = 3;
    pub const IFLA_MTU: u16 = 4;
    pub const IFLA_MASTER: u16 = 10;
    pub const IFLA_LINKINFO: u16 = 18;
    pub const IFLA_NET_NS_FD: u16 = 28;
    pub const IFLA_INFO_KIND: u16 = 1;
    pub const IFLA_INFO_DATA: u16 = 2;
    pub const VETH_INFO_PEER: u16 = 1;
    pub const IFF_UP: u32 = 1;

    pub const IFA_ADDRESS: u16 = 1;
    pub const IFA_LOCAL: u16 = 2;

    pub const RTA_DST: u16 = 1;
    pub const RTA_OIF: u16 = 4;
    pub const RTA_GATEWAY: u16 = 5;
    pub const RT_TABLE_MAIN: u8 = 254;
    pub const RTPROT_BOOT: u8 = 3;
    pub const RTN_UNICAST: u8 = 1;

    pub const AF_UNSPEC: u8 = 0;
    pub const AF_INET: u8 = 2;
    pub const HEADER: usize = 16;
    pub const IFINFOMSG: usize = 16;
    pub const IFADDRMSG: usize = 8;
    pub const RTMSG: usize = 12;
    /// In the type of an attribute whose value is attributes again.
    pub const NLA_F_NESTED: u16 = 0x8000;
}
use uapi::*;

/// A request to the kernel.
///
/// A message says what it is for in the notation of ip(8), so that the narration can show it.
pub struct Message {
    bytes: Vec<u8>,
    shown: String,
}

impl Message {
    /// Make a bridge: a switch in software.
    pub fn bridge(name: &str, mac: Mac) -> Message {
        Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, format!("RTM_NEWLINK {name} type bridge"))
            .body(&ifinfomsg(0, None))
            .attribute(IFLA_IFNAME, c_string(name))
            .attribute(IFLA_ADDRESS, mac)
            .nest(IFLA_LINKINFO, |info| info.attribute(IFLA_INFO_KIND, "bridge"))
    }

    // ANCHOR: message-veth
    /// Make a veth pair, a cable with two ends. This end is `name`: plugged into the bridge with the
    /// index `bridge` and up. The other end, `peer`, is born in `namespace`, and never seen out here.
    pub fn veth(name: &str, bridge: u32, mtu: u32, peer: &str, mac: Mac, namespace: BorrowedFd) -> Message {
        let shown = format!("RTM_NEWLINK {name} type veth peer {peer}");
        Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, shown)
            .body(&ifinfomsg(0, Some(true)))
            .attribute(IFLA_IFNAME, c_string(name))
            .attribute(IFLA_MTU, mtu.to_ne_bytes())
            .attribute(IFLA_MASTER, bridge.to_ne_bytes())
            .nest(IFLA_LINKINFO, |info| {
                info.attribute(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                    data.nest(VETH_INFO_PEER, |other_end| {
                        other_end
                            .body(&ifinfomsg(0, None))
                            .attribute(IFLA_IFNAME, c_string(peer))
                            .attribute(IFLA_ADDRESS, mac)
                            .attribute(IFLA_MTU, mtu.to_ne_bytes())
                            .attribute(IFLA_NET_NS_FD, namespace.as_raw_fd().to_ne_bytes())
                    })
                })
            })
    }
    // ANCHOR_END: message-veth

    // ANCHOR: message-up
    /// Switch a link on.
    pub fn up(name: &str) -> Message {
        Message::new(RTM_SETLINK, 0, format!("RTM_SETLINK {name} up"))
            .body(&ifinfomsg(0, Some(true)))
            .attribute(IFLA_IFNAME, c_string(name))
    }
    // ANCHOR_END: message-up

    /// Switch a link off.
    pub fn down(name: &str) -> Message {
        Message::new(RTM_SETLINK, 0, format!("RTM_SETLINK {name} down"))
            .body(&ifinfomsg(0, Some(false)))
            .attribute(IFLA_IFNAME, c_string(name))
    }

    /// And set the size of its largest packet.
    pub fn mtu(mut self, mtu: u32) -> Message {
        self.shown += &format!(" mtu {mtu}");
        self.attribute(IFLA_MTU, mtu.to_ne_bytes())
    }

    /// Remove a link; of a veth pair, both ends.
    pub fn delete(name: &str) -> Message {
        Message::new(RTM_DELLINK, 0, format!("RTM_DELLINK {name}"))
            .body(&ifinfomsg(0, None))
            .attribute(IFLA_IFNAME, c_string(name))
    }

    /// Give `link` an address. The kernel adds the route to its subnet by itself.
    pub fn address(link: &Link, address: Ipv4Addr, prefix: u8) -> Message {
        const FLAGS: u8 = 0;
        const UNIVERSE: u8 = 0;
        let [a, b, c, d] = link.index.to_ne_bytes();
        Message::new(
            RTM_NEWADDR,
            NLM_F_CREATE | NLM_F_EXCL,
            format!("RTM_NEWADDR {address}/{prefix} dev {}", link.name),
        )
        .body(&[AF_INET, prefix, FLAGS, UNIVERSE, a, b, c, d])
        .attribute(IFA_LOCAL, address.octets())
        .attribute(IFA_ADDRESS, address.octets())
    }

    // ANCHOR: message-default-route
    /// Send what is for nobody nearby to `gateway`.
    pub fn default_route(gateway: Ipv4Addr) -> Message {
        const NO: u8 = 0; // no prefix, no source, no type of service
        const UNIVERSE: u8 = 0;
        let shown = format!("RTM_NEWROUTE default via {gateway}");
        Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, shown)
            .body(&[AF_INET, NO, NO, NO, RT_TABLE_MAIN, RTPROT_BOOT, UNIVERSE, RTN_UNICAST, 0, 0, 0, 0])
            .attribute(RTA_GATEWAY, gateway.octets())
    }
    // ANCHOR_END: message-default-route

    fn new(kind: u16, flags: u16, shown: String) -> Message {
        let mut bytes = vec![0; HEADER];
        // A dump ends with a message of its own; everything else is to be acknowledged.
        let ack = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | ack | flags).to_ne_bytes());
        Message { bytes, shown }
    }

    fn body(mut self, body: &[u8]) -> Message {
        self.bytes.extend_from_slice(body);
        self
    }

    fn attribute(self, kind: u16, value: impl AsRef<[u8]>) -> Message {
        self.enclose(kind, |message| message.body(value.as_ref()))
    }

    fn nest(self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        self.enclose(kind | NLA_F_NESTED, inside)
    }

    // ANCHOR: message-enclose
    /// Writes an attribute: its length is known when what is inside has been written.
    fn enclose(mut self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        let mut message = inside(self);
        let length = (message.bytes.len() - start) as u16;
        message.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message.bytes.resize(message.bytes.len().next_multiple_of(4), 0);
        message
    }
    // ANCHOR_END: message-enclose

    /// The finished message.
    fn finish(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let length = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }
}

/// A link by its name: index 0. It is switched on or off, or left as it is.
fn ifinfomsg(index: u32, up: Option<bool>) -> [u8; IFINFOMSG] {
    let flags = if up == Some(true) { IFF_UP } else { 0 };
    let change = if up.is_some() { IFF_UP } else { 0 };
    let mut body = [0; IFINFOMSG];
    body[0] = AF_UNSPEC;
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes()); // which of them to change
    body
}

fn c_string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, by which other messages mean it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// "bridge", "veth", ...; empty for hardware.
    pub kind: String,
    /// The size of its largest packet.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Option<Mac>,
}

/// A route as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to. A default route leads to all that there is: 0.0.0.0/0.
    pub to: Subnet,
    /// The index of the link that it goes by.
    pub link: Option<u32>,
    /// Does it lead to other machines? (The kernel keeps this machine's own addresses as routes too.)
    pub unicast: bool,
}

/// A message from the kernel: type and body.
struct Reply {
    kind: u16,
    body: Vec<u8>,
}

/// A socket to the kernel.
pub struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl Netlink {
    // ANCHOR: netlink-open
    /// Opens a socket to the kernel, about the network namespace that this process is in now.
    pub fn open(why: &str) -> Result<Netlink> {
        let shown = || "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)".to_string();
        let socket = explain::call(why, shown, || {
            let protocol = SockProtocol::NetlinkRoute;
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
        })
        .remedy("a seccomp filter forbids netlink sockets: run outside of it, or with --network host")?;
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            // Answers are to give the reason in words, and not to repeat the question. An old kernel
            // that cannot is no worse for it.
            let on: libc::c_int = 1;
            // SAFETY: the option's value is an int, which outlives the call.
            unsafe {
                let size = size_of_val(&on) as libc::socklen_t;
                let fd = socket.as_raw_fd();
                libc::setsockopt(fd, libc::SOL_NETLINK, option, (&raw const on).cast(), size);
            }
        }
        Ok(Netlink { socket, sequence: Cell::new(1) })
    }
    // ANCHOR_END: netlink-open

    /// Sends requests, all in one go, and waits until the kernel has carried out every one of them.
    /// It goes on after one that fails; the first failure is the one that is returned.
    pub fn send(&self, why: &str, messages: &[Message]) -> Result<()> {
        self.ask(why, messages).map(drop)
    }

    /// The link called `name`, if there is one.
    pub fn link(&self, why: &str, name: &str) -> Result<Option<Link>> {
        let by_name = Message::new(RTM_GETLINK, 0, format!("RTM_GETLINK {name}"))
            .body(&ifinfomsg(0, None))
            .attribute(IFLA_IFNAME, c_string(name));
        self.one_link(why, by_name)
    }

    /// The link with this index.
    pub fn link_by_index(&self, why: &str, index: u32) -> Result<Option<Link>> {
        let by_index = Message::new(RTM_GETLINK, 0, format!("RTM_GETLINK index {index}"));
        self.one_link(why, by_index.body(&ifinfomsg(index, None)))
    }

    fn one_link(&self, why: &str, question: Message) -> Result<Option<Link>> {
        match self.ask(why, &[question]) {
            Ok(replies) => Ok(replies.iter().find_map(link)),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The subnets of all IPv4 addresses here.
    pub fn addresses(&self, why: &str) -> Result<Vec<Subnet>> {
        let all = Message::new(RTM_GETADDR, NLM_F_DUMP, "RTM_GETADDR all".to_string());
        let body = [AF_INET, 0, 0, 0, 0, 0, 0, 0];
        Ok(self.ask(why, &[all.body(&body)])?.iter().filter_map(address).collect())
    }

    /// All IPv4 routes here.
    pub fn routes(&self, why: &str) -> Result<Vec<Route>> {
        let all = Message::new(RTM_GETROUTE, NLM_F_DUMP, "RTM_GETROUTE all".to_string());
        let body = [AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Ok(self.ask(why, &[all.body(&body)])?.iter().filter_map(route).collect())
    }

    fn ask(&self, why: &str, messages: &[Message]) -> Result<Vec<Reply>> {
        let first = self.sequence.get();
        self.sequence.set(first.wrapping_add(messages.len() as u32));
        let numbered = messages.iter().zip(first..);
        let bytes: Vec<u8> = numbered.flat_map(|(message, number)| message.finish(number)).collect();
        let shown = |messages: &[Message]| {
            let texts: Vec<_> = messages.iter().map(|message| message.shown.as_str()).collect();
            format!("sendto(netlink, {})", texts.join(", "))
        };
        explain::call(why, || shown(messages), || send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty()))?;

        let answer = self
            .answer(first, messages.len())
            .map_err(|errno| Error::call(why, "recvfrom(netlink)", errno))?;
        match answer {
            Answer::Done(replies) => Ok(replies),
            Answer::Refused { which, errno, reason } => {
                // The call succeeded; it is the answer that says no.
                let message = &messages[which..=which];
                explain::remark(&format!("the kernel answers {errno:?} to {}", message[0].shown));
                let error = Error::call(why, shown(message), errno);
                Err(with_remedy(if reason.is_empty() { error } else { error.detail(reason) }))
            }
        }
    }

    /// Reads until each of the `count` messages, numbered from `first`, has been answered.
    fn answer(&self, first: u32, count: usize) -> nix::Result<Answer> {
        let mut buffer = vec![0; 32 * 1024]; // the kernel sends no longer ones, see netlink(7)
        let mut unanswered = count;
        let mut replies = Vec::new();
        let mut refused: Option<Answer> = None;
        while unanswered > 0 {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = &buffer[..length];
            while let Some((header, body)) = split_message(&mut rest) {
                let which = header.sequence.wrapping_sub(first) as usize;
                if which >= count {
                    continue;
                }
                match header.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        unanswered -= 1;
                        let errno = Errno::from_raw(-(u32_at(body, 0).unwrap_or_default() as i32));
                        if errno != Errno::from_raw(0) {
                            let reason = reason(header.flags, body);
                            refused.get_or_insert(Answer::Refused { which, errno, reason });
                        }
                    }
                    kind => replies.push(Reply { kind, body: body.to_vec() }),
                }
            }
        }
        Ok(refused.unwrap_or(Answer::Done(replies)))
    }
}

enum Answer {
    Done(Vec<Reply>),
    Refused { which: usize, errno: Errno, reason: String },
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// Takes the next message off a buffer.
fn split_message<'a>(rest: &mut &'a [u8]) -> Option<(Header, &'a [u8])> {
    let length = u32_at(rest, 0)? as usize;
    let header = Header { kind: u16_at(rest, 4)?, flags: u16_at(rest, 6)?, sequence: u32_at(rest, 8)? };
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((header, body))
}

/// The attributes that follow the body's structure of `skip` bytes.
fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(skip..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u16_at(rest, 0)? as usize;
        let kind = u16_at(rest, 2)? & !NLA_F_NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn attribute(body: &[u8], skip: usize, wanted: u16) -> Option<&[u8]> {
    attributes(body, skip).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string()
}

fn link(reply: &Reply) -> Option<Link> {
    if reply.kind != RTM_NEWLINK {
        return None;
    }
    let find = |wanted| attribute(&reply.body, IFINFOMSG, wanted);
    let kind = find(IFLA_LINKINFO).and_then(|info| attribute(info, 0, IFLA_INFO_KIND));
    Some(Link {
        index: u32_at(&reply.body, 4)?,
        name: text(find(IFLA_IFNAME)?),
        kind: kind.map(text).unwrap_or_default(),
        mtu: find(IFLA_MTU).and_then(|value| u32_at(value, 0)).unwrap_or_default(),
        mac: find(IFLA_ADDRESS).and_then(|value| value.try_into().ok()),
    })
}

fn address(reply: &Reply) -> Option<Subnet> {
    if reply.kind != RTM_NEWADDR {
        return None;
    }
    let address = ipv4(attribute(&reply.body, IFADDRMSG, IFA_ADDRESS)?)?;
    Some(Subnet::around(address, *reply.body.get(1)?))
}

fn route(reply: &Reply) -> Option<Route> {
    if reply.kind != RTM_NEWROUTE {
        return None;
    }
    let find = |wanted| attribute(&reply.body, RTMSG, wanted);
    let to = find(RTA_DST).map_or(Some(Ipv4Addr::UNSPECIFIED), ipv4)?;
    Some(Route {
        to: Subnet::around(to, *reply.body.get(1)?),
        link: find(RTA_OIF).and_then(|value| u32_at(value, 0)),
        unicast: *reply.body.get(7)? == RTN_UNICAST,
    })
}

/// Why the kernel refused, in its own words, where it has any: they follow the error number and the
/// header (or all) of the refused message.
fn reason(flags: u16, body: &[u8]) -> String {
    if flags & NLM_F_ACK_TLVS == 0 {
        return String::new();
    }
    let repeated = if flags & NLM_F_CAPPED != 0 { HEADER } else { u32_at(body, 4).unwrap_or(0) as usize };
    attribute(body, 4 + repeated, NLMSGERR_ATTR_MSG).map(text).unwrap_or_default()
}

fn with_remedy(error: Error) -> Error {
    let remedy = match error.errno() {
        Some(Errno::EPERM | Errno::EACCES) => {
            "changing links needs the capability CAP_NET_ADMIN: inside a container engine, run the container \
             with --privileged, or use --network host; `cargo run --bin doctor` tells what this machine allows"
        }
        Some(Errno::EOPNOTSUPP) => {
            "this kernel does not have that kind of link, or its module is not loaded: \
             sudo modprobe bridge && sudo modprobe veth"
        }
        Some(Errno::EXFULL) => "a bridge has room for 1023 cables, and they are all taken",
        _ => return error,
    };
    error.remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_message_has_the_bytes_that_ip_sends() {
        // strace -e trace=sendmsg -xx ip link set lo up, except for type, attribute and flags.
        let bytes = Message::up("lo").finish(7);
        let expected = [
            &[40, 0, 0, 0, 19, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0][..], // length, type, flags, sequence, port
            &[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],       // ifinfomsg: flags and change are IFF_UP
            &[7, 0, 3, 0, b'l', b'o', 0, 0],                         // IFLA_IFNAME "lo", padded by one byte
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn attributes_nest() {
        let message = Message::bridge("br0", [2, 0, 0, 0, 0, 1]).finish(1);
        assert_eq!(u32_at(&message, 0), Some(message.len() as u32));
        let (_, body) = split_message(&mut message.as_slice()).expect("a message");
        assert_eq!(attribute(body, IFINFOMSG, IFLA_IFNAME), Some(&b"br0\0"[..]));
        let info = attribute(body, IFINFOMSG, IFLA_LINKINFO).expect("nested attributes");
        assert_eq!(attribute(info, 0, IFLA_INFO_KIND), Some(&b"bridge"[..]));
        assert_eq!(attributes(body, IFINFOMSG).count(), 3);
    }

    #[test]
    fn the_peer_of_a_veth_is_a_message_in_a_message() {
        let stdin = std::io::stdin();
        let namespace = std::os::fd::AsFd::as_fd(&stdin);
        let message = Message::veth("veth1", 3, 1400, "eth0", [2, 0, 0, 0, 0, 2], namespace).finish(1);
        let (header, body) = split_message(&mut message.as_slice()).expect("a message");
        assert_eq!(header.kind, RTM_NEWLINK);
        let info = attribute(body, IFINFOMSG, IFLA_LINKINFO).expect("link information");
        let data = attribute(info, 0, IFLA_INFO_DATA).expect("veth's own attributes");
        let peer = attribute(data, 0, VETH_INFO_PEER).expect("the peer");
        assert_eq!(attribute(peer, IFINFOMSG, IFLA_IFNAME), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(peer, IFINFOMSG, IFLA_NET_NS_FD), Some(&0i32.to_ne_bytes()[..]));
        assert_eq!(attribute(peer, IFINFOMSG, IFLA_MTU), Some(&1400u32.to_ne_bytes()[..]));
        assert_eq!(attribute(peer, IFINFOMSG, IFLA_MASTER), None);
    }

    #[test]
    fn what_is_cut_short_ends_the_reading() {
        let message = Message::default_route(Ipv4Addr::new(10, 83, 0, 1)).finish(1);
        for length in 0..message.len() {
            assert!(split_message(&mut &message[..length]).is_none(), "{length}");
        }
        assert_eq!(attributes(&[8, 0, 1, 0, 1], 0).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0], 0).count(), 0);
        assert_eq!(attributes(&[], 4).count(), 0);
    }

    #[test]
    fn the_kernel_describes_a_route() {
        let message = Message::new(RTM_NEWROUTE, 0, String::new())
            .body(&[AF_INET, 24, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST, 0, 0, 0, 0])
            .attribute(RTA_DST, [192, 0, 2, 0])
            .attribute(RTA_OIF, 2u32.to_ne_bytes());
        let reply = Reply { kind: RTM_NEWROUTE, body: message.bytes[HEADER..].to_vec() };
        let to = Subnet::around(Ipv4Addr::new(192, 0, 2, 0), 24);
        assert_eq!(route(&reply), Some(Route { to, link: Some(2), unicast: true }));
    }

    #[test]
    fn the_kernel_gives_its_reason() {
        let mut body = [&(-22i32).to_ne_bytes()[..], &[0; HEADER]].concat();
        body.extend([11, 0, 1, 0]);
        body.extend(b"because");
        assert_eq!(reason(NLM_F_CAPPED | NLM_F_ACK_TLVS, &body), "because");
        assert_eq!(reason(NLM_F_CAPPED, &body), "");
    }
}
