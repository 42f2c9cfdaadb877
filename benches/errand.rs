//! The calls of chapter 7 that make nothing of the container, but serve whoever uses it: the notes about what has to be
//! removed, the search for a root filesystem and for the cgroups, the report at the end; and of chapter 8 the search for
//! users that nobody else has. They are written down from strace(1), in order.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

use super::{controller, must, text};

/// What has to be remembered of it.
pub struct Errand {
    page: c_int,
    path: CString,
    cgroups: Vec<String>,
    users: Option<Users>,
}

/// Claims of users and of groups, as chapter 8 takes them.
struct Users {
    lock: CString,
    claims: Vec<(CString, c_int)>,
}

static ERRAND: OnceLock<Errand> = OnceLock::new();

/// None where the calls are to be few.
pub fn get() -> Option<&'static Errand> {
    ERRAND.get()
}

/// Before the first cgroup is made.
pub fn begin(rootfs: &str, scratch: &str, cgroups: &[(String, bool)], users: bool) {
    ERRAND.get_or_init(|| Errand::begin(rootfs, scratch, cgroups, users));
}

pub fn look(path: &str) {
    let mut found = [0u64; 32];
    let path = text(&[path]);
    ask!(statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_BASIC_STATS, found.as_mut_ptr().cast()));
}

pub fn read_whole(path: &CStr) {
    let mut buffer = [0u8; 8192];
    let file = call!(open(path.as_ptr(), libc::O_CLOEXEC)) as c_int;
    while call!(read(file, buffer.as_mut_ptr().cast::<c_void>(), buffer.len())) > 0 {}
    call!(close(file));
}

fn link_of(path: &CStr) -> String {
    let mut buffer = [0u8; 256];
    let length = call!(readlink(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()));
    String::from_utf8_lossy(&buffer[..length as usize]).into_owned()
}

fn lock(path: &CStr, how: c_int) -> c_int {
    let file = call!(open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC, 0o600)) as c_int;
    call!(flock(file, how));
    file
}

/// Tries the lock of each file in a directory, as chapter 7 does to see who is dead.
fn try_locks(directory: &CStr) {
    let listed: Vec<_> = std::fs::read_dir(directory.to_str().unwrap_or_default())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    for path in listed {
        let path = text(&[path.to_str().unwrap_or_default()]);
        let file = call!(open(path.as_ptr(), libc::O_CLOEXEC)) as c_int;
        ask!(flock(file, libc::LOCK_EX | libc::LOCK_NB));
        call!(close(file));
    }
}

impl Users {
    fn choose(scratch: &str) -> Users {
        let at = |name: &str| text(&[scratch, name]);
        read_whole(c"/proc/self/uid_map");
        let lock_file = at("/users");
        let locked = lock(&lock_file, libc::LOCK_EX);
        let kinds = [("/uids", c"/etc/subuid", c"/etc/passwd"), ("/gids", c"/etc/subgid", c"/etc/group")];
        let claims = kinds.map(|(directory, subordinate, names)| {
            read_whole(subordinate);
            read_whole(names);
            ask!(mkdir(at(directory).as_ptr(), 0o777));
            let _ = std::fs::read_dir(format!("{scratch}{directory}")).map(Iterator::count);
            let claim = at(&format!("{directory}/floor-{}", std::process::id()));
            let held = lock(&claim, libc::LOCK_EX | libc::LOCK_NB);
            (claim, held)
        });
        call!(flock(locked, libc::LOCK_UN));
        call!(close(locked));
        Users { lock: lock_file, claims: claims.into() }
    }

    fn give_back(&self) {
        let locked = lock(&self.lock, libc::LOCK_EX);
        for (claim, held) in &self.claims {
            call!(unlink(claim.as_ptr()));
            call!(flock(*held, libc::LOCK_UN));
            call!(close(*held));
            let directory =
                claim.to_str().unwrap_or_default().rsplit_once('/').map_or("", |(above, _)| above);
            ask!(rmdir(text(&[directory]).as_ptr()));
        }
        call!(flock(locked, libc::LOCK_UN));
        call!(close(locked));
    }
}

impl Errand {
    fn begin(rootfs: &str, scratch: &str, cgroups: &[(String, bool)], users: bool) -> Errand {
        let at = |name: &str| text(&[scratch, name]);
        ask!(mkdir(at("").as_ptr(), 0o700));
        look(scratch);
        call!(access(at("").as_ptr(), libc::W_OK));
        let ledger = lock(&at("/lock"), libc::LOCK_EX);
        ask!(mkdir(at("/runtimes").as_ptr(), 0o777));
        try_locks(&at("/runtimes"));
        look(&format!("{scratch}/networks"));
        let network = lock(&at("/network"), libc::LOCK_EX);
        try_locks(&at("/networks"));
        call!(close(network));
        let path = at(&format!("/runtimes/{}.floor", std::process::id()));
        let page = lock(&path, libc::LOCK_EX);
        call!(flock(ledger, libc::LOCK_UN));
        call!(close(ledger));

        // Without a busybox there, chapter 7 would look for some hundred programs.
        look("/usr/bin/busybox");
        let busybox = ask!(open(c"/usr/bin/busybox".as_ptr(), libc::O_CLOEXEC)) as c_int;
        for (offset, length) in [(0, 64), (64, 560)] {
            ask!(pread(busybox, [0u8; 560].as_mut_ptr().cast::<c_void>(), length, offset));
        }
        ask!(close(busybox));
        let program = link_of(c"/proc/self/exe");
        let directory = program.rsplit_once('/').map_or("", |(directory, _)| directory);
        let target = directory.rsplit_once('/').map_or("", |(target, _)| target);
        let witness = format!("{directory}/witness");
        for path in [&witness, "/usr/bin/busybox", &witness, "/etc/ld.so.cache"] {
            look(path);
        }
        for directory in [directory, target] {
            look(&format!("{directory}/CACHEDIR.TAG"));
        }
        let held = call!(open(text(&[rootfs]).as_ptr(), libc::O_CLOEXEC)) as c_int;
        call!(flock(held, libc::LOCK_SH));
        for name in ["", "/", "/usr/bin/sh", "/dev", "/etc", "/proc", "/sys", "/tmp"] {
            look(&format!("{rootfs}{name}"));
        }
        link_of(&text(&["/proc/self/fd/", &held.to_string()]));

        let users = users.then(|| Users::choose(scratch));
        let random = call!(open(c"/dev/urandom".as_ptr(), libc::O_CLOEXEC)) as c_int;
        call!(read(random, [0u8; 6].as_mut_ptr().cast::<c_void>(), 6));
        call!(close(random));
        read_whole(c"/etc/resolv.conf");
        ask!(sched_getaffinity(0, 128, [0u64; 16].as_mut_ptr().cast::<libc::cpu_set_t>()));
        read_whole(c"/proc/self/cgroup");
        read_whole(c"/proc/self/mountinfo");
        let cgroups: Vec<String> = cgroups.iter().map(|(directory, _)| directory.clone()).collect();
        for directory in &cgroups {
            look(directory.rsplit_once('/').map_or("/", |(parent, _)| parent));
        }
        for note in &cgroups {
            call!(write(page, note.as_ptr().cast(), note.len()));
        }
        Errand { page, path, cgroups, users }
    }

    /// Between the cgroups and clone(2).
    pub fn before_clone(&self) -> c_int {
        look("/proc/self/task");
        let signals = self.take_signals();
        let mut report = [0; 2];
        call!(pipe2(report.as_mut_ptr(), libc::O_CLOEXEC));
        ask!(getpgid(0));
        ask!(isatty(0));
        signals
    }

    /// Blocks the signals and opens a descriptor for them.
    pub fn take_signals(&self) -> c_int {
        let mut signals = [0u64; 16];
        signals[0] = 1 << (libc::SIGCHLD - 1);
        call!(sigprocmask(libc::SIG_SETMASK, signals.as_ptr().cast(), null_mut()));
        let how = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        call!(signalfd(-1, signals.as_ptr().cast(), how)) as c_int
    }

    /// Waits for the descriptor, and reads from it until it is empty.
    pub fn await_signal(&self, signals: c_int) {
        let mut watched = libc::pollfd { fd: signals, events: libc::POLLIN, revents: 0 };
        call!(poll(&mut watched, 1, -1));
        let mut buffer = [0u8; 128];
        while ask!(read(signals, buffer.as_mut_ptr().cast::<c_void>(), buffer.len())) > 0 {}
    }

    /// After the container's end.
    pub fn end(&self) {
        for directory in self.cgroups.iter().filter(|directory| controller(directory) == "memory") {
            read_whole(&text(&[directory, "/memory.oom_control"]));
        }
    }

    /// At the very end.
    pub fn tear_up(&self) {
        if let Some(users) = &self.users {
            users.give_back();
        }
        call!(unlink(self.path.as_ptr()));
        call!(flock(self.page, libc::LOCK_UN));
        call!(close(self.page));
    }
}
