//! Chapter 9: settings of the kernel that are the container's own. Most of what stands in /proc/sys is the machine's; a part
//! belongs to a namespace, and only that part may be set. See namespaces(7).

use std::path::Path;
use std::str::FromStr;

use nix::errno::Errno;

use crate::container::network;
use crate::container::sys;
use crate::told::errors::{Advise, Error, Result};

/// A setting, as `--sysctl NAME=VALUE` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    name: String,
    value: String,
}

// ANCHOR: own-sysctls
/// Those of the IPC namespace; a name that ends with a dot is the beginning of one. Docker's list.
const OF_IPC: [&str; 10] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msg_next_id",
    "fs.mqueue.",
];

/// Those of the network namespace.
const OF_NETWORK: &str = "net.";
// ANCHOR_END: own-sysctls

impl FromStr for Sysctl {
    type Err = String;

    fn from_str(text: &str) -> Result<Sysctl, String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?}: write NAME=VALUE"))?;
        // sysctl(8) takes both forms; in the one with slashes a dot is a part of a name, such as eth0.1.
        let is_name = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        let name = if name.contains('/') { name.to_string() } else { name.replace('.', "/") };
        if !name.split('/').all(is_name) {
            return Err(format!("{name:?} is no name of a setting, such as net.ipv4.ip_forward"));
        }
        if value.is_empty() || value.contains(['\0', '\n']) {
            return Err(format!("{value:?} is no value of a setting"));
        }
        let known = |own: &&str| {
            let own = own.replace('.', "/");
            name == own || own.ends_with('/') && name.starts_with(&own)
        };
        if !OF_IPC.iter().chain(&[OF_NETWORK]).any(known) {
            return Err(format!(
                "{} is a setting of the whole machine, not of a container",
                name.replace('/', ".")
            ));
        }
        Ok(Sysctl { name, value: value.to_string() })
    }
}

impl Sysctl {
    /// Refuses to change the host's network by way of a container that shares it.
    pub fn check(&self, network: network::Mode) -> Result<()> {
        if network == network::Mode::Host && self.name.starts_with("net/") {
            return Err(Error::new(
                format!("set {}", self.name),
                "with --network host that is the host's own setting",
            ));
        }
        Ok(())
    }

    // ANCHOR: sysctl-set
    /// Sets it. In the container's namespaces, and while its /proc/sys can still be written.
    pub fn set(&self) -> Result<()> {
        let why = "have a setting of its own";
        let file = format!("/proc/sys/{}", self.name);
        sys::write_file(why, Path::new(&file), &self.value)
            .remedy_for(Errno::ENOENT, "this kernel has no such setting, or only the host's network has it")
            .remedy_for(Errno::EINVAL, "the kernel does not take this value")
    }
    // ANCHOR_END: sysctl-set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_a_namespace_can_be_set() {
        let name = |text: &str| text.parse::<Sysctl>().map(|sysctl| sysctl.name);
        assert_eq!(name("net.ipv4.ip_forward=1").as_deref(), Ok("net/ipv4/ip_forward"));
        assert_eq!(
            name("net/ipv4/conf/eth0.1/forwarding=1").as_deref(),
            Ok("net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(name("kernel.shmmax=1").as_deref(), Ok("kernel/shmmax"));
        assert_eq!(name("fs.mqueue.msg_max=20").as_deref(), Ok("fs/mqueue/msg_max"));
        for text in [
            "kernel.core_pattern=x",
            "kernel.shmmax2=1",
            "fs.mqueue=1",
            "fs.suid_dumpable=1",
            "vm.swappiness=1",
            "net/../kernel/core_pattern=x",
            "net..x=1",
            "net=1",
            "net.ipv4.ip_forward",
            "net.ipv4.ip_forward=",
            "=1",
            "",
        ] {
            assert!(text.parse::<Sysctl>().is_err(), "{text}");
        }
    }
}
