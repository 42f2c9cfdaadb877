//! The root filesystem that a container gets when nobody names one.
//!
//! A root filesystem is only files, and this module shows it: it puts one together in less than a second,
//! with no download, from programs of the machine it runs on. There are two ways:
//!
//! - **busybox**: one static program that is a shell, ls, ps, ip and some 250 others, one link for each.
//!   It needs nothing else, so it is preferred where the machine has it (`apt install busybox-static`).
//! - **machine**: those of [`PROGRAMS`] that the machine has. Each needs its shared libraries and the dynamic
//!   loader, and finds them at the paths that it knows from the machine, so that is where they are put.
//!   For ps, ip, ping and a few others that the machine may lack there are small ones in this crate, the
//!   applets (src/applets).
//!
//! The variable `COOPERAGE_ROOTFS_FROM=busybox|machine` forces one of the ways. Both add a minimal /etc and
//! this crate's own `witness`, if that has been built.
//!
//! The result is kept, in the first of these places where it can be:
//!
//! 1. `cooperage/` in cargo's target directory;
//! 2. `cooperage/` in `$XDG_CACHE_HOME` or `~/.cache`;
//! 3. `/tmp/cooperage-rootfs-UID`.
//!
//! It is called `rootfs-WAY-HASH`. The hash is over what it is made of, so another busybox or a newer witness
//! is another directory, and the old one is removed when nobody uses it. Users are counted with flock(2):
//! each [`Rootfs`] holds a shared lock on its directory, which the kernel takes back whatever happens.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{FlockArg, OFlag};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::container::mountinfo;
use crate::container::power::exe;
use crate::container::state::claim::Claim;
use crate::container::sys;
use crate::told::errors::{Error, Result};
use crate::told::explain;

/// The programs that are taken from the machine, where it has them, when there is no static busybox: shells,
/// files, text, a shell's small tools, users, processes, what the kernel's side takes (mounts, namespaces,
/// capabilities, IPC), networks.
pub const PROGRAMS: &str = "
    sh bash
    ls cat cp mv rm mkdir rmdir ln chmod chown chgrp touch stat df du dd sync mktemp mkfifo mknod
    readlink realpath basename dirname find tar gzip
    head tail wc sort uniq tr cut tee tac od seq yes echo printf grep sed awk xargs diff cmp less vi
    test [ true false expr sleep timeout date env pwd tty stty clear nohup nice
    id whoami groups getent
    ps pgrep pkill kill top free uptime nproc setsid prlimit strace
    mount umount findmnt mountpoint chroot pivot_root unshare nsenter lsns setpriv capsh
    hostname uname dmesg sysctl ipcs ipcmk ipcrm
    ip ss ping nc httpd nft
";

/// Raised when the assembly changes, so that what an older version of this file made is not used.
const VERSION: u64 = 1;
/// Chooses between the ways.
const FROM: &str = "COOPERAGE_ROOTFS_FROM";
/// Where programs are looked for before `PATH` is asked, which may hold odd things.
const DIRECTORIES: [&str; 6] = [
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/run/current-system/sw/bin",      // NixOS
    "/run/current-system/profile/bin", // Guix
];
const STEP: &str = "assemble a root filesystem";

/// A root filesystem. As long as this value lives, no other run removes the directory.
#[derive(Debug)]
pub struct Rootfs {
    path: PathBuf,
    source: Source,
    /// The shared lock, where the directory is one that this module made.
    _claim: Option<Claim>,
}

/// What a root filesystem was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The user has brought it along, with `--rootfs`.
    Given,
    /// The static busybox at this path.
    Busybox(PathBuf),
    /// Programs of this machine with their libraries.
    Machine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Given => f.write_str("a directory of the user"),
            Source::Busybox(path) => write!(f, "the static busybox {}", path.display()),
            Source::Machine => f.write_str("this machine's own programs"),
        }
    }
}

impl Rootfs {
    /// The root filesystem in the directory that was `chosen`, or else the one assembled from this machine's
    /// programs. The first run assembles it; runs that start meanwhile wait.
    pub fn find(chosen: Option<&Path>) -> Result<Rootfs> {
        match chosen {
            Some(directory) => given(directory),
            None => assembled(),
        }
    }

    /// The directory: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was made of.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The names of the programs it holds, sorted.
    pub fn programs(&self) -> Result<Vec<String>> {
        const WHY: &str = "list the programs of the root filesystem";
        let root = File::open(&self.path).map_err(|error| Error::io(WHY, &self.path, &error))?;
        let mut names = BTreeSet::new();
        for directory in ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"] {
            // In many a rootfs /bin is a link to /usr/bin: that of the rootfs, not the host's.
            let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let found = sys::look_up_in_root(root.as_fd(), Path::new(directory), how);
            let Ok(found) = found else { continue };
            let mut found = Dir::from_fd(found).map_err(|errno| Error::call(WHY, "", errno))?;
            let entries = found.iter().flatten();
            names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names.into_iter().collect())
    }
}

/// The directory that the user chose.
fn given(directory: &Path) -> Result<Rootfs> {
    const WHY: &str = "use the directory of --rootfs";
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "check its name, or leave --rootfs out: then one is assembled",
            ErrorKind::NotADirectory => {
                "unpack an archive or an image first: a root filesystem is a directory of files"
            }
            ErrorKind::PermissionDenied => {
                "make it readable for this user (chmod -R a+rX), or copy it to a directory of your own"
            }
            _ => "choose another directory, or leave --rootfs out: then one is assembled",
        };
        Error::io(WHY, directory, &error).remedy(remedy)
    };
    let path = fs::canonicalize(directory).map_err(failed)?;
    let empty = fs::read_dir(&path).map_err(failed)?.next().is_none();
    // The right to list its names is not yet the right to open them.
    access(&path, AccessFlags::X_OK).map_err(|errno| failed(errno.into()))?;
    if empty {
        let detail = format!("{} is empty", path.display());
        let remedy = "unpack a root filesystem into it (an Alpine minirootfs, a debootstrap tree, the output \
                      of docker export), or leave --rootfs out: then one is assembled";
        return Err(Error::new(WHY, detail).remedy(remedy));
    }
    Ok(Rootfs { path, source: Source::Given, _claim: None })
}

/// The root filesystem made of this machine's programs.
fn assembled() -> Result<Rootfs> {
    let program = exe::path();
    let program = program.as_deref();
    let plan = Plan::new(program)?;
    // Most often it is already there, and the first place is the one. Then nothing else has to be looked at.
    if let Some(place) = program.and_then(beside)
        && let Some(rootfs) = plan.ready_in(&place.path)?
    {
        return Ok(rootfs);
    }
    let places = places(program);
    // Already there: also in a place where nothing can be written any more.
    for place in places.iter().filter(|place| place.is_closed_to_others()) {
        if let Some(rootfs) = plan.ready_in(&place.path)? {
            return Ok(rootfs);
        }
    }
    let mut refused = Vec::new();
    for place in &places {
        match place.prepare() {
            Ok(()) => return plan.assemble_in(&place.path),
            Err(reason) => refused.push(reason),
        }
    }
    let remedy = "make one of them writable for this user, or choose a directory with --rootfs DIR";
    Err(Error::new(STEP, refused.join("\n          ")).remedy(remedy))
}

/// Copies a program of this machine into a root filesystem at `at`, with the shared libraries that it loads.
pub fn add_program(root: &Path, program: &Path, at: &Path) -> Result<()> {
    let mut tree = Tree { root: root.to_path_buf() };
    tree.copy(program, at)?;
    tree.libraries(program).map_err(|reason| Error::new(format!("copy {}", program.display()), reason))
}

/// Copies what is in a root filesystem to the directory `to`, with links, modes, owners and times.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    const STEP: &str = "copy the root filesystem";
    match Command::new("cp").arg("-a").arg("--").arg(from.join(".")).arg(to).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(Error::new(STEP, String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(Error::io(STEP, "cp", &error)),
    }
}

// ---- What to make it of

/// What the root filesystem is to be made of.
struct Plan {
    source: Source,
    /// Names and where they are; with a busybox only that.
    programs: Vec<(String, PathBuf)>,
    witness: Option<PathBuf>,
    /// What stands in for programs that the machine lacks.
    applets: Option<PathBuf>,
    /// The name of the directory.
    name: String,
}

impl Plan {
    /// Looks what there is, also beside `program`, the one that runs. This is done at every start, so files
    /// are looked at and not read.
    fn new(program: Option<&Path>) -> Result<Plan> {
        let directories = directories();
        let wanted = std::env::var(FROM).unwrap_or_default();
        let busybox = match wanted.as_str() {
            "" | "busybox" => static_busybox(&directories),
            "machine" => None,
            other => {
                let detail = format!("{FROM}={other} is not a way to make one");
                return Err(Error::new(STEP, detail).remedy("set it to busybox or machine, or unset it"));
            }
        };
        let (way, source, programs) = match busybox {
            Some(path) => ("busybox", Source::Busybox(path.clone()), vec![("busybox".to_string(), path)]),
            None if wanted == "busybox" => {
                let error = Error::new(STEP, format!("{FROM}=busybox, and there is no static busybox"));
                return Err(error.remedy("install one (Debian, Ubuntu: apt install busybox-static)"));
            }
            None => {
                let found = |name: &str| Some((name.to_string(), look_up(name, &directories)?));
                ("machine", Source::Machine, PROGRAMS.split_whitespace().filter_map(found).collect())
            }
        };
        let witness = program.and_then(|program| neighbour(program, "witness"));
        let applets = match source {
            Source::Machine => applets(program),
            _ => None, // a busybox has all that they have
        };
        let mut hash = Hash::new();
        hash.add(&VERSION.to_ne_bytes());
        // The loader's index changes with every library that is installed or upgraded.
        let index = Path::new("/etc/ld.so.cache");
        let own = witness.iter().chain(&applets).map(PathBuf::as_path);
        for path in programs.iter().map(|(_, path)| path.as_path()).chain(own).chain([index]) {
            hash.add(path.as_os_str().as_bytes());
            if let Ok(found) = fs::metadata(path) {
                for number in [found.len() as i64, found.mtime(), found.mtime_nsec()] {
                    hash.add(&number.to_ne_bytes());
                }
            }
        }
        let name = format!("rootfs-{way}-{:016x}", hash.0);
        Ok(Plan { source, programs, witness, applets, name })
    }

    /// The finished root filesystem in `place`, if there is one that this user may rely on.
    fn ready_in(&self, place: &Path) -> Result<Option<Rootfs>> {
        let path = place.join(&self.name);
        let Some(claim) = lock_directory(&path)? else { return Ok(None) };
        if !intact(&path) {
            return Ok(None);
        }
        // The kernel knows the path without links: one question, in place of one for each directory on the way.
        let known = format!("/proc/self/fd/{}", claim.file().as_raw_fd());
        let path = fs::read_link(known).map_err(|error| Error::io(STEP, &path, &error))?;
        Ok(Some(Rootfs { path, source: self.source.clone(), _claim: Some(claim) }))
    }

    /// Assembles it in `place`, where this user can write, unless another run does it first.
    fn assemble_in(&self, place: &Path) -> Result<Rootfs> {
        let _lock = Claim::wait(&place.join("lock"))?;
        if let Some(rootfs) = self.ready_in(place)? {
            return Ok(rootfs); // made while this run waited
        }
        let begun = Instant::now();
        // What a killed run left, and one that is broken: chapters 1 and 2 let a reader write to it.
        put_aside(place, "assembling")?;
        put_aside(place, &self.name)?;
        self.clear(place);
        let unfinished = place.join("assembling");
        let count = Tree::new(&unfinished).and_then(|tree| self.fill(tree)).inspect_err(|_| {
            let _ = fs::remove_dir_all(&unfinished); // the disk may be full
        })?;
        let path = place.join(&self.name);
        fs::rename(&unfinished, &path).map_err(|error| Error::io(STEP, &path, &error))?;
        explain::remark(&format!(
            "assembled a root filesystem of {count} programs in {:.2} s, from {}: {}",
            begun.elapsed().as_secs_f64(),
            self.source,
            path.display()
        ));
        self.ready_in(place)?.ok_or_else(|| {
            Error::new(STEP, format!("{} is incomplete", path.display()))
                .remedy("choose a directory with --rootfs DIR")
        })
    }

    /// Puts everything into the empty `tree` and returns how many programs there are.
    fn fill(&self, mut tree: Tree) -> Result<usize> {
        tree.skeleton()?;
        tree.etc()?;
        let mut count = match &self.source {
            Source::Busybox(busybox) => tree.busybox(busybox)?,
            _ => tree.machine(&self.programs)?,
        };
        for (name, program) in [("witness", &self.witness), ("applets", &self.applets)] {
            let Some(program) = program else { continue };
            let at = format!("usr/bin/{name}");
            tree.copy(program, &Path::new("/").join(&at))?;
            match tree.libraries(program) {
                Ok(()) => count += 1,
                Err(reason) => {
                    explain::remark(&format!("left out {name}: {reason}"));
                    tree.remove(&at)?;
                }
            }
        }
        if let Some(applets) = &self.applets {
            count += tree.applets(applets)?;
        }
        Ok(count)
    }

    /// Removes what older plans of the same way left, and what was put aside, unless someone uses it. The
    /// caller holds the lock of `place`. What cannot be removed now, a later run tries again.
    fn clear(&self, place: &Path) {
        let kind = self.name.trim_end_matches(|c: char| c != '-');
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == self.name || !(name.starts_with(kind) || name.starts_with("aside-")) {
                continue;
            }
            let Some(_unused) = Claim::inherit(&entry.path()).filter(|_| !has_mounts(&entry.path())) else {
                continue;
            };
            // Renamed first, so that no half-removed directory has a name that could be trusted.
            if let Ok(Some(aside)) = put_aside(place, &name) {
                let _ = fs::remove_dir_all(aside);
            }
        }
    }
}

/// The directories to look for programs in.
fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = DIRECTORIES.map(PathBuf::from).into();
    for directory in std::env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

fn look_up(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    let executable = |found: Metadata| found.is_file() && found.mode() & 0o111 != 0;
    directories
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| fs::metadata(path).is_ok_and(executable))
}

fn static_busybox(directories: &[PathBuf]) -> Option<PathBuf> {
    // Alpine, where `busybox` is a dynamic one, calls it busybox.static.
    ["busybox", "busybox.static", "busybox-static"]
        .iter()
        .filter_map(|name| look_up(name, directories))
        .find(|path| matches!(linking(path), Ok(Linking::Static)))
}

/// What was built together with the program: beside it, or, for a test in target/debug/deps, one directory up.
fn neighbour(program: &Path, name: &str) -> Option<PathBuf> {
    program.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// The applets that were built with this library; or those beside the program, where that has been moved.
fn applets(program: Option<&Path>) -> Option<PathBuf> {
    let built = PathBuf::from(env!("COOPERAGE_APPLETS"));
    if built.is_file() { Some(built) } else { program.and_then(|program| neighbour(program, "applets")) }
}

/// FNV-1a, of 64 bits: enough to tell one machine's programs from what they were yesterday. (The standard
/// library's hash may change with the compiler.)
struct Hash(u64);

impl Hash {
    fn new() -> Hash {
        Hash(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        // The length too, so that "ab" and "c" differ from "a" and "bc".
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

// ---- Where to keep it

/// A directory that may hold root filesystems.
struct Place {
    path: PathBuf,
    /// The directory above that must be there already. `None`: anyone may write there, as in /tmp, so `path`
    /// itself must be nobody else's.
    base: Option<PathBuf>,
}

/// A place in cargo's target directory, which is known by a file that cargo puts there.
fn beside(program: &Path) -> Option<Place> {
    let target = program.ancestors().skip(1).find(|directory| directory.join("CACHEDIR.TAG").is_file())?;
    Some(Place { path: target.join("cooperage"), base: Some(target.to_path_buf()) })
}

/// The places to try, the best one first.
fn places(program: Option<&Path>) -> Vec<Place> {
    let mut places = Vec::new();
    places.extend(program.and_then(beside));
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = variable("XDG_CACHE_HOME") {
        places.push(Place { path: cache.join("cooperage"), base: Some(cache) });
    } else if let Some(home) = variable("HOME") {
        places.push(Place { path: home.join(".cache/cooperage"), base: Some(home) });
    }
    places.push(Place { path: format!("/tmp/cooperage-rootfs-{}", outer_uid()).into(), base: None });
    places
}

impl Place {
    /// Makes the directory, or says why it can't be used.
    fn prepare(&self) -> Result<(), String> {
        let path = self.path.display();
        // Every directory on the way that is there must be this user's: root must not leave files in the
        // home of the user who became root, and no one can be made to write into a directory of another.
        if let Some(base) = &self.base {
            if !base.is_dir() {
                return Err(format!("{} is not there, or closed to this user", base.display()));
            }
            for directory in self.path.ancestors().take_while(|directory| directory.starts_with(base)) {
                match fs::metadata(directory) {
                    Ok(found) if !is_own_directory(&found) => {
                        return Err(format!("{} does not belong to this user", directory.display()));
                    }
                    _ => {}
                }
            }
        }
        let mode = if self.base.is_some() { 0o755 } else { 0o700 };
        match DirBuilder::new().mode(mode).recursive(self.base.is_some()).create(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(format!("{path}: {error}")),
            _ => {}
        }
        if !self.is_closed_to_others() {
            return Err(format!("{path} is not a directory that only this user can enter"));
        }
        access(&self.path, AccessFlags::W_OK).map_err(|errno| format!("{path}: {}", errno.desc()))?;
        let mounted = statvfs(&self.path).map_err(|errno| format!("{path}: {}", errno.desc()))?;
        if mounted.flags().contains(FsFlags::ST_NOEXEC) {
            return Err(format!("{path} is on a filesystem that is mounted noexec"));
        }
        Ok(())
    }

    /// In /tmp anyone may have made a directory, or a link, with the name that this user's would have.
    fn is_closed_to_others(&self) -> bool {
        let private = |found: Metadata| is_own_directory(&found) && found.mode() & 0o077 == 0;
        self.base.is_some() || fs::symlink_metadata(&self.path).is_ok_and(private)
    }
}

/// Is this a directory of this user's? (In a user namespace the files of everyone else, the real root
/// included, belong to 65534.)
fn is_own_directory(found: &Metadata) -> bool {
    found.is_dir() && found.uid() == geteuid().as_raw()
}

/// This user's number outside the user namespace that the runtime may have entered: inside, all are 0.
fn outer_uid() -> u32 {
    let uid = geteuid().as_raw();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(outside + uid.checked_sub(inside).filter(|&above| above < count)?)
    };
    map.lines().find_map(outside).unwrap_or(uid)
}

// ---- Locks and old directories

/// Locks a directory of this user so that nobody removes it. `None` if it is not there.
fn lock_directory(path: &Path) -> Result<Option<Claim>> {
    loop {
        let Ok(directory) = File::open(path) else { return Ok(None) };
        let Ok(opened) = directory.metadata() else { return Ok(None) };
        if !is_own_directory(&opened) {
            return Ok(None);
        }
        let Some(claim) = Claim::on(directory, path, FlockArg::LockShared)? else { return Ok(None) };
        // Whoever held the lock meanwhile may have been removing it.
        match fs::symlink_metadata(path) {
            Ok(now) if (now.dev(), now.ino()) == (opened.dev(), opened.ino()) => return Ok(Some(claim)),
            Ok(_) => {}
            Err(_) => return Ok(None),
        }
    }
}

/// Is all there that a container cannot do without?
fn intact(root: &Path) -> bool {
    root.join("usr/bin/sh").exists() && MOUNT_POINTS.iter().all(|directory| root.join(directory).is_dir())
}

/// Gives `name` in `place` another name, if it is there, and returns that. The caller holds the lock.
fn put_aside(place: &Path, name: &str) -> Result<Option<PathBuf>> {
    let path = place.join(name);
    let aside = (0u32..).map(|n| place.join(format!("aside-{n}"))).find(|path| !path.exists());
    let Some(aside) = aside else { return Ok(None) };
    match fs::rename(&path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(STEP, &path, &error)),
    }
}

/// Is anything mounted below? A reader in chapter 1 may have mounted the whole host there: to remove such a
/// tree would be to remove the host.
fn has_mounts(directory: &Path) -> bool {
    let (Ok(directory), Ok(mounts)) = (fs::canonicalize(directory), mountinfo::here()) else { return true };
    mounts.iter().any(|mount| mount.point.starts_with(&directory))
}

// ---- How to make it

/// Directories that the chapters mount something on.
const MOUNT_POINTS: [&str; 5] = ["dev", "etc", "proc", "sys", "tmp"];

/// A root filesystem under construction.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new(root: &Path) -> Result<Tree> {
        fs::create_dir(root).map_err(|error| Error::io(STEP, root, &error))?;
        let tree = Tree { root: root.to_path_buf() };
        tree.mode("", 0o755)?;
        Ok(tree)
    }

    /// The directories that programs expect. As on most machines today, there is one directory for
    /// programs; its other three names are links to it.
    fn skeleton(&self) -> Result<()> {
        let others = ["home", "mnt", "opt", "root", "run", "srv", "usr/bin", "usr/lib", "usr/lib64"];
        let more = ["usr/share", "var/cache", "var/lib", "var/log", "var/spool", "var/tmp"];
        for directory in MOUNT_POINTS.iter().chain(&others).chain(&more) {
            let path = self.root.join(directory);
            fs::create_dir_all(&path).map_err(|error| Error::io(STEP, &path, &error))?;
            self.mode(directory, 0o755)?;
        }
        for (directory, mode) in [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700)] {
            self.mode(directory, mode)?;
        }
        self.link("usr/bin", "bin")?;
        self.link("usr/bin", "sbin")?;
        self.link("bin", "usr/sbin")?;
        self.link("usr/lib", "lib")?;
        self.link("usr/lib64", "lib64")?;
        self.link("../run", "var/run")
    }

    /// The few files of /etc that programs read.
    fn etc(&self) -> Result<()> {
        let os_release = concat!(
            "NAME=Cooperage\nID=cooperage\nVERSION_ID=",
            env!("CARGO_PKG_VERSION"),
            "\nPRETTY_NAME=\"Cooperage\"\n"
        );
        let files = [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
            ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
            ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
            ("etc/shells", "/bin/sh\n"),
            ("etc/profile", "PS1='$(hostname):$PWD# '\n"),
            ("etc/os-release", os_release),
            // Empty: there to be mounted over.
            ("etc/hostname", ""),
            ("etc/hosts", ""),
            ("etc/resolv.conf", ""),
        ];
        for (name, text) in files {
            let path = self.root.join(name);
            fs::write(&path, text).map_err(|error| Error::io(STEP, &path, &error))?;
            self.mode(name, 0o644)?;
        }
        self.link("../proc/self/mounts", "etc/mtab")
    }

    /// One program, and a link to it for each of its names.
    fn busybox(&mut self, busybox: &Path) -> Result<usize> {
        self.copy(busybox, Path::new("/usr/bin/busybox"))?;
        let list = output(busybox, OsStr::new("--list"), None)
            .map_err(|reason| Error::new(STEP, reason).remedy(format!("set {FROM}=machine")))?;
        let names: BTreeSet<&str> =
            list.lines().filter(|name| !matches!(*name, "" | "busybox") && !name.contains('/')).collect();
        if !names.contains("sh") {
            let error = Error::new(STEP, format!("{} has no shell", busybox.display()));
            return Err(error.remedy(format!("set {FROM}=machine")));
        }
        for name in &names {
            self.link("busybox", &format!("usr/bin/{name}"))?;
        }
        Ok(names.len() + 1)
    }

    /// Programs of the machine with the libraries they load. What a program needs is where it is on the
    /// machine; so is the program itself, because some find their libraries from there. `/usr/bin` has
    /// a link to it where that is elsewhere: in a store, in /etc/alternatives, under another name.
    fn machine(&mut self, programs: &[(String, PathBuf)]) -> Result<usize> {
        let mut left_out = Vec::new();
        for (name, path) in programs {
            match self.program(name, path) {
                Ok(()) => {}
                Err(error) if error.errno() == Some(Errno::ENOSPC) => return Err(error),
                Err(error) => left_out.push(format!("{name} ({})", error.reason())),
            }
        }
        if !left_out.is_empty() {
            explain::remark(&format!("left out of the root filesystem: {}", left_out.join(", ")));
        }
        if !self.root.join("usr/bin/sh").exists() {
            let error = Error::new(STEP, "this machine has no shell that can be copied");
            return Err(error.remedy("install a static busybox (Debian, Ubuntu: apt install busybox-static)"));
        }
        self.extras()?;
        Ok(programs.len() - left_out.len())
    }

    /// Links to the applets under the names that are still free, and returns how many those are.
    fn applets(&mut self, applets: &Path) -> Result<usize> {
        if !self.root.join("usr/bin/applets").exists() {
            return Ok(0);
        }
        let list = match output(applets, OsStr::new("--list"), None) {
            Ok(list) => list,
            Err(reason) => {
                explain::remark(&format!("left out the applets: {reason}"));
                return Ok(0);
            }
        };
        let mut count = 0;
        for name in list.lines().filter(|name| !name.contains('/')) {
            let link = format!("usr/bin/{name}");
            if fs::symlink_metadata(self.root.join(&link)).is_err() {
                self.link("applets", &link)?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        let real = fs::canonicalize(path).map_err(|error| Error::io(STEP, path, &error))?;
        if !self.inside(&real).exists() {
            self.libraries(&real).map_err(|reason| Error::new(STEP, reason))?;
            self.copy(&real, &real)?;
        }
        let link = format!("usr/bin/{name}");
        if fs::symlink_metadata(self.root.join(&link)).is_ok() {
            return Ok(());
        }
        match real.strip_prefix("/usr/bin") {
            Ok(neighbour) => self.link(&neighbour.to_string_lossy(), &link),
            Err(_) => self.link(&format!("../..{}", real.display()), &link),
        }
    }

    /// The shared libraries of a program and its dynamic loader. The loader itself is asked, which knows
    /// best: with `--list` those of glibc and of musl print what they would load (ldd(1) does the same).
    fn libraries(&mut self, program: &Path) -> Result<(), String> {
        let loader = match linking(program).map_err(|error| error.to_string())? {
            Linking::Static => return Ok(()),
            Linking::Dynamic(loader) => loader,
        };
        let list = output(&loader, OsStr::new("--list"), Some(program))?;
        if let Some(line) = list.lines().find(|line| line.ends_with("=> not found")) {
            return Err(line.trim().to_string());
        }
        for library in list.lines().flat_map(libraries_in).chain([loader.as_path()]) {
            self.copy(library, library).map_err(|error| error.reason())?;
        }
        Ok(())
    }

    /// What programs load without being linked against it.
    fn extras(&mut self) -> Result<()> {
        // The loader's index of libraries in uncommon places. It names many that are not here; no harm.
        let index = Path::new("/etc/ld.so.cache");
        if index.is_file() {
            self.copy(index, index)?;
        }
        // How a terminal is spoken to.
        let terminals = "ansi dumb linux screen screen-256color tmux-256color vt100 xterm xterm-256color";
        let databases = "/etc/terminfo /lib/terminfo /usr/share/terminfo /usr/lib/terminfo \
                         /run/current-system/sw/share/terminfo";
        for name in terminals.split(' ') {
            let entry = |database| Path::new(database).join(&name[..1]).join(name);
            if let Some(entry) = databases.split(' ').map(entry).find(|path| path.is_file()) {
                self.copy(&entry, &entry)?;
            }
        }
        // Names of users, which glibc before 2.34 looks up in plug-ins that lie beside it.
        let Ok(entries) = fs::read_dir(self.root.join("usr/lib")) else { return Ok(()) };
        let multiarch = entries.flatten().map(|entry| Path::new("/usr/lib").join(entry.file_name()));
        let directories = ["/usr/lib", "/usr/lib64", "/lib", "/lib64"].map(PathBuf::from);
        for directory in directories.into_iter().chain(multiarch.collect::<Vec<_>>()) {
            for name in ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"] {
                let library = directory.join(name);
                if self.inside(&directory.join("libc.so.6")).exists() && library.is_file() {
                    self.copy(&library, &library)?;
                }
            }
        }
        Ok(())
    }

    /// Copies a file of the machine, or what a link leads to, to the path `at`, unless it is there. It does
    /// not stay setuid: its owner here is not always root.
    fn copy(&mut self, from: &Path, at: &Path) -> Result<()> {
        let to = self.inside(at);
        if to.exists() {
            return Ok(());
        }
        let copy = || {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(from, &to)?;
            let executable = fs::metadata(&to)?.mode() & 0o111 != 0;
            fs::set_permissions(&to, Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
        };
        copy().map_err(|error| {
            let _ = fs::remove_file(&to);
            Error::io(STEP, from, &error)
        })
    }

    /// Where an absolute path of the machine is in this tree. `..` in it never leads out.
    fn inside(&self, path: &Path) -> PathBuf {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::ParentDir => drop(names.pop()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.root.join(names.iter().collect::<PathBuf>())
    }

    fn link(&self, target: &str, name: &str) -> Result<()> {
        let path = self.root.join(name);
        symlink(target, &path).map_err(|error| Error::io(STEP, &path, &error))
    }

    /// Sets a mode exactly, whatever the umask is.
    fn mode(&self, name: &str, mode: u32) -> Result<()> {
        let path = self.root.join(name);
        let set = fs::set_permissions(&path, Permissions::from_mode(mode));
        set.map_err(|error| Error::io(STEP, &path, &error))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.root.join(name);
        fs::remove_file(&path).map_err(|error| Error::io(STEP, &path, &error))
    }
}

/// The absolute paths in a line that a loader prints, of the forms `libc.so.6 => /lib/libc.so.6 (0x7f00)`
/// and `/lib64/ld-linux-x86-64.so.2 (0x7f00)`.
fn libraries_in(line: &str) -> impl Iterator<Item = &Path> {
    let line = line.rsplit_once(" (0x").map_or(line, |(names, _address)| names);
    line.trim().split(" => ").filter(|name| name.starts_with('/')).map(Path::new)
}

/// Runs a program of this machine in an empty environment (cargo sets LD_LIBRARY_PATH) and returns what
/// it prints.
fn output(program: &Path, option: &OsStr, argument: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(option).args(argument).env_clear().current_dir("/").stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it failed");
        return Err(format!("{} {}: {said}", program.display(), option.display()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{}: the output is not text", program.display()))
}

/// How a program gets at its libraries.
#[derive(Debug, PartialEq, Eq)]
enum Linking {
    /// It has everything it needs.
    Static,
    /// The kernel starts this loader, which loads the libraries.
    Dynamic(PathBuf),
}

/// Reads it from the ELF header: see elf(5) for `Elf64_Ehdr` and `Elf64_Phdr`. A dynamic program has a
/// segment PT_INTERP, which holds the path of the loader.
fn linking(program: &Path) -> io::Result<Linking> {
    const PT_INTERP: u64 = 3;
    let file = File::open(program)?;
    let read = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map(|()| bytes)
    };
    let strange = || io::Error::new(ErrorKind::InvalidData, "it is not a 64-bit ELF program");
    let header = read(0, 64).map_err(|_| strange())?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(strange());
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (e_phoff, e_phentsize, e_phnum) =
        (number(&header[32..40]), number(&header[54..56]) as usize, number(&header[56..58]) as usize);
    // Any other size would be one that nobody has heard of, or a damaged file that asks for gigabytes.
    const SIZE: usize = 56;
    if e_phentsize != SIZE {
        return Err(strange());
    }
    let table = read(e_phoff, SIZE * e_phnum)?;
    for segment in table.chunks_exact(SIZE) {
        if number(&segment[0..4]) == PT_INTERP {
            let (p_offset, p_filesz) = (number(&segment[8..16]), number(&segment[32..40]));
            let mut path = read(p_offset, p_filesz.min(4096) as usize)?;
            path.retain(|&byte| byte != 0);
            return Ok(Linking::Dynamic(PathBuf::from(OsStr::from_bytes(&path))));
        }
    }
    Ok(Linking::Static)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn status_and_advice(directory: &Path) -> (u8, String, String) {
        let error = Rootfs::find(Some(directory)).expect_err("it cannot be used");
        (error.status, error.reason(), error.advice().unwrap_or_default().to_string())
    }

    #[test]
    fn refuses_what_is_no_root_filesystem() {
        let sandbox = sandbox();
        let (status, reason, advice) = status_and_advice(&sandbox.path().join("missing"));
        assert_eq!((status, &reason[..6]), (125, "ENOENT"));
        assert!(advice.contains("leave --rootfs out"), "{advice}");
        let (_, reason, advice) = status_and_advice(sandbox.path());
        assert!(reason.ends_with("is empty"), "{reason}");
        assert!(advice.contains("debootstrap"), "{advice}");
        let file = sandbox.path().join("image.tar");
        fs::write(&file, "").expect("a file");
        let (_, reason, advice) = status_and_advice(&file);
        assert!(reason.starts_with("ENOTDIR"), "{reason}");
        assert!(advice.contains("unpack"), "{advice}");
        let given = Rootfs::find(Some(sandbox.path())).expect("a file is in it now");
        assert_eq!((given.source(), given.path().is_absolute()), (&Source::Given, true));
    }

    #[test]
    fn lists_the_programs_of_a_rootfs_and_not_of_the_host() {
        let sandbox = sandbox();
        let root = sandbox.path();
        fs::create_dir_all(root.join("usr/bin")).expect("a directory");
        fs::write(root.join("usr/bin/only-here"), "").expect("a file");
        symlink("/usr/bin", root.join("bin")).expect("a link");
        let rootfs = Rootfs::find(Some(root)).expect("it can be used");
        assert_eq!(rootfs.programs().expect("it can be listed"), ["only-here"]);
    }

    #[test]
    fn reads_what_a_loader_prints() {
        let glibc = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
                     \t/lib64/ld-linux-x86-64.so.2 => /usr/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let found: Vec<_> = glibc.lines().flat_map(libraries_in).collect();
        let wanted = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(found, wanted.map(Path::new));
        let store = "\tlibm.so.6 => /nix/store/0a b-glibc/lib/libm.so.6 (0x7f)";
        assert_eq!(libraries_in(store).next(), Some(Path::new("/nix/store/0a b-glibc/lib/libm.so.6")));
        assert_eq!(libraries_in("\tlibgone.so => not found").next(), None);
    }

    #[test]
    fn reads_the_loader_of_a_program() {
        let program = std::env::current_exe().expect("a program");
        assert!(matches!(linking(&program), Ok(Linking::Static | Linking::Dynamic(_))));
        let sandbox = sandbox();
        let script = sandbox.path().join("script");
        fs::write(&script, "#!/bin/sh\n").expect("a file");
        assert!(linking(&script).is_err());
        let mut header = b"\x7fELF\x02\x01".to_vec();
        header.resize(64, 0xff);
        fs::write(&script, header).expect("a file");
        assert!(linking(&script).is_err(), "a header that points nowhere");
    }

    #[test]
    fn nothing_leads_out_of_the_tree() {
        let tree = Tree { root: PathBuf::from("/tree") };
        for (path, inside) in [("/a/../../../b", "/tree/b"), ("/", "/tree"), ("/usr/./lib", "/tree/usr/lib")]
        {
            assert_eq!(tree.inside(Path::new(path)), Path::new(inside));
        }
    }

    #[test]
    fn an_old_directory_goes_when_nobody_uses_it() {
        let sandbox = sandbox();
        let place = sandbox.path();
        let plan = Plan {
            source: Source::Machine,
            programs: Vec::new(),
            witness: None,
            applets: None,
            name: "rootfs-machine-2".to_string(),
        };
        for name in ["rootfs-machine-1", "rootfs-machine-2", "rootfs-busybox-1", "aside-0", "used", "lock"] {
            fs::create_dir(place.join(name)).expect("a directory");
        }
        let used = lock_directory(&place.join("rootfs-machine-1")).expect("a lock").expect("it is there");
        let left = || {
            let mut names: Vec<_> = fs::read_dir(place)
                .expect("a directory")
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        plan.clear(place);
        assert_eq!(left(), ["lock", "rootfs-busybox-1", "rootfs-machine-1", "rootfs-machine-2", "used"]);
        drop(used);
        plan.clear(place);
        assert_eq!(left(), ["lock", "rootfs-busybox-1", "rootfs-machine-2", "used"]);
        assert!(lock_directory(&place.join("rootfs-machine-1")).expect("no error").is_none());
    }
}
