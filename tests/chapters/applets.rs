//! The small programs that stand in for what the machine lacks: here under their own name, as the machine may have others.

use crate::support::run::{Ended, chapter, run};
use crate::support::{BOTH, Case, Who};

pub fn cases() -> Vec<Case> {
    const BRIDGE: &[&str] = &["veth", "bridge"];
    vec![
        Case::new("applets_show_what_the_kernel_says", BOTH, applets_show_what_the_kernel_says).needs(BRIDGE),
        Case::new("applets_change_what_they_can", BOTH, applets_change_what_they_can).needs(BRIDGE),
        Case::new("applets_talk_to_each_other", BOTH, applets_talk_to_each_other),
        Case::new("applets_say_why_not", BOTH, applets_say_why_not),
    ]
}

/// In a root filesystem of the machine's programs: busybox has all that they have.
fn in_chapter_5(who: Who, options: &[&str], script: &str) -> Ended {
    let mut command = chapter(5, who);
    command.env("COOPERAGE_ROOTFS_FROM", "machine").args(options).args(["--", "sh", "-c", script]);
    run(&mut command)
}

fn says(who: Who, options: &[&str], script: &str) -> String {
    let ended = in_chapter_5(who, options, script);
    assert_eq!((ended.status, ended.err.as_str()), (0, ""), "{script}: {}", ended.out);
    ended.out
}

fn applets_show_what_the_kernel_says(who: Who) {
    assert_eq!(
        says(who, &[], "exec applets ps -o pid,ppid,comm"),
        "PID   PPID  COMMAND\n    1     0 applets\n"
    );
    assert_eq!(says(who, &[], "exec applets ps"), "PID   USER     COMMAND\n    1 root     applets ps\n");
    assert_eq!(says(who, &[], "exec applets ps -e -o pid="), "    1\n");

    // The kernel sees that a cable is plugged in when it comes round to it.
    let plugged =
        "n=0; while applets ip link | grep -q NO-CARRIER && [ $n -lt 500 ]; do sleep 0.02; n=$((n+1)); done";
    let all = says(who, &[], &format!("{plugged}; applets ip addr"));
    for part in [
        "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue qlen 1000\n    link/loopback 00:00:00:00:00:00",
        "    inet 127.0.0.1/8 scope host lo\n       valid_lft forever preferred_lft forever\n",
        ": eth0@if",
        ": <BROADCAST,MULTICAST,UP,LOWER_UP> mtu ",
        "    inet 10.83.0.2/16 scope global eth0\n",
    ] {
        assert!(all.contains(part), "{part:?} is not in {all}");
    }
    let one = says(who, &[], "applets ip -o -4 addr show eth0");
    assert!(one.contains(": eth0    inet 10.83.0.2/16 scope global eth0\\       valid_lft forever"), "{one}");
    assert_eq!(
        says(who, &[], "applets ip route"),
        "default via 10.83.0.1 dev eth0\n10.83.0.0/16 dev eth0 scope link src 10.83.0.2\n"
    );
    assert_eq!(
        says(who, &["--hostname", "web"], "applets hostname; applets hostname -i"),
        "web\n10.83.0.2\n"
    );

    let said = says(who, &[], "applets ping -c 1 -W 5 10.83.0.1");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "PING 10.83.0.1 (10.83.0.1): 56 data bytes");
    assert!(lines[1].starts_with("64 bytes from 10.83.0.1: seq=0 ttl=64 time="), "{said}");
    assert_eq!(lines[4], "1 packets transmitted, 1 packets received, 0% packet loss");
    assert!(lines[5].starts_with("round-trip min/avg/max = "), "{said}");
}

fn applets_change_what_they_can(who: Who) {
    let script = "applets ip route del default; applets ip link set eth0 down; applets ip -br link show eth0; \
                  applets ip link set eth0 up; applets ip addr add 192.0.2.7/24 dev eth0; \
                  applets ip route add default via 192.0.2.1; applets ip route show dev eth0";
    let said = says(who, &[], script);
    let (link, routes) = said.split_once('\n').expect("lines");
    assert!(link.starts_with("eth0@if") && link.contains(" DOWN "), "{said}");
    assert!(routes.starts_with("default via 192.0.2.1 dev eth0\n"), "{said}");
    assert!(routes.contains("\n192.0.2.0/24 dev eth0 scope link src 192.0.2.7\n"), "{said}");
    let script = "applets hostname other; applets hostname; (sleep 1000 & applets kill $!; wait $!; echo $?) 2>/dev/null";
    assert_eq!(says(who, &[], script), "other\n143\n");
}

fn applets_talk_to_each_other(who: Who) {
    let none = ["--network", "none"];
    let until = "until applets nc 127.0.0.1 80 </dev/null 2>/dev/null; do sleep 0.02; done";
    // What waits to be sent is, though the other end has nothing to say.
    assert_eq!(says(who, &none, &format!("echo hello | applets nc -l -p 80 & {until}; wait")), "hello\n");
    assert_eq!(says(who, &none, &format!("applets nc -l -p 80 -e echo hello & {until}; wait")), "hello\n");

    let script = format!(
        "echo home >/srv/index.html; ln -s /etc/passwd /srv/out; applets httpd -f -h /srv & {until} >/dev/null; \
         for path in / /nothing /out /../etc/passwd; do \
            printf 'GET %s HTTP/1.0\\r\\n\\r\\n' $path | applets nc 127.0.0.1 80 | sed -n '1p;$p'; \
         done; kill $!"
    );
    let said = says(who, &none, &script).replace('\r', "");
    let missing = "HTTP/1.0 404 Not Found\n404 Not Found\n";
    assert_eq!(said, format!("HTTP/1.0 200 OK\nhome\n{}", missing.repeat(3)));
}

fn applets_say_why_not(who: Who) {
    for (script, status, said) in [
        ("applets ping -c 1 10.83.0.1", 1, "ping: sendto: Network is unreachable\n"),
        ("applets ping -c 1 nobody.invalid", 1, "ping: bad address 'nobody.invalid'\n"),
        ("applets nc 127.0.0.1 80", 1, "nc: can't connect to remote host (127.0.0.1): Connection refused\n"),
        ("applets ip link show eth0", 1, "ip: can't find device 'eth0'\n"),
        ("applets ip route add default via 10.83.0.1", 1, "ip: RTNETLINK answers: Network is unreachable\n"),
        ("applets kill 4242", 1, "kill: can't kill pid 4242: No such process\n"),
    ] {
        let ended = in_chapter_5(who, &["--network", "none"], script);
        assert_eq!((ended.status, ended.err.as_str()), (status, said), "{script}");
    }
    // What they cannot do they refuse, and name the package that can.
    let ended = in_chapter_5(who, &["--network", "none"], "applets ip link add b0 type bridge");
    assert_eq!(ended.status, 2, "{}", ended.err);
    assert!(ended.err.starts_with("ip: usage: ip ") && ended.err.contains("iproute2"), "{}", ended.err);
}
