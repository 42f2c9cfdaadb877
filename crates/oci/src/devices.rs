//! Devices: those that every container has, and those of config.json.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cooperage::container::mount::{DEV_LINKS, DEVICES};
use cooperage::container::root::NewRoot;
use cooperage::container::sys;
use cooperage::container::user::in_first_user_namespace;
use cooperage::told::errors::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{FchownatFlags, Gid, Uid, fchownat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::bundle::{Bundle, wrong};
use crate::mounts::is_bound;

/// A device to be made.
struct Node {
    path: PathBuf,
    kind: SFlag,
    number: u64,
    mode: u32,
    owner: (u32, u32),
}

/// Makes them all, unless somebody else's /dev is there.
pub fn make(root: &NewRoot, bundle: &Bundle) -> Result<()> {
    if is_bound(bundle, "/dev") {
        return Ok(());
    }
    let mut nodes: Vec<Node> = Vec::new();
    for device in bundle.linux.devices().iter().flatten() {
        nodes.push(node(device)?);
    }
    // Those that every container has: see config-linux.md, "Default Devices".
    for (name, major, minor) in DEVICES {
        let path = Path::new("/dev").join(name);
        if !nodes.iter().any(|node| node.path == path) {
            let number = makedev(major, minor);
            nodes.push(Node { path, kind: SFlag::S_IFCHR, number, mode: 0o666, owner: (0, 0) });
        }
    }
    // In a user namespace nobody can make a device, but one that is there can be lent.
    let may_make = in_first_user_namespace()?;
    let mut made = Vec::new();
    for node in nodes {
        // What the kernel lists may have the host's own way of writing it.
        if made.contains(&node.path) {
            continue;
        }
        if may_make {
            make_one(root, &node)?
        } else {
            lend(root, &node)?
        }
        made.push(node.path);
    }
    link(root)
}

fn node(device: &LinuxDevice) -> Result<Node> {
    let field = || format!("linux.devices: {}", device.path().display());
    if !device.path().is_absolute() {
        return Err(wrong(field(), "the path does not begin with /"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => return Err(wrong(field(), "its type is a, and no device is everything")),
    };
    let number = match kind {
        SFlag::S_IFIFO => 0,
        _ => {
            let number = |value: i64, name: &str| {
                u64::try_from(value).map_err(|_| wrong(field(), format!("{name} is {value}")))
            };
            makedev(number(device.major(), "major")?, number(device.minor(), "minor")?)
        }
    };
    Ok(Node {
        path: device.path().clone(),
        kind,
        number,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
    })
}

/// The directory that it is in, and its name there.
fn place(root: &NewRoot, node: &Node) -> Result<(OwnedFd, PathBuf)> {
    let (Some(above), Some(name)) = (node.path.parent(), node.path.file_name()) else {
        return Err(wrong("linux.devices", format!("{} is no path of a device", node.path.display())));
    };
    let above = root.directory(&above.to_string_lossy())?.into_fd();
    Ok((above, name.into()))
}

// ANCHOR: device-make
/// Makes one. What is there already is left alone if it is that device, and else it is an error: what an image has put there, such as
/// a link, is never followed and never changed (CVE-2025-31133).
fn make_one(root: &NewRoot, node: &Node) -> Result<()> {
    let step = format!("make the device {}", node.path.display());
    let failed = |call: &str, errno| Error::call(&step, format!("{call}({})", node.path.display()), errno);
    let (above, name) = place(root, node)?;
    let mode = Mode::from_bits_truncate(node.mode);
    match mknodat(&above, &name, node.kind, mode, node.number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let found = nix::sys::stat::fstatat(&above, &name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| failed("fstatat", errno))?;
            let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
            if kind != node.kind || (kind != SFlag::S_IFIFO && found.st_rdev != node.number) {
                return Err(Error::new(step, "something else is there, in the image or by a mount"));
            }
        }
        Err(errno) => return Err(failed("mknodat", errno)),
    }
    // The umask has had its say.
    fchmodat(&above, &name, mode, FchmodatFlags::NoFollowSymlink)
        .or_else(|errno| {
            if errno == Errno::EOPNOTSUPP {
                fchmodat(&above, &name, mode, FchmodatFlags::FollowSymlink)
            } else {
                Err(errno)
            }
        })
        .map_err(|errno| failed("fchmodat", errno))?;
    let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
    fchownat(&above, &name, Some(uid), Some(gid), FchownatFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| failed("fchownat", errno))
}
// ANCHOR_END: device-make

fn lend(root: &NewRoot, node: &Node) -> Result<()> {
    let tree = sys::open_tree("borrow the host's device", AT_FDCWD, &node.path, false)?;
    let found = nix::sys::stat::fstat(&tree).map_err(|errno| {
        Error::call("borrow the host's device", format!("fstat({})", tree.as_raw_fd()), errno)
    })?;
    if found.st_rdev != node.number {
        return Err(wrong(
            format!("linux.devices: {}", node.path.display()),
            "on the host that is another device",
        ));
    }
    let place = root.file(&node.path.to_string_lossy())?;
    sys::move_mount("put it into the new /dev", tree.as_fd(), place.as_fd())
}

/// Names that programs count on.
fn link(root: &NewRoot) -> Result<()> {
    let dev = root.directory("dev")?.into_fd();
    let make = |name: &str, to: &str| match nix::unistd::symlinkat(to, &dev, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(Error::call(format!("make /dev/{name}"), format!("symlinkat({to})"), errno)),
    };
    // That of new terminals comes only where there are any.
    let mut usual = DEV_LINKS.into_iter().filter(|(name, _)| *name != "ptmx");
    usual.try_for_each(|(name, to)| make(name, to))?;
    if nix::sys::stat::fstatat(&dev, "pts/ptmx", nix::fcntl::AtFlags::empty()).is_ok() {
        let _ = nix::unistd::unlinkat(&dev, "ptmx", nix::unistd::UnlinkatFlags::NoRemoveDir);
        make("ptmx", "pts/ptmx")?;
    }
    Ok(())
}
