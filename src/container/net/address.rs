//! Chapter 5: addresses. Which subnet the bridge gets, and which address of it a container.
//!
//! Nobody is asked for a free address. An address is taken as long as a file named like it is locked
//! with flock(2); the kernel gives the lock back when the runtime that holds it ends, whatever it dies of.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::container::state::claim::Claim;
use crate::container::state::directory::state_directory;
use crate::container::state::pool;
use crate::told::errors::{Error, Result};

/// The hardware address of a link.
pub type Mac = [u8; 6];

/// A range of IPv4 addresses: all that have their first `prefix` bits in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    /// How many bits are in common.
    pub prefix: u8,
}

/// The subnets that the bridge may have, the best one first. They are private (RFC 1918) and seldom
/// used; the last one is set aside for measurements (RFC 2544), for hosts that route all private ones.
pub const CANDIDATES: [Subnet; 5] = [
    Subnet { network: Ipv4Addr::new(10, 83, 0, 0), prefix: 16 },
    Subnet { network: Ipv4Addr::new(10, 183, 0, 0), prefix: 16 },
    Subnet { network: Ipv4Addr::new(172, 29, 0, 0), prefix: 16 },
    Subnet { network: Ipv4Addr::new(192, 168, 0, 0), prefix: 16 },
    Subnet { network: Ipv4Addr::new(198, 18, 0, 0), prefix: 16 },
];

impl Subnet {
    /// The subnet of `address`.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Subnet {
        Subnet { network: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix }
    }

    /// The bridge's own address: the first one.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The addresses for containers, in order. The last one of all would mean all of them.
    fn rest(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = self.network.to_bits() | !mask(self.prefix);
        (self.network.to_bits() + 2..last).map(Ipv4Addr::from_bits)
    }

    /// Is there an address in both?
    pub fn overlaps(self, other: Subnet) -> bool {
        let common = mask(self.prefix.min(other.prefix));
        self.network.to_bits() & common == other.network.to_bits() & common
    }

    /// Does it hold every address?
    pub fn is_everything(self) -> bool {
        self.prefix == 0
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

// ANCHOR: choose-subnet
/// The first candidate that overlaps with nothing that is there already.
pub fn choose_subnet(taken: &[Subnet]) -> Result<Subnet> {
    let free = |candidate: &&Subnet| !taken.iter().any(|other| other.overlaps(**candidate));
    CANDIDATES.iter().find(free).copied().ok_or_else(|| {
        let all: Vec<_> = CANDIDATES.iter().map(Subnet::to_string).collect();
        Error::new(
            "choose a subnet for the bridge",
            format!("this host has routes into all of {}", all.join(", ")),
        )
        .remedy("`ip route` shows them: remove one that is not needed, or use --network host or none")
    })
}
// ANCHOR_END: choose-subnet

// ANCHOR: mac-of-address
/// The hardware address that goes with an address: two letters, then the address.
///
/// Whoever has talked to an address remembers its hardware address for a while. So the next container
/// that gets the address had better have the same. The 2 means: not the address of any real hardware.
pub fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, b'c', a, b, c, d]
}
// ANCHOR_END: mac-of-address

/// An address that is this runtime's as long as the runtime lives.
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    claim: Claim,
}

impl Lease {
    // ANCHOR: take-lease
    /// Takes the lowest free address.
    pub fn take(subnet: Subnet, _: &Claim) -> Result<Lease> {
        const STEP: &str = "reserve an address";
        let taken = pool::take(STEP, &directory()?, || subnet.rest())?;
        let (address, claim) =
            taken.ok_or_else(|| Error::new(STEP, format!("all addresses of {subnet} are taken")))?;
        Ok(Lease { address, claim })
    }
    // ANCHOR_END: take-lease

    /// Gives the address back.
    pub fn give_back(self, _: &Claim) {
        pool::give_back(self.claim);
    }
}

/// Removes the files of addresses whose runtimes are dead.
pub fn sweep(_: &Claim) -> Result<()> {
    pool::sweep(&directory()?);
    Ok(())
}

fn directory() -> Result<PathBuf> {
    Ok(state_directory()?.join("addresses"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Subnet {
        Subnet::around(Ipv4Addr::new(a, b, c, d), prefix)
    }

    #[test]
    fn a_subnet_has_a_gateway_and_the_rest() {
        let all = subnet(10, 83, 7, 7, 16);
        assert_eq!(all.to_string(), "10.83.0.0/16");
        assert_eq!(all.gateway(), Ipv4Addr::new(10, 83, 0, 1));
        assert_eq!(all.rest().next(), Some(Ipv4Addr::new(10, 83, 0, 2)));
        assert_eq!(all.rest().last(), Some(Ipv4Addr::new(10, 83, 255, 254)));
        assert_eq!(all.rest().count(), 65536 - 3);
    }

    #[test]
    fn overlaps() {
        let ours = subnet(10, 83, 0, 0, 16);
        for other in [ours, subnet(10, 0, 0, 0, 8), subnet(10, 83, 9, 1, 32), subnet(0, 0, 0, 0, 0)] {
            assert!(ours.overlaps(other) && other.overlaps(ours), "{other}");
        }
        for other in [subnet(10, 84, 0, 0, 16), subnet(11, 0, 0, 0, 8), subnet(10, 82, 255, 255, 32)] {
            assert!(!ours.overlaps(other) && !other.overlaps(ours), "{other}");
        }
    }

    #[test]
    fn the_first_subnet_that_is_free_is_chosen() {
        let chosen = |taken: &[Subnet]| choose_subnet(taken).map(|subnet| subnet.to_string()).ok();
        assert_eq!(chosen(&[]).as_deref(), Some("10.83.0.0/16"));
        assert_eq!(chosen(&[subnet(10, 83, 4, 0, 24)]).as_deref(), Some("10.183.0.0/16"));
        assert_eq!(chosen(&[subnet(10, 0, 0, 0, 8)]).as_deref(), Some("172.29.0.0/16"));
        let private = [subnet(10, 0, 0, 0, 8), subnet(172, 16, 0, 0, 12), subnet(192, 168, 0, 0, 16)];
        assert_eq!(chosen(&private).as_deref(), Some("198.18.0.0/16"));
        assert_eq!(chosen(&[subnet(0, 0, 0, 0, 1), subnet(128, 0, 0, 0, 1)]), None);
    }

    #[test]
    fn every_address_has_its_own_hardware_address() {
        assert_eq!(mac(Ipv4Addr::new(10, 83, 0, 2)), [2, b'c', 10, 83, 0, 2]);
    }
}
