//! Chapter 5: network address translation. See nft(8).
//!
//! A container's address means nothing beyond this host. What it sends there gets the host's own
//! address as its sender, and the answers find their way back: the kernel remembers who asked. Two
//! things are needed: a rule, and that the host hands on what is not addressed to it (ip_forward).
//!
//! The rule is handed to the program `nft`. It could be sent through netlink as well; but there a rule
//! is a list of instructions for a small machine in the kernel ("load four bytes of the header from
//! offset 12, mask them, compare"), of which a reader learns less than from the line of text below.
//!
//! The host's firewall may still drop what is handed on. Docker's does when it is there
//! (`iptables -P FORWARD DROP`): a rule here that accepts cannot overrule one there that drops. And ip_forward is one setting for the
//! whole host: it is put back to what it was even if another program has come to rely on it since.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::address::Subnet;
use crate::container::{programs, sys};
use crate::told::errors::{Error, Result};
use crate::told::explain;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The program nft, where there is one. It is often in a directory that only root's PATH has.
pub fn program() -> Option<PathBuf> {
    programs::find("nft", &["/usr/sbin", "/sbin", "/usr/local/sbin"])
}

// ANCHOR: nat-rule
/// What leaves `subnet` by any link but the bridge gets the address of that link as its sender.
pub fn set_up(nft: &Path, subnet: Subnet, bridge: &str) -> Result<()> {
    let rule = format!("ip saddr {subnet} oifname != \"{bridge}\" masquerade");
    // The first two lines: make it, so that it can be removed, so that none is there twice.
    let ruleset = format!(
        "add table ip cooperage
         delete table ip cooperage
         table ip cooperage {{
             chain postrouting {{
                 type nat hook postrouting priority 100; policy accept;
                 {rule}
             }}
         }}\n"
    );
    run(nft, "set up NAT", &ruleset)?;
    explain::remark(&format!("nft, table ip cooperage: {rule}"));
    Ok(())
}
// ANCHOR_END: nat-rule

/// Removes the rule.
pub fn remove(nft: &Path) -> Result<()> {
    // As above: nothing that is not there any more can make this fail.
    run(nft, "remove NAT", "add table ip cooperage\n delete table ip cooperage\n")?;
    explain::remark("nft: table ip cooperage is gone");
    Ok(())
}

fn run(nft: &Path, step: &str, ruleset: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(step, nft, &error);
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Should nft not read to the end, its own words tell why.
        let _ = stdin.write_all(ruleset.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().next().unwrap_or_default();
    Err(Error::new(step, format!("{} says: {words}", nft.display()))
        .remedy("does this kernel have nf_tables? sudo modprobe nft_masq"))
}

/// Does this host hand on packets ("0" or "1")?
pub fn forwarding() -> Result<String> {
    std::fs::read_to_string(FORWARDING)
        .map(|text| text.trim().to_string())
        .map_err(|error| Error::io("see whether this host forwards packets", FORWARDING, &error))
}

/// Lets this host hand packets on, or not.
pub fn set_forwarding(why: &str, value: &str) -> Result<()> {
    sys::write_file(why, Path::new(FORWARDING), value)
}
