//! What the page of chapter 5 shows.

use crate::support::session::Session;

const BRIDGE: &[&str] = &["veth", "bridge"];

/// How long a packet takes, and what a packet is called by two pings.
const PING: &[(&str, &str)] = &[
    (r"time=[0-9.]+ ms", "time=0.068 ms"),
    (r"(round-trip|rtt) (\S+) = [0-9./]+ ms", "$1 $2 = 0.068/0.068/0.068 ms"),
    (r"loss, time \d+ms", "loss, time 0ms"),
];
/// An address of IPv6 that a device gives itself is not ready immediately.
const LINK_LOCAL: (&str, &str) = (r"\n +inet6 fe80[^\n]*\n[^\n]*lft[^\n]*", "");
/// The other end's number, which the kernel counts up.
const PEER: (&str, &str) = (r"@if\d+", "@if5");

const RUN: &[(&str, &str)] = &[LINK_LOCAL, PEER, PING[0], PING[1]];

pub const SESSIONS: &[Session] = &[
    Session::new(
        "page05-run",
        &[
            "cargo run --bin chapter05",
            "> ip addr",
            "> ip route",
            "> ping -c 1 10.83.0.1",
        ],
    )
    .needs(BRIDGE)
    .filters(RUN),
    Session::new(
        "page05-shared",
        &[
            "ping -c 1 -W 1 127.0.0.1 | grep transmitted",
            "cargo run --bin chapter04 -- ip link set lo down",
            "ping -c 1 -W 1 127.0.0.1 | grep transmitted",
        ],
    )
    .filters(PING),
    Session::new(
        "page05-taken",
        &[
            "cargo run --bin chapter04 -- nc -l -p 8080 &",
            "~ wait_for grep -q :1F90.*00000000: /proc/net/tcp /proc/net/tcp6",
            "cargo run --bin chapter04 -- nc -l -p 8080",
        ],
    ),
    Session::new("page05-empty", &["unshare --net ip addr", "unshare --net ping -c 1 127.0.0.1"]),
    Session::new(
        "page05-itself",
        &[
            "cargo run --bin chapter05",
            "> ip link set lo down",
            "> ping -c 1 -W 1 10.83.0.1 | grep transmitted",
            "> ping -c 1 -W 1 10.83.0.2 | grep transmitted",
        ],
    )
    .needs(BRIDGE),
    Session::new(
        "page05-explain",
        &["cargo run --bin chapter05 -- --explain true 2>&1 | grep -e sendto -e NETLINK -e clone -e NAT"],
    )
    .needs(BRIDGE)
    .filters(&[(r"\) = \d+ {2,}", ") = N  "), (r"NETLINK_ROUTE\) = \d+", "NETLINK_ROUTE) = N")]),
    Session::new(
        "page05-two",
        &[
            "cargo run --bin chapter05 -- --hostname server nc -l -p 80 -e echo hello &",
            "~ wait_for pgrep -P $! nc",
            "~ wait_for nsenter --target $(pgrep -P $!) --net grep -q :0050.*00000000: /proc/net/tcp /proc/net/tcp6",
            "cargo run --bin chapter05 -- --hostname client",
            "> hostname -i",
            "> cat /etc/hosts",
            "> nc 10.83.0.2 80 </dev/null",
        ],
    )
    .needs(BRIDGE),
    Session::new(
        "page05-modes",
        &[
            "cargo run --bin chapter05 -- --network none ip -o link",
            "cargo run --bin chapter05 -- --network none ping -c 1 10.83.0.1",
            "readlink /proc/self/ns/net",
            "cargo run --bin chapter05 -- --network host readlink /proc/self/ns/net",
        ],
    ),
    Session::new(
        "page05-resolver",
        &[
            "printf 'search example.org\\nnameserver 127.0.0.1\\nnameserver 192.0.2.53\\n' > /tmp/resolv.conf",
            "mount --bind /tmp/resolv.conf /etc/resolv.conf",
            "cargo run --bin chapter05 -- cat /etc/resolv.conf",
        ],
    )
    .needs(BRIDGE),
    Session::new(
        "page05-nat",
        &[
            // Where Docker runs the machine forwards already, and a new network namespace with it.
            "~ echo 0 >/proc/sys/net/ipv4/ip_forward",
            "# a card to the world, as far as the kernel can tell",
            "ip link add wan0 type veth peer name world",
            "ip addr add 192.0.2.2/24 dev wan0; ip link set wan0 up; ip link set world up",
            "ip route add default via 192.0.2.1",
            "cat /proc/sys/net/ipv4/ip_forward",
            "cargo run --bin chapter05 -- sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "nft list ruleset",
            "cat /proc/sys/net/ipv4/ip_forward",
            "kill $!; wait",
            "nft list ruleset; cat /proc/sys/net/ipv4/ip_forward",
        ],
    )
    .needs(&["veth", "bridge", "nft"]),
    Session::new(
        "page05-outside",
        &[
            "cargo run --bin chapter05 -- sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "~ wait_for sh -c 'ip -br link | grep \"cooperage0 *UP\"'",
            "ip -br link",
            "bridge link",
            "pid=$(pgrep -P $!)",
            "readlink /proc/self/ns/net /proc/$pid/ns/net",
            "nsenter --target $pid --net ip -br addr",
            "kill -KILL $!; wait",
            // The bridge notices a little later.
            "~ wait_for sh -c '! ip -br link | grep veth && ip link | grep cooperage0.*NO-CARRIER'",
            "ip -br link",
        ],
    )
    .needs(BRIDGE)
    .filters(&[(r" fe80\S+", "")]),
    Session::new(
        "page05-user",
        &[
            "ip link add type bridge",
            "cargo run --bin chapter05 -- sleep 1000 &",
            "~ wait_for pgrep -P $! sleep",
            "ip -br link",
            "readlink /proc/self/ns/net /proc/$!/ns/net /proc/$(pgrep -P $!)/ns/net",
        ],
    )
    .needs(BRIDGE)
    .user(),
    // Break it.
    Session::new(
        "page05-not-set-up",
        &["cargo run --bin chapter05 -- ip addr", "cargo run --bin chapter05 -- ping -c 1 10.83.0.1"],
    )
    .needs(BRIDGE)
    .filters(&[PEER])
    .broken(5, "        network.set_up_inside()?;\n", ""),
    Session::new(
        "page05-route-first",
        &[
            "unshare --net ip route add default via 10.83.0.1",
            "cargo run --bin chapter05",
            "> ip route del default",
            "> ip link set eth0 down",
            "> ip route add default via 10.83.0.1",
        ],
    )
    .needs(BRIDGE),
    Session::new(
        "page05-breakout",
        &[
            "cargo run --bin breakout -- abstract-socket --chapter 4",
            "cargo run --bin breakout -- abstract-socket --chapter 5",
        ],
    )
    .needs(BRIDGE),
    Session::new(
        "page05-by-hand",
        &[
            "unshare --net sleep 1000 &",
            "~ wait_for sh -c 'test $(readlink /proc/self/ns/net) != $(readlink /proc/'$!'/ns/net)'",
            "ip link add cable0 type veth peer name eth0 netns $!",
            "ip addr add 10.99.0.1/24 dev cable0; ip link set cable0 up",
            "nsenter --target $! --net ip addr add 10.99.0.2/24 dev eth0",
            "nsenter --target $! --net ip link set eth0 up",
            "ping -c 1 10.99.0.2",
        ],
    )
    .needs(BRIDGE)
    .filters(PING),
    Session::new(
        "page05-publish",
        &[
            "cargo run --bin chapter05 -- nc -l -p 80 -e echo hello &",
            "~ wait_for pgrep -P $! nc",
            "~ wait_for nsenter --target $(pgrep -P $!) --net grep -q :0050.*00000000: /proc/net/tcp /proc/net/tcp6",
            "nft add table ip doors",
            "nft add chain ip doors mine '{ type nat hook output priority -100; }'",
            "nft add rule ip doors mine ip daddr 10.83.0.1 tcp dport 8080 dnat to 10.83.0.2:80",
            "busybox nc 10.83.0.1 8080 </dev/null",
        ],
    )
    .needs(&["veth", "bridge", "nft"]),
];
