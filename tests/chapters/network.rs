//! Chapter 5: links, addresses, the bridge, and the way out.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::run::{Host, Running, chapter, eventually, links, program, real_root, run, says, sh};
use crate::support::sweep::{NEWEST, since};
use crate::support::{ANOTHER_USER, BOTH, Case, ROOT, USER, Who};

pub fn cases() -> Vec<Case> {
    const BRIDGE: &[&str] = &["veth", "bridge"];
    const SHARED: &[&str] = &["veth", "bridge", ANOTHER_USER];
    const TYPED: &[&str] = &["veth", "bridge", "program-ip"];
    const NAT: &[&str] = &["veth", "bridge", "program-ip", "nft"];
    vec![
        Case::new("network_inside", BOTH, network_inside).needs(BRIDGE),
        Case::new("network_none", BOTH, network_none),
        Case::new("network_host", BOTH, network_host),
        Case::new("no_ipv6_but_its_own_loopback", BOTH, no_ipv6_but_its_own_loopback),
        Case::new("two_containers_reach_each_other", BOTH, two_containers_reach_each_other).needs(SHARED),
        Case::new("container_and_host_reach_each_other", ROOT, container_and_host_reach_each_other)
            .needs(BRIDGE),
        Case::new("users_bridge_is_not_the_hosts", USER, users_bridge_is_not_the_hosts).needs(SHARED),
        Case::new("addresses_come_back", BOTH, addresses_come_back).needs(SHARED),
        Case::new("addresses_differ_when_many_start_at_once", BOTH, addresses_differ).needs(BRIDGE),
        Case::new("bridge_goes_with_its_last_container", ROOT, bridge_goes_with_its_last_container)
            .needs(BRIDGE),
        Case::new("nat_to_the_world", ROOT, nat_to_the_world).needs(NAT),
        Case::new("nat_is_cleared_after_sigkill", ROOT, nat_is_cleared_after_sigkill).needs(NAT),
        Case::new("without_nft_everything_else_works", ROOT, without_nft_everything_else_works).needs(TYPED),
        Case::new("foreign_devices_are_left_alone", ROOT, foreign_devices_are_left_alone).needs(TYPED),
        Case::new("resolver_is_the_hosts", ROOT, resolver_is_the_hosts).needs(BRIDGE),
    ]
}

/// Runs ip(8) on the lab's host.
fn ip(arguments: &str) -> String {
    let ended = run(Command::new("ip").args(arguments.split(' ')));
    assert_eq!(ended.status, 0, "ip {arguments}: {}", ended.err);
    ended.out
}

/// The container's address, as it prints it itself.
const OWN: &str = "ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'";

fn network_inside(who: Who) {
    for number in since(5) {
        let script = format!(
            "ip -o link | wc -l; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo lo answers; {OWN}; ip route"
        );
        let said = says(number, who, &[], &script);
        assert!(
            said.starts_with("2\nlo answers\n10.83.0.2\ndefault via 10.83.0.1 dev eth0"),
            "chapter {number}: {said}"
        );
        let said = says(number, who, &[], "ping -c 1 -W 5 10.83.0.1 >/dev/null && echo the bridge answers");
        assert_eq!(said, "the bridge answers\n", "chapter {number}");
    }
}

fn network_none(who: Who) {
    let before = links();
    for number in since(5) {
        let running = Running::start(number, who, &["--network", "none"], "");
        assert_eq!(links(), before, "chapter {number}");
        running.end();
        let script =
            "ip -o link | wc -l; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo lo answers; ip route | wc -l";
        assert_eq!(
            says(number, who, &["--network", "none"], script),
            "1\nlo answers\n0\n",
            "chapter {number}"
        );
    }
}

fn network_host(who: Who) {
    let own = fs::read_link("/proc/self/ns/net").expect("readable");
    for number in since(5) {
        let seen = says(number, who, &["--network", "host"], "readlink /proc/self/ns/net");
        assert_eq!(seen.trim_end(), own.to_string_lossy(), "chapter {number}");
    }
}

fn no_ipv6_but_its_own_loopback(who: Who) {
    for number in since(5) {
        let others = "grep -v ' lo$' /proc/net/if_inet6; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6";
        assert_eq!(says(number, who, &[], others), "1\n", "chapter {number}");
        assert_eq!(says(number, who, &[], "grep -c ' lo$' /proc/net/if_inet6"), "1\n", "chapter {number}");
    }
}

fn two_containers_reach_each_other(who: Who) {
    for number in since(5) {
        let first = Running::start(number, who, &[], "");
        // A server inside the first, on TCP: what it says arrives.
        let server = Running::start(
            number,
            who,
            &["--hostname", "server"],
            "(echo hello | nc -l -p 80 >/dev/null) & sleep 0.2",
        );
        let said = says(
            number,
            who,
            &[],
            "ping -c 1 -W 5 10.83.0.2 >/dev/null && ping -c 1 -W 5 10.83.0.3 >/dev/null && echo both; nc -w 5 10.83.0.3 80 </dev/null",
        );
        assert_eq!(said, "both\nhello\n", "chapter {number}");
        server.end();
        first.end();
    }
}

fn container_and_host_reach_each_other(who: Who) {
    let running = Running::start(5, who, &[], "");
    // The machine may have no ping.
    let ping = run(program("applets", who).args(["ping", "-c", "1", "-W", "5", "10.83.0.2"]));
    assert_eq!(ping.status, 0, "{}{}", ping.out, ping.err);
    assert!(links().contains(&"cooperage0".to_string()));
    let cables = links().iter().filter(|name| name.starts_with("veth")).count();
    assert_eq!(cables, 1);
    running.end();
}

fn users_bridge_is_not_the_hosts(who: Who) {
    let before = links();
    let first = Running::start(5, who, &[], "");
    let second = Running::start(6, who, &[], "");
    assert_eq!(links(), before, "an ordinary user changes nothing of the host's network");
    // Both runtimes are in the same network namespace, the user's own.
    let hub = |running: &Running| {
        fs::read_link(format!("/proc/{}/ns/net", running.runtime())).expect("it is alive")
    };
    assert_eq!(hub(&first), hub(&second));
    assert_ne!(hub(&first), fs::read_link("/proc/self/ns/net").expect("readable"));
    // The first may go; the second still has its bridge, and a third finds it.
    first.end();
    let said = says(5, who, &[], "ping -c 1 -W 5 10.83.0.3 >/dev/null && echo reached");
    assert_eq!(said, "reached\n");
    second.end();
}

fn addresses_come_back(who: Who) {
    for number in since(5) {
        for _ in 0..3 {
            assert_eq!(says(number, who, &[], OWN), "10.83.0.2\n", "chapter {number}");
        }
        let other = Running::start(number, who, &[], "");
        let killed = Running::start(number, who, &[], "");
        assert_eq!(says(number, who, &[], OWN), "10.83.0.4\n", "chapter {number}");
        killed.signal(Signal::SIGKILL);
        assert_eq!(says(number, who, &[], OWN), "10.83.0.3\n", "chapter {number}: after SIGKILL");
        other.end();
    }
}

fn addresses_differ(who: Who) {
    let mut children: Vec<_> = (0..20)
        .map(|_| {
            let script = format!("{OWN}; read line");
            let mut command = chapter(5, who);
            command.args(["--", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().expect("the program starts")
        })
        .collect();
    let mut seen = BTreeSet::new();
    for child in &mut children {
        use std::io::BufRead;
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        std::io::BufReader::new(out).read_line(&mut line).expect("readable");
        assert!(line.starts_with("10.83."), "{line:?}");
        assert!(seen.insert(line.clone()), "{line:?} was given twice");
    }
    for mut child in children {
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
    assert_eq!(seen.len(), 20);
}

fn bridge_goes_with_its_last_container(who: Who) {
    let first = Running::start(5, who, &[], "");
    let second = Running::start(NEWEST, who, &[], "");
    first.end();
    assert!(links().contains(&"cooperage0".to_string()), "one container is left");
    // The first one's cable was switched off; the kernel removes it, some moments later.
    let cables = || links().iter().filter(|name| name.starts_with("veth")).count();
    eventually("the end of the first one's cable", || cables() == 1);
    second.end();
    assert!(!links().iter().any(|name| name == "cooperage0" || name.starts_with("veth")), "{:?}", links());
}

/// A host beyond the lab's host: what the internet is to a real one.
fn make_world() {
    // A network namespace for the world, held by a process; the lab's host is 192.0.2.2 in it.
    #[expect(clippy::zombie_processes, reason = "the lab's end ends it")]
    let world = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().expect("unshare");
    eventually("its namespace", || {
        fs::read_link(format!("/proc/{}/ns/net", world.id())).ok() != fs::read_link("/proc/self/ns/net").ok()
            && fs::read_to_string(format!("/proc/{}/comm", world.id()))
                .is_ok_and(|name| name.trim() == "sleep")
    });
    let pid = world.id();
    ip(&format!("link add up0 type veth peer name world0 netns {pid}"));
    ip("addr add 192.0.2.2/24 dev up0");
    ip("link set up0 up");
    // A new network namespace forwards if the machine does, and where Docker runs it does.
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("the lab's own");
    let inside = |arguments: &str| {
        let target = format!("--target={pid}");
        let ended = run(Command::new("nsenter").args([&target, "--net", "ip"]).args(arguments.split(' ')));
        assert_eq!(ended.status, 0, "{}", ended.err);
    };
    inside("addr add 192.0.2.1/24 dev world0");
    inside("link set world0 up");
    inside("link set lo up");
    ip("route add default via 192.0.2.1");
}

fn forwarding() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable").trim().to_string()
}

fn tables() -> String {
    run(Command::new("nft").args(["list", "tables"])).out
}

fn nat_to_the_world(who: Who) {
    make_world();
    for before in ["0", "1"] {
        fs::write("/proc/sys/net/ipv4/ip_forward", before).expect("the lab's own");
        // The world knows no way to 10.83/16: an answer comes only through NAT.
        let reach = "ping -c 1 -W 5 192.0.2.1 >/dev/null && echo reached";
        for number in since(5) {
            let running = Running::start(number, who, &[], reach);
            assert_eq!(
                (forwarding().as_str(), tables().contains("cooperage")),
                ("1", true),
                "chapter {number}"
            );
            let second = Running::start(number, who, &[], reach);
            second.end();
            assert_eq!(forwarding(), "1", "chapter {number}: one container is left");
            let ended = running.end();
            assert_eq!(ended.status, 0, "chapter {number}: {}", ended.err);
            assert_eq!(
                (forwarding().as_str(), tables().as_str()),
                (before, ""),
                "chapter {number}: put back"
            );
            assert_eq!(says(number, who, &[], reach), "reached\n", "chapter {number}");
        }
        let told = run(chapter(5, who).args(["--explain", "--", "true"])).err;
        assert_eq!(told.contains("ip_forward\", \"1\")"), before == "0", "{told}");
        assert_eq!(told.contains("ip_forward\", \"0\")"), before == "0", "{told}");
    }
}

fn nat_is_cleared_after_sigkill(who: Who) {
    make_world();
    let before = Host::now();
    assert_eq!(forwarding(), "0");
    Running::start(5, who, &[], "").signal(Signal::SIGKILL);
    assert_eq!((forwarding().as_str(), tables().contains("cooperage")), ("1", true), "or nothing is tested");
    says(1, who, &[], "true");
    assert_eq!((forwarding().as_str(), tables().as_str()), ("0", ""));
    eventually("the kernel's own clearing up", || links() == before.links);
}

fn without_nft_everything_else_works(who: Who) {
    make_world();
    for path in ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft"] {
        if let Ok(nft) = fs::canonicalize(path) {
            let bind = nix::mount::MsFlags::MS_BIND;
            nix::mount::mount(Some("/dev/null"), &nft, None::<&str>, bind, None::<&str>).expect("mount");
        }
    }
    let script = format!("{OWN}; ping -c 1 -W 5 10.83.0.1 >/dev/null && echo the bridge answers");
    let ended = run(chapter(5, who).args(["--explain", "--", "sh", "-c", &script]));
    assert_eq!((ended.status, ended.out.as_str()), (0, "10.83.0.2\nthe bridge answers\n"), "{}", ended.err);
    assert!(
        ended.err.contains("no NAT") && ended.err.contains("nft"),
        "the narration says so: {}",
        ended.err
    );
    assert_eq!(forwarding(), "0", "no NAT, so nothing to forward");
    let silent = run(chapter(5, who).args(["--", "true"]));
    assert_eq!((silent.status, silent.err.as_str()), (0, ""));
}

fn foreign_devices_are_left_alone(who: Who) {
    if !real_root() {
        return; // needs a dummy device
    }
    ip("link add cooperage0 type veth peer name other0");
    let before = Host::now();
    let ended = sh(5, who, &[], "true");
    assert_eq!(ended.status, 125, "{}", ended.err);
    assert!(ended.err.contains("cooperage0") && ended.err.contains("remedy"), "{}", ended.err);
    Host::now().must_be(&before, "a foreign cooperage0");
    assert_eq!(sh(5, who, &["--network", "none"], "true").status, 0);
    ip("link delete cooperage0");
    // An address of the usual subnet is taken: another subnet is chosen.
    ip("link add other0 type bridge");
    ip("addr add 10.83.7.7/24 dev other0");
    let own = says(5, who, &[], OWN);
    assert!(!own.starts_with("10.83.") && own.trim_end().ends_with(".0.2"), "{own}");
}

fn resolver_is_the_hosts(who: Who) {
    // The lab's /etc is read-only: another file is put over it.
    fs::write("/tmp/resolv.conf", "nameserver 127.0.0.1\nnameserver 192.0.2.53\nsearch example.org\n")
        .expect("writable");
    let target = fs::canonicalize("/etc/resolv.conf").expect("it is there");
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some("/tmp/resolv.conf"), &target, None::<&str>, bind, None::<&str>).expect("mount");
    for number in since(5) {
        let seen = says(number, who, &[], "cat /etc/resolv.conf");
        assert!(seen.contains("nameserver 192.0.2.53\n") && seen.contains("search example.org"), "{seen}");
        assert!(!seen.contains("127.0.0.1"), "the host's own loopback is not reached from inside: {seen}");
        let seen = says(number, who, &["--network", "host"], "cat /etc/resolv.conf");
        assert!(seen.contains("127.0.0.1"), "with the host's network it is: {seen}");
    }
}
