//! Chapter 8: an ordinary user's way to the world, by pasta(1) or slirp4netns(1).
//!
//! The lab is the machine, and beside it is another network namespace, the world, with one server in it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;

use crate::support::run::{Running, as_who, chapter, eventually, run, says};
use crate::support::sweep::{OWN_USERS, since};
use crate::support::{ANOTHER_USER, BOTH, Case, ROOT_ITSELF, USER, Who, binary};

pub fn cases() -> Vec<Case> {
    const PASTA: &[&str] =
        &[ANOTHER_USER, ROOT_ITSELF, "veth", "bridge", "nft", "program-ip", "tun", "program-pasta"];
    const SLIRP: &[&str] =
        &[ANOTHER_USER, ROOT_ITSELF, "veth", "bridge", "nft", "program-ip", "tun", "program-slirp4netns"];
    vec![
        Case::new("users_containers_reach_the_world", USER, by_pasta).needs(PASTA),
        Case::new("users_containers_reach_the_world_by_slirp4netns", USER, by_slirp4netns).needs(SLIRP),
        Case::new("uplink_leaves_nothing", USER, leaves_nothing).needs(PASTA),
        Case::new("uplink_is_made_again", USER, is_made_again).needs(PASTA),
        Case::new("without_an_uplink_as_ever", BOTH, without_an_uplink).needs(&[
            ANOTHER_USER,
            "veth",
            "bridge",
        ]),
    ]
}

/// Beside the lab.
struct World {
    holder: Child,
}

impl World {
    /// A link from the lab to the world, and a server there. And a device that users may open, as on most machines.
    fn new() -> World {
        fs::create_dir_all("/dev/net").expect("the lab's /dev is its own");
        mount(Some("tmpfs"), "/dev/net", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
        mknod("/dev/net/tun", SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).expect("mknod");
        fs::set_permissions("/dev/net/tun", std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .expect("chmod");
        let holder = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().expect("unshare");
        let world = format!("/proc/{}/ns/net", holder.id());
        let own = fs::read_link("/proc/self/ns/net").expect("it is there");
        eventually("the world", || fs::read_link(&world).is_ok_and(|other| other != own));
        let namespace = fs::File::open(&world).expect("it lives");
        let script = format!(
            "ip link set lo up; ip link add out type veth peer name in netns {pid}; ip addr add 192.0.2.2/24 dev out; \
             ip link set out up; ip route add default via 192.0.2.1",
            pid = holder.id()
        );
        let made = Command::new("sh").args(["-ec", &script]).output().expect("sh");
        assert!(made.status.success(), "{made:?}");
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may");
            let script = "ip link set lo up; ip addr add 192.0.2.1/24 dev in; ip link set in up";
            assert!(Command::new("sh").args(["-ec", script]).status().expect("sh").success());
            let server = TcpListener::bind("192.0.2.1:80").expect("nobody is there");
            ready.send(()).expect("somebody waits");
            for mut visitor in server.incoming().flatten() {
                let _ = visitor.write_all(b"the world\n");
            }
        });
        is_ready.recv().expect("a server");
        // What listens on the machine's loopback device is for the machine.
        let own = TcpListener::bind("127.0.0.1:81").expect("nobody is there");
        std::thread::spawn(move || {
            for mut visitor in own.incoming().flatten() {
                let _ = visitor.write_all(b"the machine\n");
            }
        });
        fs::write("/tmp/resolv.conf", "search example.org\nnameserver 192.0.2.1\n").expect("writable");
        // It may be a link to where nothing is in a lab.
        let resolver = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| "/etc/resolv.conf".into());
        mount(Some("/tmp/resolv.conf"), &resolver, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .expect("mount");
        World { holder }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// It does not end its own half before the answer is there: an old pasta takes that for the end of all. And now and then it loses the
/// other half's end: who has the answer does not wait for that.
const ASK: &str = "{ sleep 1 | timeout 10 nc -w 5 192.0.2.1 80; } 2>/dev/null || :";

/// The processes of uplinks that are alive: programs, and guardians and waiters, who have the guardian's file open.
fn serving() -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("readable").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_program = [&b"pasta\0"[..], b"slirp4netns\0"].iter().any(|name| line.starts_with(name));
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let has_it = open.filter_map(|link| fs::read_link(link.path()).ok()).any(|path| {
            path.parent().is_some_and(|above| above.ends_with("uplinks"))
                && path.extension().is_none_or(|end| end != "users")
        });
        if is_program || has_it {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

fn program() -> Pid {
    let is_pasta =
        |pid: &Pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"pasta\0");
    serving().into_iter().find(is_pasta).expect("pasta serves")
}

fn by_pasta(who: Who) {
    let _world = World::new();
    for number in since(OWN_USERS) {
        let first = Running::start(number, who, &[], "");
        assert_eq!(serving().len(), 3, "one guardian, one waiter, one pasta");
        assert_eq!(says(number, who, &[], ASK), "the world\n");
        assert_eq!(serving().len(), 3, "a second container shares it");
        let resolver = says(number, who, &[], "cat /etc/resolv.conf");
        assert_eq!(resolver, "search example.org\nnameserver 169.254.1.1\n");
        // Not the machine's own, by none of the addresses that it has.
        for address in ["127.0.0.1", "192.0.2.2", "10.83.0.1"] {
            let said = run(chapter(number, who).args([
                "--",
                "sh",
                "-c",
                &format!("sleep 0.2 | timeout 3 nc -w 2 {address} 81"),
            ]));
            assert_eq!(said.out, "", "{address}");
        }
        // And each other, as before: the first is 10.83.0.2.
        says(number, who, &[], "ping -c 1 -W 5 10.83.0.2");
        first.end();
        eventually("the end of the uplink", || serving().is_empty());
        // Modes without a bridge need none.
        assert_eq!(says(number, who, &["--network", "none"], "cat /proc/net/route | wc -l").trim(), "1");
        assert!(serving().is_empty());
        // The chapters before never start one.
        says(OWN_USERS - 1, who, &[], "true");
        assert!(serving().is_empty());
    }
}

fn by_slirp4netns(who: Who) {
    let _world = World::new();
    fs::create_dir("/tmp/programs").expect("writable");
    for name in ["slirp4netns", "nft", "sh"] {
        let script = format!("ln -s $(command -v {name} || echo /usr/sbin/{name}) /tmp/programs/{name}");
        assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success());
    }
    says(1, who, &[], "true"); // makes the rootfs
    for number in since(OWN_USERS) {
        let mut command = Command::new(binary(&format!("chapter{number:02}"), who));
        command.env_clear().env("PATH", "/tmp/programs").stdin(Stdio::null());
        as_who(&mut command, who);
        let ended = run(command.args(["--", "sh", "-c", &format!("{ASK}; cat /etc/resolv.conf")]));
        assert_eq!(ended.out, "the world\nsearch example.org\nnameserver 10.0.2.3\n", "{}", ended.err);
        eventually("the end of the uplink", || serving().is_empty());
    }
}

/// Whoever is killed.
fn leaves_nothing(who: Who) {
    let _world = World::new();
    for number in since(OWN_USERS) {
        let alive = || -> Vec<Running> { (0..2).map(|_| Running::start(number, who, &[], "")).collect() };
        // All runtimes.
        alive().into_iter().for_each(|running| drop(running.signal(Signal::SIGKILL)));
        eventually("the end of the uplink", || serving().is_empty());
        // The guardian alone: the containers live on, without.
        let running = alive();
        for pid in serving() {
            if fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S 1 ")) {
                kill(pid, Signal::SIGKILL).expect("it lives");
            }
        }
        eventually("the end of the uplink", || serving().is_empty());
        running.into_iter().for_each(|running| assert_eq!(running.end().status, 0));
        // Everybody at once.
        let running = alive();
        let all: Vec<Pid> = serving().into_iter().chain(running.iter().map(Running::runtime)).collect();
        for pid in all {
            let _ = kill(pid, Signal::SIGKILL);
        }
        running.into_iter().for_each(|running| drop(running.wait()));
        eventually("the end of the uplink", || serving().is_empty());
        // The next run clears the notes up.
        says(number, who, &[], "true");
        eventually("the end of the uplink", || serving().is_empty());
        let notes = Path::new("/tmp/cooperage-65534");
        for name in ["uplinks", "networks", "addresses"] {
            eventually("no notes", || {
                says(number, who, &["--network", "none"], "true");
                fs::read_dir(notes.join(name)).is_ok_and(|mut entries| entries.next().is_none())
                    || !notes.join(name).exists()
            });
        }
    }
}

fn is_made_again(who: Who) {
    let _world = World::new();
    for number in since(OWN_USERS) {
        let first = Running::start(number, who, &[], "");
        kill(program(), Signal::SIGKILL).expect("it lives");
        eventually("the end of the uplink", || serving().is_empty());
        assert_eq!(says(number, who, &[], ASK), "the world\n");
        first.end();
        eventually("the end of the uplink", || serving().is_empty());
        // A hub that an older chapter has made gets one, too.
        let older = Running::start(number - 1, who, &[], "");
        assert_eq!(says(number, who, &[], ASK), "the world\n");
        older.end();
        eventually("the end of the uplink", || serving().is_empty());
    }
}

/// Where there is no program, or no right to use one, a user's containers reach each other; root needs none.
fn without_an_uplink(who: Who) {
    if Path::new("/dev/net").exists() {
        mount(Some("tmpfs"), "/dev/net", Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
    }
    for number in since(OWN_USERS) {
        let first = Running::start(number, who, &[], "");
        says(number, who, &[], "ping -c 1 -W 5 10.83.0.2");
        assert!(serving().is_empty());
        first.end();
        let told = run(chapter(number, who).args(["--explain", "--", "true"])).err;
        assert_eq!(told.contains("no way to the world for an ordinary user"), who == Who::User, "{told}");
    }
}
