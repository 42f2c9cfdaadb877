//! Mounts: a list, in the order of config.json.
//!
//! Every destination is looked up as the container would look it up, so that no link leads out of its root, and is then held by its
//! descriptor. Between looking and mounting another container that shares a volume could put a link there (CVE-2021-30465):
//! a descriptor does not change.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use cooperage::container::mount::is_directory;
use cooperage::container::power::selinux::labelled;
use cooperage::container::root::NewRoot;
use cooperage::container::sys::{self, MsFlags};
use cooperage::told::errors::{Error, Result};
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use oci_spec::runtime::Mount;

use crate::bundle::{Bundle, wrong};
use crate::cgroups::Cgroups;
use crate::idmaps::Mapped;
use crate::paths::PROC_ROOT;
use crate::root::propagation;

/// Attributes of a mount, from linux/mount.h.
mod attribute {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME: u64 = 0x70; // the field, of which relatime is 0
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// What a name of an option sets, and what it clears: a flag of mount(2).
const FLAGS: [(&str, &str, MsFlags); 13] = [
    ("ro", "rw", MsFlags::MS_RDONLY),
    ("nosuid", "suid", MsFlags::MS_NOSUID),
    ("nodev", "dev", MsFlags::MS_NODEV),
    ("noexec", "exec", MsFlags::MS_NOEXEC),
    ("noatime", "atime", MsFlags::MS_NOATIME),
    ("nodiratime", "diratime", MsFlags::MS_NODIRATIME),
    ("relatime", "norelatime", MsFlags::MS_RELATIME),
    ("strictatime", "nostrictatime", MsFlags::MS_STRICTATIME),
    ("nosymfollow", "symfollow", MsFlags::from_bits_retain(256)),
    ("sync", "async", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", "nodirsync", MsFlags::MS_DIRSYNC),
    ("mand", "nomand", MsFlags::MS_MANDLOCK),
    ("iversion", "noiversion", MsFlags::MS_I_VERSION),
];

/// What a name sets, and what its opposite clears: an attribute of the mount and of all below it.
const RECURSIVE: [(&str, &str, u64); 8] = [
    ("rro", "rrw", attribute::RDONLY),
    ("rnosuid", "rsuid", attribute::NOSUID),
    ("rnodev", "rdev", attribute::NODEV),
    ("rnoexec", "rexec", attribute::NOEXEC),
    ("rnoatime", "ratime", attribute::NOATIME),
    ("rstrictatime", "rnostrictatime", attribute::STRICTATIME),
    ("rnodiratime", "rdiratime", attribute::NODIRATIME),
    ("rnosymfollow", "rsymfollow", attribute::NOSYMFOLLOW),
];

/// Every option that has a meaning here, for `features`.
pub fn known_options() -> Vec<String> {
    let mut all: Vec<&str> = FLAGS.iter().flat_map(|(set, clear, _)| [*set, *clear]).collect();
    all.extend(RECURSIVE.iter().flat_map(|(set, clear, _)| [*set, *clear]));
    all.extend(["bind", "rbind", "defaults", "rrelatime", "tmpcopyup", "idmap", "ridmap"]);
    all.extend(["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"]);
    all.sort_unstable();
    all.into_iter().map(str::to_string).collect()
}

/// Options of a mount, read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    flags: MsFlagsOf,
    cleared: MsFlagsOf,
    recursive: (u64, u64),
    propagation: Vec<MsFlags>,
    bind: Option<bool>,
    copy_up: bool,
    data: Vec<String>,
}

/// Flags of mount(2), none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MsFlagsOf(MsFlags);

impl Default for MsFlagsOf {
    fn default() -> Self {
        MsFlagsOf(MsFlags::empty())
    }
}

impl Options {
    fn of(mount: &Mount) -> Options {
        let mut found = Options::default();
        if mount.typ().as_deref() == Some("bind") {
            found.bind = Some(false);
        }
        for option in mount.options().iter().flatten() {
            let name = option.as_str();
            if let Some((set, _, flag)) = FLAGS.iter().find(|(set, clear, _)| name == *set || name == *clear)
            {
                if name == *set {
                    found.flags.0 |= *flag;
                    found.cleared.0 -= *flag;
                } else {
                    found.cleared.0 |= *flag;
                    found.flags.0 -= *flag;
                }
            } else if let Some((set, _, bits)) =
                RECURSIVE.iter().find(|(set, clear, _)| name == *set || name == *clear)
            {
                let (one, other) = match name == *set {
                    true => (&mut found.recursive.0, &mut found.recursive.1),
                    false => (&mut found.recursive.1, &mut found.recursive.0),
                };
                *one |= bits;
                *other &= !bits;
            } else if name == "rrelatime" {
                found.recursive.1 |= attribute::ATIME;
            } else if let Some(how) = propagation(name) {
                found.propagation.push(how);
            } else {
                match name {
                    "bind" => found.bind = Some(found.bind.unwrap_or(false)),
                    "rbind" => found.bind = Some(true),
                    "tmpcopyup" => found.copy_up = true,
                    // See idmaps.
                    "idmap" | "ridmap" | "defaults" | "" => {}
                    _ => found.data.push(option.clone()),
                }
            }
        }
        found
    }

    /// The flags of mount(2) as attributes of one mount: what is set, and what is cleared.
    fn attributes(&self) -> (u64, u64) {
        let bits = |flags: MsFlags| {
            [
                (MsFlags::MS_RDONLY, attribute::RDONLY),
                (MsFlags::MS_NOSUID, attribute::NOSUID),
                (MsFlags::MS_NODEV, attribute::NODEV),
                (MsFlags::MS_NOEXEC, attribute::NOEXEC),
                (MsFlags::MS_NOATIME, attribute::NOATIME),
                (MsFlags::MS_STRICTATIME, attribute::STRICTATIME),
                (MsFlags::MS_NODIRATIME, attribute::NODIRATIME),
                (MsFlags::from_bits_retain(256), attribute::NOSYMFOLLOW),
            ]
            .into_iter()
            .filter(|(flag, _)| flags.contains(*flag))
            .fold(0, |all, (_, bit)| all | bit)
        };
        let about_atime = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME | MsFlags::MS_RELATIME;
        let (set, mut clear) = (bits(self.flags.0), bits(self.cleared.0) & !attribute::ATIME);
        if self.flags.0.intersects(about_atime) || self.cleared.0.intersects(about_atime) {
            clear |= attribute::ATIME; // a field is cleared as a whole before it is set
        }
        (set, clear)
    }
}

/// What a mount needs to know besides.
pub struct Surroundings<'a> {
    /// The bundle.
    pub bundle: &'a Bundle,
    /// The container's cgroups.
    pub cgroups: &'a Cgroups,
    /// Has it a cgroup namespace of its own?
    pub own_cgroups: bool,
    /// Mounts that were picked up outside.
    pub mapped: &'a Mapped,
}

/// A file or directory of the host's that is to be mounted.
pub struct Picked {
    /// Which.
    pub source: PathBuf,
    /// With what is mounted below?
    pub recursive: bool,
}

impl Picked {
    /// That of a bind mount; a source that is no whole path begins in the bundle.
    pub fn of(mount: &Mount, bundle: &Bundle) -> Option<Picked> {
        let recursive = Options::of(mount).bind?;
        Some(Picked { source: bundle.directory.join(mount.source().as_ref()?), recursive })
    }
}

/// Mounts everything. Returns what has to become read-only when all is in its place.
pub fn all(root: &NewRoot, around: &Surroundings) -> Result<Vec<OwnedFd>> {
    let mut later = Vec::new();
    for (index, mount) in around.bundle.spec.mounts().iter().flatten().enumerate() {
        let step = format!("mount {}", mount.destination().display());
        if let Some(fd) = one(root, mount, index, around).map_err(|error| inside(&step, error))? {
            later.push(fd);
        }
    }
    Ok(later)
}

/// Says which mount it was.
fn inside(step: &str, error: Error) -> Error {
    let reason = format!("{}: {}", error.step(), error.reason());
    match error.errno() {
        Some(_) => error.detail(step.to_string()),
        None => Error::new(step, reason),
    }
}

fn one(root: &NewRoot, mount: &Mount, index: usize, around: &Surroundings) -> Result<Option<OwnedFd>> {
    let mut options = Options::of(mount);
    let kind = mount.typ().as_deref().unwrap_or("none");
    if options.bind.is_some() {
        bind(root, mount, &options, around.mapped.get(&index), around.bundle)?;
        return Ok(None);
    }
    match kind {
        "cgroup" | "cgroup2" => cgroup(root, mount, &options, around).map(|()| None),
        "proc" | "sysfs" => {
            let place = without_links(root, mount.destination())?;
            filesystem(place.as_fd(), kind, mount, &options, None)?;
            settle(&again(root, mount.destination())?, &options)?;
            Ok(None)
        }
        _ => {
            let place = root.directory(&text(mount.destination())?)?;
            let below = options.copy_up.then(|| reopen(&place.as_fd())).transpose()?;
            // What is to become read-only, and devices or copies have to go into it first.
            let is_late = kind == "tmpfs" && options.flags.0.contains(MsFlags::MS_RDONLY);
            let label = around.bundle.linux.mount_label().as_deref().filter(|label| !label.is_empty());
            // A tmpfs has the permissions of what it covers, unless it is said otherwise.
            if kind == "tmpfs" && !options.data.iter().any(|option| option.starts_with("mode=")) {
                options.data.push(format!("mode={:o}", permissions(&place)?));
            }
            if is_late {
                options.flags.0 -= MsFlags::MS_RDONLY;
            }
            filesystem(place.as_fd(), kind, mount, &options, label)?;
            let there = again(root, mount.destination())?;
            if let Some(below) = below {
                copy_up(&below, &there)?;
            }
            settle(&there, &options)?;
            Ok(is_late.then_some(there))
        }
    }
}

fn permissions(place: &impl AsFd) -> Result<u32> {
    let found = nix::sys::stat::fstat(place.as_fd())
        .map_err(|errno| Error::call("look at what is covered", "fstat()", errno))?;
    Ok(found.st_mode & 0o7777)
}

/// Makes one that holds files of its own read-only, now that they are there.
pub fn make_read_only(mounts: Vec<OwnedFd>) -> Result<()> {
    mounts.iter().try_for_each(|mount| {
        sys::mount_setattr_of(
            "let nothing be written there any more",
            mount.as_fd(),
            (attribute::RDONLY, 0),
            false,
        )
    })
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_string).ok_or_else(|| wrong("mounts", format!("{path:?} is no text")))
}

/// The place again, now that something is mounted there: the mount itself.
fn again(root: &NewRoot, destination: &Path) -> Result<OwnedFd> {
    let below = destination.strip_prefix("/").unwrap_or(destination);
    sys::open_in_root("see what is mounted now", root.as_fd(), below, OFlag::O_PATH)
}

fn reopen(place: &BorrowedFd) -> Result<OwnedFd> {
    place.try_clone_to_owned().map_err(|error| Error::io("hold on to the directory", "/proc/self/fd", &error))
}

// ANCHOR: mount-without-links
/// A place that no link leads to. What the kernel tells of processes is trusted, by this runtime as by others; so it must be mounted
/// where it is looked for, and not where an image has a link to (CVE-2019-19921, CVE-2023-27561).
fn without_links(root: &NewRoot, destination: &Path) -> Result<OwnedFd> {
    let below = destination.strip_prefix("/").unwrap_or(destination);
    let find = || {
        sys::open_beneath(
            "find the place without following a link",
            root.as_fd(),
            below,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
        )
    };
    match find() {
        Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
            root.directory(&text(destination)?)?;
            find()
        }
        found => found,
    }
}
// ANCHOR_END: mount-without-links

fn filesystem(
    place: BorrowedFd,
    kind: &str,
    mount: &Mount,
    options: &Options,
    label: Option<&str>,
) -> Result<()> {
    let source = mount.source().clone().unwrap_or_else(|| kind.into());
    let data = labelled(options.data.join(",").as_bytes(), label.filter(|_| kind != "mqueue"));
    let data = (!data.is_empty()).then_some(data);
    let target = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
    sys::mount("mount a filesystem", Some(&source), &target, Some(kind), options.flags.0, data.as_deref())
}

/// What holds for what is mounted below too, and how others take part.
fn settle(mount: &OwnedFd, options: &Options) -> Result<()> {
    let (set, clear) = options.recursive;
    if (set, clear) != (0, 0) {
        let clear = if (set | clear) & attribute::ATIME != 0 { clear | attribute::ATIME } else { clear };
        sys::mount_setattr_of("set attributes of all mounts below", mount.as_fd(), (set, clear), true)?;
    }
    for how in &options.propagation {
        let target = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        sys::mount("say how mounts spread", None, &target, None, *how, None)?;
    }
    Ok(())
}

// ANCHOR: mount-bind
/// A file or directory of the host's.
fn bind(
    root: &NewRoot,
    mount: &Mount,
    options: &Options,
    mapped: Option<&OwnedFd>,
    bundle: &Bundle,
) -> Result<()> {
    let field = || format!("mounts: {}", mount.destination().display());
    let tree = match (mapped, Picked::of(mount, bundle)) {
        (Some(tree), _) => reopen(&tree.as_fd())?,
        (None, Some(Picked { source, recursive })) => {
            sys::open_tree("pick up what is to be seen there", AT_FDCWD, &source, recursive)?
        }
        (None, None) => return Err(wrong(field(), "a bind mount needs a source")),
    };
    let (set, clear) = options.attributes();
    if (set, clear) != (0, 0) {
        sys::mount_setattr_of("set its attributes", tree.as_fd(), (set, clear), false)?;
    }
    let name = text(mount.destination())?;
    let place = match is_directory(&tree)? {
        true => root.directory(&name)?,
        false => root.file(&name)?,
    };
    may_cover(root, place.as_fd(), &tree, &field())?;
    sys::move_mount("put it there", tree.as_fd(), place.as_fd())?;
    settle(&tree, options)
}
// ANCHOR_END: mount-bind

/// What may be mounted over in /proc: files that tell how large the machine is, which LXCFS has answers of its own for. runc's list.
const MAY_BE_COVERED: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Nothing is mounted over the kernel's own files in /proc: the runtime itself goes by them later.
fn may_cover(root: &NewRoot, place: BorrowedFd, tree: &OwnedFd, field: &str) -> Result<()> {
    let is_proc =
        |fd: &BorrowedFd| fstatfs(fd).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
    // A whole /proc may be on /proc. But one file of it over another is as bad as a stranger (CVE-2025-52881).
    let is_top = |fd: &BorrowedFd| nix::sys::stat::fstat(fd).is_ok_and(|found| found.st_ino == PROC_ROOT);
    if !is_proc(&place) || (is_proc(&tree.as_fd()) && is_top(&place) && is_top(&tree.as_fd())) {
        return Ok(());
    }
    let allowed = MAY_BE_COVERED.iter().any(|name| {
        let path = Path::new("proc").join(name);
        let same = |fd: &OwnedFd| match (nix::sys::stat::fstat(fd), nix::sys::stat::fstat(place)) {
            (Ok(one), Ok(other)) => one.st_ino == other.st_ino && one.st_dev == other.st_dev,
            _ => false,
        };
        sys::look_up_in_root(root.as_fd(), &path, OFlag::O_PATH).is_ok_and(|fd| same(&fd))
    });
    if allowed { Ok(()) } else { Err(wrong(field, "it would cover a file of /proc")) }
}

/// The container's cgroups, as files. In a cgroup namespace the kernel shows them by itself; without one, they are picked up.
fn cgroup(root: &NewRoot, mount: &Mount, options: &Options, around: &Surroundings) -> Result<()> {
    let name = text(mount.destination())?;
    let flags = options.flags.0;
    let (set, clear) = options.attributes();
    match around.cgroups {
        Cgroups::V1(trees) => {
            let place = root.directory(&name)?;
            let tmpfs = Path::new("tmpfs");
            let room = flags - MsFlags::MS_RDONLY;
            let target = place.path();
            sys::mount(
                "have room for a directory for each hierarchy",
                Some(tmpfs),
                target,
                Some("tmpfs"),
                room,
                Some(b"mode=755"),
            )?;
            let place = root.directory(&name)?; // the directory that is there now
            for tree in trees {
                let directory = tree.controllers.join(",");
                let directory = directory.strip_prefix("name=").unwrap_or(&directory);
                let target = place.make_directory(directory)?;
                if around.own_cgroups {
                    let data = tree.controllers.join(",");
                    let kind = Path::new("cgroup");
                    sys::mount(
                        "show a hierarchy",
                        Some(kind),
                        &target,
                        Some("cgroup"),
                        flags,
                        Some(data.as_bytes()),
                    )?;
                } else {
                    let picked = sys::open_tree("pick up a cgroup", AT_FDCWD, &tree.directory, false)?;
                    sys::mount_setattr_of("set its attributes", picked.as_fd(), (set, clear), false)?;
                    let there = sys::open_beneath(
                        "find its place",
                        place.as_fd(),
                        Path::new(directory),
                        OFlag::O_PATH,
                    )?;
                    sys::move_mount("show it", picked.as_fd(), there.as_fd())?;
                }
                for controller in tree.controllers.iter().filter(|controller| *controller != directory) {
                    if !controller.contains('=') {
                        let link = place.path().join(controller);
                        symlink(directory, &link)
                            .map_err(|error| Error::io("name a controller", &link, &error))?;
                    }
                }
            }
            if flags.contains(MsFlags::MS_RDONLY) {
                let there = again(root, mount.destination())?;
                sys::mount_setattr_of("add nothing there", there.as_fd(), (attribute::RDONLY, 0), false)?;
            }
            Ok(())
        }
        Cgroups::V2(directory) => {
            let place = root.directory(&name)?;
            let fresh = sys::mount(
                "show its cgroup",
                Some(Path::new("cgroup2")),
                place.path(),
                Some("cgroup2"),
                flags,
                None,
            );
            match fresh {
                Ok(()) if around.own_cgroups => Ok(()),
                _ => {
                    // A user namespace in somebody else's cgroup namespace may not mount one.
                    let source = if around.own_cgroups { Path::new("/sys/fs/cgroup") } else { directory };
                    let picked = sys::open_tree("pick up its cgroup", AT_FDCWD, source, true)?;
                    sys::mount_setattr_of("set its attributes", picked.as_fd(), (set, clear), false)?;
                    let place = root.directory(&name)?;
                    sys::move_mount("show it", picked.as_fd(), place.as_fd())
                }
            }
        }
        // Nothing that would be its own: those of the machine, as far as they may be looked at.
        Cgroups::None => {
            let place = root.directory(&name)?;
            let tree = sys::open_tree("pick up what there is", AT_FDCWD, Path::new("/sys/fs/cgroup"), true)?;
            sys::mount_setattr_of(
                "let it be looked at only",
                tree.as_fd(),
                (attribute::RDONLY | set, 0),
                true,
            )?;
            sys::move_mount("show it", tree.as_fd(), place.as_fd())
        }
    }
}

/// What the directory held before, into the tmpfs that is on it now.
fn copy_up(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    copy_directory(&path(from), &path(to))
        .map_err(|error| Error::io("copy what was there", path(from), &error))
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let found = fs::symlink_metadata(&source)?;
        let kind = found.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_directory(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            std::io::copy(&mut File::open(&source)?, &mut File::create_new(&target)?)?;
        } else {
            continue;
        }
        std::os::unix::fs::lchown(&target, Some(found.uid()), Some(found.gid()))?;
        if !kind.is_symlink() {
            fs::set_permissions(&target, fs::Permissions::from_mode(found.mode() & 0o7777))?;
        }
    }
    let found = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))
}

/// Is something of the host's mounted on this directory, so that the runtime makes nothing in it?
pub fn is_bound(bundle: &Bundle, directory: &str) -> bool {
    bundle.spec.mounts().iter().flatten().any(|mount| {
        let same =
            mount.destination().components().filter(|part| *part != Component::CurDir).collect::<PathBuf>()
                == Path::new(directory);
        same && Options::of(mount).bind.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(names: &[&str]) -> Options {
        let mut mount = Mount::default();
        mount.set_typ(None);
        mount.set_options(Some(names.iter().map(|name| name.to_string()).collect()));
        Options::of(&mount)
    }

    #[test]
    fn the_last_word_counts() {
        let found = options(&["ro", "nosuid", "rw", "size=1k", "mode=755"]);
        assert_eq!(found.flags.0, MsFlags::MS_NOSUID);
        assert_eq!(found.data, ["size=1k", "mode=755"]);
        assert_eq!(found.attributes(), (attribute::NOSUID, attribute::RDONLY));
        assert_eq!(options(&["rro", "rrw"]).recursive, (0, attribute::RDONLY));
        assert_eq!(options(&["bind", "rbind", "bind"]).bind, Some(true));
        assert_eq!(options(&["relatime"]).attributes(), (0, attribute::ATIME));
        assert_eq!(options(&["noatime"]).attributes(), (attribute::NOATIME, attribute::ATIME));
    }

    #[test]
    fn every_option_is_known_once() {
        let known = known_options();
        let mut once = known.clone();
        once.dedup();
        assert_eq!(known, once);
        for name in &known {
            assert!(options(&[name]).data.is_empty(), "{name}");
        }
    }
}
