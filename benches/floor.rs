//! The floor: the system calls of chapter 7, 8 or 9, in the chapter's order, and nothing else. No argument is parsed, no error is
//! explained: what fails, ends it. `start.rs` measures the chapters against it.
//!
//!     floor few|all|users|users-all|power|power-all ROOTFS SCRATCH BRIDGE CGROUP...
//!
//! "few" are the calls that make the container and remove it, "users" are those of chapter 8: with a user namespace, and
//! the rootfs in an id-mapped mount. "all" are those of chapter 7 that serve its user, too:
//! the notes, the search for a root filesystem and for the cgroups, the report at the end (errand.rs); "users-all" are
//! those of chapter 8; "power" and "power-all" are those of chapter 9. These are made as they are on a host like the one where they were written down, with its v1
//! cgroups and without a bridge.
//!
//! BRIDGE is the index of a bridge to plug into, or 0; each CGROUP is a directory to make a cgroup in, of
//! version 1 if its name says which controller it is for. The limits are 64 MiB, half a processor, 100
//! processes. The command is `/bin/true`.
//!
//! It has no `fn main`, so that the standard library sets nothing up either.

#![no_main]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr::{null, null_mut};

/// A string of C's, from the pieces of a path.
fn text(pieces: &[&str]) -> CString {
    CString::new(pieces.concat()).unwrap_or_default()
}

/// Whatever fails, ends it: here, with the line number as a hint.
fn must<T: Into<i64>>(result: T, line: u32) -> i64 {
    let result = result.into();
    if result < 0 {
        eprintln!("floor: line {line}: {}", std::io::Error::last_os_error());
        // SAFETY: _exit(2) has no precondition.
        unsafe { libc::_exit(125) }
    }
    result
}

/// Makes a system call that must succeed.
macro_rules! call {
    ($name:ident($($argument:expr),*)) => {
        // SAFETY: every pointer handed over is to a live string or structure of the size that the call wants.
        must(unsafe { libc::$name($($argument),*) } as i64, line!())
    };
}

/// A system call whose answer does not matter.
macro_rules! ask {
    ($name:ident($($argument:expr),*)) => {
        // SAFETY: as for `call`.
        unsafe { libc::$name($($argument),*) as i64 }
    };
}

mod errand;
mod power;
mod stage;

use stage::Stage;

fn write(path: &CStr, how: c_int, text: &str) {
    let file = call!(open(path.as_ptr(), how | libc::O_WRONLY | libc::O_CLOEXEC, 0o644)) as c_int;
    call!(write(file, text.as_ptr().cast(), text.len()));
    call!(close(file));
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, how: c_ulong, data: &CStr) {
    let or_null = |text: &CStr| if text.is_empty() { null() } else { text.as_ptr() };
    call!(mount(or_null(source), target.as_ptr(), or_null(kind), how, or_null(data).cast()));
}

/// Finds a name in the new root as chapter 7 does, mounts there, and lets go of it.
fn mount_in(root: c_int, source: &CStr, name: &CStr, kind: &CStr, how: c_ulong, data: &CStr) {
    const RESOLVE_IN_ROOT: u64 = 0x10;
    let request = [(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, RESOLVE_IN_ROOT];
    let found = call!(syscall(libc::SYS_openat2, root, name.as_ptr(), request.as_ptr(), 24usize)) as c_int;
    mount(source, &text(&["/proc/self/fd/", &found.to_string()]), kind, how, data);
    call!(close(found));
}

/// A netlink message: its header and body, then attributes.
struct Message(Vec<u8>);

impl Message {
    fn link(kind: u16, flags: u16, up: Option<bool>) -> Message {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | 5).to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK
        Message(bytes).link_body(up)
    }
    /// Switched on, off, or left as it is: ifi_flags, and in ifi_change which of them count.
    fn link_body(mut self, up: Option<bool>) -> Message {
        self.0.extend([0; 8]);
        self.0.extend([u8::from(up == Some(true)), 0, 0, 0, u8::from(up.is_some()), 0, 0, 0]);
        self
    }
    fn attribute(self, kind: u16, value: &[u8]) -> Message {
        self.nest(kind, |mut message| {
            message.0.extend(value);
            message
        })
    }
    fn nest(mut self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        let start = self.0.len();
        self.0.extend([0, 0]);
        self.0.extend(kind.to_ne_bytes());
        let mut message = inside(self);
        let length = (message.0.len() - start) as u16;
        message.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        message.0.resize(message.0.len().next_multiple_of(4), 0);
        message
    }
    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// Sends messages in one go and waits for as many answers, which must all be good, or say that what was to be
/// changed is gone.
fn netlink(messages: Vec<Message>) {
    let socket = call!(socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)) as c_int;
    let count = messages.len();
    let bytes: Vec<u8> = messages.into_iter().flat_map(Message::finish).collect();
    call!(send(socket, bytes.as_ptr().cast(), bytes.len(), 0));
    let mut answers = 0;
    while answers < count {
        let mut buffer = [0u8; 4096];
        let length = call!(recv(socket, buffer.as_mut_ptr().cast::<c_void>(), buffer.len(), 0)) as usize;
        let mut at = 0;
        while at < length {
            let number = |at: usize| i32::from_ne_bytes([0, 1, 2, 3].map(|i| buffer[at + i]));
            let errno = number(at + 16); // of an NLMSG_ERROR
            must(if errno == -libc::ENODEV { 0 } else { errno }, line!());
            at += (number(at) as usize).next_multiple_of(4);
            answers += 1;
        }
    }
    call!(close(socket));
}

/// The container's half, up to the command.
fn container(
    rootfs: &str,
    scratch: &str,
    bridge: u32,
    cgroups: &[(String, bool)],
    ready: c_int,
    (users, less_power): (bool, bool),
) -> ! {
    use libc::{MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT};
    let plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    call!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL));
    for (directory, version_1) in cgroups {
        write(&text(&[directory, if *version_1 { "/tasks" } else { "/cgroup.procs" }]), 0, "0");
    }
    let errand = errand::get();
    call!(unshare(libc::CLONE_NEWCGROUP));
    let staged = [format!("{scratch}/stage/lower"), format!("{scratch}/stage/scratch")];
    let (rootfs, scratch) = if users {
        call!(read(ready, [0u8].as_mut_ptr().cast::<c_void>(), 1));
        Stage::become_root();
        (staged[0].as_str(), staged[1].as_str())
    } else {
        (rootfs, scratch)
    };
    mount(c"", c"/", c"", libc::MS_REC | libc::MS_PRIVATE, c"");

    mount(c"tmpfs", &text(&[scratch]), c"tmpfs", MS_NOSUID | MS_NODEV, c"mode=755");
    let root = text(&[scratch, "/root"]);
    for directory in [&root, &text(&[scratch, "/upper"]), &text(&[scratch, "/work"])] {
        call!(mkdir(directory.as_ptr(), 0o755));
    }
    if errand.is_some() {
        errand::look(rootfs);
        errand::read_whole(c"/proc/self/uid_map");
    }
    let marks = if users { ",userxattr" } else { "" };
    let layers =
        text(&["lowerdir=", rootfs, ",upperdir=", scratch, "/upper,workdir=", scratch, "/work", marks]);
    mount(c"overlay", &root, c"overlay", 0, &layers);
    let fd = call!(open(root.as_ptr(), libc::O_PATH | libc::O_CLOEXEC)) as c_int;

    mount_in(fd, c"proc", c"proc", c"proc", plain, c"");
    mount_in(fd, c"sysfs", c"sys", c"sysfs", plain | MS_RDONLY, c"");
    mount_in(fd, c"tmpfs", c"dev", c"tmpfs", MS_NOSUID | libc::MS_STRICTATIME, c"mode=755,size=64k");
    if errand.is_some() {
        errand::read_whole(c"/proc/self/uid_map");
    }
    call!(umask(0));
    let devices =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in devices {
        let file = format!("{scratch}/root/dev/{name}");
        if users {
            stage::borrow_device(name, &file);
        } else {
            call!(mknod(text(&[&file]).as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(major, minor)));
        }
    }
    let links = [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
    ];
    for (to, name) in links {
        call!(symlink(text(&[to]).as_ptr(), text(&[scratch, "/root/dev/", name]).as_ptr()));
    }
    for name in ["/root/dev/pts", "/root/dev/shm", "/root/dev/mqueue"] {
        call!(mkdir(text(&[scratch, name]).as_ptr(), 0o755));
    }
    let terminals = c"newinstance,ptmxmode=0666,mode=0620";
    mount_in(fd, c"devpts", c"dev/pts", c"devpts", MS_NOSUID | MS_NOEXEC, terminals);
    mount_in(fd, c"tmpfs", c"dev/shm", c"tmpfs", plain, c"mode=1777,size=64m");
    if errand.is_some() {
        errand::look(&format!("{scratch}/root/tmp"));
    }

    if cgroups.iter().any(|(_, version_1)| *version_1) {
        mount_in(fd, c"tmpfs", c"sys/fs/cgroup", c"tmpfs", plain, c"mode=755,size=64k");
        for (directory, _) in cgroups {
            let controller = controller(directory);
            call!(mkdir(text(&[scratch, "/root/sys/fs/cgroup/", controller]).as_ptr(), 0o755));
            let name = text(&["sys/fs/cgroup/", controller]);
            mount_in(fd, c"cgroup", &name, c"cgroup", plain | MS_RDONLY, &text(&[controller]));
        }
        let how = plain | MS_REMOUNT | MS_RDONLY;
        mount_in(fd, c"tmpfs", c"sys/fs/cgroup", c"", how, c"mode=755,size=64k");
    } else if !cgroups.is_empty() {
        mount_in(fd, c"cgroup2", c"sys/fs/cgroup", c"cgroup2", plain | MS_RDONLY, c"");
    }
    mount_in(fd, c"mqueue", c"dev/mqueue", c"mqueue", plain, c"");
    call!(sethostname(c"floor".as_ptr(), 5));
    for (name, words) in [("hostname", "floor\n"), ("hosts", "127.0.1.1 floor\n"), ("resolv.conf", "#\n")] {
        let file = text(&[scratch, "/", name]);
        write(&file, libc::O_CREAT, words);
        mount_in(fd, &file, &text(&["etc/", name]), c"", libc::MS_BIND, c"");
    }

    if less_power {
        power::cover(fd, scratch);
    }
    call!(chdir(root.as_ptr()));
    call!(syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()));
    call!(umount2(c".".as_ptr(), libc::MNT_DETACH));
    call!(chdir(c"/".as_ptr()));
    call!(read(ready, [0u8].as_mut_ptr().cast::<c_void>(), 1));
    if bridge != 0 {
        write(c"/proc/sys/net/ipv6/conf/eth0/disable_ipv6", 0, "1");
    }
    let up = |name: &[u8]| Message::link(19, 0, Some(true)).attribute(3, name); // RTM_SETLINK, IFLA_IFNAME
    let mut messages = vec![up(b"lo\0")];
    if bridge != 0 {
        // Its end of the cable is the second device that this namespace has: index 2. RTM_NEWADDR.
        let address = [10, 83, 255, 1];
        let mut give = vec![0; 16];
        give[4..8].copy_from_slice(&[20, 0, 5, 6]);
        give.extend([2, 16, 0, 0]);
        give.extend(2u32.to_ne_bytes());
        messages.push(Message(give).attribute(2, &address).attribute(1, &address));
        messages.push(up(b"eth0\0"));
        // RTM_NEWROUTE: main table, by hand, unicast; RTA_GATEWAY.
        let mut route = vec![0; 16];
        route[4..8].copy_from_slice(&[24, 0, 5, 6]);
        route.extend([2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        messages.push(Message(route).attribute(5, &[10, 83, 0, 1]));
    }
    netlink(messages);
    if less_power {
        power::settle(fd);
    }

    if errand.is_some() {
        call!(prctl(libc::PR_SET_DUMPABLE, 0));
    }
    call!(syscall(libc::SYS_close_range, 3, u32::MAX, 0));
    extern "C" fn command(less_power: *mut c_void) -> c_int {
        call!(syscall(libc::SYS_close_range, 3, u32::MAX, 4)); // CLOSE_RANGE_CLOEXEC
        if errand::get().is_some() {
            for signal in 1..=64 {
                ask!(signal(signal, libc::SIG_DFL));
            }
            ask!(sigprocmask(libc::SIG_SETMASK, [0u64; 16].as_ptr().cast(), null_mut()));
            ask!(umask(0o022));
        }
        if !less_power.is_null() {
            power::confine();
        }
        let nothing: [*const c_char; 1] = [null()];
        let command: [*const c_char; 2] = [c"true".as_ptr(), null()];
        call!(execve(c"/bin/true".as_ptr(), command.as_ptr(), nothing.as_ptr()));
        0
    }
    let mut stack = [0u128; 1024];
    let borrowed = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // Nobody looks what it points to.
    let argument = if less_power { root.as_ptr().cast_mut().cast::<c_void>() } else { null_mut() };
    call!(clone(command, stack.as_mut_ptr_range().end.cast(), borrowed, argument));
    if less_power {
        power::confine_init();
    }
    let mut status = 0;
    if let Some(errand) = errand {
        errand.await_signal(errand.take_signals());
    }
    call!(wait(&mut status));
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(libc::WEXITSTATUS(status)) }
}

/// "/sys/fs/cgroup/memory/..." is for the memory controller.
fn controller(directory: &str) -> &'static str {
    let named = |name: &&str| directory.starts_with(&format!("/sys/fs/cgroup/{name}/"));
    ["freezer", "memory", "cpu", "pids"].into_iter().find(named).unwrap_or_default()
}

/// Makes the container's cgroup, with its limits.
fn make_cgroup(directory: &str) {
    call!(mkdir(text(&[directory]).as_ptr(), 0o755));
    let limits: &[(&str, &str)] = match controller(directory) {
        "freezer" => &[],
        "memory" => &[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "67108864")],
        "cpu" => &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")],
        "pids" => &[("pids.max", "100")],
        _ => &[
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "100"),
        ],
    };
    for (file, value) in limits {
        write(&text(&[directory, "/", file]), 0, value);
    }
}

/// The cable's name, as C's string.
fn cable_of(child: i64) -> String {
    format!("floor{child}\0")
}

/// Runs the cable from the bridge into the child's namespace.
fn plug_in(bridge: u32, child: i64) {
    const CREATE: u16 = 0x600; // NLM_F_CREATE | NLM_F_EXCL
    const IFNAME: u16 = 3;
    let namespace = text(&["/proc/", &child.to_string(), "/ns/net"]);
    let namespace = call!(open(namespace.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)) as c_int;
    let cable = Message::link(16, CREATE, Some(true)) // RTM_NEWLINK
        .attribute(IFNAME, cable_of(child).as_bytes())
        .attribute(10, &bridge.to_ne_bytes()) // IFLA_MASTER
        .nest(18, |info| {
            // IFLA_LINKINFO: IFLA_INFO_KIND, IFLA_INFO_DATA with VETH_INFO_PEER
            info.attribute(1, b"veth").nest(2, |data| {
                data.nest(1, |peer| {
                    // IFLA_NET_NS_FD
                    peer.link_body(None).attribute(IFNAME, b"eth0\0").attribute(28, &namespace.to_ne_bytes())
                })
            })
        });
    netlink(vec![cable]);
    call!(close(namespace));
}

/// Called by the C library.
///
/// # Safety
///
/// As for C's main: `arguments` holds `count` strings.
// SAFETY: the name is the one that the C library looks for, and nothing else here has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let argument = |index: c_int| {
        // SAFETY: see above.
        let argument = unsafe { CStr::from_ptr(*arguments.offset(index as isize)) };
        argument.to_str().unwrap_or_default()
    };
    if count < 5 {
        return 0; // cargo runs it as a benchmark, too
    }
    let (rootfs, scratch, bridge) = (argument(2), argument(3), argument(4).parse().unwrap_or(0));
    // SAFETY: getpid(2) has no precondition.
    let own = unsafe { libc::getpid() };
    let cgroups: Vec<(String, bool)> = (5..count)
        .map(|index| format!("{}/floor-{own}", argument(index)))
        .map(|directory| {
            let version_1 = !controller(&directory).is_empty();
            (directory, version_1)
        })
        .collect();
    let less_power = argument(1).starts_with("power");
    let users = argument(1).starts_with("users") || less_power;
    if argument(1).ends_with("all") {
        errand::begin(rootfs, scratch, &cgroups, users);
    }
    let errand = errand::get();
    for (directory, _) in &cgroups {
        make_cgroup(directory);
    }
    let signals = errand.map(|errand| (errand, errand.before_clone()));

    let stage = users.then(|| Stage::new(scratch, rootfs));
    let mut ready = [0; 2];
    call!(pipe2(ready.as_mut_ptr(), libc::O_CLOEXEC));
    let new = libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;
    let new = new | if users { libc::CLONE_NEWUSER } else { libc::CLONE_NEWNS };
    let flags = c_long::from(new | libc::SIGCHLD);
    let child = call!(syscall(libc::SYS_clone, flags, null_mut::<c_void>(), 0, 0, 0));
    if child == 0 {
        container(rootfs, scratch, bridge, &cgroups, ready[0], (users, less_power));
    }
    if let Some(stage) = stage {
        stage.set(child);
        call!(write(ready[1], c"!".as_ptr().cast::<c_void>(), 1));
    }
    if bridge != 0 {
        plug_in(bridge, child);
    }
    call!(write(ready[1], c"!".as_ptr().cast::<c_void>(), 1));
    let mut status = 0;
    if let Some((errand, signals)) = signals {
        errand.await_signal(signals);
    }
    call!(waitpid(child as i32, &mut status, 0));
    if bridge != 0 {
        netlink(vec![Message::link(19, 0, Some(false)).attribute(3, cable_of(child).as_bytes())]);
    }
    if let Some(errand) = errand {
        errand.end();
    }
    for (directory, _) in cgroups.iter().rev() {
        call!(rmdir(text(&[directory]).as_ptr()));
    }
    if let Some(errand) = errand {
        errand.tear_up();
    }
    libc::WEXITSTATUS(status)
}
