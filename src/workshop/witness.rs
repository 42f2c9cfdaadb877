//! The witness: what a process sees, as stable and sorted JSON.
//!
//! `witness` is a program of this crate that is placed in the root filesystem. Snapshots and the
//! grader rest on what it says. Each part that cannot be read is null: a container without /proc is
//! nothing that a witness may stumble over. See proc(5) for most of what is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::net::if_::InterfaceFlags;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd;
use serde::{Deserialize, Serialize};

use super::probe;
use crate::container::capability::Capability;
use crate::container::mountinfo::{self, Mounted};

/// What a process sees of the world, and what the kernel says of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Witness {
    /// Sets of capabilities(7): effective, permitted, inheritable, bounding, ambient.
    pub capabilities: Option<BTreeMap<String, BTreeSet<String>>>,
    /// The lines of /proc/self/cgroup.
    pub cgroup: Option<Vec<String>>,
    /// The working directory; it begins with `(unreachable)` when it is outside the root.
    pub cwd: Option<PathBuf>,
    /// The NIS domain name of the UTS namespace.
    pub domainname: Option<String>,
    /// The environment.
    pub environment: Option<BTreeMap<String, String>>,
    /// The program that runs.
    pub executable: Option<PathBuf>,
    /// The open file descriptors that were inherited: number and target.
    pub fds: Option<BTreeMap<RawFd, String>>,
    /// How groups of this user namespace map to its parent's: inside, outside, count.
    pub gid_map: Option<Vec<String>>,
    /// The host name of the UTS namespace.
    pub hostname: Option<String>,
    /// User, groups and the like.
    pub ids: Option<Ids>,
    /// Objects of the IPC namespace: how many of shm, sem and msg there are.
    pub ipc: Option<BTreeMap<String, usize>>,
    /// getrlimit(2)
    pub limits: Option<BTreeMap<String, Limit>>,
    /// Network links by name.
    pub links: Option<BTreeMap<String, Link>>,
    /// What differs from run to run, kept apart from `links`: hardware and link-local addresses.
    pub link_addresses: Option<BTreeMap<String, BTreeSet<String>>>,
    /// Mounts, sorted by mount point; of several on one point the last is on top.
    pub mounts: Option<Vec<Mount>>,
    /// Namespaces: kind and the text of its link, such as `uts:[4026531838]`.
    pub namespaces: Option<BTreeMap<String, String>>,
    /// Is no_new_privs set? prctl(2)
    pub no_new_privs: Option<bool>,
    /// The process's own number.
    pub pid: Option<i32>,
    /// Its parent's number; 0 when the parent is outside the PID namespace.
    pub ppid: Option<i32>,
    /// Is the /proc that is mounted this PID namespace's (`own`) or `another`?
    pub proc: Option<Proc>,
    /// Every process that /proc shows.
    pub processes: Option<Vec<Process>>,
    /// The root directory.
    pub root: Option<Root>,
    /// IPv4 routes.
    pub routes: Option<Vec<Route>>,
    /// `disabled`, `strict` or `filter`.
    pub seccomp: Option<String>,
    /// Session and terminal, as job control needs them.
    pub session: Option<Session>,
    /// What happens to signals: `ignored` and `blocked`.
    pub signals: Option<BTreeMap<String, BTreeSet<String>>>,
    /// How users of this user namespace map to its parent's: inside, outside, count.
    pub uid_map: Option<Vec<String>>,
    /// The file mode creation mask, such as `0022`.
    pub umask: Option<String>,
}

/// Who the process is to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Ids {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    /// The supplementary groups.
    pub groups: BTreeSet<u32>,
}

/// A resource limit; null is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// A network link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Is it switched on?
    pub up: bool,
    /// Addresses with their prefix, such as `10.88.0.2/16`, but for link-local ones.
    pub addresses: BTreeSet<String>,
}

/// A mount, from /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is.
    pub mountpoint: PathBuf,
    /// The directory of the filesystem that is seen there; not `/` for most bind mounts.
    pub root: PathBuf,
    /// The kind of filesystem.
    pub fstype: String,
    /// What was mounted: a device, or any word.
    pub source: String,
    /// Can nothing be written, because of the mount or of its filesystem?
    pub read_only: bool,
    /// Options of this mount, such as `nosuid`.
    pub options: BTreeSet<String>,
    /// `private`, `shared`, `slave`, `shared slave` or `unbindable`.
    pub propagation: String,
}

/// Whose processes /proc shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proc {
    /// Those of the process's own PID namespace.
    Own,
    /// Those of another.
    Another,
}

/// A process that /proc shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Process {
    pub pid: i32,
    /// Its name, of 15 characters at most.
    pub comm: String,
}

/// The root directory of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Root {
    pub device: u64,
    pub inode: u64,
    /// The names in it.
    pub entries: Option<BTreeSet<String>>,
}

/// An IPv4 route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// `default`, or a network such as `10.88.0.0/16`.
    pub destination: String,
    /// The router, if there is one on the way.
    pub gateway: Option<Ipv4Addr>,
    /// The link it leaves by.
    pub link: String,
}

/// What job control rests on, see credentials(7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The terminal on standard input.
    pub terminal: Option<PathBuf>,
    /// Does this process lead its session?
    pub leader: bool,
    /// Is this process's group the one that ctrl-C reaches? Null if its session has no terminal.
    pub foreground: Option<bool>,
}

impl Witness {
    /// Looks around.
    pub fn here() -> Witness {
        let fds = fds(); // before anything else opens a file
        let status = fs::read_to_string("/proc/self/status").ok();
        let field = |name: &str| status.as_deref().and_then(|status| field(status, name));
        let (links, link_addresses) = links().unzip();
        Witness {
            capabilities: sets(
                &field,
                &[
                    ("effective", "CapEff"),
                    ("permitted", "CapPrm"),
                    ("inheritable", "CapInh"),
                    ("bounding", "CapBnd"),
                    ("ambient", "CapAmb"),
                ],
                capability,
            ),
            cgroup: lines("/proc/self/cgroup").map(|mut lines| {
                lines.sort();
                lines
            }),
            cwd: unistd::getcwd().ok(),
            domainname: nix::sys::utsname::uname().ok().map(|names| lossy(names.domainname())),
            environment: Some(std::env::vars_os().map(|(key, value)| (lossy(&key), lossy(&value))).collect()),
            executable: fs::read_link("/proc/self/exe").ok(),
            fds,
            gid_map: lines("/proc/self/gid_map"),
            hostname: nix::sys::utsname::uname().ok().map(|names| lossy(names.nodename())),
            ids: ids(),
            ipc: ipc(),
            limits: limits(),
            links,
            link_addresses,
            mounts: mounts().map(|mut mounts| {
                mounts.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint)); // stable: the last stays the last
                mounts
            }),
            namespaces: namespaces(),
            no_new_privs: nix::sys::prctl::get_no_new_privs().ok(),
            pid: Some(unistd::getpid().as_raw()),
            ppid: Some(unistd::getppid().as_raw()),
            proc: proc(),
            processes: processes(),
            root: root(),
            routes: routes(),
            seccomp: field("Seccomp").map(|mode| {
                match mode {
                    "0" => "disabled",
                    "1" => "strict",
                    "2" => "filter",
                    other => other,
                }
                .to_string()
            }),
            session: session(),
            signals: sets(&field, &[("ignored", "SigIgn"), ("blocked", "SigBlk")], signal),
            uid_map: lines("/proc/self/uid_map"),
            umask: {
                // It can only be read by setting it.
                let mask = umask(Mode::empty());
                umask(mask);
                Some(format!("{:04o}", mask.bits()))
            },
        }
    }
}

/// The program: prints everything, or only the `keys` asked for, and returns the exit status. With `calls` it makes system
/// calls instead: see [`probe`].
pub fn main(keys: &[String]) -> i32 {
    if let [first, calls @ ..] = keys
        && first == "calls"
    {
        return probe::main(calls);
    }
    let all = match serde_json::to_value(Witness::here()) {
        Ok(serde_json::Value::Object(all)) => all,
        _ => return 1,
    };
    if let Some(unknown) = keys.iter().find(|key| !all.contains_key(*key)) {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        eprintln!("witness: there is no key `{unknown}`; there are: {}", known.join(" "));
        return 2;
    }
    let wanted: BTreeMap<_, _> =
        all.into_iter().filter(|(key, _)| keys.is_empty() || keys.contains(key)).collect();
    let Ok(mut text) = serde_json::to_vec_pretty(&wanted) else { return 1 };
    text.push(b'\n');
    i32::from(std::io::stdout().write_all(&text).is_err())
}

fn mounts() -> Option<Vec<Mount>> {
    Some(mountinfo::here().ok()?.into_iter().map(Mount::from).collect())
}

impl From<Mounted> for Mount {
    fn from(mount: Mounted) -> Mount {
        let how = |word: &String| match word.split(':').next()? {
            "shared" => Some("shared"),
            "master" => Some("slave"),
            "unbindable" => Some("unbindable"),
            _ => None,
        };
        let kinds: Vec<&str> = mount.propagation.iter().filter_map(how).collect();
        Mount {
            read_only: mount.has("ro"),
            propagation: if kinds.is_empty() { "private".to_string() } else { kinds.join(" ") },
            mountpoint: mount.point,
            root: mount.root,
            fstype: mount.kind,
            source: mount.source,
            options: mount.options.into_iter().filter(|option| option != "ro" && option != "rw").collect(),
        }
    }
}

fn fds() -> Option<BTreeMap<RawFd, String>> {
    let how = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open: Vec<RawFd> = match Dir::open("/proc/self/fd", how, Mode::empty()) {
        Ok(mut directory) => {
            let own = directory.as_raw_fd();
            let names = directory.iter().flatten();
            names.filter_map(|entry| number(entry.file_name().to_bytes())).filter(|&fd| fd != own).collect()
        }
        // Without /proc they have to be tried one by one. More than these nobody leaks.
        Err(_) => (0..1024).collect(),
    };
    let named = open.into_iter().filter_map(|fd| Some((fd, target(fd)?)));
    Some(named.collect())
}

/// What an open descriptor refers to; without /proc only the kind of file.
fn target(fd: RawFd) -> Option<String> {
    // SAFETY: the number is only used to ask the kernel about it, which says EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD).ok()?;
    if let Ok(link) = fs::read_link(format!("/proc/self/fd/{fd}")) {
        return Some(lossy(link.as_os_str()));
    }
    let file = borrowed.try_clone_to_owned().ok().and_then(|copy| fs::File::from(copy).metadata().ok());
    let kind = file.map_or("?", |file| match file.file_type() {
        kind if kind.is_fifo() => "pipe",
        kind if kind.is_socket() => "socket",
        kind if kind.is_char_device() => "character device",
        kind if kind.is_block_device() => "block device",
        kind if kind.is_dir() => "directory",
        _ => "file",
    });
    Some(kind.to_string())
}

fn ids() -> Option<Ids> {
    Some(Ids {
        uid: unistd::getuid().as_raw(),
        euid: unistd::geteuid().as_raw(),
        gid: unistd::getgid().as_raw(),
        egid: unistd::getegid().as_raw(),
        groups: unistd::getgroups().ok()?.into_iter().map(unistd::Gid::as_raw).collect(),
    })
}

fn ipc() -> Option<BTreeMap<String, usize>> {
    let count = |kind: &str| {
        let heading_and_objects = lines(&format!("/proc/sysvipc/{kind}"))?;
        Some((kind.to_string(), heading_and_objects.len().saturating_sub(1)))
    };
    ["shm", "sem", "msg"].into_iter().map(count).collect()
}

fn limits() -> Option<BTreeMap<String, Limit>> {
    use Resource::*;
    let resources = [
        ("as", RLIMIT_AS),
        ("core", RLIMIT_CORE),
        ("cpu", RLIMIT_CPU),
        ("data", RLIMIT_DATA),
        ("fsize", RLIMIT_FSIZE),
        ("locks", RLIMIT_LOCKS),
        ("memlock", RLIMIT_MEMLOCK),
        ("msgqueue", RLIMIT_MSGQUEUE),
        ("nice", RLIMIT_NICE),
        ("nofile", RLIMIT_NOFILE),
        ("nproc", RLIMIT_NPROC),
        ("rss", RLIMIT_RSS),
        ("rtprio", RLIMIT_RTPRIO),
        ("rttime", RLIMIT_RTTIME),
        ("sigpending", RLIMIT_SIGPENDING),
        ("stack", RLIMIT_STACK),
    ];
    let finite = |limit| Some(limit).filter(|&limit| limit != RLIM_INFINITY);
    let limit = |(name, resource): (&str, Resource)| {
        let (soft, hard) = getrlimit(resource).ok()?;
        Some((name.to_string(), Limit { soft: finite(soft), hard: finite(hard) }))
    };
    resources.into_iter().map(limit).collect()
}

type Links = BTreeMap<String, Link>;
type Addresses = BTreeMap<String, BTreeSet<String>>;

/// getifaddrs(3), which asks over netlink and needs no /proc.
fn links() -> Option<(Links, Addresses)> {
    let (mut links, mut varying) = (Links::new(), Addresses::new());
    for found in nix::ifaddrs::getifaddrs().ok()? {
        let link = links.entry(found.interface_name.clone()).or_default();
        link.up = found.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = found.address else { continue };
        if let Some(hardware) = address.as_link_addr().and_then(|link| link.addr()) {
            let text = hardware.map(|byte| format!("{byte:02x}")).join(":");
            varying.entry(found.interface_name).or_default().insert(text);
        } else if let Some(ip) = address.as_sockaddr_in().map(|address| address.ip()) {
            let mask = found.netmask.as_ref().and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
            let bits = mask.map_or(32, |mask| mask.to_bits().count_ones());
            link.addresses.insert(format!("{}/{bits}", IpAddr::V4(ip)));
        } else if let Some(ip) = address.as_sockaddr_in6().map(|address| address.ip()) {
            let mask = found.netmask.as_ref().and_then(|mask| Some(mask.as_sockaddr_in6()?.ip()));
            let bits = mask.map_or(128, |mask| mask.to_bits().count_ones());
            let text = format!("{ip}/{bits}");
            if ip.is_unicast_link_local() {
                varying.entry(found.interface_name).or_default().insert(text);
            } else {
                link.addresses.insert(text);
            }
        }
    }
    Some((links, varying))
}

fn namespaces() -> Option<BTreeMap<String, String>> {
    let links = fs::read_dir("/proc/self/ns").ok()?.flatten();
    links
        .map(|link| {
            let inode = fs::read_link(link.path()).ok()?;
            Some((lossy(&link.file_name()), lossy(inode.as_os_str())))
        })
        .collect()
}

fn proc() -> Option<Proc> {
    if !Path::new("/proc/filesystems").exists() {
        return None; // nothing is mounted there
    }
    // /proc/self leads to this process's number in the PID namespace that /proc was mounted in.
    let number_there = fs::read_link("/proc/self").ok().and_then(|link| number(link.as_os_str().as_bytes()));
    Some(if number_there == Some(unistd::getpid().as_raw()) { Proc::Own } else { Proc::Another })
}

fn processes() -> Option<Vec<Process>> {
    let _mounted = proc()?;
    let process = |entry: fs::DirEntry| {
        let pid = number(entry.file_name().as_bytes())?;
        // It may have ended in between.
        let comm = fs::read(entry.path().join("comm")).ok()?;
        Some(Process { pid, comm: String::from_utf8_lossy(&comm).trim_end().to_string() })
    };
    let mut processes: Vec<_> = fs::read_dir("/proc").ok()?.flatten().filter_map(process).collect();
    processes.sort();
    Some(processes)
}

fn root() -> Option<Root> {
    let found = fs::metadata("/").ok()?;
    let entries = fs::read_dir("/").ok();
    Some(Root {
        device: found.dev(),
        inode: found.ino(),
        entries: entries.map(|entries| entries.flatten().map(|entry| lossy(&entry.file_name())).collect()),
    })
}

fn routes() -> Option<Vec<Route>> {
    let mut routes: Vec<_> = lines("/proc/self/net/route")?.iter().filter_map(|line| route(line)).collect();
    routes.sort();
    Some(routes)
}

/// A line of /proc/net/route; its addresses are hexadecimal and in network order.
fn route(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let address = |n: usize| {
        let number = u32::from_str_radix(fields.get(n)?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()))
    };
    let (destination, gateway, mask) = (address(1)?, address(2)?, address(7)?);
    let bits = mask.to_bits().count_ones();
    Some(Route {
        destination: if bits == 0 { "default".to_string() } else { format!("{destination}/{bits}") },
        gateway: Some(gateway).filter(|gateway| !gateway.is_unspecified()),
        link: fields.first()?.to_string(),
    })
}

fn session() -> Option<Session> {
    let stdin = std::io::stdin();
    Some(Session {
        terminal: unistd::ttyname(&stdin).ok(),
        leader: unistd::getsid(None).ok()? == unistd::getpid(),
        foreground: unistd::tcgetpgrp(&stdin).ok().map(|group| group == unistd::getpgrp()),
    })
}

/// The lines of a small file, each with its spaces made single.
fn lines(path: &str) -> Option<Vec<String>> {
    let single = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(fs::read_to_string(path).ok()?.lines().map(single).collect())
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The value of `name` in /proc/self/status.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    status.lines().find_map(value).map(str::trim)
}

/// Decodes several fields, each a set of bits in hexadecimal.
fn sets<'a>(
    field: &impl Fn(&str) -> Option<&'a str>,
    wanted: &[(&str, &str)],
    name: fn(u32) -> String,
) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let decode = |(called, field_name): &(&str, &str)| {
        let bits = u64::from_str_radix(field(field_name)?, 16).ok()?;
        Some((called.to_string(), (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1).map(name).collect()))
    };
    wanted.iter().map(decode).collect()
}

/// The name of a capability's bit.
fn capability(bit: u32) -> String {
    Capability(bit).to_string()
}

/// The name of a signal's bit: bit 0 is signal 1.
fn signal(bit: u32) -> String {
    let signal = bit as i32 + 1;
    match nix::sys::signal::Signal::try_from(signal) {
        Ok(known) => known.as_str().to_string(),
        Err(_) => format!("SIG{signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_a_mount_is() {
        let line = b"36 35 98:0 / /mnt rw,nosuid shared:3 master:1 - ext3 /dev/root ro,errors=continue";
        let mount = Mount::from(mountinfo::parse(line).remove(0));
        assert_eq!((mount.fstype.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert!(mount.read_only);
        assert_eq!(mount.options, BTreeSet::from(["nosuid".to_string()]));
        assert_eq!(mount.propagation, "shared slave");
        let private = Mount::from(mountinfo::parse(b"22 1 0:21 / /proc rw - proc proc rw").remove(0));
        assert_eq!((private.read_only, private.propagation.as_str()), (false, "private"));
    }

    #[test]
    fn reads_a_route() {
        let line = "eth0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        let route = route(line).expect("the line is well-formed");
        assert_eq!((route.destination.as_str(), route.link.as_str()), ("default", "eth0"));
        if cfg!(target_endian = "little") {
            assert_eq!(route.gateway, Some(Ipv4Addr::new(10, 88, 0, 1)));
        }
        let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT";
        assert_eq!(super::route(heading), None);
    }

    #[test]
    fn decodes_sets() {
        let status = "CapEff:\t0000000000000401\nSigIgn:\t0000000000001000\n";
        let field = |name: &str| field(status, name);
        let capabilities = sets(&field, &[("effective", "CapEff")], capability).expect("it is there");
        assert_eq!(
            capabilities["effective"],
            ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"].map(str::to_string).into()
        );
        let signals = sets(&field, &[("ignored", "SigIgn")], signal).expect("it is there");
        assert_eq!(signals["ignored"], ["SIGPIPE".to_string()].into());
        assert_eq!(sets(&field, &[("permitted", "CapPrm")], capability), None);
        assert_eq!((capability(63), signal(33)), ("CAP_63".to_string(), "SIG34".to_string()));
    }

    #[test]
    fn survives_a_journey_as_json() {
        let here = Witness::here();
        let text = serde_json::to_string(&here).expect("it can be written");
        assert_eq!(serde_json::from_str::<Witness>(&text).expect("it can be read"), here);
        assert_eq!(serde_json::from_str::<Witness>("{}").expect("all is optional"), Witness::default());
    }
}
