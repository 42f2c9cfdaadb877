//! The doctor: can this machine do what the chapters need?
//!
//! Version numbers and configuration files do not tell what a container engine, a security module or a
//! seccomp filter forbids. So it tries each feature, with the same functions that the chapters call, in a
//! child process and in namespaces that end with it.
//!
//! The tests ask it too, feature by feature ([`check`]): what this machine can't run is not a failure, but
//! is reported with the reason.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use colored::Colorize;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::MntFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, getegid, geteuid};
use serde::{Deserialize, Serialize};

use super::chapters::{self, CHAPTERS};
use super::lab;
use super::rootfs::Rootfs;
use crate::container::address::{self, CANDIDATES};
use crate::container::capability::Capability;
use crate::container::cgroup::{self, Cgroup, Limits, Memory, Mount};
use crate::container::host::Host;
use crate::container::netlink::{Message, Netlink};
use crate::container::overlay::Overlay;
use crate::container::pid::PROC_FLAGS;
use crate::container::power::devices::usual_rules;
use crate::container::power::{apparmor, landlock, selinux};
use crate::container::process::signals::open_process;
use crate::container::process::{self, Process, Status};
use crate::container::state::directory::state_directory;
use crate::container::state::ledger::Leftover;
use crate::container::sweep;
use crate::container::sys::{self, CloneFlags, MsFlags};
use crate::container::user::map::Map;
use crate::container::user::subordinate::Subordinate;
use crate::container::user::{self, Users};
use crate::container::{kernel, mount, mountinfo, nat, programs, root, uplink};
use crate::told::errors::{Advise, Error, Result, user_namespace_remedy};

/// Who can't go without a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Everyone,
    OrdinaryUsers,
    Nobody,
}

/// One thing that a machine can do or not.
pub struct Feature {
    /// What programs call it. These names stay: tests and scripts know them.
    pub name: &'static str,
    /// What people call it.
    pub what: &'static str,
    need: Need,
    probe: fn() -> Result<String>,
}

impl Feature {
    const fn new(name: &'static str, what: &'static str, probe: fn() -> Result<String>) -> Self {
        Feature { name, what, need: Need::Everyone, probe }
    }

    /// The chapters that use it.
    pub fn chapters(&self) -> Vec<u8> {
        CHAPTERS.iter().filter(|chapter| chapter.needs(self.name)).map(|chapter| chapter.number).collect()
    }

    /// The chapters go without, or it is for later ones, or for the tests.
    const fn optional(self) -> Self {
        Feature { need: Need::Nobody, ..self }
    }

    const fn for_ordinary_users(self) -> Self {
        Feature { need: Need::OrdinaryUsers, ..self }
    }

    /// Can its chapters not do without it, for the user who asks?
    pub fn required(&self) -> bool {
        match self.need {
            Need::Everyone => true,
            Need::OrdinaryUsers => !geteuid().is_root(),
            Need::Nobody => false,
        }
    }

    /// Tries it, in a child process that ends with the trial. Says what there is to know.
    pub fn check(&self) -> Result<String> {
        in_child(self.probe)
    }
}

/// Everything that the doctor knows how to try, in the order of the book.
pub const FEATURES: &[Feature] = &[
    Feature::new("kernel", "Linux 5.12 or newer", new_kernel),
    Feature::new("user-namespace", "user namespaces for ordinary users", user_namespace).for_ordinary_users(),
    // What one of them is missing for is seen below: each trial needs some.
    Feature::new("capabilities", "the capabilities of root", capabilities).optional(),
    Feature::new("rootfs", "root filesystem of this machine's programs", rootfs),
    Feature::new("chroot", "chroot", chroot),
    Feature::new("close-range", "close_range", close_range),
    Feature::new("pid-namespace", "PID namespace", pid_namespace),
    Feature::new("proc", "its own /proc", proc),
    Feature::new("mount-namespace", "mount namespace", mount_namespace),
    Feature::new("mount-api", "open_tree, move_mount, mount_setattr", mount_api),
    Feature::new("openat2", "openat2", openat2),
    Feature::new("overlay", "overlay filesystem", overlay),
    Feature::new("pivot-root", "pivot_root", pivot_root),
    Feature::new("devices", "device nodes in /dev", devices),
    Feature::new("devpts", "terminals of its own", devpts),
    Feature::new("uts-namespace", "UTS namespace", uts_namespace),
    Feature::new("ipc-namespace", "IPC namespace, message queues", ipc_namespace),
    Feature::new("network-namespace", "network namespace", network_namespace),
    Feature::new("bridge", "bridge", bridge),
    Feature::new("veth", "veth pair", veth),
    Feature::new("nft", "nftables, for NAT", nft).optional(),
    Feature::new("upstream", "a way out of this machine, for NAT", upstream).optional(),
    Feature::new("ip-forward", "packets are handed on, for NAT", ip_forward).optional(),
    Feature::new("cgroup-namespace", "cgroup namespace", cgroup_namespace),
    Feature::new("cgroups", "cgroups", cgroups),
    Feature::new("cgroup-v1", "cgroups version 1", cgroup_v1).optional(),
    Feature::new("cgroup-v2", "cgroups version 2 with controllers", cgroup_v2).optional(),
    Feature::new("cgroup-memory", "limit of memory", cgroup_memory),
    Feature::new("cgroup-cpu", "limit of processor time", cgroup_cpu),
    Feature::new("cgroup-pids", "limit of processes", cgroup_pids),
    Feature::new("cgroup-freezer", "freezer", cgroup_freezer).optional(),
    Feature::new("own-users", "users of its own, in a user namespace", own_users),
    Feature::new("subordinate-users", "a range of users for ordinary users", subordinate_users).optional(),
    Feature::new("idmap", "id-mapped mounts, for the rootfs", idmap).optional(),
    Feature::new("uplink", "an ordinary user's way to the world", uplink).optional(),
    Feature::new("tun", "tun devices", tun).optional(),
    Feature::new("idmap-tmpfs", "id-mapped mounts of memory, for the exercises", idmap_tmpfs).optional(),
    Feature::new("many-users", "users to give away, for the exercises", many_users).optional(),
    Feature::new("seccomp", "seccomp filters", seccomp),
    Feature::new("landlock", "Landlock, for init", has_landlock).optional(),
    Feature::new("cgroup-devices", "limit of devices", cgroup_devices).optional(),
    Feature::new("apparmor", "AppArmor", has_apparmor).optional(),
    Feature::new("apparmor-profile", "our AppArmor profile", apparmor_profile).optional(),
    Feature::new("selinux", "SELinux", has_selinux).optional(),
    Feature::new("pidfd", "pidfd", pidfd).optional(),
    Feature::new("lab", "the lab", the_lab).optional(),
    Feature::new("commands", "the commands that the book types", commands).optional(),
    Feature::new("strace", "strace, for the tests", strace).optional(),
    Feature::new("libseccomp", "libseccomp, for the tests", libseccomp).optional(),
    Feature::new("busybox", "busybox, for a smaller root filesystem", busybox).optional(),
    Feature::new("bare-host", "not in another container", bare_host).optional(),
];

/// Tries one feature. The error says what is missing and what to do about it. Besides [`FEATURES`] it knows
/// `program-ip` and so on: a program that the machine has or not.
pub fn check(name: &str) -> Result<String> {
    if let Some(program) = name.strip_prefix("program-") {
        return machines_program(program);
    }
    match FEATURES.iter().find(|feature| feature.name == name) {
        Some(feature) => feature.check(),
        None => {
            let names: Vec<_> = FEATURES.iter().map(|feature| feature.name).collect();
            Err(Error::new(format!("check {name:?}"), "the doctor does not know that feature")
                .remedy(format!("it knows {}", names.join(", "))))
        }
    }
}

/// What came of a trial.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// The feature's name.
    pub name: String,
    /// Does it work?
    pub ok: bool,
    /// Does this user need it for the chapters that use it?
    pub required: bool,
    /// The chapters that use it.
    pub chapters: Vec<u8>,
    /// What there is to know; or the reason why not.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn of(feature: &Feature) -> Finding {
        let result = feature.check();
        let remedy = result.as_ref().err().and_then(|error| error.advice().map(str::to_string));
        Finding {
            name: feature.name.to_string(),
            ok: result.is_ok(),
            required: feature.required(),
            chapters: feature.chapters(),
            detail: result.unwrap_or_else(|error| format!("can't {}: {}", error.step(), error.reason())),
            remedy,
        }
    }
}

/// Tries everything and prints a JSON array of [`Finding`]s. True if all that is required works.
pub fn report_json() -> Result<bool> {
    let findings: Vec<_> = FEATURES.iter().map(Finding::of).collect();
    let text = serde_json::to_string_pretty(&findings)
        .map_err(|error| Error::new("write the report", error.to_string()))?;
    say(&text);
    Ok(not_ready(&findings).is_empty())
}

/// Tries everything and prints a line for each. True if all that is required works.
pub fn report() -> bool {
    let uid = geteuid();
    let who = if uid.is_root() { "root".to_string() } else { format!("user {uid}") };
    say(&format!("What this machine lets {who} do").bold().to_string());
    let mut findings = Vec::new();
    let mut said = BTreeSet::new();
    for feature in FEATURES {
        let found = Finding::of(feature);
        let mark = match (found.ok, found.required) {
            (true, _) => "yes".green(),
            (false, true) => "no".red().bold(),
            (false, false) => "no".yellow(),
        };
        let need = match (found.chapters.as_slice(), found.required) {
            ([], _) => String::new(),
            (chapters, true) => in_words(chapters),
            (chapters, false) => format!("({})", in_words(chapters)),
        };
        say(&format!("  {mark:<3}  {:<42}  {need:<8}  {}", feature.what, found.detail.dimmed()));
        // Once is enough: one cause often shows in many features.
        if let Some(remedy) = found.remedy.clone().filter(|remedy| said.insert(remedy.clone())) {
            say(&format!("       {} {remedy}", "remedy:".bold()));
        }
        findings.push(found);
    }
    say("The numbers are the chapters that need it; (in brackets) they go without.");
    let not_ready = not_ready(&findings);
    let ready: Vec<u8> = chapters::numbers().filter(|chapter| !not_ready.contains(chapter)).collect();
    say("");
    let verdict = match (ready.is_empty(), not_ready.is_empty()) {
        (_, true) => format!("ready for {}", named(&ready)).green(),
        (true, _) => "not ready for any chapter: see the remedies above".red(),
        _ => format!("ready for {}, not for {}", named(&ready), named(&not_ready)).red(),
    };
    say(&verdict.bold().to_string());
    // Once more, together: what has scrolled away is not read.
    let lacking = findings.iter().filter(|found| !found.ok && found.required && !found.chapters.is_empty());
    let remedies: BTreeSet<&str> = lacking.filter_map(|found| found.remedy.as_deref()).collect();
    for remedy in remedies {
        say(&format!("  {} {remedy}", "what helps:".bold()));
    }
    not_ready.is_empty()
}

/// The chapters that lack something.
fn not_ready(findings: &[Finding]) -> Vec<u8> {
    let lacking = |chapter: &u8| {
        findings.iter().any(|found| !found.ok && found.required && found.chapters.contains(chapter))
    };
    chapters::numbers().filter(lacking).collect()
}

fn named(numbers: &[u8]) -> String {
    let noun = if numbers.len() == 1 { "chapter" } else { "chapters" };
    format!("{noun} {}", in_words(numbers))
}

/// Numbers in ascending order: "1 to 5, 7".
fn in_words(numbers: &[u8]) -> String {
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let in_words = |&(first, last): &(u8, u8)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    runs.iter().map(in_words).collect::<Vec<_>>().join(", ")
}

/// Clears up what killed runtimes of this user left, and says what it was.
pub fn clean() -> Result<()> {
    become_root()?;
    let swept = sweep::sweep()?;
    for what in &swept.undone {
        say(&format!("swept {what}"));
    }
    for page in &swept.kept {
        say(&format!("kept {}: a newer version of this program wrote it, and can sweep it", page.display()));
    }
    if swept.undone.is_empty() && swept.kept.is_empty() {
        say("nothing to sweep");
    }
    Ok(())
}

/// Says which programs the assembled root filesystem holds, and where it is.
pub fn list_programs() -> Result<()> {
    let rootfs = Rootfs::find(None)?;
    say(&format!("{}, from {}:", rootfs.path().display(), rootfs.source()));
    say(&rootfs.programs()?.join(" "));
    Ok(())
}

/// Prints a line. That nobody reads it (`doctor | head -1`) is no reason to stop.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// How long a trial may take. Assembling the root filesystem on a slow disk takes longest.
const PATIENCE_MS: u16 = 60_000;

/// Does `what` in a child process, so that this one's namespaces stay what they are.
fn in_child(what: impl FnOnce() -> Result<String>) -> Result<String> {
    const STEP: &str = "try it in a child process";
    let failed = |call: &str, errno| Error::call(STEP, call, errno);
    let threads = || fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    // One that has just been joined may still be listed for a moment.
    for _ in 0..100 {
        if threads() == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    if threads() > 1 {
        return Err(Error::new(STEP, "this process has several threads"));
    }
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipe2()", errno))?;
    // What is buffered here must not be printed by the child too.
    let _ = std::io::stdout().flush();
    // SAFETY: this process has one thread, as was just seen.
    match unsafe { fork() }.map_err(|errno| failed("fork()", errno))? {
        ForkResult::Child => {
            drop(read);
            let result = sys::set_parent_death_signal("end with the doctor", Signal::SIGKILL);
            let result = result.and_then(|()| what());
            // If nobody listens any more there is nobody to tell.
            let _ = serde_json::to_vec(&result).map(|text| File::from(write).write_all(&text));
            // SAFETY: _exit(2) has no precondition.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut watched = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
            let in_time = poll(&mut watched, PollTimeout::from(PATIENCE_MS)).is_ok_and(|ready| ready > 0);
            let mut text = Vec::new();
            if in_time {
                let _ = File::from(read).read_to_end(&mut text);
            }
            // It has nothing more to do; and what hangs must not hang the doctor.
            let _ = kill(child, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(child, None);
            serde_json::from_slice::<Result<String>>(&text).unwrap_or_else(|_| {
                let why = if in_time { "the child process was killed" } else { "it took too long" };
                Err(Error::new(STEP, why))
            })
        }
    }
}

/// What every chapter does first: an ordinary user becomes root of a user namespace.
fn become_root() -> Result<()> {
    // Before the user changes, because the place of the notes depends on who it is.
    state_directory()?;
    if geteuid().is_root() { Ok(()) } else { own_user_namespace() }
}

fn own_user_namespace() -> Result<()> {
    const WHY: &str = "become root in a user namespace";
    let (user, group) = (geteuid(), getegid());
    sys::unshare(WHY, CloneFlags::CLONE_NEWUSER).remedy(&user_namespace_remedy())?;
    sys::write_file(WHY, Path::new("/proc/self/setgroups"), "deny")?;
    sys::write_file(WHY, Path::new("/proc/self/uid_map"), format!("0 {user} 1"))?;
    sys::write_file(WHY, Path::new("/proc/self/gid_map"), format!("0 {group} 1"))
}

/// Root in a mount namespace of its own, in which a trial can mount what it likes.
fn in_own_mounts() -> Result<()> {
    become_root()?;
    sys::unshare("have mounts of its own", CloneFlags::CLONE_NEWNS)?;
    mount::make_private()
}

/// An empty tmpfs on a directory that is sure to be there.
fn scratch() -> Result<&'static Path> {
    let place = state_directory()?;
    mount_new("tmpfs", place, b"mode=755")?;
    Ok(place)
}

fn mount_new(kind: &str, place: &Path, options: &[u8]) -> Result<()> {
    let why = format!("mount a {kind}");
    sys::mount(&why, Some(Path::new(kind)), place, Some(kind), MsFlags::empty(), Some(options))
}

fn make_directory(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir(&path).map_err(|error| Error::io("make a directory", &path, &error))?;
    Ok(path)
}

fn read(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).map_err(|error| Error::io("read a file", path, &error))?;
    Ok(text.trim().to_string())
}

/// The program `name`, where there is one.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    programs::find(name, &["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
}

const FOUND: &str = "it works";

fn found() -> Result<String> {
    Ok(FOUND.to_string())
}

// The trials. Each runs in a child process of its own.

fn new_kernel() -> Result<String> {
    const STEP: &str = "find out which kernel this is";
    let name = nix::sys::utsname::uname().map_err(|errno| Error::call(STEP, "uname()", errno))?;
    let release = name.release().to_string_lossy().into_owned();
    if kernel::version(&release).is_none_or(|version| version < (5, 12)) {
        let detail = format!("it is Linux {release}");
        return Err(Error::new("use mount_setattr and its like", detail).remedy("boot a newer kernel"));
    }
    Ok(format!("{release}, {}", name.machine().to_string_lossy()))
}

/// As root it is tried for others: the tests use it too.
fn user_namespace() -> Result<String> {
    if geteuid().is_root() {
        let id = 65534;
        let failed = |call: &str, errno| Error::call("become an ordinary user", call, errno);
        nix::unistd::setgid(Gid::from_raw(id)).map_err(|errno| failed("setgid(65534)", errno))?;
        nix::unistd::setuid(Uid::from_raw(id)).map_err(|errno| failed("setuid(65534)", errno))?;
        // Whoever changed its user can't write its own uid_map without this. See proc(5).
        nix::sys::prctl::set_dumpable(true).map_err(|errno| failed("prctl(PR_SET_DUMPABLE)", errno))?;
    }
    let limit = read("/proc/sys/user/max_user_namespaces");
    own_user_namespace()?;
    Ok(limit.map_or(FOUND.to_string(), |limit| format!("at most {limit} of them")))
}

/// What the runtime uses.
const CAPABILITIES: [Capability; 8] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::KILL,
    Capability::SETGID,
    Capability::SETUID,
    Capability::NET_ADMIN,
    Capability::SYS_CHROOT,
    Capability::SYS_ADMIN,
];

fn capabilities() -> Result<String> {
    become_root()?;
    let status = read("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or_default();
    let missing = CAPABILITIES.iter().filter(|capability| !capability.is_in(effective));
    let missing: Vec<_> = missing.map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Err(Error::new("use root's capabilities", format!("it has no {}", missing.join(", ")))
            .remedy("inside a container engine, run the container with --privileged"));
    }
    Ok(match user::in_first_user_namespace()? {
        true => "all that the chapters use".to_string(),
        false => "all that the chapters use, in a user namespace".to_string(),
    })
}

fn rootfs() -> Result<String> {
    let rootfs = Rootfs::find(None)?;
    Ok(format!("{} programs, from {}", rootfs.programs()?.len(), rootfs.source()))
}

fn chroot() -> Result<String> {
    become_root()?;
    root::chroot_into(Path::new("/usr"))?;
    found()
}

fn close_range() -> Result<String> {
    sys::close_range("leave no open file to the command", 3, u32::MAX, true)?;
    found()
}

fn pid_namespace() -> Result<String> {
    become_root()?;
    sys::unshare("have process numbers of its own", CloneFlags::CLONE_NEWPID)?;
    in_child(|| match std::process::id() {
        1 => found(),
        pid => Err(Error::new("be process 1", format!("it is process {pid}"))),
    })
}

fn proc() -> Result<String> {
    match in_own_mounts() {
        // In a chroot they are not private. Chapter 2, which has no mount namespace, mounts it all the same.
        Err(error) if error.errno() == Some(Errno::EINVAL) => {}
        result => result?,
    }
    sys::unshare("have process numbers of its own", CloneFlags::CLONE_NEWPID)?;
    in_child(|| {
        let place = state_directory()?;
        sys::mount("mount a new /proc", Some(Path::new("proc")), place, Some("proc"), PROC_FLAGS, None)
            .remedy(
                "parts of this machine's own /proc are hidden, as container engines do: run on the host, or with \
                 --privileged",
            )?;
        let _ = nix::mount::umount2(place, MntFlags::MNT_DETACH); // it may be seen elsewhere
        found()
    })
}

fn mount_namespace() -> Result<String> {
    in_own_mounts()?;
    make_directory(scratch()?.join("inside"))?;
    found()
}

fn mount_api() -> Result<String> {
    in_own_mounts()?;
    let scratch = scratch()?;
    let (source, target) = (make_directory(scratch.join("from"))?, make_directory(scratch.join("to"))?);
    let tree = sys::open_tree("take up a mount", AT_FDCWD, &source, true)?;
    sys::mount_setattr_read_only("make it read-only", tree.as_fd())?;
    let place = nix::fcntl::open(&target, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::call("open a directory", "open(O_PATH)", errno))?;
    sys::move_mount("put it down", tree.as_fd(), place.as_fd())?;
    match fs::write(target.join("file"), "") {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => found(),
        _ => Err(Error::new("make a mount read-only", "it can be written to")),
    }
}

fn openat2() -> Result<String> {
    let root = File::open("/usr").map_err(|error| Error::io("open /usr", "/usr", &error))?;
    sys::open_in_root("look a path up inside", root.as_fd(), Path::new("../../bin"), OFlag::O_PATH)?;
    found()
}

fn overlay() -> Result<String> {
    in_own_mounts()?;
    let mut host = Host::enter()?;
    // As the chapters: no option says where, so the upper layer is in memory.
    Overlay::new(&mut host, Path::new("/usr"), None)?.mount()?.directory("made-by-the-doctor")?;
    Ok(match user::in_first_user_namespace()? {
        true => FOUND.to_string(),
        false => "with userxattr".to_string(),
    })
}

fn pivot_root() -> Result<String> {
    in_own_mounts()?;
    let mut host = Host::enter()?;
    let root = Overlay::new(&mut host, Path::new("/usr"), None)?.mount()?;
    root::pivot_into(&root)?;
    match Path::new("/usr/bin").exists() || !Path::new("/bin").exists() {
        true => Err(Error::new("change the root", "it is still the old one")),
        false => found(),
    }
}

fn devices() -> Result<String> {
    in_own_mounts()?;
    let node = scratch()?.join("null");
    let use_it = || {
        fs::write(&node, "nothing").map_err(|error| Error::io("use a device node", &node, &error)).remedy(
            "a devices cgroup or a nodev mount forbids it: in a container engine, run with --privileged",
        )
    };
    if user::in_first_user_namespace()? {
        sys::mknod("make a device node", &node, 1, 3)?;
        use_it()?;
        return Ok("made with mknod".to_string());
    }
    let place = File::create(&node).map_err(|error| Error::io("make a file", &node, &error))?;
    let tree = sys::open_tree("borrow a device node", AT_FDCWD, Path::new("/dev/null"), false)?;
    sys::move_mount("put it down", tree.as_fd(), place.as_fd())?;
    use_it()?;
    Ok("bind mounts from the machine, as nobody can make one in a user namespace".to_string())
}

fn devpts() -> Result<String> {
    in_own_mounts()?;
    let place = scratch()?;
    mount_new("devpts", place, b"newinstance,ptmxmode=0666,mode=0620")?;
    let ptmx = place.join("ptmx");
    File::open(&ptmx).map_err(|error| Error::io("make a terminal", &ptmx, &error))?;
    found()
}

fn uts_namespace() -> Result<String> {
    become_root()?;
    sys::unshare("have a host name of its own", CloneFlags::CLONE_NEWUTS)?;
    sys::sethostname("change it", "doctor")?;
    found()
}

fn ipc_namespace() -> Result<String> {
    in_own_mounts()?;
    sys::unshare("have message queues of its own", CloneFlags::CLONE_NEWIPC)?;
    mount_new("mqueue", state_directory()?, b"")?;
    found()
}

const OWN_NETWORK: &str = "have a network of its own";

fn network_namespace() -> Result<String> {
    become_root()?;
    sys::unshare(OWN_NETWORK, CloneFlags::CLONE_NEWNET)?;
    Netlink::open(OWN_NETWORK)?.send("bring lo up", &[Message::up("lo")])?;
    found()
}

/// Makes a bridge, and says what its number is.
fn make_bridge(netlink: &Netlink) -> Result<u32> {
    let mac = address::mac(CANDIDATES[0].gateway());
    netlink.send("make a bridge", &[Message::bridge("doctor0", mac)]).remedy_for(
        Errno::EOPNOTSUPP,
        "the kernel lacks the module: sudo modprobe bridge (in a container: on the host that it is on)",
    )?;
    let link = netlink.link("look at the bridge", "doctor0")?;
    link.map(|link| link.index).ok_or_else(|| Error::new("make a bridge", "it is not there"))
}

fn bridge() -> Result<String> {
    become_root()?;
    sys::unshare(OWN_NETWORK, CloneFlags::CLONE_NEWNET)?;
    make_bridge(&Netlink::open(OWN_NETWORK)?)?;
    found()
}

fn veth() -> Result<String> {
    const OTHER: &str = "/proc/self/ns/net";
    become_root()?;
    sys::unshare(OWN_NETWORK, CloneFlags::CLONE_NEWNET)?;
    let other = File::open(OTHER).map_err(|error| Error::io("hold a namespace", OTHER, &error))?;
    sys::unshare(OWN_NETWORK, CloneFlags::CLONE_NEWNET)?;
    let netlink = Netlink::open(OWN_NETWORK)?;
    let bridge = make_bridge(&netlink)?;
    let mac = address::mac(CANDIDATES[1].gateway());
    let pair = Message::veth("doctor1", bridge, 1500, "eth0", mac, other.as_fd());
    netlink.send("make a pair of links", &[pair]).remedy_for(
        Errno::EOPNOTSUPP,
        "the kernel lacks the module: sudo modprobe veth (in a container: on the host that it is on)",
    )?;
    found()
}

fn nft() -> Result<String> {
    become_root()?;
    sys::unshare(OWN_NETWORK, CloneFlags::CLONE_NEWNET)?;
    let nft = nat::program().ok_or_else(|| {
        Error::new("run nft", "there is no such program")
            .remedy("apt install nftables, or your distribution's")
    })?;
    nat::set_up(&nft, CANDIDATES[0], "doctor0")?;
    Ok(nft.display().to_string())
}

fn upstream() -> Result<String> {
    let why = "look for a way out";
    let netlink = Netlink::open(why)?;
    for route in netlink.routes(why)? {
        if let Some(index) = route.link.filter(|_| route.to.is_everything() && route.unicast)
            && let Some(link) = netlink.link_by_index(why, index)?
        {
            let whose =
                if geteuid().is_root() { "" } else { ", for root: an ordinary user's bridge ends here" };
            return Ok(format!("through {}{whose}", link.name));
        }
    }
    Err(Error::new(why, "this machine has no default route")
        .remedy("connect it to a network; without one, containers still reach each other and this machine"))
}

fn ip_forward() -> Result<String> {
    let now = nat::forwarding()?;
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    if now == "1" {
        return Ok("ip_forward is 1".to_string());
    }
    if !geteuid().is_root() {
        // The bridge of an ordinary user is in a network of its own, with a setting of its own.
        return Ok("ip_forward is 0, which does not concern an ordinary user's network".to_string());
    }
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|error| Error::io("switch ip_forward on", path, &error))
        .remedy("sudo sysctl -w net.ipv4.ip_forward=1, on the host if this is a container")?;
    Ok("ip_forward is 0, and is switched on while a container runs".to_string())
}

fn cgroup_namespace() -> Result<String> {
    become_root()?;
    sys::unshare("have a cgroup namespace of its own", CloneFlags::CLONE_NEWCGROUP)?;
    found()
}

/// The cgroup controllers that are mounted here: those of version 1 and those of version 2.
fn controllers() -> Result<(Vec<String>, Option<Vec<String>>)> {
    let mounts = Mount::all(&read("/proc/self/mountinfo")?);
    let (v2, v1): (Vec<_>, Vec<_>) = mounts.iter().partition(|mount| mount.kind == "cgroup2");
    let known = |option: &&String| ["memory", "cpu", "pids", "freezer"].contains(&option.as_str());
    let mut first: Vec<String> =
        v1.iter().flat_map(|mount| &mount.options).filter(known).map(|option| option.to_string()).collect();
    first.sort();
    first.dedup();
    let second = v2.first().map(|mount| {
        let text = fs::read_to_string(mount.point.join("cgroup.controllers")).unwrap_or_default();
        text.split_whitespace().map(str::to_string).collect()
    });
    Ok((first, second))
}

fn cgroups() -> Result<String> {
    const LACKING: &str = "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup (in a container engine: run with \
                           --privileged --cgroupns=private)";
    match controllers()? {
        (v1, Some(_)) if !v1.is_empty() => {
            Ok(format!("hybrid: version 1 has {}, version 2 is mounted too", v1.join(" ")))
        }
        (v1, _) if !v1.is_empty() => Ok(format!("version 1: {}", v1.join(" "))),
        (_, Some(v2)) if v2.is_empty() => Ok("version 2 without controllers".to_string()),
        (_, Some(v2)) => Ok(format!("version 2: {}", v2.join(" "))),
        _ => Err(Error::new("find cgroups", "none are mounted").remedy(LACKING)),
    }
}

fn cgroup_v1() -> Result<String> {
    match controllers()? {
        (v1, _) if v1.is_empty() => Err(Error::new("find version 1", "it is not mounted: no loss")),
        (v1, _) => Ok(v1.join(" ")),
    }
}

fn cgroup_v2() -> Result<String> {
    const WHY: &str = "use version 2";
    const REMEDY: &str = "boot with systemd.unified_cgroup_hierarchy=1; the chapters use version 1 meanwhile";
    match controllers()? {
        (_, None) => Err(Error::new(WHY, "it is not mounted").remedy(REMEDY)),
        (_, Some(v2)) if !v2.iter().any(|controller| controller == "memory") => {
            Err(Error::new(WHY, "version 1 has its controllers").remedy(REMEDY))
        }
        (_, Some(v2)) => Ok(v2.join(" ")),
    }
}

fn with_limits(limits: Limits) -> Result<String> {
    become_root()?;
    let mut host = Host::enter()?;
    Cgroup::new(&mut host, &limits)?;
    found()
}

fn cgroup_memory() -> Result<String> {
    with_limits(Limits { memory: Some(Memory::from_bytes(64 << 20)), ..Limits::default() })
}

fn cgroup_cpu() -> Result<String> {
    let half = "0.5".parse().map_err(|text: String| Error::new("limit the processor", text))?;
    with_limits(Limits { cpus: Some(half), ..Limits::default() })
}

fn cgroup_pids() -> Result<String> {
    with_limits(Limits { pids: Some(64), ..Limits::default() })
}

fn cgroup_devices() -> Result<String> {
    with_limits(Limits { devices: Some(usual_rules()), pids: Some(64), ..Limits::default() })
}

/// The judge of our own filters.
fn libseccomp() -> Result<String> {
    // SAFETY: the library's initialisers do nothing that matters here.
    let library = unsafe { libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        return Err(
            Error::new("find libseccomp", "libseccomp.so.2 is not there").remedy("apt install libseccomp2")
        );
    }
    found()
}

fn has_landlock() -> Result<String> {
    match landlock::version() {
        Some(version) => Ok(format!("version {version}")),
        None => Err(Error::new("find Landlock", "this kernel has none, or it is not switched on")
            .remedy("boot with lsm=landlock,... on the kernel's command line (Linux 5.13 or newer)")),
    }
}

fn has_apparmor() -> Result<String> {
    apparmor::is_on()?;
    Ok("it is on".to_string())
}

fn apparmor_profile() -> Result<String> {
    apparmor::is_on()?;
    match apparmor::is_loaded(apparmor::USUAL) {
        true => Ok(format!("{} is loaded", apparmor::USUAL)),
        false => Err(apparmor::not_loaded(apparmor::USUAL)),
    }
}

fn has_selinux() -> Result<String> {
    selinux::is_on()?;
    let own = selinux::own()?;
    let enforcing = read("/sys/fs/selinux/enforce")? == "1";
    Ok(format!("{}, this process is {own}", if enforcing { "enforcing" } else { "permissive" }))
}

fn cgroup_freezer() -> Result<String> {
    const WHY: &str = "freeze a cgroup";
    become_root()?;
    let mut host = Host::enter()?;
    let (mounts, memberships) = (Mount::all(&read("/proc/self/mountinfo")?), read("/proc/self/cgroup")?);
    let own = |controller| cgroup::own_directory(&mounts, &memberships, controller);
    let (own, file, value) = match (own(Some("freezer")), own(None)) {
        (Some((_, own)), _) => (own, "freezer.state", "FROZEN"),
        (None, Some((_, own))) => (own, "cgroup.freeze", "1"),
        (None, None) => {
            return Err(Error::new(WHY, "no cgroup of this process that can be frozen is visible here"));
        }
    };
    let directory = own.join(format!("cooperage-doctor-{}", std::process::id()));
    host.note(&Leftover::Cgroup(directory.clone()))?;
    let made = fs::create_dir(&directory).map_err(|error| Error::io(WHY, &directory, &error)).remedy(
        "run as root; or, with version 2, in a cgroup of your own: systemd-run --user --scope -p Delegate=yes",
    ).remedy_for(Errno::EROFS, cgroup::READ_ONLY);
    let result = made.and_then(|()| sys::write_file(WHY, &directory.join(file), value));
    cgroup::destroy(&directory)?;
    result.and_then(|()| found())
}

fn own_users() -> Result<String> {
    let _host = Host::enter_with_users()?;
    let users = Users::new(user::Mode::Private)?;
    let mut child = process::spawn(users.namespace(), |parent| {
        parent.until_released()?;
        users.become_root(parent)?;
        process::exec(Process::new(&["/bin/sh", "-c", "exit 7"].map(OsString::from)))
    })?;
    users.write_maps(&mut child)?;
    match child.release()?.wait()? {
        Status::Exited(7) => {}
        status => {
            return Err(Error::new("run as root of a user namespace", format!("it ended with {status:?}")));
        }
    }
    Ok(match users.differ() {
        true => format!("{} of them for each container", users.uids.count()),
        false => format!("user {}, as in all of this user's containers", users.uids),
    })
}

fn subordinate_users() -> Result<String> {
    if geteuid().is_root() {
        return Ok("for root there is a range without".to_string());
    }
    let _host = Host::enter_with_users()?;
    match Map::read("/proc/self/uid_map")? {
        map if map.count() > 1 => Ok(format!("{map}, by newuidmap")),
        _ => Err(Subordinate::find(Uid::current(), Gid::current()).err().unwrap_or_else(|| {
            Error::new("call newuidmap", "it refuses to write the maps: see `newuidmap` in /var/log/auth.log")
        })),
    }
}

/// On the filesystem that the rootfs of this machine's programs is on.
fn idmap() -> Result<String> {
    if !user::in_first_user_namespace()? || !geteuid().is_root() {
        return Ok("not needed: who starts a container owns what its root owns".to_string());
    }
    let rootfs = Rootfs::find(None)?;
    map_owners(rootfs.path()).remedy(&format!(
        "the filesystem of {} can't: its files are copied at each start; keep the workbook on ext4, xfs or btrfs",
        rootfs.path().display()
    ))
}

fn uplink() -> Result<String> {
    let program = uplink::program()?;
    Ok(format!("by {program}{}", if geteuid().is_root() { " (root needs none)" } else { "" }))
}

fn tun() -> Result<String> {
    File::options().read(true).write(true).open("/dev/net/tun").map(drop).map_err(|error| {
        Error::io("open a tun device", "/dev/net/tun", &error)
            .remedy("sudo modprobe tun; sudo chmod 666 /dev/net/tun")
    })?;
    found()
}

fn idmap_tmpfs() -> Result<String> {
    many_users()?;
    in_own_mounts()?;
    map_owners(scratch()?).remedy("this kernel is too old for it: Linux 6.3 or newer is needed")
}

/// Makes a user namespace, and has it see a directory's files as its own.
fn map_owners(directory: &Path) -> Result<String> {
    let users = Users::new(user::Mode::Private)?;
    let mut child = process::spawn(users.namespace(), |parent| {
        parent.until_released()?;
        process::exec(Process::new(&["/bin/sh", "-c", "exit 0"].map(OsString::from)))
    })?;
    let namespace = users.write_maps(&mut child)?;
    let tree = sys::open_tree("pick up a directory", AT_FDCWD, directory, false)?;
    if let Some(namespace) = &namespace {
        sys::mount_setattr_idmap("map the owners of its files", tree.as_fd(), namespace.as_fd())?;
    }
    found()
}

fn many_users() -> Result<String> {
    if geteuid().is_root() && user::in_first_user_namespace()? {
        return Ok("all of this machine's".to_string());
    }
    Err(Error::new("give users away", "only the machine's root has more than its own")
        .remedy("run it as root (sudo)"))
}

fn pidfd() -> Result<String> {
    match open_process(Pid::this()) {
        Ok(_) => found(),
        Err(errno) => Err(Error::call("hold a process by a descriptor", "pidfd_open()", errno)),
    }
}

/// A filter of one instruction, which allows everything.
fn seccomp() -> Result<String> {
    const WHY: &str = "filter system calls";
    nix::sys::prctl::set_no_new_privs()
        .map_err(|errno| Error::call(WHY, "prctl(PR_SET_NO_NEW_PRIVS)", errno))?;
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut allow = libc::sock_filter { code, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let filter = libc::sock_fprog { len: 1, filter: &raw mut allow };
    // SAFETY: `filter` and the instruction that it points to outlive the call.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as libc::c_ulong, &raw const filter)
    };
    match Errno::result(result) {
        Ok(_) => found(),
        Err(errno) => Err(Error::call(WHY, "prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER)", errno)),
    }
}

/// Made in the directory of the crate; from there the tests make it too.
fn the_lab() -> Result<String> {
    let crate_directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let here = if crate_directory.is_dir() { crate_directory } else { PathBuf::from(".") };
    let status = lab::run(&lab::Options {
        whole_machine: false,
        command: vec!["true".into()],
        working_directory: here,
        cgroups: lab::Layout::Host,
    })?;
    match status {
        Status::Exited(0) => Ok(if lab::inside() { "this is one" } else { FOUND }.to_string()),
        other => Err(Error::new("run true in the lab", format!("it ended with {}", other.code()))),
    }
}

/// The programs that the book's readers type on the machine itself, and the packages of Debian and Ubuntu that have them.
pub const COMMANDS: [(&str, &str); 19] = [
    ("bridge", "iproute2"),
    ("busybox", "busybox-static"),
    ("dd", "coreutils"),
    ("findmnt", "util-linux"),
    ("hostname", "hostname"),
    ("ip", "iproute2"),
    ("ipcmk", "util-linux"),
    ("ipcs", "util-linux"),
    ("lsns", "util-linux"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("pgrep", "procps"),
    ("ping", "iputils-ping"),
    ("pkill", "procps"),
    ("ps", "procps"),
    ("strace", "strace"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
];

/// What the tests drive besides, and in which of Debian's packages it is.
const CLIENTS: [(&str, &str); 10] = [
    ("conmon", "conmon"),
    ("containerd", "containerd"),
    ("crun", "crun"),
    ("ctr", "containerd"),
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("newgidmap", "uidmap"),
    ("newuidmap", "uidmap"),
    ("podman", "podman"),
    ("runc", "runc"),
];

/// What the pages type in a container, besides a shell's own commands.
const COMMANDS_INSIDE: &str = "cat cut dd grep head hostname httpd ip kill ls mkdir mount nc ping ps rm sed sleep tail touch umount wget yes";

fn machines_program(name: &str) -> Result<String> {
    let known = COMMANDS.iter().chain(&CLIENTS).find(|(program, _)| *program == name);
    let package = known.map_or(name, |(_, package)| package);
    program(name).map(|found| found.display().to_string()).ok_or_else(|| {
        Error::new(format!("find {name}"), format!("there is no {name}")).remedy(install(&[package]))
    })
}

/// The line that installs packages.
pub(super) fn install(packages: &[&str]) -> String {
    format!("apt install {}, or your distribution's", packages.join(" "))
}

/// Which of the book's commands can't be typed here. In a container the applets of this crate stand in for some.
fn commands() -> Result<String> {
    let rootfs = Rootfs::find(None)?.programs()?;
    let outside: Vec<_> = COMMANDS.into_iter().filter(|(name, _)| program(name).is_none()).collect();
    let inside: Vec<_> =
        COMMANDS_INSIDE.split(' ').filter(|name| !rootfs.iter().any(|program| program == name)).collect();
    if outside.is_empty() && inside.is_empty() {
        return Ok("all are there".to_string());
    }
    let mut missing = Vec::new();
    let mut packages: BTreeSet<&str> = outside.iter().map(|(_, package)| *package).collect();
    if !outside.is_empty() {
        let names: Vec<_> = outside.iter().map(|(name, _)| *name).collect();
        missing.push(format!("on the machine there is no {}", names.join(", ")));
    }
    if !inside.is_empty() {
        missing.push(format!("in a container there is no {}", inside.join(", ")));
        packages.insert("busybox-static"); // it has them all
    }
    let packages: Vec<&str> = packages.into_iter().collect();
    Err(Error::new("type all of them", missing.join("; ")).remedy(install(&packages)))
}

fn strace() -> Result<String> {
    let step = "trace a process";
    let strace = program("strace").ok_or_else(|| {
        Error::new(step, "there is no strace").remedy("apt install strace, or your distribution's")
    })?;
    let output = Command::new(&strace)
        .args(["-f", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::io(step, &strace, &error))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.lines().next().unwrap_or_default().to_string();
        return Err(Error::new(step, words).remedy(
            "see /proc/sys/kernel/yama/ptrace_scope; in a container engine, \
             run with --cap-add SYS_PTRACE",
        ));
    }
    Ok(strace.display().to_string())
}

fn busybox() -> Result<String> {
    program("busybox").map(|found| found.display().to_string()).ok_or_else(|| {
        Error::new("find busybox", "it is not there").remedy("apt install busybox-static, or go without")
    })
}

/// Says whose restrictions these are, when something above does not work.
fn bare_host() -> Result<String> {
    let traces = [
        ("/.dockerenv", "Docker leaves"),
        ("/run/.containerenv", "Podman leaves"),
        ("/run/systemd/container", "systemd leaves"),
    ];
    let trace = traces.iter().find(|(path, _)| Path::new(path).exists());
    let mut signs: Vec<String> =
        trace.iter().map(|(path, who)| format!("{path} is there, as {who} it")).collect();
    let environment = fs::read("/proc/1/environ").unwrap_or_default();
    if environment.split(|&byte| byte == 0).any(|variable| variable.starts_with(b"container=")) {
        signs.push("process 1 has container= in its environment".to_string());
    }
    let mounts = mountinfo::here().unwrap_or_default();
    let points = mounts.iter().map(|mount| mount.point.to_string_lossy());
    let hidden: Vec<_> = points
        .filter(|point| point.starts_with("/proc/") && !point.starts_with("/proc/sys/fs/binfmt_misc"))
        .collect();
    if !hidden.is_empty() {
        signs.push(format!("{} is covered", hidden.join(", ")));
    }
    if signs.is_empty() {
        return Ok(if lab::inside() { "no container, but the lab" } else { "none to be seen" }.to_string());
    }
    let remedy =
        "no matter if all else works; if not, the container engine forbids it: --privileged allows it";
    Err(Error::new("be sure that this is the host", signs.join("; ")).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_in_words() {
        assert_eq!(in_words(&[1, 2, 3, 4, 5, 6, 7]), "1 to 7");
        assert_eq!(in_words(&[1, 2, 3, 5, 6]), "1 to 3, 5, 6");
        assert_eq!(in_words(&[6]), "6");
        assert_eq!(in_words(&[]), "");
    }

    #[test]
    fn names_are_unique() {
        for (index, feature) in FEATURES.iter().enumerate() {
            assert!(FEATURES.iter().skip(index + 1).all(|other| other.name != feature.name));
        }
    }

    #[test]
    fn an_unknown_feature_is_an_error() {
        assert!(check("perpetual-motion").is_err_and(|error| error.advice().is_some()));
    }
}
