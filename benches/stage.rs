//! What chapter 8 adds to the calls of chapter 7: a user namespace with its maps, and the rootfs on a stage, seen through an
//! id-mapped mount.

use std::ffi::c_int;

use super::{mount, must, text, write};

/// The first of the floor's users outside: far from those that chapter 8 takes.
const FIRST: &str = "0 1610612736 65536";

const EMPTY_PATH: c_int = libc::AT_EMPTY_PATH;

/// A stage with the rootfs in hand.
pub struct Stage {
    directory: String,
    tree: c_int,
}

/// Picks up a mount, and returns it in hand.
fn pick_up(path: &str) -> c_int {
    let how = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    call!(syscall(libc::SYS_open_tree, libc::AT_FDCWD, text(&[path]).as_ptr(), how)) as c_int
}

fn put_down(tree: c_int, path: &str) {
    const BOTH_EMPTY: c_int = 0x44; // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    let place = call!(open(text(&[path]).as_ptr(), libc::O_PATH | libc::O_CLOEXEC)) as c_int;
    call!(syscall(libc::SYS_move_mount, tree, c"".as_ptr(), place, c"".as_ptr(), BOTH_EMPTY));
    call!(close(place));
    call!(close(tree));
}

impl Stage {
    /// Before clone(2).
    pub fn new(scratch: &str, rootfs: &str) -> Stage {
        let directory = format!("{scratch}/stage");
        ask!(mkdir(text(&[&directory]).as_ptr(), 0o755));
        call!(chmod(text(&[scratch]).as_ptr(), 0o711));
        call!(unshare(libc::CLONE_NEWNS));
        mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"");
        let how = libc::MS_NOSUID | libc::MS_NODEV;
        mount(c"tmpfs", &text(&[&directory]), c"tmpfs", how, c"mode=755");
        for name in ["/scratch", "/lower"] {
            call!(mkdir(text(&[&directory, name]).as_ptr(), 0o755));
        }
        Stage { tree: pick_up(rootfs), directory }
    }

    /// After clone(2).
    pub fn set(self, child: i64) {
        let of_child = |name: &str| text(&["/proc/", &child.to_string(), "/", name]);
        let users = call!(open(of_child("ns/user").as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)) as c_int;
        write(&of_child("uid_map"), 0, FIRST);
        write(&of_child("gid_map"), 0, FIRST);
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: users as u64,
        };
        let size = size_of::<libc::mount_attr>();
        let attributes = &raw const attributes;
        call!(syscall(libc::SYS_mount_setattr, self.tree, c"".as_ptr(), EMPTY_PATH, attributes, size));
        put_down(self.tree, &format!("{}/lower", self.directory));
        call!(close(users));
    }

    /// The child, once the maps are there.
    pub fn become_root() {
        call!(setgroups(0, std::ptr::null()));
        call!(setresgid(0, 0, 0));
        call!(setresuid(0, 0, 0));
        call!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL));
        ask!(syscall(libc::SYS_keyctl, 1, 0, 0, 0, 0)); // a new session keyring
        call!(unshare(libc::CLONE_NEWNS));
    }
}

/// A device of the host's, in place of one of its own.
pub fn borrow_device(name: &str, file: &str) {
    write(&text(&[file]), libc::O_CREAT, "");
    put_down(pick_up(&format!("/dev/{name}")), file);
}
