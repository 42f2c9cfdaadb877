//! What chapter 9 adds to the calls of chapter 8: covers over files of the kernel's, settings that are read-only, and a
//! command that gives up what it does not need.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use super::{must, text};

const EMPTY_PATH: c_int = libc::AT_EMPTY_PATH;
const RECURSIVE: c_int = 0x8000;

/// How many instructions the default filter has.
const FILTER: usize = 198;

fn find(directory: c_int, name: &str) -> Option<c_int> {
    const RESOLVE: u64 = 0x0c; // RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH
    let how = [(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, RESOLVE];
    let found = ask!(syscall(libc::SYS_openat2, directory, text(&[name]).as_ptr(), how.as_ptr(), 24usize));
    (found >= 0).then_some(found as c_int)
}

/// A read-only copy of the mount `source`, put down on `target`.
fn put(source: c_int, target: c_int, recursive: c_int) {
    let how = libc::OPEN_TREE_CLONE as c_int | libc::OPEN_TREE_CLOEXEC as c_int | EMPTY_PATH | recursive;
    let tree = call!(syscall(libc::SYS_open_tree, source, c"".as_ptr(), how)) as c_int;
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let size = size_of::<libc::mount_attr>();
    let attributes = &raw const attributes;
    call!(syscall(libc::SYS_mount_setattr, tree, c"".as_ptr(), EMPTY_PATH | RECURSIVE, attributes, size));
    call!(syscall(libc::SYS_move_mount, tree, c"".as_ptr(), target, c"".as_ptr(), 0x44));
    call!(close(tree));
}

/// Before pivot_root(2): what tells of the machine, under covers.
pub fn cover(root: c_int, scratch: &str) {
    let empty = text(&[scratch, "/empty"]);
    call!(mkdir(empty.as_ptr(), 0o555));
    let empty = call!(open(empty.as_ptr(), libc::O_PATH | libc::O_CLOEXEC)) as c_int;
    let null = find(root, "dev/null").unwrap_or(-1);
    let files = ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi"];
    let files = files.into_iter().chain(["timer_list", "timer_stats"]).map(|name| format!("proc/{name}"));
    let directories = ["sys/devices/virtual/powercap".to_string(), "sys/firmware".to_string()];
    for name in files.chain(directories) {
        let Some(target) = find(root, &name) else { continue };
        // SAFETY: a struct of numbers, for each of which 0 is valid.
        let mut found: libc::stat = unsafe { std::mem::zeroed() };
        call!(fstat(target, &mut found));
        let is_directory = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
        put(if is_directory { empty } else { null }, target, 0);
        call!(close(target));
    }
}

/// After everything else: settings that are read-only.
pub fn settle(root: c_int) {
    for name in ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"] {
        let Some(target) = find(root, name) else { continue };
        put(target, target, RECURSIVE);
        call!(close(target));
    }
}

/// Right before execve(2): limits, no_new_privs, five sets of capabilities, and a filter that is as long as the default one.
pub fn confine() {
    const KEPT: u32 = 0xa804_25fb;
    for (number, soft, hard) in [(libc::RLIMIT_CORE, 0, 0), (libc::RLIMIT_NOFILE, 1024, 1024)] {
        let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
        call!(syscall(libc::SYS_prlimit64, 0, number, &raw const limit, null_mut::<c_void>()));
    }
    call!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    for number in 0..=40 {
        if number >= 32 || KEPT >> number & 1 == 0 {
            call!(prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0));
        }
    }
    call!(prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    let (header, sets) = ([0x2008_0522_u32, 0], [KEPT, KEPT, 0, 0, 0, 0]);
    call!(syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()));
    // As many comparisons as fit, of a number that no call has.
    let mut program = [libc::sock_filter { code: 0x15, jt: 0, jf: 0, k: u32::MAX }; FILTER];
    program[0] = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    program[FILTER - 1] = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
    let list = libc::sock_fprog { len: FILTER as u16, filter: program.as_mut_ptr() };
    call!(syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const list));
}

/// Once the command has been started: init keeps the right to send signals.
pub fn confine_init() {
    call!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    let (header, sets) = ([0x2008_0522_u32, 0], [32_u32, 32, 0, 0, 0, 0]);
    call!(syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()));
    let actions = 0x1fff_u64;
    let ruleset = ask!(syscall(libc::SYS_landlock_create_ruleset, &raw const actions, 8, 0));
    ask!(syscall(libc::SYS_landlock_restrict_self, ruleset, 0));
}
