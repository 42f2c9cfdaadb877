//! Chapter 9: devices. Which nodes are there, and which of them the kernel lets the container use.
//!
//! A node is a name for a driver in the kernel. Keeping a disk's name out of /dev is no protection from who may make
//! names (CAP_MKNOD), or brings one along in the root filesystem. So root's containers are under the devices controller
//! as well, which asks by number, whatever the name. See the kernel's admin-guide/cgroup-v1/devices document.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::stat::{Mode, SFlag, major, minor, mknod};
use nix::unistd::{Gid, Uid};

use crate::container::root::is_place;
use crate::container::stage::Stage;
use crate::container::user::Users;
use crate::container::volume::Volume;
use crate::told::errors::{Error, Result};

/// A device of the host, as `--device SOURCE[:TARGET][:ACCESS]` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    source: PathBuf,
    target: PathBuf,
    access: Access,
}

/// What may be done with a device: read, write, make a node of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    read: bool,
    write: bool,
    node: bool,
}

impl Access {
    const ALL: Access = Access { read: true, write: true, node: true };

    /// As BPF has it: BPF_DEVCG_ACC_MKNOD, _READ and _WRITE of linux/bpf.h.
    pub fn bits(self) -> i32 {
        i32::from(self.node) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }

    /// The letters r, w and m, each at most once.
    pub fn parse(text: &str) -> Option<Access> {
        let has = |letter| text.matches(letter).count() == 1;
        let access = Access { read: has('r'), write: has('w'), node: has('m') };
        (!text.is_empty() && access.to_string().len() == text.len()).then_some(access)
    }
}

/// In letters, as the kernel has it: "rwm".
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, has) in [("r", self.read), ("w", self.write), ("m", self.node)] {
            f.write_str(if has { letter } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, access) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, second] if second.starts_with('/') => (source, second, "rwm"),
            [source, access] => (source, source, access),
            [source, target, access] => (source, target, access),
            _ => return Err(format!("{text:?}: write SOURCE, SOURCE:TARGET or SOURCE:TARGET:rwm")),
        };
        let access = Access::parse(access).ok_or_else(|| {
            format!("{access:?} is no access: write r, w and m, such as rw, each at most once")
        })?;
        if source.is_empty() || !is_place(Path::new(target)) {
            return Err(format!(
                "{text:?}: the device needs a path such as /dev/fuse, and so does its place inside"
            ));
        }
        Ok(Device { source: source.into(), target: target.into(), access })
    }
}

impl Device {
    /// Which one it is, for the devices controller.
    pub fn rule(&self) -> Result<Rule> {
        let (found, kind) = self.find()?;
        let number = found.rdev();
        Ok(Rule { kind, major: Some(major(number)), minor: Some(minor(number)), access: self.access })
    }

    fn find(&self) -> Result<(fs::Metadata, Kind)> {
        let step = || format!("find the device {}", self.source.display());
        let found = fs::metadata(&self.source).map_err(|error| Error::io(step(), &self.source, &error))?;
        let kind = found.file_type();
        match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => Ok((found, Kind::Character)),
            (_, true) => Ok((found, Kind::Block)),
            _ => {
                Err(Error::new(step(), "it is no device")
                    .remedy("for a file or a directory there is --volume"))
            }
        }
    }

    // ANCHOR: device-on-stage
    /// The runtime's half: a node on the stage. Root makes one that belongs to the container's root; that is nobody
    /// outside, so the host's own node would be closed to it. An ordinary user can make none, and lends the host's, with the
    /// rights that he has there himself.
    pub fn on_stage(&self, stage: &mut Stage, users: &Users) -> Result<Volume> {
        let (found, kind) = self.find()?;
        if !users.differ() {
            return Volume::plain(&self.source, &self.target).on_stage(stage);
        }
        let failed = |call: &str, errno| {
            Error::call(format!("make the device {}", self.target.display()), call, errno)
        };
        let node = stage.place_for_device()?;
        let kind = if kind == Kind::Block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
        mknod(&node, kind, Mode::from_bits_truncate(0o600), found.rdev())
            .map_err(|errno| failed("mknod()", errno))?;
        fs::set_permissions(&node, fs::Permissions::from_mode(found.permissions().mode() & 0o777))
            .map_err(|error| Error::io("set the permissions", &node, &error))?;
        let outside = |found: Option<u32>| found.unwrap_or(u32::MAX);
        let (uid, gid) = (outside(users.uids.outside(0)), outside(users.gids.outside(0)));
        nix::unistd::chown(&node, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| failed("chown()", errno))?;
        Ok(Volume::plain(&node, &self.target))
    }
    // ANCHOR_END: device-on-stage
}

/// A kind of device, as the kernel keeps them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stream of bytes.
    Character,
    /// A disk.
    Block,
}

/// What the devices controller is to allow. A number that is not given is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Characters or blocks.
    pub kind: Kind,
    /// Which driver.
    pub major: Option<u64>,
    /// Which of its devices.
    pub minor: Option<u64>,
    /// What may be done with it.
    pub access: Access,
}

/// As version 1 wants it: "c 1:3 rwm".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u64>| number.map_or("*".to_string(), |number| number.to_string());
        let kind = if self.kind == Kind::Block { "b" } else { "c" };
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

// ANCHOR: usual-devices
/// What every container may use: the six of its /dev, its terminals; and it may make a node of anything, which is but a
/// name as long as nobody may open it. Docker's list.
pub fn usual_rules() -> Vec<Rule> {
    let only = |kind, major, minor, access| Rule { kind, major, minor, access };
    let name = Access { read: false, write: false, node: true };
    let mut rules = vec![only(Kind::Character, None, None, name), only(Kind::Block, None, None, name)];
    let devices = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(devices.map(|(major, minor)| only(Kind::Character, Some(major), Some(minor), Access::ALL)));
    rules.push(only(Kind::Character, Some(136), None, Access::ALL)); // terminals of devpts
    rules
}
// ANCHOR_END: usual-devices

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_docker_reads_them() {
        let read = |text: &str| {
            text.parse::<Device>().map(|device| {
                (
                    device.source.display().to_string(),
                    device.target.display().to_string(),
                    device.access.to_string(),
                )
            })
        };
        let is = |source: &str, target: &str, access: &str| Ok((source.into(), target.into(), access.into()));
        assert_eq!(read("/dev/fuse"), is("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(read("/dev/fuse:/dev/f"), is("/dev/fuse", "/dev/f", "rwm"));
        assert_eq!(read("/dev/fuse:r"), is("/dev/fuse", "/dev/fuse", "r"));
        assert_eq!(read("/dev/fuse:/dev/f:wr"), is("/dev/fuse", "/dev/f", "rw"));
        for text in [
            "",
            ":",
            "/dev/fuse:",
            "/dev/fuse:x",
            "/dev/fuse:rr",
            "/dev/fuse:/:r",
            "/dev/fuse:/../x",
            "a:b:c:d",
            "fuse",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn rules_are_written_as_the_kernel_reads_them() {
        let rules: Vec<String> = usual_rules().iter().map(Rule::to_string).collect();
        assert_eq!(rules[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(rules[10], "c 136:* rwm");
        let null: Device = "/dev/null:r".parse().expect("a device");
        assert_eq!(null.rule().expect("it is there").to_string(), "c 1:3 r");
    }
}
