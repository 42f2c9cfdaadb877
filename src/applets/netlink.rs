//! The kernel's language for links, addresses and routes, as far as `ip` speaks it. The book's chapter 5 and
//! src/container/netlink.rs explain it; this one has no dependencies, and reads what that one does not.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::{Failure, sys, words};

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_GETLINK: u16 = 18;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_GETADDR: u16 = 22;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_DELROUTE: u16 = 25;
pub const RTM_GETROUTE: u16 = 26;

pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;

/// A message of the kernel, without its header: a structure that depends on its kind, and attributes.
pub struct Reply {
    pub body: Vec<u8>,
    /// How long that structure is.
    fixed: usize,
}

impl Reply {
    pub fn u8(&self, at: usize) -> u8 {
        self.body.get(at).copied().unwrap_or_default()
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32_at(&self.body, at)
    }

    /// The value of an attribute.
    pub fn find(&self, wanted: u16) -> Option<&[u8]> {
        let mut rest = self.body.get(self.fixed..)?;
        loop {
            let length = usize::from(u16_at(rest, 0)?);
            let value = rest.get(4..length)?;
            if u16_at(rest, 2)? & 0x3fff == wanted {
                return Some(value);
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }

    /// An attribute that is a number.
    pub fn number(&self, wanted: u16) -> Option<u32> {
        self.find(wanted).filter(|value| value.len() >= 4).map(|value| u32_at(value, 0))
    }

    /// An attribute that is a word.
    pub fn text(&self, wanted: u16) -> Option<String> {
        self.find(wanted).map(|value| String::from_utf8_lossy(value).trim_end_matches('\0').to_string())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_ne_bytes).unwrap_or_default()
}

/// An attribute, to be sent.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Everything of a kind: `RTM_GETLINK`, with the structure of a link, and so on.
pub fn dump(kind: u16, fixed: &[u8]) -> Result<Vec<Reply>, Failure> {
    exchange(kind, NLM_F_DUMP, fixed, fixed.len())
        .map_err(|error| format!("netlink: {}", words(&error)).into())
}

/// Asks for a change.
pub fn change(kind: u16, flags: u16, body: &[u8]) -> Result<(), Failure> {
    let done = exchange(kind, NLM_F_ACK | flags, body, body.len());
    done.map(drop).map_err(|error| format!("RTNETLINK answers: {}", words(&error)).into())
}

fn exchange(kind: u16, flags: u16, body: &[u8], fixed: usize) -> io::Result<Vec<Reply>> {
    let mut socket: File = sys::netlink()?;
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]); // sequence and port: this socket asks only once
    message.extend(body);
    socket.write_all(&message)?;

    let mut replies = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = socket.read(&mut buffer)?;
        let mut rest = &buffer[..length];
        while let Some(kind) = u16_at(rest, 4) {
            let length = u32_at(rest, 0) as usize;
            let Some(body) = rest.get(HEADER..length) else { break };
            match kind {
                NLMSG_DONE => return Ok(replies),
                NLMSG_ERROR => match u32_at(body, 0) as i32 {
                    0 => return Ok(replies),
                    errno => return Err(io::Error::from_raw_os_error(-errno)),
                },
                _ => replies.push(Reply { body: body.to_vec(), fixed }),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found() {
        let body = [vec![0; 8], attribute(3, b"eth0\0"), attribute(4, &1500u32.to_ne_bytes())].concat();
        let reply = Reply { body, fixed: 8 };
        assert_eq!((reply.text(3), reply.number(4)), (Some("eth0".to_string()), Some(1500)));
        assert!(reply.find(5).is_none());
        assert!(Reply { body: vec![9, 0, 3], fixed: 0 }.find(3).is_none(), "cut off");
    }
}
