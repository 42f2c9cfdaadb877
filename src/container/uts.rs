//! Chapter 4: the UTS namespace, which holds the host name. See uts_namespaces(7).

use std::net::Ipv4Addr;

use super::root::NewRoot;
use super::sys;
use crate::told::errors::{Error, Result};

/// Where a container without a network has its own name: Debian's convention for /etc/hosts.
pub const NO_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

// ANCHOR: hostname-type
/// A host name that the kernel and the rest of the world accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);
// ANCHOR_END: hostname-type

impl Hostname {
    // ANCHOR: hostname-random
    /// A short random name, as Docker gives one to a container that has none: 12 hexadecimal digits.
    pub fn random() -> Result<Hostname> {
        use std::io::Read;
        let mut bytes = [0; 6];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(|error| Error::io("choose a host name", "/dev/urandom", &error))?;
        Ok(Hostname(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
    // ANCHOR_END: hostname-random

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Hostname {
    type Err = String;

    // ANCHOR: hostname-rules
    /// hostname(7): labels of letters, digits and hyphens, separated by dots; at most 64 bytes in all,
    /// because sethostname(2) takes no more.
    fn from_str(name: &str) -> Result<Hostname, String> {
        if name.is_empty() || name.len() > 64 {
            return Err("a host name has 1 to 64 characters".to_string());
        }
        for label in name.split('.') {
            let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if label.is_empty() || !letters || label.starts_with('-') || label.ends_with('-') {
                return Err(
                    "a host name has letters, digits and hyphens, and no hyphen at an end".to_string()
                );
            }
        }
        Ok(Hostname(name.to_string()))
    }
    // ANCHOR_END: hostname-rules
}

// ANCHOR: set-hostname
/// Names this UTS namespace.
pub fn set_hostname(name: &Hostname) -> Result<()> {
    sys::sethostname("have a name of its own", name.as_str())
}
// ANCHOR_END: set-hostname

// ANCHOR: provide-names
/// Provides /etc/hostname and /etc/hosts that agree with the name.
pub fn provide_names(root: &NewRoot, name: &Hostname, address: Ipv4Addr) -> Result<()> {
    root.provide_file("etc/hostname", &format!("{}\n", name.as_str()))?;
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{}\n",
        name.as_str()
    );
    root.provide_file("etc/hosts", &hosts)
}
// ANCHOR_END: provide-names

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "web-1", "web.example.org", &"x".repeat(64)] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a b", "a/b", "ü", "a\nb", &"x".repeat(65)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_names_differ_and_are_valid() {
        let (one, other) = (Hostname::random().unwrap_or(Hostname(String::new())), Hostname::random());
        assert_eq!(one.as_str().parse(), Ok(one.clone()));
        assert_ne!(Ok(one), other.map_err(|_| ()));
    }
}
