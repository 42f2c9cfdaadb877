//! The system calls, one thin function each.
//!
//! Every function takes as its first argument `why`, the reason in the words of the story; makes the
//! call named like itself; narrates it with `--explain`; and returns an error that shows it. The
//! manual page of each is section 2 of the Linux man-pages, where nothing else is said.

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag};
pub use nix::mount::{MntFlags, MsFlags};
pub use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{Gid, Pid, Uid};

use super::capability::Capability;
use crate::told::errors::{Error, Result, Subject};
use crate::told::explain::{self, Returned, quote};

/// Makes a system call, narrates it, and knows what helps when a call about `subject` fails.
fn call<T: Returned>(
    subject: Subject,
    why: &str,
    shown: impl FnOnce() -> String,
    make: impl FnOnce() -> nix::Result<T>,
) -> Result<T> {
    explain::call(why, shown, make).map_err(|error| error.concerning(subject))
}

/// What a call is about that makes these namespaces.
fn about(new: CloneFlags, otherwise: Subject) -> Subject {
    if new.contains(CloneFlags::CLONE_NEWUSER) { Subject::UserNamespace } else { otherwise }
}

fn path(path: &Path) -> String {
    quote(path.as_os_str().as_bytes())
}

/// Flags as strace(1) prints them, or 0.
fn flags<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "0".to_string() } else { names.join("|") }
}

fn namespaces(set: CloneFlags) -> String {
    flags(set.iter_names().map(|(name, _)| name))
}

// ANCHOR: sys-clone
/// clone(2) the way fork(2) uses it, with namespace flags: the child gets a copy of everything and,
/// for each flag, a new namespace in place of its parent's.
///
/// # Safety
///
/// This process must have one thread only. In a process with more, the child could find a lock held
/// by a thread that it does not have.
pub unsafe fn clone(why: &str, new: CloneFlags) -> Result<Option<Pid>> {
    // SAFETY: no memory is handed over: without CLONE_VM and with a null stack the child goes on with
    // a copy of this one, as after fork(2). The first argument is the flags on every architecture
    // that this crate is for; the others, whose order differs, are all null.
    let result =
        unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(new.bits() | libc::SIGCHLD), 0, 0, 0, 0) };
    if result == 0 {
        return Ok(None); // this is the child; its parent narrates
    }
    let shown = || match namespaces(new).as_str() {
        "0" => "clone(SIGCHLD)".to_string(),
        names => format!("clone({names}|SIGCHLD)"),
    };
    call(about(new, Subject::Process), why, shown, || {
        Errno::result(result).map(|pid| Pid::from_raw(pid as i32))
    })
    .map(Some)
}
// ANCHOR_END: sys-clone

// ANCHOR: sys-clone-into
/// clone3(2) with CLONE_INTO_CGROUP: does what [`clone`] does, and the child is born in the cgroup (of version 2) whose
/// directory is open as `cgroup`. Since Linux 5.7.
///
/// # Safety
///
/// As for [`clone`].
pub unsafe fn clone_into(why: &str, new: CloneFlags, cgroup: BorrowedFd) -> Result<Option<Pid>> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000; // too large for clone(2): clone3(2) has 64 bits
    // SAFETY: a struct of numbers, for each of which 0 is valid: no stack, no thread, no memory shared.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = new.bits() as u32 as u64 | CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = cgroup.as_raw_fd() as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: the arguments outlive the call and have the size that is given. As for the child, see `clone`.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
    if result == 0 {
        return Ok(None); // this is the child; its parent narrates
    }
    let shown = || {
        let names =
            flags([namespaces(new).as_str(), "CLONE_INTO_CGROUP"].into_iter().filter(|name| *name != "0"));
        format!("clone3({{flags={names}, exit_signal=SIGCHLD, cgroup={}}}, {size})", cgroup.as_raw_fd())
    };
    call(about(new, Subject::Process), why, shown, || {
        Errno::result(result).map(|pid| Pid::from_raw(pid as i32))
    })
    .map(Some)
}
// ANCHOR_END: sys-clone-into

// ANCHOR: sys-fork
/// clone(2) the way fork(2) uses it, without a new namespace: the child runs `child` in a copy of
/// this process, and ends with the status that it returns.
///
/// # Safety
///
/// As for [`clone`].
pub unsafe fn fork(why: &str, child: impl FnOnce() -> u8) -> Result<Pid> {
    // SAFETY: the caller's promise.
    match unsafe { clone(why, CloneFlags::empty())? } {
        Some(pid) => Ok(pid),
        None => exit(child()),
    }
}
// ANCHOR_END: sys-fork

// ANCHOR: sys-vfork
/// clone(2) the way posix_spawn(3) uses it: the child borrows this process's memory, and this process stands
/// still until the child has become another program. Nothing is copied that would be thrown away a moment later.
///
/// # Safety
///
/// `child` changes memory that is its parent's. It returns only to end, with a status.
pub unsafe fn vfork(why: &str, child: impl FnOnce() -> u8) -> Result<Pid> {
    let mut child = Some(child);
    let run = Box::new(|| child.take().map_or(0, |child| child().into()));
    // For the child: on its parent's stack it would overwrite what waits there. It takes 8 KiB in a debug build.
    let mut stack = vec![0; 32 * 1024];
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: the stack and all that the child can reach live until this returns, and that is not before the
    // child has left this memory. The rest is the caller's promise.
    let result = unsafe { nix::sched::clone(run, &mut stack, flags, Some(libc::SIGCHLD)) };
    call(Subject::Process, why, || format!("clone({}|SIGCHLD)", namespaces(flags)), || result)
}
// ANCHOR_END: sys-vfork

// ANCHOR: sys-unshare
/// unshare(2): moves this process into new namespaces.
pub fn unshare(why: &str, new: CloneFlags) -> Result<()> {
    call(
        about(new, Subject::Privileged),
        why,
        || format!("unshare({})", namespaces(new)),
        || nix::sched::unshare(new),
    )
}
// ANCHOR_END: sys-unshare

// ANCHOR: sys-setns
/// setns(2): moves this process into a namespace that exists.
pub fn setns(why: &str, namespace: impl AsFd, kind: CloneFlags) -> Result<()> {
    let shown = || format!("setns({}, {})", namespace.as_fd().as_raw_fd(), namespaces(kind));
    call(Subject::Privileged, why, shown, || nix::sched::setns(namespace.as_fd(), kind))
}
// ANCHOR_END: sys-setns

// ANCHOR: sys-chroot
/// chroot(2)
pub fn chroot(why: &str, directory: &Path) -> Result<()> {
    call(
        Subject::Privileged,
        why,
        || format!("chroot({})", path(directory)),
        || nix::unistd::chroot(directory),
    )
}
// ANCHOR_END: sys-chroot

/// chdir(2)
pub fn chdir(why: &str, directory: &Path) -> Result<()> {
    call(Subject::Other, why, || format!("chdir({})", path(directory)), || nix::unistd::chdir(directory))
}

/// pivot_root(2)
pub fn pivot_root(why: &str, new_root: &Path, put_old: &Path) -> Result<()> {
    let shown = || format!("pivot_root({}, {})", path(new_root), path(put_old));
    call(Subject::Privileged, why, shown, || nix::unistd::pivot_root(new_root, put_old))
}

// ANCHOR: sys-mount
/// mount(2). `None` for `source`, `kind` and `data` is a null pointer.
pub fn mount(
    why: &str,
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    how: MsFlags,
    data: Option<&[u8]>,
) -> Result<()> {
    let shown = || {
        let or_null = |text: Option<&[u8]>| text.map_or("NULL".to_string(), quote);
        format!(
            "mount({}, {}, {}, {}, {})",
            or_null(source.map(|source| source.as_os_str().as_bytes())),
            path(target),
            or_null(kind.map(str::as_bytes)),
            flags(how.iter_names().map(|(name, _)| name)),
            or_null(data),
        )
    };
    call(Subject::Mount, why, shown, || nix::mount::mount(source, target, kind, how, data))
}
// ANCHOR_END: sys-mount

/// umount2(2)
pub fn umount2(why: &str, target: &Path, how: MntFlags) -> Result<()> {
    let shown = || format!("umount2({}, {})", path(target), flags(how.iter_names().map(|(name, _)| name)));
    call(Subject::Privileged, why, shown, || nix::mount::umount2(target, how))
}

/// open_tree(2) with OPEN_TREE_CLONE: a copy of a mount, in hand and not yet put down anywhere.
/// With `recursive` the mounts below it come along, as with `mount --rbind`.
pub fn open_tree(why: &str, directory: BorrowedFd, name: &Path, recursive: bool) -> Result<OwnedFd> {
    const AT_RECURSIVE: u32 = 0x8000;
    let mut how = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let mut names = vec!["OPEN_TREE_CLONE", "OPEN_TREE_CLOEXEC"];
    if recursive {
        how |= AT_RECURSIVE;
        names.push("AT_RECURSIVE");
    }
    if name.as_os_str().is_empty() {
        how |= libc::AT_EMPTY_PATH as u32;
        names.push("AT_EMPTY_PATH");
    }
    let shown = || format!("open_tree({}, {}, {})", at(directory), path(name), flags(names.iter().copied()));
    call(Subject::NewMount, why, shown, || {
        name.with_nix_path(|name| {
            // SAFETY: `name` is a C string that outlives the call.
            let fd = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), name.as_ptr(), how) };
            // SAFETY: the descriptor is new and nobody else's.
            Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
        })?
    })
}

/// move_mount(2): puts down the mount that `tree` holds on the file or directory that `target` is.
pub fn move_mount(why: &str, tree: BorrowedFd, target: BorrowedFd) -> Result<()> {
    const EMPTY: &CStr = c"";
    const FROM_EMPTY_PATH: libc::c_uint = 0x4;
    const TO_EMPTY_PATH: libc::c_uint = 0x40;
    let (from, to) = (tree.as_raw_fd(), target.as_raw_fd());
    let shown =
        || format!("move_mount({from}, \"\", {to}, \"\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)");
    call(Subject::NewMount, why, shown, || {
        // SAFETY: both strings are static.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                from,
                EMPTY.as_ptr(),
                to,
                EMPTY.as_ptr(),
                FROM_EMPTY_PATH | TO_EMPTY_PATH,
            )
        })
        .map(drop)
    })
}

// ANCHOR: sys-mount-setattr
/// mount_setattr(2): makes a mount, and every mount below it, read-only.
pub fn mount_setattr_read_only(why: &str, tree: BorrowedFd) -> Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    mount_setattr(why, tree, true, &attributes, || "attr_set=MOUNT_ATTR_RDONLY".to_string())
}
// ANCHOR_END: sys-mount-setattr

// ANCHOR: sys-mount-setattr-idmap
/// mount_setattr(2) with MOUNT_ATTR_IDMAP: whoever looks through this mount sees the owners of its files as the maps of
/// the user namespace `users` have them: a file that belongs to 0 on disk belongs to its user 0. Mounts below come along.
/// Only for a mount that is in hand, and not put down yet.
pub fn mount_setattr_idmap(why: &str, tree: BorrowedFd, users: BorrowedFd) -> Result<()> {
    let users = users.as_raw_fd();
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users as u64,
    };
    let shown = || format!("attr_set=MOUNT_ATTR_IDMAP, userns_fd={users}");
    mount_setattr(why, tree, true, &attributes, shown)
}
// ANCHOR_END: sys-mount-setattr-idmap

/// Chapter 10: the same, for mounts below too or not.
pub fn mount_setattr_idmap_of(why: &str, tree: BorrowedFd, users: BorrowedFd, recursive: bool) -> Result<()> {
    let users = users.as_raw_fd();
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users as u64,
    };
    let shown = || format!("attr_set=MOUNT_ATTR_IDMAP, userns_fd={users}");
    mount_setattr(why, tree, recursive, &attributes, shown)
}

/// mount_setattr(2): sets and clears attributes of a mount; with `recursive`, of all mounts below it too.
pub fn mount_setattr_of(
    why: &str,
    tree: BorrowedFd,
    (set, clear): (u64, u64),
    recursive: bool,
) -> Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    mount_setattr(why, tree, recursive, &attributes, || format!("attr_set={set:#x}, attr_clr={clear:#x}"))
}

// ANCHOR: sys-mount-setattr-call
fn mount_setattr(
    why: &str,
    tree: BorrowedFd,
    recursive: bool,
    attributes: &libc::mount_attr,
    set: impl FnOnce() -> String,
) -> Result<()> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let fd = tree.as_raw_fd();
    let (how, words) = match recursive {
        true => (libc::AT_EMPTY_PATH | AT_RECURSIVE, "AT_EMPTY_PATH|AT_RECURSIVE"),
        false => (libc::AT_EMPTY_PATH, "AT_EMPTY_PATH"),
    };
    let shown = || format!("mount_setattr({fd}, \"\", {words}, {{{}}})", set());
    call(Subject::NewMount, why, shown, || {
        // SAFETY: the string is static, and `attributes` has the size that is given and outlives the call.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                fd,
                c"".as_ptr(),
                how,
                attributes as *const libc::mount_attr,
                size_of::<libc::mount_attr>(),
            )
        })
        .map(drop)
    })
}
// ANCHOR_END: sys-mount-setattr-call

// ANCHOR: sys-open-in-root
/// openat2(2) with RESOLVE_IN_ROOT: looks `name` up as if `root` were the root directory, so that no
/// symbolic link and no `..` in it can lead outside.
pub fn open_in_root(why: &str, root: BorrowedFd, name: &Path, how: OFlag) -> Result<OwnedFd> {
    open_resolved(why, root, name, how, ResolveFlag::RESOLVE_IN_ROOT)
}
// ANCHOR_END: sys-open-in-root

/// openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS: finds `name` below `directory`, and follows no link at all.
pub fn open_beneath(why: &str, directory: BorrowedFd, name: &Path, how: OFlag) -> Result<OwnedFd> {
    open_resolved(why, directory, name, how, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// As [`open_beneath`], with RESOLVE_NO_XDEV besides: what is mounted on the way, or over the file itself, is not what was looked for.
pub fn open_beneath_one_mount(why: &str, directory: BorrowedFd, name: &Path, how: OFlag) -> Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    open_resolved(why, directory, name, how, resolve)
}

// ANCHOR: sys-open-resolved
fn open_resolved(
    why: &str,
    directory: BorrowedFd,
    name: &Path,
    how: OFlag,
    resolve: ResolveFlag,
) -> Result<OwnedFd> {
    let how = how | OFlag::O_CLOEXEC;
    let shown = || {
        format!(
            "openat2({}, {}, {{flags={}, resolve={}}})",
            directory.as_raw_fd(),
            path(name),
            flags(how.iter_names().map(|(name, _)| name).filter(|name| *name != "O_LARGEFILE")),
            flags(resolve.iter_names().map(|(name, _)| name)),
        )
    };
    let mode = if how.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o644) } else { Mode::empty() };
    call(Subject::New, why, shown, || look_up(directory, name, how, mode, resolve))
}
// ANCHOR_END: sys-open-resolved

/// The call of [`open_in_root`] itself, for who has nothing to tell.
pub fn look_up_in_root(root: BorrowedFd, name: &Path, how: OFlag) -> nix::Result<OwnedFd> {
    look_up(root, name, how, Mode::empty(), ResolveFlag::RESOLVE_IN_ROOT)
}

fn look_up(
    directory: BorrowedFd,
    name: &Path,
    how: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let request = OpenHow::new().flags(how).mode(mode).resolve(resolve);
    let mut tries = 0..1000;
    loop {
        match nix::fcntl::openat2(directory, name, request) {
            // Something was renamed or mounted somewhere just now, and the kernel cannot tell whether a `..` led out.
            Err(Errno::EAGAIN) if tries.next().is_some() => {}
            result => return result,
        }
    }
}

/// mknod(2) of a character device.
pub fn mknod(why: &str, file: &Path, major: u64, minor: u64) -> Result<()> {
    let shown = || format!("mknod({}, S_IFCHR|0666, makedev({major:#x}, {minor:#x}))", path(file));
    let mode = Mode::from_bits_truncate(0o666);
    call(Subject::Privileged, why, shown, || {
        nix::sys::stat::mknod(file, SFlag::S_IFCHR, mode, nix::sys::stat::makedev(major, minor))
    })
}

// ANCHOR: sys-sethostname
/// sethostname(2)
pub fn sethostname(why: &str, name: &str) -> Result<()> {
    let shown = || format!("sethostname({}, {})", quote(name), name.len());
    call(Subject::Privileged, why, shown, || nix::unistd::sethostname(name))
}
// ANCHOR_END: sys-sethostname

/// prctl(2) with PR_SET_PDEATHSIG: the kernel sends this process `signal` when its parent dies.
pub fn set_parent_death_signal(why: &str, signal: Signal) -> Result<()> {
    let shown = || format!("prctl(PR_SET_PDEATHSIG, {signal})");
    call(Subject::Other, why, shown, || nix::sys::prctl::set_pdeathsig(signal))
}

/// prctl(2) with PR_SET_DUMPABLE: from here on what /proc shows of this process, and ptrace(2), is for those only
/// who have CAP_SYS_PTRACE over the user namespace in which its program was started. See ptrace(2). execve(2) of
/// a program that the caller may read ends it.
pub fn set_not_dumpable(why: &str) -> Result<()> {
    let shown = || "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)".to_string();
    call(Subject::Other, why, shown, || nix::sys::prctl::set_dumpable(false))
}

/// chown(2)
pub fn chown(why: &str, file: &Path, uid: Uid, gid: Gid) -> Result<()> {
    let shown = || format!("chown({}, {uid}, {gid})", path(file));
    call(Subject::Privileged, why, shown, || nix::unistd::chown(file, Some(uid), Some(gid)))
}

/// setsid(2): a session of its own, with one process group and, so far, no terminal.
pub fn setsid(why: &str) -> Result<()> {
    call(Subject::Other, why, || "setsid()".to_string(), nix::unistd::setsid).map(drop)
}

// ANCHOR: sys-open-peer
/// ioctl(2) with TIOCGPTPEER: opens the other end of the pseudoterminal that `end` is the first of, which nobody has opened yet.
/// By the descriptor: what its name would lead to depends on what is mounted.
pub fn open_peer(why: &str, end: BorrowedFd) -> Result<OwnedFd> {
    let fd = end.as_raw_fd();
    let unlock: libc::c_int = 0;
    let how = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let shown = || format!("ioctl({fd}, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)");
    call(Subject::New, why, shown, || {
        // SAFETY: the first call reads a number that outlives it, the second takes one; the result is a new descriptor that
        // nobody else owns.
        unsafe {
            Errno::result(libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlock))?;
            Errno::result(libc::ioctl(fd, libc::TIOCGPTPEER, how)).map(|fd| OwnedFd::from_raw_fd(fd))
        }
    })
}
// ANCHOR_END: sys-open-peer

/// ioctl(2) with TIOCSCTTY: the terminal becomes that of this session, which this process leads.
pub fn take_terminal(why: &str, terminal: BorrowedFd) -> Result<()> {
    let fd = terminal.as_raw_fd();
    call(
        Subject::Other,
        why,
        || format!("ioctl({fd}, TIOCSCTTY, 0)"),
        || {
            // SAFETY: numbers are all that it takes.
            Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) }).map(drop)
        },
    )
}

/// ioctl(2) with TIOCGWINSZ and TIOCSWINSZ: one terminal gets the size of another.
pub fn copy_window_size(from: BorrowedFd, to: BorrowedFd) -> nix::Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the size outlives both calls.
    unsafe {
        Errno::result(libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size))?;
        Errno::result(libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size)).map(drop)
    }
}

/// sendmsg(2) with SCM_RIGHTS: whoever receives the message has the descriptor then. See unix(7).
pub fn send_descriptor(why: &str, socket: BorrowedFd, descriptor: BorrowedFd) -> Result<()> {
    let (fd, sent) = (socket.as_raw_fd(), [descriptor.as_raw_fd()]);
    let shown = || format!("sendmsg({fd}, {{msg_control=[{{SCM_RIGHTS, [{}]}}]}}, 0)", sent[0]);
    call(Subject::Other, why, shown, || {
        let (parts, rights) = ([std::io::IoSlice::new(b"!")], [ControlMessage::ScmRights(&sent)]);
        sendmsg::<UnixAddr>(fd, &parts, &rights, MsgFlags::empty(), None)
    })
    .map(drop)
}

/// keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING and no name: a new, empty session keyring.
pub fn join_session_keyring(why: &str) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    let shown = || "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)".to_string();
    call(Subject::Other, why, shown, || {
        // SAFETY: numbers, and a null pointer in place of a name.
        let keyring = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
        Errno::result(keyring).map(|keyring| keyring as usize)
    })
    .map(drop)
}

/// setgroups(2)
pub fn setgroups(why: &str, groups: &[Gid]) -> Result<()> {
    let shown = || {
        let numbers: Vec<_> = groups.iter().map(Gid::to_string).collect();
        format!("setgroups({}, [{}])", groups.len(), numbers.join(", "))
    };
    call(Subject::Privileged, why, shown, || nix::unistd::setgroups(groups))
}

/// setresgid(2): the real, the effective and the saved group.
pub fn setresgid(why: &str, gid: Gid) -> Result<()> {
    let shown = || format!("setresgid({gid}, {gid}, {gid})");
    call(Subject::Privileged, why, shown, || nix::unistd::setresgid(gid, gid, gid))
}

/// setresuid(2): the real, the effective and the saved user.
pub fn setresuid(why: &str, uid: Uid) -> Result<()> {
    let shown = || format!("setresuid({uid}, {uid}, {uid})");
    call(Subject::Privileged, why, shown, || nix::unistd::setresuid(uid, uid, uid))
}

/// prctl(2) with PR_SET_NO_NEW_PRIVS: from here on execve(2) gives no one more rights than he has. It cannot be undone.
pub fn set_no_new_privs(why: &str) -> Result<()> {
    let shown = || "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)".to_string();
    call(Subject::Other, why, shown, nix::sys::prctl::set_no_new_privs)
}

/// prctl(2) with PR_SET_KEEPCAPS: whoever stops being user 0 keeps what he is permitted, until the next execve(2).
pub fn keep_capabilities(why: &str) -> Result<()> {
    let shown = || "prctl(PR_SET_KEEPCAPS, 1)".to_string();
    call(Subject::Other, why, shown, || nix::sys::prctl::set_keepcaps(true))
}

/// landlock_create_ruleset(2): a ruleset that speaks of these rights to files, and has no rule yet.
pub fn landlock_create_ruleset(why: &str, actions: u64) -> Result<OwnedFd> {
    let shown = || format!("landlock_create_ruleset({{handled_access_fs={actions:#x}}}, 8, 0)");
    call(Subject::New, why, shown, || {
        // SAFETY: the first version's attributes are one number, which outlives the call; the result is a new descriptor
        // that nobody else owns.
        unsafe {
            let size = size_of::<u64>();
            let fd = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const actions, size, 0);
            Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
        }
    })
}

/// landlock_restrict_self(2): from here on this process, and what it starts, is held to the ruleset.
pub fn landlock_restrict_self(why: &str, ruleset: &OwnedFd) -> Result<()> {
    let fd = ruleset.as_raw_fd();
    let shown = || format!("landlock_restrict_self({fd}, 0)");
    call(Subject::Other, why, shown, || {
        // SAFETY: numbers are all that it takes.
        Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0) }).map(drop)
    })
}

// ANCHOR: sys-seccomp
/// seccomp(2) with SECCOMP_SET_MODE_FILTER.
pub fn seccomp(why: &str, program: &[libc::sock_filter]) -> Result<()> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    let list = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let shown = || format!("seccomp(SECCOMP_SET_MODE_FILTER, 0, {{len={}, ...}})", list.len);
    call(Subject::Other, why, shown, || {
        // SAFETY: `list` has as many instructions as it says, and outlives the call, which only reads it.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const list)
        })
        .map(drop)
    })
}
// ANCHOR_END: sys-seccomp

/// seccomp(2) with SECCOMP_SET_MODE_FILTER and flags. With SECCOMP_FILTER_FLAG_NEW_LISTENER it returns the descriptor through which
/// another program is asked: see seccomp_unotify(2).
pub fn seccomp_with(why: &str, flags: u64, program: &[libc::sock_filter]) -> Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: u64 = 1 << 3;
    let list = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let shown = || format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {{len={}, ...}})", list.len);
    let returned = call(Subject::Other, why, shown, || {
        // SAFETY: `list` has as many instructions as it says, and outlives the call, which only reads it.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const list) };
        Errno::result(result).map(|number| number as usize)
    })?;
    // SAFETY: with this flag the number is a new descriptor that nobody else owns.
    let listener = || unsafe { OwnedFd::from_raw_fd(returned as RawFd) };
    Ok((flags & SECCOMP_FILTER_FLAG_NEW_LISTENER != 0).then(listener))
}

// ANCHOR: sys-bpf
/// bpf(2) with BPF_PROG_LOAD, of the type that is asked about devices.
pub fn bpf_load_for_devices(why: &str, program: &[u64]) -> Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u64 = 15;
    let license = c"GPL";
    // The first fields of union bpf_attr: type and number of instructions, where they are, where the license is.
    let attributes = [
        BPF_PROG_TYPE_CGROUP_DEVICE | (program.len() as u64) << 32,
        program.as_ptr() as u64,
        license.as_ptr() as u64,
    ];
    let shown = || {
        format!("bpf(BPF_PROG_LOAD, {{prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={}}})", program.len())
    };
    call(Subject::Privileged, why, shown, || {
        // SAFETY: program, license and attributes outlive the call, and have the sizes that are given; the result is a new
        // descriptor that nobody else owns.
        unsafe {
            let size = size_of_val(&attributes);
            let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, attributes.as_ptr(), size);
            Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
        }
    })
}

/// bpf(2) with BPF_PROG_ATTACH: beside those that are attached already, of which each must agree.
pub fn bpf_attach_to_cgroup(why: &str, program: BorrowedFd, cgroup: BorrowedFd) -> Result<()> {
    const BPF_PROG_ATTACH: libc::c_long = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let (program, cgroup) = (program.as_raw_fd(), cgroup.as_raw_fd());
    let attributes = [cgroup as u32, program as u32, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI];
    let shown = || {
        format!(
            "bpf(BPF_PROG_ATTACH, {{target_fd={cgroup}, attach_bpf_fd={program}, attach_type=BPF_CGROUP_DEVICE}})"
        )
    };
    call(Subject::Privileged, why, shown, || {
        let size = size_of_val(&attributes);
        // SAFETY: the attributes outlive the call and have the size that is given.
        Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, attributes.as_ptr(), size) })
            .map(drop)
    })
}
// ANCHOR_END: sys-bpf

// ANCHOR: sys-capset
/// capset(2): the three sets that a thread has of its own, each a word of bits.
pub fn capset(why: &str, effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522; // 64 bits, in two halves
    let header = [VERSION_3, 0]; // and 0 is this thread
    let sets = [effective, permitted, inheritable];
    let halves: Vec<u32> = [0, 32].iter().flat_map(|shift| sets.map(|set| (set >> shift) as u32)).collect();
    let shown = || {
        format!(
            "capset({{_LINUX_CAPABILITY_VERSION_3, 0}}, {{effective={effective:#x}, permitted={permitted:#x}, \
                 inheritable={inheritable:#x}}})"
        )
    };
    call(Subject::Privileged, why, shown, || {
        // SAFETY: header and sets have the size that version 3 wants, and outlive the call.
        Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), halves.as_ptr()) }).map(drop)
    })
}
// ANCHOR_END: sys-capset

/// capget(2): what this thread is permitted.
pub fn permitted() -> nix::Result<u64> {
    let mut header = [0x2008_0522_u32, 0];
    let mut halves = [0_u32; 6];
    // SAFETY: header and sets have the size that version 3 wants, and outlive the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), halves.as_mut_ptr()) })?;
    Ok(u64::from(halves[1]) | u64::from(halves[4]) << 32)
}

/// prctl(2) with PR_CAP_AMBIENT_CLEAR_ALL: nothing is handed on to programs that know nothing of capabilities.
pub fn clear_ambient(why: &str) -> Result<()> {
    let shown = || "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)".to_string();
    call(Subject::Other, why, shown, || {
        let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
        // SAFETY: numbers are all that this prctl takes.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) }).map(drop)
    })
}

/// prctl(2) with PR_CAP_AMBIENT_RAISE: hands one on, permitted and inheritable as it is, through execve(2).
pub fn raise_ambient(why: &str, capability: Capability) -> Result<()> {
    let shown = || format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {capability}, 0, 0)");
    call(Subject::Privileged, why, shown, || {
        let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
        let number = libc::c_ulong::from(capability.0);
        // SAFETY: numbers are all that this prctl takes.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, number, 0, 0) }).map(drop)
    })
}

/// prlimit64(2): sets a limit of this process (0) or of another. `None` is no limit.
pub fn set_limit(
    why: &str,
    pid: Pid,
    limit: (&str, u32),
    soft: Option<u64>,
    hard: Option<u64>,
) -> Result<()> {
    let (name, number) = limit;
    let word = |value: Option<u64>| value.map_or("RLIM64_INFINITY".to_string(), |value| value.to_string());
    let shown =
        || format!("prlimit64({pid}, {name}, {{rlim_cur={}, rlim_max={}}}, NULL)", word(soft), word(hard));
    let value = |value: Option<u64>| value.unwrap_or(libc::RLIM64_INFINITY);
    let wanted = libc::rlimit64 { rlim_cur: value(soft), rlim_max: value(hard) };
    call(Subject::Other, why, shown, || {
        let nothing = std::ptr::null_mut::<libc::rlimit64>();
        // SAFETY: the limit outlives the call, and the null pointer asks for no answer.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_prlimit64, pid.as_raw(), number, &raw const wanted, nothing)
        })
        .map(drop)
    })
}

/// close_range(2) of the descriptors from `first` to `last`: immediately, or (`on_exec`) when execve(2) succeeds.
pub fn close_range(why: &str, first: u32, last: u32, on_exec: bool) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    let how = if on_exec { CLOSE_RANGE_CLOEXEC } else { 0 };
    let shown = || {
        let how = if on_exec { "CLOSE_RANGE_CLOEXEC" } else { "0" };
        format!("close_range({first}, {last}, {how})")
    };
    call(Subject::New, why, shown, || {
        // SAFETY: descriptors are numbers. The caller gives up those that it closes: callers that go
        // on using one of them would get EBADF, not undefined behaviour.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, how) }).map(drop)
    })
}

/// close_range(2), several times: closes all descriptors above 2 but these.
pub fn close_all_but(why: &str, kept: &[RawFd]) -> Result<()> {
    let mut kept: Vec<u32> = kept.iter().map(|&fd| fd as u32).filter(|&fd| fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            close_range(why, first, fd - 1, false)?;
        }
        first = fd + 1;
    }
    close_range(why, first, u32::MAX, false)
}

/// pipe2(2) with O_CLOEXEC: the end to read from, and the end to write to. It is not narrated: no container is made of it.
pub fn pipe(step: &str) -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::call(step, "pipe2(O_CLOEXEC)", errno))
}

/// _exit(2): the end of a child. Not std::process::exit: what was registered to run at exit belongs to its parent.
pub fn exit(status: u8) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(status.into()) }
}

/// execve(2): returns only if it failed.
pub fn execve(why: &str, program: &CStr, arguments: &[CString], environment: &[CString]) -> Error {
    let list = arguments.iter().map(|argument| quote(argument.to_bytes())).collect::<Vec<_>>();
    let shown = format!("execve({}, [{}])", quote(program.to_bytes()), list.join(", "));
    explain::last_call(why, &shown);
    match nix::unistd::execve(program, arguments, environment) {
        Ok(never) => match never {},
        Err(errno) => Error::call(why, shown, errno),
    }
}

/// execveat(2) with AT_EMPTY_PATH: becomes the program that `program` is, by whatever name. Returns only if it failed.
pub fn execveat(why: &str, program: BorrowedFd, arguments: &[CString], environment: &[CString]) -> Error {
    let list = arguments.iter().map(|argument| quote(argument.to_bytes())).collect::<Vec<_>>();
    let shown = format!("execveat({}, \"\", [{}], AT_EMPTY_PATH)", program.as_raw_fd(), list.join(", "));
    explain::last_call(why, &shown);
    match nix::unistd::execveat(program, c"", arguments, environment, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(errno) => Error::call(why, shown, errno),
    }
}

/// kill(2)
pub fn kill(why: &str, pid: Pid, signal: Signal) -> Result<()> {
    call(Subject::Other, why, || format!("kill({pid}, {signal})"), || nix::sys::signal::kill(pid, signal))
}

/// write(2) of `text` into a kernel file (/proc, cgroups) in one go.
pub fn write_file(why: &str, file: &Path, text: impl Display) -> Result<()> {
    let text = text.to_string();
    let shown = || format!("write({}, {})", path(file), quote(&text));
    let write = || {
        // Not create(2): a kernel file that is not there is an error, not a file to make.
        let mut opened = std::fs::OpenOptions::new().write(true).open(file)?;
        opened.write(text.as_bytes())
    };
    call(Subject::Other, why, shown, || {
        write().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    })
    .map(drop)
}

/// Reads a kernel file (/proc, cgroups) whole. Such a file tells no length beforehand, and is written
/// anew for each read: so not `std::fs::read_to_string`, which asks for the length, and then reads in bits.
pub fn read_file(file: &Path) -> std::io::Result<String> {
    const ROOM: usize = 16 * 1024;
    let mut text = String::with_capacity(ROOM);
    std::fs::File::open(file)?.take(1 << 24).read_to_string(&mut text)?;
    Ok(text)
}

fn at(directory: BorrowedFd) -> String {
    match directory.as_raw_fd() {
        libc::AT_FDCWD => "AT_FDCWD".to_string(),
        fd => fd.to_string(),
    }
}
